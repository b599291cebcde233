package examples

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// A release makes way for another one this often under load, after it has answered for so long.
const (
	switches = 10
	term     = 250 * time.Millisecond
)

// TestZeroDowntimeExamples starts each example on a socket that this process holds, as systemd does, and has one release
// after the other make way under load: stopped, and only then the next one started. Nobody is refused and nobody waits for ever.
func TestZeroDowntimeExamples(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "server"), ".")
	build.Dir = filepath.Join(root, "examples/zero-downtime/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, argv := range map[string][]string{
		"go":     {"./server"},
		"node":   {parts.Program(t, "node", "nodejs"), "server.js"},
		"python": {parts.Program(t, "python3", "python3"), "server.py"},
	} {
		t.Run(name, func(t *testing.T) {
			var releases []string
			for _, version := range []string{"one", "two"} {
				release := t.TempDir()
				files := map[string]string{"server": filepath.Join(dir, "server")}
				if name != "go" {
					files = map[string]string{argv[1]: filepath.Join(root, "examples/zero-downtime", name, argv[1])}
				}
				for file, from := range files {
					data, err := os.ReadFile(from)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(release, file), data, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(release, "version.txt"), []byte(version+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				releases = append(releases, release)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			socket, err := listener.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			// This process holds the socket and never takes anything from it.
			url := "http://" + listener.Addr().String() + "/"

			start := func(n int) *exec.Cmd {
				t.Helper()
				cmd := exec.Command(argv[0], argv[1:]...)
				cmd.Dir = releases[n%2]
				cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
				cmd.ExtraFiles = []*os.File{socket}
				cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
				cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				return cmd
			}
			// answers waits until the release is the one that answers.
			answers := func(n int) {
				t.Helper()
				want := []string{"one\n", "two\n"}[n%2]
				for end := time.Now().Add(20 * time.Second); ; {
					body, err := get(url)
					if err == nil && body == want {
						return
					}
					if time.Now().After(end) {
						t.Fatalf("got %q, %v, want %q", body, err, want)
					}
				}
			}
			running := start(0)
			defer func() { _ = running.Process.Kill() }()
			answers(0)
			load := parts.Put(t, url, func() {
				for n := 1; n <= switches; n++ {
					if err := running.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
					if err := running.Wait(); err != nil {
						t.Fatalf("release %d did not end well: %v", n, err)
					}
					running = start(n)
					answers(n)
					<-time.After(term)
				}
			})
			wantNoFailure(t, load)
			t.Logf("%s: %s", name, summary(load))
		})
	}
}

// wantNoFailure sees that the load was one, and that nobody was failed.
func wantNoFailure(t *testing.T, l parts.Load) {
	t.Helper()
	if l.PerSecond < 500 {
		t.Fatalf("%.0f requests a second are too few to tell anything:\n%s", l.PerSecond, l.Text)
	}
	if n := l.Errors(); n != 0 {
		t.Errorf("got %d failed requests, want 0: %v\n%s", n, l.Failed, l.Text)
	}
}

func summary(l parts.Load) string {
	return fmt.Sprintf("%d requests, %.0f a second, %d failed, the longest answer %v", l.Requests, l.PerSecond, l.Errors(), l.Longest)
}

// TestDocumentShowsTheExamples sees that what the document shows is what the examples do.
func TestDocumentShowsTheExamples(t *testing.T) {
	document := read(t, "docs/zero-downtime.md")
	sources := ""
	for _, file := range []string{"go/main.go", "node/server.js", "python/server.py", "python/migrate.py"} {
		sources += read(t, "examples/zero-downtime/"+file)
	}
	checked := 0
	for _, language := range []string{"go", "js", "python"} {
		for _, block := range strings.Split(document, "```"+language+"\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			for line := range strings.Lines(block) {
				line = strings.TrimSpace(line)
				if line == "" || line == "…" {
					continue
				}
				checked++
				if !strings.Contains(sources, line) {
					t.Errorf("docs/zero-downtime.md shows a line that no example has: %s", line)
				}
			}
		}
	}
	if checked < 15 {
		t.Errorf("got %d lines of code, want what an app has to do in three languages", checked)
	}
}

// TestMigrationExample runs the hook as it runs on a server, in a release with a link to the data.
func TestMigrationExample(t *testing.T) {
	python := parts.Program(t, "python3", "python3")
	release, data := t.TempDir(), t.TempDir()
	if err := os.Symlink(data, filepath.Join(release, "data")); err != nil {
		t.Fatal(err)
	}
	hook, err := filepath.Abs(filepath.Join(root, "examples/zero-downtime/python/migrate.py"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(argv ...string) (string, error) {
		cmd := exec.Command(python, argv...)
		cmd.Dir = release
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Dir(hook))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	query := func(sql string) string {
		t.Helper()
		out, err := run("-c", "import sqlite3, sys; db = sqlite3.connect('data/app.db'); print(*db.execute(sys.argv[1]).fetchall()); db.commit()", sql)
		if err != nil {
			t.Fatalf("%s: %v\n%s", sql, err, out)
		}
		return strings.TrimSpace(out)
	}
	// The release before knew the first step only.
	if out, err := run("-c", "import migrate; migrate.migrate('data/app.db', migrate.STEPS[:1])"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	query("INSERT INTO views (page) VALUES ('/old')")
	if out, err := run(hook); err != nil || out != "step 2 of 2 done\n" {
		t.Errorf("got %v, %q, want the second step", err, out)
	}
	query("INSERT INTO views (page) VALUES ('/still')") // the old release still answers, and may come back
	if got := query("SELECT page, country FROM views"); got != "('/old', '') ('/still', '')" {
		t.Errorf("got %s", got)
	}
	if out, err := run(hook); err != nil || out != "" {
		t.Errorf("again: got %v, %q, want nothing", err, out)
	}
	out, err := run("-c", "import migrate; migrate.migrate('data/app.db', migrate.STEPS + ['CREATE TABLE more (x)', 'no SQL'])")
	if err == nil {
		t.Errorf("a step that fails: got %s", out)
	}
	if got := query("PRAGMA user_version") + query("SELECT count(*) FROM sqlite_master WHERE name = 'more'"); got != "(2,)(0,)" {
		t.Errorf("after a step that fails: got %s, want nothing of it", got)
	}
	query("DROP TABLE views")
	query("PRAGMA user_version = 1")
	if out, err := run(hook); err == nil || !strings.Contains(out, "the database stays as it was") {
		t.Errorf("the hook itself: got %v, %q", err, out)
	}
}
