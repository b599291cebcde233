package zoo

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// zoo is a droplet with the packaged agent, an app for each animal, and a webhook that is told of what turns bad.
type zoo struct {
	*parts.Droplet
	t    *testing.T
	key  release.PrivateKey
	port map[string]string // of each animal

	mu      sync.Mutex
	notices []string
}

// open boots the droplet, adds the animals' apps, and starts the agent. Nothing is published yet.
func open(t *testing.T, animals []animal) *zoo {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./cmd/towline", "./cmd/towline-agent", "./test/zoo/beast")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	z := &zoo{Droplet: parts.NewDroplet(t, parts.DropletOptions{Name: "zoo"}), t: t, key: key, port: map[string]string{}}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		z.mu.Lock()
		defer z.mu.Unlock()
		z.notices = append(z.notices, string(body))
	}))
	t.Cleanup(hook.Close)

	for _, name := range []string{"towline", "towline-agent", "beast"} {
		z.CopyIn(t, filepath.Join(bin, name), "/usr/bin/"+name, 0o755)
	}
	z.CopyIn(t, "../../packaging/towline-agent.service", "/etc/systemd/system/towline-agent.service", 0o644)
	files := map[string]string{
		"etc/systemd/system/towline-agent.service.d/bucket.conf": "[Service]\nReadWritePaths=/srv/bucket\n",
	}
	config := fmt.Sprintf("server: zoo\nbucket: file:///srv/bucket\ntrust: {keys: [%q]}\npoll: 1s\n"+
		"notify: [{webhook: %q, on: [rolled-back, failed, broken, recovered]}]\napps:\n", key.Public(), hook.URL)
	setup := "set -e\nuseradd --system towline; useradd --system zoo; install -d -o towline -g towline /etc/towline /srv/bucket; install -d -m 0777 /run/zoo\n" +
		"chgrp towline /etc/towline/agent.yaml; chmod 640 /etc/towline/agent.yaml; systemctl daemon-reload\n"
	for _, a := range animals {
		z.port[a.name] = freePort(t)
		for path, text := range a.files(z.port[a.name]) {
			files[path] = text
		}
		config += a.config(z.port[a.name])
		if a.socket {
			setup += "systemctl enable --now --quiet " + a.name + ".socket\n"
		}
		setup += "towline app add " + a.name + " > /dev/null\n"
	}
	files["etc/towline/agent.yaml"] = config
	z.unpack(files)
	z.WriteFile(t, "/root/setup", []byte(setup+"systemctl start towline-agent.service\n"), 0o755)
	z.Run(t, "sh", "/root/setup")
	z.WaitActive(t, "towline-agent.service")
	return z
}

// lastPort is the port that freePort gave out last.
var lastPort atomic.Int64

func init() { lastPort.Store(int64(10_000 + rand.IntN(10_000))) }

// freePort is a port of the loopback that nobody listens on. An app is off it whenever it is restarted, so it is none of those
// that the kernel gives to whoever asks for any, or connects: they begin at 32768.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.FormatInt(lastPort.Add(1), 10)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// unpack writes many files at once. Those that begin with #! can be run.
func (z *zoo) unpack(files map[string]string) {
	z.t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for path, text := range files {
		mode := int64(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		_ = w.WriteHeader(&tar.Header{Name: path, Mode: mode, Size: int64(len(text))})
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	z.WriteFile(z.t, "/root/files.tar", archive.Bytes(), 0o600)
	z.Run(z.t, "tar", "--extract", "--directory=/", "--no-same-owner", "--file=/root/files.tar")
}

// publish publishes the n-th release of each app, all at the same time.
func (z *zoo) publish(n int, apps ...string) {
	z.t.Helper()
	script := "cd /tmp\n"
	for _, app := range apps {
		script += fmt.Sprintf("towline publish --promote --app %s --version %s --path /opt/%s/%d --bucket file:///srv/bucket "+
			"--message m --date 2026-11-23T15:06:40Z > /dev/null & all=\"$all $!\"\n", app, version(app, n), app, n)
	}
	script += "for one in $all; do wait $one; done\n"
	z.Run(z.t, "runuser", "-u", "towline", "--", "env", "TOWLINE_SIGNING_KEY="+z.key.Reveal(), "sh", "-ec", script)
}

// version is that of the n-th release of an app.
func version(app string, n int) string { return fmt.Sprintf("%s-release-%d", app, n) }

// receipts are what the agent has left in the bucket, by app.
func (z *zoo) receipts() map[string]deployment.Receipt {
	z.t.Helper()
	out, _ := z.TryRun(z.t, "sh", "-c", "cat /srv/bucket/*/production/receipts/zoo.json")
	all := map[string]deployment.Receipt{}
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var r deployment.Receipt
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			z.t.Fatalf("receipts: %v", err)
		}
		all[r.App] = r
	}
}

// status is what `towline status --json` prints, by app.
func (z *zoo) status() map[string]deployment.Receipt {
	z.t.Helper()
	var o deployment.Overview
	if err := json.Unmarshal([]byte(z.Run(z.t, "towline", "status", "--json")), &o); err != nil {
		z.t.Fatal(err)
	}
	all := map[string]deployment.Receipt{}
	for _, r := range o.Apps {
		all[r.App] = r
	}
	return all
}

// ended waits until the bucket has a receipt of the end of the n-th release of every app, and returns all receipts.
func (z *zoo) ended(within time.Duration, n int, apps ...string) map[string]deployment.Receipt {
	z.t.Helper()
	var all map[string]deployment.Receipt
	var open []string
	if !z.poll(within, func() bool {
		all = z.receipts()
		open = slices.DeleteFunc(slices.Clone(apps), func(app string) bool {
			d := all[app].Deployment
			return d != nil && d.Hash == version(app, n) && d.Outcome != ""
		})
		return len(open) == 0
	}) {
		var story strings.Builder
		for _, app := range open {
			fmt.Fprintf(&story, "%s: %s\n", app, told(all[app].Deployment))
		}
		z.t.Fatalf("not ended within %v:\n%s\nthe agent:\n%s", within, story.String(), z.Journal(z.t, "towline-agent.service"))
	}
	return all
}

// poll waits until the condition holds.
func (z *zoo) poll(within time.Duration, holds func() bool) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(within); !holds(); {
		select {
		case <-tick.C:
		case <-over:
			return false
		}
	}
	return true
}

// answer is what the app says, or why it says nothing.
func (z *zoo) answer(app string) string {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://127.0.0.1:" + z.port[app] + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body))
}

// told is the story of a deployment, for the test's log.
func told(d *deployment.Record) string {
	if d == nil {
		return "no deployment"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s %s: %s", d.ID, d.Hash, d.Outcome, d.Reason)
	for _, e := range d.Events {
		fmt.Fprintf(&s, "\n\t%s %s %s %s", e.Time, e.Step, e.State, e.Message)
		for _, line := range e.Log {
			fmt.Fprintf(&s, "\n\t\t%s", line)
		}
	}
	return s.String()
}
