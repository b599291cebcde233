package parts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// tools maps each program of the tools module (test/tools/go.mod, which pins their versions) to its package.
var tools = map[string]string{
	"act":         "github.com/nektos/act",
	"actionlint":  "github.com/rhysd/actionlint/cmd/actionlint",
	"staticcheck": "honnef.co/go/tools/cmd/staticcheck",
	"versitygw":   "github.com/versity/versitygw/cmd/versitygw",
}

// Tool returns the path of a program of the tools module, built on first use and then kept: "act", "actionlint",
// "staticcheck" or "versitygw". Where it cannot be built (no module proxy) the test is skipped.
func Tool(t testing.TB, name string) string {
	t.Helper()
	pkg, ok := tools[name]
	if !ok {
		t.Fatalf("no tool %q in the tools module", name)
	}
	module := filepath.Join(Root(t), "test", "tools")
	dir := filepath.Join(cacheDir(t), "tools-"+hash(t, runtime.Version(), filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")))
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	defer lock(t, "tool-"+name)()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	t.Logf("building %s", name)
	cmd := exec.Command("go", "build", "-C", module, "-o", path+".part", pkg)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		Skip(t, fmt.Sprintf("%s: go build: %v\n%s", name, err, tail(out)))
	}
	if err := os.Rename(path+".part", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// hash returns a short name for the recipe of something cached: a text, and files whose content counts.
func hash(t testing.TB, recipe string, files ...string) string {
	t.Helper()
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s", len(recipe), recipe)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%d %s", len(data), data)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}
