package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// many has tables be run whole that otherwise are run in samples.
var many = flag.Int("n", 24, "how many lengths of a torn state are tried; 0: every one")

// binaries is where the programs are, compiled once for all tests.
var binaries struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(binaries.dir)
	os.Exit(code)
}

// program compiles the programs as they are released, and returns where the named one is.
func program(t testing.TB, name string) string {
	t.Helper()
	root := parts.Root(t)
	b := &binaries
	b.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "towline-host-"); b.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.dir+"/", "./cmd/towline", "./cmd/towline-agent")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	must(t, b.err)
	return filepath.Join(b.dir, name)
}

// world is a bucket, what is published into it, and one agent's configuration, state and app, which has no unit: what is live
// is where current leads.
type world struct {
	t      testing.TB
	dir    string
	bucket string // directory
	key    release.PrivateKey

	url      string            // what the agent calls the bucket
	app      string            // the app's directory
	state    string            // the agent's
	settings string            // more lines of the configuration
	entry    string            // more lines of the app's
	env      []string          // of the agent
	agent    string            // the program
	files    map[string]string // of the next release, beside its version
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key, err := release.GenerateKey(nil)
	must(t, err)
	w := &world{t: t, dir: t.TempDir(), key: key}
	w.bucket, w.app, w.state = filepath.Join(w.dir, "bucket"), filepath.Join(w.dir, "web"), filepath.Join(w.dir, "state")
	w.url, w.agent = "file://"+w.bucket, program(t, "towline-agent")
	must(t, os.Mkdir(w.bucket, 0o755))
	return w
}

// publish makes the files, and the version, the release that should be live.
func (w *world) publish(version string) {
	w.t.Helper()
	source := filepath.Join(w.dir, "source-"+version)
	for name, text := range w.files {
		must(w.t, os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o755))
		must(w.t, os.WriteFile(filepath.Join(source, name), []byte(text), 0o644))
	}
	must(w.t, os.MkdirAll(source, 0o755))
	must(w.t, os.WriteFile(filepath.Join(source, "version"), []byte(version), 0o644))
	w.towline("publish", "--promote", "--app", "web", "--path", source, "--bucket", "file://"+w.bucket, "--version", version,
		"--message", "release "+version, "--date", "2026-11-20T10:00:00Z")
}

func (w *world) towline(args ...string) string {
	w.t.Helper()
	out, err := w.tryTowline(args...)
	must(w.t, err)
	return out
}

func (w *world) tryTowline(args ...string) (string, error) {
	cmd := exec.Command(program(w.t, "towline"), args...)
	cmd.Env = append(os.Environ(), "TOWLINE_SIGNING_KEY="+w.key.Reveal(), "TOWLINE_SOCKET="+w.socket())
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("towline %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (w *world) socket() string { return filepath.Join(w.dir, "agent.sock") }

// config writes the configuration and returns its path.
func (w *world) config() string {
	w.t.Helper()
	path := filepath.Join(w.dir, "agent.yaml")
	text := fmt.Sprintf("server: web-1\nbucket: %q\ntrust: {keys: [%q]}\nstate: %q\nsocket: %q\n%sapps:\n  web:\n    dir: %q\n%s",
		w.url, w.key.Public(), w.state, w.socket(), w.settings, w.app, w.entry)
	must(w.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// once runs the agent once and returns its exit code and all that it printed.
func (w *world) once() (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.agent, "--once", "--config", w.config())
	cmd.Env = append(os.Environ(), w.env...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil || cmd.ProcessState == nil {
		w.t.Fatalf("the agent has not ended: %v\n%s", err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// ends runs the agent once and wants its exit code, and words, in what it printed.
func (w *world) ends(want int, words ...string) string {
	w.t.Helper()
	code, out := w.once()
	if code != want {
		w.t.Errorf("got exit code %d, want %d:\n%s", code, want, out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			w.t.Errorf("got\n%s\nwant %q", out, word)
		}
	}
	return out
}

// daemon is the agent as a process that goes on.
type daemon struct {
	w    *world
	cmd  *exec.Cmd
	out  syncBuffer
	done chan struct{}
}

// start starts the agent and waits until it answers; it is stopped when the test ends.
func (w *world) start() *daemon {
	w.t.Helper()
	d := &daemon{w: w, cmd: exec.Command(w.agent, "--config", w.config()), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	d.cmd.Env = append(os.Environ(), w.env...)
	must(w.t, d.cmd.Start())
	go func() { _ = d.cmd.Wait(); close(d.done) }()
	w.t.Cleanup(d.stop)
	eventually(w.t, "the agent runs", func() (bool, string) {
		return strings.Contains(d.out.String(), "towline-agent is running"), d.out.String()
	})
	return d
}

// kill ends the agent without a chance to clean up.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
		_ = d.cmd.Process.Kill()
		d.w.t.Errorf("the agent did not stop:\n%s", d.out.String())
	}
}

// live is the version that current leads to, "" when there is none.
func (w *world) live() string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.app, "current/version"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("what is live: %v", err)
	}
	return string(text)
}

// stays wants the version to be live, whole, and nothing half-made beside it.
func (w *world) stays(version string) {
	w.t.Helper()
	if got := w.live(); got != version {
		w.t.Errorf("got %q live, want %q", got, version)
	}
	for _, pattern := range []string{"releases/.stage-*", "incoming/*"} {
		if left, _ := filepath.Glob(filepath.Join(w.app, pattern)); len(left) > 0 {
			w.t.Errorf("left behind: %q", left)
		}
	}
}

// status is what the daemon says of the app.
func (w *world) status() deployment.Receipt {
	w.t.Helper()
	var o deployment.Overview
	out := w.towline("status", "--json")
	if err := json.Unmarshal([]byte(out), &o); err != nil || len(o.Apps) != 1 {
		w.t.Fatalf("status: %v\n%s", err, out)
	}
	return o.Apps[0]
}

// eventually waits until the condition holds, at most a minute; the text says how it is instead.
func eventually(t testing.TB, what string, holds func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); ; {
		ok, text := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within a minute: %s:\n%s", what, text)
		}
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails starts the agent as a daemon that ends by itself, with this exit code and these words.
func (w *world) fails(want int, words ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.agent, "--config", w.config())
	out, _ := cmd.CombinedOutput()
	if ctx.Err() != nil || cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
		w.t.Errorf("got %v, want exit code %d:\n%s", cmd.ProcessState, want, out)
	}
	for _, word := range words {
		if !strings.Contains(string(out), word) {
			w.t.Errorf("got\n%s\nwant %q", out, word)
		}
	}
}

// receipt is the newest receipt in the bucket.
func (w *world) receipt() (r deployment.Receipt) {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.bucket, "web/production/receipts/web-1.json"))
	must(w.t, err)
	must(w.t, json.Unmarshal(data, &r))
	return r
}
