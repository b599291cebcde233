package endurance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

var quiet = log.New(io.Discard, "", 0)

// agent is the process under test, with all its files below dir.
type agent struct {
	dir, url, pin string
	pid           int
	ended         chan struct{} // closed when the process has ended
	http          *http.Client  // on its socket
}

// newAgent compiles, configures and starts an agent that has its bucket at the URL.
func newAgent(t *testing.T, bucketURL, public string, env []string) *agent {
	t.Helper()
	a := &agent{dir: t.TempDir(), ended: make(chan struct{})}
	a.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(a.dir, "agent.sock"))
		}}}
	program := filepath.Join(a.dir, "towline-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/towline-agent")
	build.Dir, build.Env = parts.Root(t), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile the agent: %v\n%s", err, out)
	}
	config := filepath.Join(a.dir, "agent.yaml")
	text := fmt.Sprintf(`server: web-1
bucket: %q
trust: {keys: [%q]}
poll: 5s
state: DIR/state
socket: DIR/agent.sock
listen: %q
apps:
  web:
    dir: DIR/web
    restart: [/bin/grep, "-qv", "does not start", DIR/web/current/kind]
    health: {http: %q, expect: "{{hash}}", within: 2s, stable: 0s}
    hooks: {before-activate: [./hook]}
    keep: 2
`, bucketURL, public, parts.FreeAddr(t), "http://"+a.health(t)+"/")
	must(t, os.WriteFile(config, []byte(strings.ReplaceAll(text, "DIR", a.dir)), 0o600))
	a.start(t, env, program, "--config", config)
	return a
}

// health answers the health check with the version that is live, and returns its address.
func (a *agent) health(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if a.live("kind") == "is not healthy" {
			http.Error(w, "the database is gone", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, a.live("version"))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// live is the one line of a file of what is live.
func (a *agent) live(file string) string {
	text, _ := os.ReadFile(filepath.Join(a.dir, "web/current", file))
	return strings.TrimSpace(string(text))
}

// start runs the program until the test ends, and waits until it says where it listens.
func (a *agent) start(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	path := filepath.Join(a.dir, "log")
	out, err := os.Create(path)
	must(t, err)
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(env, "PATH=/usr/bin:/bin"), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel means the parent's thread when it speaks of a parent's death
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(a.ended)
		}
	}()
	must(t, <-started)
	a.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-a.ended:
		case <-time.After(30 * time.Second):
			t.Error("the agent has not ended within 30 s")
			_ = cmd.Process.Kill()
			<-a.ended
		}
		if t.Failed() {
			said, _ := os.ReadFile(path)
			t.Logf("the agent said at the end:\n%s", said[max(0, len(said)-8<<10):])
		}
	})
	running := regexp.MustCompile(`msg="towline-agent is running".* listen=(\S+) pin=(\S+) `)
	eventually(t, "the agent runs", 30*time.Second, func() bool {
		said, _ := os.ReadFile(path)
		found := running.FindSubmatch(said)
		if found != nil {
			a.url, a.pin = "https://"+string(found[1]), string(found[2])
		}
		return found != nil
	})
}

// get asks the agent's socket.
func (a *agent) get(t *testing.T, path string) []byte {
	t.Helper()
	answer, err := a.http.Get("http://agent" + path)
	must(t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	must(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: got %s: %s", path, answer.Status, data)
	}
	return data
}

// detail is what the agent says of its app: releases and deployments, newest first.
func (a *agent) detail(t *testing.T) (d deployment.Detail) {
	t.Helper()
	must(t, json.Unmarshal(a.get(t, "/v1/apps/web"), &d))
	return d
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(within)
	for !holds() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
