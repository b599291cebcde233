package packaging

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// root is the checkout, seen from this directory; version is what its release is called.
const (
	root    = "../.."
	version = release.Version
)

// shared is a directory for what several tests look at.
var shared string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if shared, err = os.MkdirTemp("", "towline-packaging-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(shared)
		return m.Run()
	}())
}

// made is the directory of the release that most tests look at, made by the first that asks for it.
var made = struct {
	sync.Mutex
	dir string
}{}

// theRelease returns the directory of the files of this checkout's release.
func theRelease(t *testing.T) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.dir == "" {
		dir := filepath.Join(shared, "release")
		programs(t, "git", "jq")
		tools := exec.Command("go", "build", "-C", filepath.Join(root, "packaging/tools"), "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
			"-o", dir+"-tools/", "github.com/goreleaser/nfpm/v2/cmd/nfpm", "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod")
		if out, err := tools.CombinedOutput(); err != nil {
			parts.Skip(t, fmt.Sprintf("the tools of packaging/tools: %v\n%s", err, out))
		}
		makeRelease(t, checkout(t), dir)
		made.dir = dir
	}
	return made.dir
}

// makeRelease runs packaging/release of a checkout, with further environment.
func makeRelease(t *testing.T, source, out string, env ...string) {
	t.Helper()
	run(t, env, filepath.Join(source, "packaging/release"), "v"+version, out)
}

// checkout makes a repository whose only commit is this checkout as it is, with a changelog that knows the version. Two of
// them have the same commit.
func checkout(t *testing.T) string {
	t.Helper()
	programs(t, "git")
	dir := t.TempDir()
	for _, name := range strings.Split(run(t, nil, "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if name == "" || err != nil || !info.Mode().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "CHANGELOG.md" {
			data = bytes.Replace(data, []byte("\n## "), []byte("\n## "+version+"\n\n- The first line.\n\n- The last line.\n\n## "), 1)
		}
		write(t, filepath.Join(dir, name), data, info.Mode().Perm())
	}
	const date = "2026-11-20T10:11:12Z"
	identity := []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date, "GIT_AUTHOR_NAME=a",
		"GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"}
	run(t, identity, "git", "-C", dir, "init", "--quiet")
	run(t, identity, "git", "-C", dir, "add", "--all")
	run(t, identity, "git", "-C", dir, "commit", "--quiet", "--message=all")
	return dir
}

// programs skips the test when one of them is missing.
func programs(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			parts.Skip(t, name)
		}
	}
}

// run runs a program with further environment and returns what it prints; the test fails when the program does.
func run(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	out, err := try(t, env, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is run, handing over the error, which has what the program wrote to standard error.
func try(t *testing.T, env []string, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

// files lists the regular files below a directory, sorted.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// refused checks that a program failed and said why.
func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want an error with %q", what, err, want)
	}
}
