package examples

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// packed is what became of an example: a release, unpacked as an agent does.
type packed struct {
	dir, hash string
	files     []string
	bucket    string // directory
	key       release.PrivateKey
}

// pack runs the steps of the example's workflow on a commit of it, in order: the scripts by bash as a runner does, and the
// action's own program with the inputs and the environment of its step. What other actions do is the machine's.
func pack(t *testing.T, example string, env ...string) packed {
	t.Helper()
	workspace := t.TempDir()
	if err := os.CopyFS(workspace, os.DirFS(filepath.Join(root, "examples", example))); err != nil {
		t.Fatal(err)
	}
	p := packed{hash: parts.Commit(t, workspace, "acme/web", "say hello"), bucket: t.TempDir(), key: newKey(t)}
	var w workflow
	if err := yaml.Unmarshal([]byte(read(t, "examples/"+example+"/.github/workflows/deploy.yml")), &w); err != nil {
		t.Fatal(err)
	}
	if len(w.Jobs) != 1 {
		t.Fatalf("got %d jobs, want one", len(w.Jobs))
	}
	published := false
	for _, j := range w.Jobs {
		for _, st := range j.Steps {
			switch {
			case st.Run != "":
				script(t, filepath.Join(workspace, st.Dir), st, env)
			case strings.HasPrefix(st.Uses, "towline/towline@"):
				p.publish(t, workspace, st)
				published = true
			}
		}
	}
	if !published {
		t.Fatal("no step uses towline/towline")
	}
	archives, err := filepath.Glob(filepath.Join(p.bucket, "*/releases/*.tar.zst"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("got artifacts %q, %v, want one", archives, err)
	}
	p.dir = t.TempDir()
	into, err := os.OpenRoot(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	f, err := os.Open(archives[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := artifact.Unpack(t.Context(), into, f, artifact.UnpackOptions{Want: release.Artifact{Format: release.FormatZstd}}); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			p.files = append(p.files, strings.TrimPrefix(path, p.dir+"/"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// script runs one step's script.
func script(t *testing.T, dir string, st step, env []string) {
	t.Helper()
	cmd := exec.Command("bash", "-e", "-o", "pipefail", "-c", st.Run)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	for name, value := range st.Env {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%v", name, value))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.TrimSpace(st.Run), err, out)
	}
}

// publish runs the action as a step of a push, with a directory as bucket and no server.
func (p packed) publish(t *testing.T, workspace string, st step) {
	t.Helper()
	temp := t.TempDir()
	event := filepath.Join(temp, "event.json")
	pushed := fmt.Appendf(nil, `{"head_commit":{"id":%q,"message":"say hello","timestamp":"2026-11-23T13:06:43Z"}}`, p.hash)
	if err := os.WriteFile(event, pushed, 0o644); err != nil {
		t.Fatal(err)
	}
	output, summary := filepath.Join(temp, "output"), filepath.Join(temp, "summary")
	for _, file := range []string{output, summary} {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(programs.action)
	cmd.Dir = workspace
	cmd.Env = []string{"GITHUB_ACTIONS=true", "GITHUB_WORKSPACE=" + workspace, "GITHUB_SHA=" + p.hash, "GITHUB_REF=refs/heads/main",
		"GITHUB_REPOSITORY=acme/web", "GITHUB_ACTOR=octocat", "GITHUB_EVENT_NAME=push", "GITHUB_EVENT_PATH=" + event, "GITHUB_RUN_ID=1",
		"GITHUB_SERVER_URL=https://github.com", "GITHUB_OUTPUT=" + output, "GITHUB_STEP_SUMMARY=" + summary, "RUNNER_TEMP=" + temp,
		"INPUT_DEPLOYMENT=off"}
	for name, value := range st.With {
		text := fill(t, fmt.Sprint(value), p.key.Reveal())
		if name == "bucket" {
			text = "file://" + p.bucket
		}
		cmd.Env = append(cmd.Env, "INPUT_"+strings.ToUpper(name)+"="+text)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("towline-action: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(output); err != nil || !regexp.MustCompile(`(?m)^published$`).Match(got) {
		t.Fatalf("outputs: %v, want outcome published, got\n%s\n%s", err, got, out)
	}
}

func (p packed) want(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		if !slices.Contains(p.files, file) {
			t.Errorf("%s is not packed; there are %q", file, p.files)
		}
	}
}

func (p packed) wantNot(t *testing.T, pattern string) {
	t.Helper()
	if i := slices.IndexFunc(p.files, regexp.MustCompile(pattern).MatchString); i >= 0 {
		t.Errorf("%s is packed", p.files[i])
	}
}

// start runs argv in the release until the test ends, and waits until the address answers with the release's hash.
func (p packed) start(t *testing.T, addr, path string, env []string, argv ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &log, &log
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	last := ""
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; {
		select {
		case err := <-ended:
			t.Fatalf("%q ended: %v\n%s", argv, err, log.Bytes())
		case <-tick.C:
		}
		body, err := get("http://" + addr + path)
		if err == nil && strings.Contains(body, p.hash) {
			break
		}
		if last = fmt.Sprintf("%v %s", err, body); time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("GET %s: got %s, want the hash %s\n%s", path, last, p.hash, log.Bytes())
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		t.Errorf("%q did not end within the unit's TimeoutStopSec", argv)
	}
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

// unit reads what a unit starts and with which environment. current is the link of the app on a server, for which the
// release stands.
func (p packed) unit(t *testing.T, file, current string) (env, argv []string) {
	t.Helper()
	for line := range strings.Lines(read(t, "examples/"+file)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.ReplaceAll(value, current, p.dir)
		switch key {
		case "Environment":
			env = append(env, strings.Fields(value)...)
		case "ExecStart":
			argv = strings.Fields(value)
		}
	}
	if len(argv) == 0 {
		t.Fatalf("%s starts nothing", file)
	}
	return env, argv
}

func TestGoAPI(t *testing.T) {
	p := pack(t, "go-api", "GOFLAGS=", "GOWORK=off")
	p.want(t, "go-api", "version.json")
	p.wantNot(t, `\.go$|^\.`)
	env, argv := p.unit(t, "go-api/goapi.service", "/srv/goapi/current")
	addr := parts.FreeAddr(t)
	p.start(t, addr, "/version", append(env, "LISTEN="+addr), argv...)
}

func TestStaticSite(t *testing.T) {
	p := pack(t, "static-site")
	p.want(t, "index.html", "about.html", "404.html", "style.css", "version.json")
	p.wantNot(t, `^(layout|pages|assets|\.)|\.sh$|nginx|Caddyfile|agent`)
	for file, want := range map[string]string{
		"version.json": `"hash":"` + p.hash + `"`, "index.html": "<!doctype html>", "about.html": "</html>\n",
	} {
		if data, err := os.ReadFile(filepath.Join(p.dir, file)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: got %q, %v, want %q in it", file, data, err, want)
		}
	}
}

// TestPythonApp installs waitress from a wheel made here, which stands for it where no package index is to be asked.
func TestPythonApp(t *testing.T) {
	parts.Program(t, "pip3", "python3-pip")
	p := pack(t, "python-app", "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+wheel(t), "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_ROOT_USER_ACTION=ignore")
	p.want(t, "app.py", "version.json", "vendor/waitress/__init__.py", "vendor/waitress/__main__.py")
	p.wantNot(t, `__pycache__|\.pyc$|^vendor/bin/|^test_|^\.`)
	env, argv := p.unit(t, "python-app/pyapp.service", "/srv/pyapp/current")
	addr := parts.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "${PORT}", port)
	}
	p.start(t, addr, "/version", env, argv...)
}

// wheel returns a directory with a wheel that has waitress's name and its command line, as far as the unit uses it, and a
// script, as such wheels have.
func wheel(t *testing.T) string {
	t.Helper()
	pin := regexp.MustCompile(`(?m)^waitress==(\S+)$`).FindStringSubmatch(read(t, "examples/python-app/requirements.txt"))
	if pin == nil {
		t.Fatal("requirements.txt does not pin waitress")
	}
	info := "waitress-" + pin[1] + ".dist-info/"
	files := [][2]string{
		{"waitress/__init__.py", "from wsgiref.simple_server import make_server\n\n\n" +
			"def serve(app, host, port):\n    make_server(host, int(port), app).serve_forever()\n"},
		{"waitress/__main__.py", "import importlib\nimport sys\n\nfrom waitress import serve\n\nlisten, target = sys.argv[1:]\n" +
			"module, name = target.split(':')\nserve(getattr(importlib.import_module(module), name), *listen.removeprefix('--listen=').split(':'))\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: waitress\nVersion: " + pin[1] + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "entry_points.txt", "[console_scripts]\nwaitress-serve = waitress:serve\n"},
		{info + "RECORD", ""},
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "waitress-"+pin[1]+"-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for _, file := range files {
		w, err := z.Create(file[0])
		if err == nil {
			_, err = io.WriteString(w, file[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPHPApp serves the release by PHP's own server; nginx and php-fpm are not run.
func TestPHPApp(t *testing.T) {
	php := parts.Program(t, "php", "php-cli")
	parts.Program(t, "composer", "composer")
	p := pack(t, "php-app", "COMPOSER_ALLOW_SUPERUSER=1", "COMPOSER_HOME="+t.TempDir())
	p.want(t, "public/index.php", "src/Version.php", "vendor/autoload.php", "version.json")
	p.wantNot(t, `^(server|composer|agent|\.)`)
	addr := parts.FreeAddr(t)
	p.start(t, addr, "/version", nil, php, "-S", addr, "-t", "public", "public/index.php")
}
