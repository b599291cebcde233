package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// agent is a running towline-agent with apps that have no unit: nothing but Towline's own work is measured.
type agent struct {
	pid    int
	dir    string // of everything that it has
	server string // its name
	url    string // what publishers are told to ping; empty without a port
	listen string // its port, with the host
	pin    string // of its certificate
	socket string
	http   *http.Client
}

// newAgent configures and starts an agent for the apps, which has all its files below ground.
func newAgent(b testing.TB, y *yard, ground, server string, poll time.Duration, listen bool, apps ...string) *agent {
	b.Helper()
	dir := filepath.Join(ground, server)
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	a := &agent{dir: dir, server: server, socket: filepath.Join(dir, "agent.sock")}
	a.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", a.socket)
		}}}
	var text strings.Builder
	fmt.Fprintf(&text, "server: %s\nbucket: %q\ntrust:\n  keys: [%q]\npoll: %v\nstate: %s\nsocket: %s\n",
		server, cmp.Or(y.below, y.url), y.key.Public(), poll, filepath.Join(dir, "state"), a.socket)
	if listen {
		fmt.Fprintf(&text, "listen: %q\n", parts.FreeAddr(b))
	}
	fmt.Fprintln(&text, "apps:")
	for _, app := range apps {
		fmt.Fprintf(&text, "  %s:\n    dir: %s\n    restart: [\"true\"]\n", app, filepath.Join(dir, "srv", app))
		if err := os.MkdirAll(filepath.Join(dir, "srv", app), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	config, log := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "log")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	line := y.cage.under(filepath.Join(filepath.Dir(y.program), "towline-agent"), "--config", config)
	a.pid = daemon(b, append(y.env, y.settings...), log, line[0], line[1:]...)
	running := regexp.MustCompile(`msg="towline-agent is running".* listen=(\S*) pin=(\S*) `)
	eventually(b, "the agent runs", func() bool {
		said, _ := os.ReadFile(log)
		at := running.FindSubmatch(said)
		if at != nil && listen {
			a.listen, a.pin = string(at[1]), string(at[2])
			a.url = fmt.Sprintf("%s=https://%s#sha256=%s", server, at[1], at[2])
		}
		return at != nil
	})
	return a
}

// get asks the agent's socket.
func (a *agent) get(b testing.TB, path string, into any) {
	b.Helper()
	answer, err := a.http.Get("http://agent" + path)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		b.Fatalf("GET %s: got %s", path, answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		b.Fatalf("GET %s: %v", path, err)
	}
}

// last is the record of the app's last deployment, which must have made the version live. The record is on the server's
// disk a moment after the deployment's last word.
func (a *agent) last(b testing.TB, app, version string) deployment.Record {
	b.Helper()
	var d deployment.Detail
	eventually(b, fmt.Sprintf("the last deployment of %s has made version %s live", app, version), func() bool {
		a.get(b, "/v1/apps/"+app, &d)
		return len(d.Deployments) > 0 && d.Deployments[0].Hash == version && d.Deployments[0].Outcome == deployment.Deployed
	})
	return d.Deployments[0]
}

// ended is when a deployment said its last word, to the millisecond, and the time that it took.
func ended(b testing.TB, r deployment.Record) (at time.Time, took float64) {
	b.Helper()
	e := r.Events[len(r.Events)-1]
	at, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil || !e.Terminal() {
		b.Fatalf("deployment %s ends with %+v: %v", r.ID, e, err)
	}
	return at, float64(e.TookMS) / 1e3
}
