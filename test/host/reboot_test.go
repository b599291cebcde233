package host

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// The app and its hooks stop where a file in /srv/gate says so: before the unit starts, in its health check, in a hook.
const (
	gateServer = `const fs = require('fs');
const version = fs.readFileSync('version', 'utf8');
console.log('running ' + version + ' in ' + process.cwd());
require('http').createServer((req, res) => {
  res.statusCode = fs.existsSync('/srv/gate/check') ? 503 : version.startsWith('bad') ? 500 : 200;
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
ExecStartPre=/bin/sh -c 'while [ -e /srv/gate/start ]; do sleep 0.05; done'
ExecStart=/usr/bin/node server.js
Restart=always
RestartSec=100ms
TimeoutStopSec=5
[Install]
WantedBy=multi-user.target
`
	agentUnit = "towline-agent.service"
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
	m.WriteFile(t, "/etc/systemd/system/web.service", fmt.Appendf(nil, gateUnit, port), 0o644)
	m.Run(t, "sh", "-ec", "useradd --system towline; useradd --system shop; install -d -o towline -g towline /etc/towline; install -d /srv/gate")
	m.WriteFile(t, "/etc/towline/agent.yaml", fmt.Appendf(nil, `server: web-1
bucket: %q
trust: {keys: [%q]}
poll: 1s
apps:
  web:
    unit: web.service
    health: {http: "http://%s/", expect: "{{hash}}", within: 5s, stable: 0s}
    hooks: {before-activate: [/bin/sh, ./hook, before], after-healthy: [/bin/sh, ./hook, after]}
`, w.url, w.key.Public(), m.addr), 0o640)
	m.Run(t, "chgrp", "towline", "/etc/towline/agent.yaml")
	m.Run(t, "systemctl", "daemon-reload")
	m.Run(t, "towline", "app", "add", "web")
	m.Run(t, "systemctl", "enable", "web.service", agentUnit)
	m.Run(t, "systemctl", "start", agentUnit)
	w.files = crowded(20)
	w.files["server.js"], w.files["hook"], w.files["large"] = gateServer, gateHook, noise(512)
	return m
}

// release publishes the next version.
func (m *machine) release(version string) { m.world.t.Helper(); m.publish(version); m.seq++ }

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

// TestDeathAtEveryStep has the power go, the agent be killed, and the agent be restarted, with a deployment at each of its steps.
// After the power cut the unit starts from where current leads, which is whole; the agent takes the deployment up before its
// first look at the bucket; and it ends, once, as it would have ended.
func TestDeathAtEveryStep(t *testing.T) {
	m := newMachine(t)
	m.release("v0")
	m.ended(t, deployment.Deployed, "v0")
	live, n := "v0", 0
	logged := func(unit, text string) func() (bool, string) {
		return func() (bool, string) { log := m.Journal(t, unit); return strings.Contains(log, text), log }
	}
	for _, fault := range []string{"power", "kill", "restart"} {
		for _, step := range []string{"fetch", "before", "start", "check", "after", "bad"} {
			t.Run(fault+" at "+step, func(t *testing.T) {
				n++
				version, want := fmt.Sprintf("v%d", n), deployment.Deployed
				gate := step
				if step == "bad" {
					version, want, gate = "bad"+strconv.Itoa(n), deployment.RolledBack, "check"
				}
				goOn := make(chan struct{})
				reached := make(chan struct{})
				if step == "fetch" {
					m.store.set(func() { m.store.half = func() { close(reached); <-goOn } })
				} else {
					m.WriteFile(t, "/srv/gate/"+gate, nil, 0o644)
				}
				m.release(version)
				mark := fmt.Sprintf("seq=%d step=", m.seq)
				switch gate {
				case "fetch":
					eventually(t, "half of it is fetched", func() (bool, string) {
						select {
						case <-reached:
							return true, ""
						default:
							return false, m.Journal(t, agentUnit)
						}
					})
				case "before":
					eventually(t, "the hook", logged("towline-app-web@before-activate.service", "at before of "+version))
				case "start":
					eventually(t, "the restart", logged(agentUnit, mark+"activate state=started"))
				case "check":
					eventually(t, "the check", logged(agentUnit, mark+"check state=started"))
				case "after":
					eventually(t, "the hook", logged("towline-app-web@after-healthy.service", "at after of "+version))
				}
				if got := len(m.outcomes(t)); got != 0 {
					t.Fatalf("got %d records of it already", got)
				}
				const takenUp, stopping = "taking up an interrupted deployment", "towline-agent is stopping"
				before := m.Journal(t, agentUnit)
				more := func(text string) func() (bool, string) {
					return func() (bool, string) {
						log := m.Journal(t, agentUnit)
						return strings.Count(log, text) > strings.Count(before, text), log
					}
				}
				open := func() {
					m.Run(t, "rm", "-f", "/srv/gate/"+gate)
					close(goOn)
				}
				switch fault {
				case "power":
					m.Kill(t)
					before = ""
					since := time.Now()
					current := m.Run(t, "cat", "/srv/web/current/version")
					if files := m.Run(t, "sh", "-c", "find /srv/web/current/ -type f | wc -l"); files != fmt.Sprintln(len(m.files)+1) {
						t.Errorf("current holds %s files, want %d", files, len(m.files)+1)
					}
					open()
					m.Boot(t)
					eventually(t, "the unit runs", logged("web.service", "running "))
					if first := m.Journal(t, "web.service"); !strings.Contains(strings.SplitN(first[strings.Index(first, "running "):], "\n", 2)[0], "running "+current+" in ") {
						t.Errorf("the unit started\n%s\nwant it to run %s, where current led", first, current)
					}
					defer m.recoveredFirst(t, since)
				case "kill":
					m.Run(t, "systemctl", "kill", "--kill-who=main", "--signal=KILL", agentUnit)
					open()
				case "restart":
					m.Run(t, "systemctl", "restart", "--no-block", agentUnit)
					eventually(t, "it stops", func() (bool, string) {
						return strings.Contains(m.Journal(t, agentUnit), "towline-agent is stopping"), ""
					})
					open()
				}
				if want == deployment.Deployed {
					live = version
				}
				m.ended(t, want, live)
				if ok, log := more(takenUp)(); !ok {
					t.Errorf("it was not taken up:\n%s", log)
				}
			})
		}
	}
}

// recoveredFirst wants the agent to have taken up what was interrupted before it asked the store for the pointer.
func (m *machine) recoveredFirst(t *testing.T, since time.Time) {
	t.Helper()
	line := m.Run(t, "sh", "-c", "journalctl --boot --unit="+agentUnit+" --output=short-unix | grep -m1 'taking up an interrupted deployment'")
	seconds, err := strconv.ParseFloat(strings.Fields(line)[0], 64)
	must(t, err)
	taken := time.UnixMicro(int64(seconds * 1e6))
	var first time.Time
	eventually(t, "the agent looks again", func() (bool, string) {
		m.store.set(func() {
			for _, look := range m.store.looks {
				if first.IsZero() && look.After(since) {
					first = look
				}
			}
		})
		return !first.IsZero(), ""
	})
	if first.Before(taken.Add(-time.Millisecond)) {
		t.Errorf("the agent looked at %v, before it took up what was interrupted at %v", first, taken)
	}
}
