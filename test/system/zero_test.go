package system

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

var figures = flag.Bool("figures", false, "write what TestZeroFailedRequests measures into docs/performance.md")

// The live release changes this often under load, after it has answered for so long.
const (
	switches = 20
	term     = 250 * time.Millisecond
)

// live is one app on the droplet, with two releases on its disk.
type live struct {
	*parts.Droplet
	name, url string
}

// turn makes the other release live, by the agent, and sees it answer.
func (l live) turn(t *testing.T, n int) {
	t.Helper()
	version := []string{"v1", "v2"}[n%2]
	l.Run(t, "towline", "deploy", l.name, version)
	body, err := get(l.url)
	if err != nil || strings.TrimSpace(string(body)) != version {
		t.Fatalf("%s: got %q, %v, want %s", l.name, body, err, version)
	}
	<-time.After(term)
}

// TestZeroFailedRequests has the agent change the live release under load: of apps that take their socket from systemd, as
// `towline app add --socket` sets it up, where nobody may be failed; and of one that listens itself, where it is measured who is.
func TestZeroFailedRequests(t *testing.T) {
	server := filepath.Join(t.TempDir(), "server")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", server, ".")
	build.Dir = filepath.Join(root, "examples/zero-downtime/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	key := newKey(t)
	addr := map[string]string{"goapp": parts.FreeAddr(t), "nodeapp": parts.FreeAddr(t), "plain": parts.FreeAddr(t)}
	apps := ""
	for _, name := range []string{"goapp", "nodeapp", "plain"} {
		apps += fmt.Sprintf("  %s: {unit: %s.service, health: {http: \"http://%s/\", expect: \"{{hash}}\", stable: 0s}}\n", name, name, addr[name])
	}
	d := bare(t, "zero", key, apps)
	for name, argv := range map[string][]string{
		"goapp": {"--exec", "./server", "--socket", addr["goapp"]}, "nodeapp": {"--exec", "node server.js", "--socket", addr["nodeapp"]},
		"plain": {"--exec", "./server"},
	} {
		if out := d.Run(t, append([]string{"towline", "app", "add", name}, argv...)...); strings.Contains(out, "warning") {
			t.Errorf("app add %s:\n%s", name, out)
		}
	}
	_, port, _ := net.SplitHostPort(addr["plain"])
	d.WriteFile(t, "/etc/systemd/system/plain.service.d/port.conf", []byte("[Service]\nEnvironment=PORT="+port+"\n"), 0o644)
	d.Run(t, "systemctl", "daemon-reload")
	d.Run(t, "systemctl", "start", "towline-agent.service")
	d.WaitActive(t, "towline-agent.service")
	for i, version := range []string{"v1", "v2"} {
		d.WriteFile(t, "/root/app/version.txt", []byte(version+"\n"), 0o644)
		d.CopyIn(t, server, "/root/app/server", 0o755)
		d.CopyIn(t, filepath.Join(root, "examples/zero-downtime/node/server.js"), "/root/app/server.js", 0o644)
		for _, name := range []string{"goapp", "nodeapp", "plain"} {
			publishAs(t, d, key, name, version)
		}
		loggedTimes(t, d, "towline-agent.service", "outcome=deployed", 3*(i+1))
	}

	var told []string
	for _, name := range []string{"goapp", "nodeapp"} {
		app := live{d, name, "http://" + addr[name] + "/"}
		load := parts.Put(t, app.url, func() {
			for n := range switches {
				app.turn(t, n)
			}
		})
		if load.PerSecond < 500 {
			t.Fatalf("%.0f requests a second are too few to tell anything:\n%s", load.PerSecond, load.Text)
		}
		if n := load.Errors(); n != 0 {
			t.Errorf("%s: got %d failed requests, want 0: %v\n%s", name, n, load.Failed, load.Text)
		}
		told = append(told, fmt.Sprintf("%s with a socket unit: %d switches under %.0f requests a second, %d requests, %d failed; the longest answer took %v",
			map[string]string{"goapp": "Go", "nodeapp": "node"}[name], switches, load.PerSecond, load.Requests, load.Errors(), load.Longest))
	}
	app := live{d, "plain", "http://" + addr["plain"] + "/"}
	gap := ask(app.url, func() {
		for n := range switches / 2 {
			app.turn(t, n)
		}
	})
	told = append(told, fmt.Sprintf("Go without: %d switches under 500 requests a second on connections of their own, %d requests, %d failed; "+
		"the longest time without an answer was %v", switches/2, gap.asked, gap.failed, gap.longest.Round(time.Millisecond)))
	t.Log(strings.Join(told, "\n"))
	if *figures {
		writeFigures(t, told)
	}
}

// gap is what was found by asking all the time.
type gap struct {
	asked, failed int
	longest       time.Duration // between two answers
}

// ask asks for the URL every two milliseconds while work runs.
func ask(url string, work func()) (g gap) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var mu sync.Mutex
	var all sync.WaitGroup
	last, done := time.Now(), make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			all.Go(func() {
				resp, err := client.Get(url)
				if err == nil {
					_ = resp.Body.Close()
				}
				mu.Lock()
				defer mu.Unlock()
				g.asked++
				if err != nil || resp.StatusCode != http.StatusOK {
					g.failed++
					return
				}
				g.longest, last = max(g.longest, time.Since(last)), time.Now()
			})
		}
	}()
	work()
	close(done)
	<-stopped
	all.Wait()
	return g
}

// writeFigures puts the lines between the marks of docs/performance.md.
func writeFigures(t *testing.T, lines []string) {
	t.Helper()
	path := filepath.Join(root, "docs/performance.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	marks := regexp.MustCompile(`(?s)(<!-- figures: zero-downtime -->\n).*?(<!-- end -->)`)
	if !marks.Match(data) {
		t.Fatalf("%s has no marks for the figures", path)
	}
	text := "- " + strings.Join(lines, ".\n- ") + ".\n"
	out := marks.ReplaceAllFunc(data, func(m []byte) []byte {
		parts := marks.FindSubmatch(m)
		return append(append(append([]byte(nil), parts[1]...), text...), parts[2]...)
	})
	if err := os.WriteFile(path, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// publishAs is publish for an app of another name.
func publishAs(t *testing.T, d *parts.Droplet, key release.PrivateKey, app, version string) {
	t.Helper()
	d.Run(t, "env", "TOWLINE_SIGNING_KEY="+key.Reveal(), "towline", "publish", "--promote", "--app", app, "--version", version,
		"--path", "/root/app", "--bucket", "file:///srv/bucket", "--message", version, "--date", "2026-11-23T15:06:40Z")
	d.Run(t, "chmod", "-R", "a+rX", "/srv/bucket")
}
