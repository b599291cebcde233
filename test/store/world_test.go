package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

const (
	bucket = "store"
	most   = 64 << 20 // bytes of memory that an agent at work may have

	// patience is the bound of every wait, far above what any takes: a machine that is busy with other things is no failure.
	patience = 3 * time.Minute
)

// world is what all rows have in common.
type world struct {
	dir     string
	gateway *parts.S3Server
	key     release.PrivateKey
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	for _, name := range []string{"towline", "towline-agent"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(w.dir, name), "./cmd/"+name)
		cmd.Dir, cmd.Env = parts.Root(t), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
		}
	}
	w.gateway = parts.S3(t)
	w.gateway.Bucket(t, bucket)
	var err error
	w.key, err = release.GenerateKey(nil)
	must(t, err)
	return w
}

// site is one app, its store behind a proxy, and a server for it.
type site struct {
	*world
	t     *testing.T
	app   string
	dir   string
	proxy *proxy

	healthURL string
	agent     *exec.Cmd
	log       *parts.Buffer
}

func (w *world) site(t *testing.T, app string) *site {
	t.Helper()
	s := &site{world: w, t: t, app: app, dir: t.TempDir(), proxy: newProxy(t, w.gateway), log: &parts.Buffer{}}
	health := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, s.live()) }))
	t.Cleanup(health.Close)
	s.healthURL = health.URL
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent said:\n%s", s.log)
		}
	})
	return s
}

// through is the bucket's URL: at the proxy, or at the gateway itself.
func (s *site) through(endpoint string) string {
	return fmt.Sprintf("s3://%s?region=%s&endpoint=%s&path-style=true", bucket, s.gateway.Region, url.QueryEscape(endpoint))
}

// content writes a release that does not compress, of so many bytes.
func (s *site) content(version string, size int) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "source-"+version)
	must(s.t, os.MkdirAll(dir, 0o755))
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(uint64(size), uint64(len(version)*256+int(version[len(version)-1]))))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	must(s.t, os.WriteFile(filepath.Join(dir, "data"), data, 0o644))
	must(s.t, os.WriteFile(filepath.Join(dir, "version"), []byte(version), 0o644))
	return dir
}

// publish runs the publisher at an endpoint.
func (s *site) publish(endpoint, version string, size int) (code int, out string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.world.dir, "towline"), "publish", "--promote", "--app", s.app, "--path", s.content(version, size),
		"--bucket", s.through(endpoint), "--version", version, "--message", "release "+version, "--date", "2026-11-26T10:00:00Z")
	cmd.Env = append(append(os.Environ(), s.gateway.Env()...), "TOWLINE_SIGNING_KEY="+s.key.Reveal())
	text, _ := cmd.CombinedOutput()
	if ctx.Err() != nil {
		s.t.Fatalf("publish %s has not ended:\n%s", version, text)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// published is publish straight to the gateway, which works.
func (s *site) published(version string, size int) {
	s.t.Helper()
	if code, out := s.publish(s.gateway.Endpoint, version, size); code != 0 {
		s.t.Fatalf("publish %s: got code %d, want 0:\n%s", version, code, out)
	}
}

// start starts the agent at the proxy.
func (s *site) start() {
	s.t.Helper()
	text := fmt.Sprintf(`server: web-1
bucket: %q
trust: {keys: [%q]}
poll: 1s
receipts: false
state: %[3]q
socket: "%[3]s/agent.sock"
apps:
  %[4]s:
    dir: "%[3]s/app"
    restart: [/bin/sh, -c, "cat %[3]s/app/current/version >>%[3]s/started; echo >>%[3]s/started"]
    health: {http: %[5]q, expect: "{{hash}}", within: 5s, stable: 0s}
`, s.through(s.proxy.URL), s.key.Public().String(), s.dir, s.app, s.healthURL)
	must(s.t, os.WriteFile(filepath.Join(s.dir, "agent.yaml"), []byte(text), 0o644))
	s.agent = exec.Command(filepath.Join(s.world.dir, "towline-agent"), "--config", filepath.Join(s.dir, "agent.yaml"))
	s.agent.Env = append(os.Environ(), s.gateway.Env()...)
	s.agent.Stdout, s.agent.Stderr = s.log, s.log
	must(s.t, s.agent.Start())
	s.t.Cleanup(s.stop)
}

// stop ends the agent, which must end well however the store is.
func (s *site) stop() {
	if s.agent == nil {
		return
	}
	agent := s.agent
	s.agent = nil
	_ = agent.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = agent.Process.Kill() })
	defer kill.Stop()
	if err := agent.Wait(); err != nil {
		s.t.Errorf("the agent ended with %v, want 0", err)
	}
}

// live is the version that is live, "" for none.
func (s *site) live() string {
	data, _ := os.ReadFile(filepath.Join(s.dir, "app/current/version"))
	return string(data)
}

// wantStarted demands the versions that the app was started as, one after the other, and that the last of them is live.
func (s *site) wantStarted(want ...string) {
	s.t.Helper()
	data, _ := os.ReadFile(filepath.Join(s.dir, "started"))
	if got := strings.Fields(string(data)); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("the app was started as %v, want %v", got, want)
	}
	if got := s.live(); got != want[len(want)-1] {
		s.t.Errorf("live: got %q, want %q", got, want[len(want)-1])
	}
}

// receipt is what the agent says of the app on its socket.
func (s *site) receipt() deployment.Receipt {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.world.dir, "towline"), "status", "--json", "--socket", filepath.Join(s.dir, "agent.sock"))
	out, err := cmd.Output()
	if err != nil {
		return deployment.Receipt{} // not yet up
	}
	var o struct{ Apps []deployment.Receipt }
	must(s.t, json.Unmarshal(bytes.TrimSpace(out), &o))
	if len(o.Apps) != 1 {
		return deployment.Receipt{}
	}
	return o.Apps[0]
}

// force is a person on the server who has the release tried again.
func (s *site) force() {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.world.dir, "towline"), "deploy", s.app, "--force", "--socket", filepath.Join(s.dir, "agent.sock"))
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("%q: %v\n%s", cmd.Args, err, out)
	}
}

// until polls a condition.
func (s *site) until(what string, ready func() bool) {
	s.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ready(); <-tick.C {
		if time.Now().After(end) {
			s.t.Fatalf("within %v: not %s; status %+v; %d calls: %v", patience, what, s.receipt(), len(s.proxy.seen("")), last(s.proxy.seen("")))
		}
	}
}

// settled waits for a version to be live and its deployment to have ended.
func (s *site) settled(version string) {
	s.t.Helper()
	s.until("live as "+version, func() bool { return s.live() == version })
	s.until("settled as "+version, func() bool {
		r := s.receipt()
		return r.Live.Hash == version && r.Deployment != nil && r.Deployment.Outcome == deployment.Deployed && r.Status == ""
	})
}

// peak is the most memory that the agent has had.
func (s *site) peak() int64 {
	s.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.agent.Process.Pid))
	must(s.t, err)
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(s.t, err)
	return kib << 10
}

// wantSmall demands that the agent's memory stayed small.
func (s *site) wantSmall() {
	s.t.Helper()
	got := s.peak()
	if got > most {
		s.t.Errorf("the agent had %d MiB, want at most %d", got>>20, most>>20)
	}
	s.t.Logf("agent: at most %d MiB", got>>20)
}

func last(calls []call) []call { return calls[max(0, len(calls)-12):] }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
