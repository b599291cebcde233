package parts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// npmFiles are what pages in the browser are made of: of each package the version, the archive's SHA-256, and the one file.
var npmFiles = map[string]struct{ version, sha256, file string }{
	"axe-core":            {"4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745", "axe.min.js"},
	"github-markdown-css": {"5.9.0", "291a28816709426a8a348c8db497c6f2c625ec5e596d3406770dcfff975233b4", "github-markdown.css"},
	"mermaid":             {"11.17.2", "6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd", "dist/mermaid.min.js"},
}

// NPM returns the path of a file that an npm package is for: of "axe-core" the script that looks for what keeps people out
// of a page; of "github-markdown-css" GitHub's style for rendered Markdown, light and dark; of "mermaid" the script. Scripts
// are whole by themselves. Where the file cannot be fetched the test is skipped.
func NPM(t testing.TB, name string) string {
	t.Helper()
	p, ok := npmFiles[name]
	if !ok {
		t.Fatalf("no npm package %q on the list", name)
	}
	dir := filepath.Join(cacheDir(t), "npm", name+"-"+p.version+"-"+p.sha256[:12])
	path := filepath.Join(dir, p.file)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	defer lock(t, "npm-"+name)()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	need(t, "npm", "npm")
	t.Logf("fetching npm package %s %s", name, p.version)
	scratch := t.TempDir()
	pack := exec.Command("npm", "pack", "--silent", "--pack-destination", scratch, name+"@"+p.version)
	pack.Dir = scratch
	if out, err := pack.CombinedOutput(); err != nil {
		Skip(t, fmt.Sprintf("npm package %s: npm pack: %v\n%s", name, err, tail(out)))
	}
	archive := filepath.Join(scratch, name+"-"+p.version+".tgz")
	if sum := run(t, exec.Command("sha256sum", archive)); sum[:64] != p.sha256 {
		t.Fatalf("npm package %s %s: SHA-256 is %s, want %s", name, p.version, sum[:64], p.sha256)
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command("tar", "--extract", "--gzip", "--no-same-owner", "--strip-components=1", "--directory="+part, "--file="+archive, "package/"+p.file))
	if err := os.Rename(part, dir); err != nil {
		t.Fatal(err)
	}
	return path
}
