package parts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The images that the engine has. No registry is asked for any.
const (
	// JobImage is what a workflow's job runs in: Debian with bash, tar, git, curl, zstd, node and npm, all this
	// machine's certificates trusted.
	JobImage = "towline-test/job"
	// GoImage is JobImage with this machine's Go at /usr/local/go and every module that Towline's go.mod names. It has
	// the name that Dockerfile asks for, and stands in for the public image. Builds have no network: a module that it
	// lacks is an error ("module lookup disabled by GOPROXY=off"). What third-party packages compile to with
	// CGO_ENABLED=0 and -trimpath lies in its build cache.
	GoImage = "golang:1.26-bookworm"
)

// recipeLabel holds the hash of what an image was made from.
const recipeLabel = "towline.test.recipe"

// images makes the images that are missing or were made from something else.
func (e *Engine) images(t testing.TB, root string) {
	t.Helper()
	job := hash(t, "job 1 "+filepath.Base(root))
	if !e.has(JobImage, job) {
		t.Logf("making image %s", JobImage)
		e.load(t, JobImage, []string{"--change", "LABEL " + recipeLabel + "=" + job,
			"--change", "ENV SSL_CERT_FILE=" + caBundle + " NODE_EXTRA_CA_CERTS=" + caBundle, "--change", `CMD ["bash"]`}, root, ".")
	}

	mod, sum := filepath.Join(Root(t), "go.mod"), filepath.Join(Root(t), "go.sum")
	goBase := GoImage + "-base"
	base := hash(t, "go 2 "+job+runtime.Version(), mod, sum)
	if !e.has(goBase, base) {
		t.Logf("making image %s", goBase)
		e.load(t, goBase, []string{"--change", "LABEL " + recipeLabel + "=" + base,
			"--change", "ENV SSL_CERT_FILE=" + caBundle + " GOPATH=/go GOTOOLCHAIN=local GOPROXY=off " +
				"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"--change", "WORKDIR /go", "--change", `CMD ["bash"]`}, root, ".", goFiles(t, mod, sum), "./usr/local/go", "./go")
	}

	packages := dependencies(t)
	warm := hash(t, "warm 1 "+base+packages)
	if e.has(GoImage, warm) {
		return
	}
	t.Logf("making image %s", GoImage)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"packages": packages,
		"Dockerfile": "FROM " + goBase + "\nCOPY packages /tmp/packages\n" +
			"RUN cd /go/warm && CGO_ENABLED=0 xargs --no-run-if-empty go build -trimpath < /tmp/packages; rm /tmp/packages\n" +
			"LABEL " + recipeLabel + "=" + warm + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e.CLI(t, "build", "--tag", GoImage, dir)
}

// has reports whether the image is there and made from this recipe.
func (e *Engine) has(image, recipe string) bool {
	out, err := e.TryCLI("image", "inspect", "--format", `{{index .Config.Labels "`+recipeLabel+`"}}`, image)
	return err == nil && strings.TrimSpace(out) == recipe
}

// load makes an image of one layer from files: each a directory and a member of it, or several. No path may come twice.
func (e *Engine) load(t testing.TB, image string, changes []string, files ...string) {
	t.Helper()
	args := []string{"--create", "--numeric-owner", "--one-file-system"}
	for _, file := range files {
		if filepath.IsAbs(file) {
			file = "--directory=" + file
		}
		args = append(args, file)
	}
	pack := exec.Command("tar", args...)
	stream, err := pack.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.Start(); err != nil {
		t.Fatal(err)
	}
	load := e.Command(append(append([]string{"import"}, changes...), "-", image)...)
	load.Stdin = stream
	out, err := load.CombinedOutput()
	stream.Close()
	if err != nil {
		_ = pack.Wait()
		t.Fatalf("docker import %s: %v\n%s", image, err, tail(out))
	}
	if err := pack.Wait(); err != nil {
		t.Fatalf("pack %s: %v", image, err)
	}
}

// goFiles lays out what GoImage adds: the toolchain, the modules that go.mod names, and go.mod itself.
func goFiles(t testing.TB, mod, sum string) string {
	t.Helper()
	dir := filepath.Join(cacheDir(t), "go-files")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"usr/local", "go/warm", "go/pkg/mod"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) string {
		return strings.TrimSpace(run(t, exec.Command("go", "env", name)))
	}
	toolchain, err := filepath.EvalSymlinks(env("GOROOT"))
	if err != nil {
		t.Fatal(err)
	}
	goroot := filepath.Join(dir, "usr/local/go")
	if exec.Command("cp", "-al", toolchain, goroot).Run() != nil { // links do not cross file systems
		os.RemoveAll(goroot)
		run(t, exec.Command("cp", "-a", toolchain, goroot))
	}
	for _, unused := range []string{"test", "doc", "api"} {
		os.RemoveAll(filepath.Join(goroot, unused))
	}
	run(t, exec.Command("cp", mod, sum, filepath.Join(dir, "go/warm")))
	download := exec.Command("go", "mod", "download")
	download.Dir = filepath.Join(dir, "go/warm")
	download.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-modcacherw", "GOMODCACHE="+filepath.Join(dir, "go/pkg/mod"),
		// What this machine has is not fetched again.
		"GOPROXY=file://"+env("GOMODCACHE")+"/cache/download,"+env("GOPROXY"))
	if out, err := download.CombinedOutput(); err != nil {
		Skip(t, fmt.Sprintf("Towline's modules: go mod download: %v\n%s", err, tail(out)))
	}
	return dir
}

// dependencies lists the third-party packages that the action is built from, one a line, and what every such program
// needs of the standard library.
func dependencies(t testing.TB) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{$.ImportPath}}{{end}}{{end}}`, "./cmd/towline-action")
	cmd.Dir = Root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Logf("no build cache for the image: go list ./cmd/towline-action: %v", err)
	}
	return "net/http\nlog/slog\n" + string(out)
}
