package host

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// The app and its hooks stop where a file in /srv/gate says so: before the unit starts, in its health check, in a hook. A
// release called bad dies of its first request, one called dead at once, and has the next start of the unit stop.
const (
	gateServer = `const fs = require('fs');
const version = fs.readFileSync('version', 'utf8');
console.log('running ' + version + ' in ' + process.cwd());
if (version.startsWith('dead')) {
  fs.writeFileSync('/srv/gate/start', '');
  process.exit(1);
}
require('http').createServer((req, res) => {
  const wait = fs.existsSync('/srv/gate/check');
  if (!wait && version.startsWith('bad')) process.exit(1);
  res.statusCode = wait ? 503 : 200;
  res.end(version);
}).listen(process.env.PORT, '127.0.0.1');
`
	gateHook = `echo at $1 of $(cat version)
while [ -e /srv/gate/$1 ]; do sleep 0.05; done
`
	gateUnit = `[Service]
Type=exec
User=shop
Environment=PORT=%s
WorkingDirectory=/srv/web/current
ExecStartPre=/bin/sh -c 'echo starting $(cat version); while [ -e /srv/gate/start ]; do sleep 0.05; done'
ExecStart=/usr/bin/node server.js
Restart=always
RestartSec=100ms
TimeoutStartSec=100
TimeoutStopSec=5
[Install]
WantedBy=multi-user.target
`
	agentUnit = "towline-agent.service"
	appUnit   = "web.service"
)

// machine is a droplet whose agent, packaged unit and all, uses the world's store.
type machine struct {
	*world
	*parts.Droplet
	store *store
	addr  string // of the app
	seq   uint64
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	w := newWorld(t)
	m := &machine{world: w, store: newStore(t, w), Droplet: parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"}), addr: parts.FreeAddr(t)}
	for _, name := range []string{"towline", "towline-agent"} {
		m.CopyIn(t, program(t, name), "/usr/bin/"+name, 0o755)
	}
	m.CopyIn(t, filepath.Join(parts.Root(t), "packaging/towline-agent.service"), "/etc/systemd/system/"+agentUnit, 0o644)
	m.WriteFile(t, "/etc/systemd/system/"+agentUnit+".d/test.conf", []byte("[Service]\nRestartSec=100ms\n"+
		"Environment=AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any\n"), 0o644)
	_, port, err := net.SplitHostPort(m.addr)
	must(t, err)
	m.WriteFile(t, "/etc/systemd/system/"+appUnit, fmt.Appendf(nil, gateUnit, port), 0o644)
	m.Run(t, "sh", "-ec", "useradd --system towline; useradd --system shop; install -d -o towline -g towline /etc/towline; install -d -m 777 /srv/gate")
	m.WriteFile(t, "/etc/towline/agent.yaml", fmt.Appendf(nil, `server: web-1
bucket: %q
trust: {keys: [%q]}
poll: 1s
apps:
  web:
    unit: web.service
    health: {http: "http://%s/", expect: "{{hash}}", within: 30s, stable: 0s}
    hooks: {before-activate: [/bin/sh, ./hook, before], after-healthy: [/bin/sh, ./hook, after]}
`, w.url, w.key.Public(), m.addr), 0o640)
	m.Run(t, "chgrp", "towline", "/etc/towline/agent.yaml")
	m.Run(t, "systemctl", "daemon-reload")
	m.Run(t, "towline", "app", "add", "web")
	m.Run(t, "systemctl", "enable", appUnit, agentUnit)
	m.Run(t, "systemctl", "start", agentUnit)
	w.files = crowded("lib", 20)
	w.files["server.js"], w.files["hook"] = gateServer, gateHook
	return m
}

// release publishes the next version, in which there is a lot that no other has.
func (m *machine) release(version string) {
	m.world.t.Helper()
	m.files["large"] = noise(512, version)
	m.publish(version)
	m.seq++
}

// answers is what the app says, or why nothing.
func (m *machine) answers() string {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + m.addr + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// outcomes are those of the records of the newest release, in the journal.
func (m *machine) outcomes(t *testing.T) (records []deployment.Record) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(m.Run(t, "sh", "-c", "cat /var/lib/towline/apps/web/deployments/*.json 2>/dev/null; true")))
	for {
		var r deployment.Record
		if dec.Decode(&r) != nil {
			return records
		}
		if r.Seq == m.seq {
			records = append(records, r)
		}
	}
}

// ended waits until the newest release has its outcome and the receipt says the same; there is one record, one end in the log.
func (m *machine) ended(t *testing.T, want deployment.Outcome, live string) {
	t.Helper()
	eventually(t, "the deployment has ended", func() (bool, string) { return len(m.outcomes(t)) > 0, m.Journal(t, agentUnit) })
	eventually(t, "the receipt says so", func() (bool, string) {
		r := m.receipt()
		return r.Deployment != nil && r.Deployment.Seq == m.seq && r.Deployment.Outcome != "" && r.Live.Hash == live, fmt.Sprintf("%+v", r.Live)
	})
	records, told := m.outcomes(t), m.receipt().Deployment
	if len(records) != 1 || records[0].Outcome != want || records[0].ID != told.ID || told.Outcome != want {
		t.Errorf("got %d records, the first %s with %q, and in the receipt %s with %q, want one with %q", len(records), records[0].ID,
			records[0].Outcome, told.ID, told.Outcome, want)
	}
	if n := strings.Count(m.Journal(t, agentUnit), fmt.Sprintf("seq=%d step=end", m.seq)); n != 1 {
		t.Errorf("got %d ends in the log, want one", n)
	}
	if got := m.answers(); got != live {
		t.Errorf("the app answers %q, want %q", got, live)
	}
	if out, err := m.TryRun(t, "towline", "verify", "web"); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out := m.Run(t, "sh", "-c", "ls -A /srv/web/incoming; ls -A /srv/web/releases | grep ^.stage; true"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}
