package agent

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

const appUnit = `[Service]
Type=simple
User=nobody
WorkingDirectory=-/srv/nodeapi/current
ExecStart=/bin/sh -c 'grep -q broken version.txt && { echo the settings are gone; exit 7; }; exec sleep infinity'
`

const hookUnit = `[Service]
Type=oneshot
User=nobody
WorkingDirectory=/srv/nodeapi/current
ExecStart=/bin/sh -c 'echo "%i ran as $(id -un)"'
`

// The packaged unit and polkit rule, as they are, under a real systemd: an agent that may do nothing but write its own
// directories and handle one unit.
func TestPackagedAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for a droplet")
	}
	bin := filepath.Join(t.TempDir(), "towline-agent")
	build := exec.Command("go", "build", "-o", bin, "github.com/towline/towline/cmd/towline-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w := newWorld(t)
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "agent"})
	publish := func(hash, content string) {
		t.Helper()
		w.publish("nodeapi", hash, content)
		root := filepath.Join(w.dir, "bucket")
		w.must(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(root, path)
			if err == nil && e.Type().IsRegular() && !strings.HasPrefix(rel, ".towline") {
				d.CopyIn(t, path, "/srv/bucket/"+rel, 0o644)
			}
			return err
		}))
		d.Run(t, "chown", "-R", "towline:towline", "/srv/bucket")
	}

	d.Run(t, "useradd", "--system", "--user-group", "--no-create-home", "towline")
	d.CopyIn(t, bin, "/usr/bin/towline-agent", 0o755)
	d.CopyIn(t, "../../packaging/towline-agent.service", "/etc/systemd/system/towline-agent.service", 0o644)
	d.CopyIn(t, "../../packaging/towline.rules", "/etc/polkit-1/rules.d/50-towline-nodeapi.rules", 0o644)
	d.WriteFile(t, "/etc/systemd/system/towline-agent.service.d/nodeapi.conf", []byte("[Service]\nReadWritePaths=/srv/nodeapi /srv/bucket\n"), 0o644)
	d.WriteFile(t, "/etc/systemd/system/nodeapi.service", []byte(appUnit), 0o644)
	d.WriteFile(t, "/etc/systemd/system/towline-app-nodeapi@.service", []byte(hookUnit), 0o644)
	d.WriteFile(t, "/etc/towline/agent.yaml", []byte(`
server: agent
bucket: file:///srv/bucket
trust: {keys: ["`+w.key.Public().String()+`"]}
poll: 1s
apps:
  nodeapi:
    unit: nodeapi.service
    health: {stable: 500ms, exec: ["true"]}
    hooks: {after-healthy: ["true"]}
`), 0o644)
	d.Run(t, "sh", "-c", "mkdir -p /srv/nodeapi /srv/bucket && chown towline:towline /srv/nodeapi /srv/bucket && systemctl daemon-reload && systemctl restart polkit && systemctl start towline-agent")
	d.WaitActive(t, "towline-agent.service")

	ended := func(hash string) deployment.Event {
		t.Helper()
		want := release.ShortHash(hash)
		for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); {
			for line := range strings.Lines(d.Journal(t, "towline-agent.service")) {
				_, outcome, ok := strings.Cut(line, " outcome=")
				if outcome, _, _ = strings.Cut(outcome, " "); ok && outcome != `""` && strings.Contains(line, "release="+want) {
					return deployment.Event{Outcome: deployment.Outcome(outcome), Reason: line}
				}
			}
			d.Run(t, "sleep", "0.2")
		}
		t.Fatalf("%s did not end:\n%s", want, d.Journal(t, "towline-agent.service"))
		return deployment.Event{}
	}
	publish(hash("1"), "one")
	if got := ended(hash("1")); got.Outcome != deployment.Deployed {
		t.Fatalf("got %s", got.Reason)
	}
	d.WaitActive(t, "nodeapi.service")
	for _, want := range []string{"probe ran as nobody", "after-healthy ran as nobody"} {
		if log := d.Run(t, "journalctl", "--no-pager", "--output=cat", "--unit=towline-app-nodeapi@*"); !strings.Contains(log, want) {
			t.Errorf("missing %q in:\n%s", want, log)
		}
	}

	publish(hash("2"), "broken")
	got := ended(hash("2"))
	if got.Outcome != deployment.RolledBack || !strings.Contains(got.Reason, "status 7") {
		t.Errorf("got %s", got.Reason)
	}
	if receipt := d.Run(t, "cat", "/srv/bucket/nodeapi/production/receipts/agent.json"); !strings.Contains(receipt, "the settings are gone") {
		t.Errorf("the unit's own words are missing in the receipt:\n%s", receipt)
	}
	if version := d.Run(t, "cat", "/srv/nodeapi/current/version.txt"); version != "one" {
		t.Errorf("got %q live", version)
	}
	if out, err := d.TryRun(t, "runuser", "-u", "towline", "--", "systemctl", "--no-ask-password", "restart", "polkit.service"); err == nil {
		t.Errorf("user towline may restart any unit: %s", out)
	}
	if mode := strings.TrimSpace(d.Run(t, "stat", "-c", "%a %G", "/run/towline/agent.sock")); mode != "660 towline" {
		t.Errorf("got socket %s, want 660 towline", mode)
	}
	if out := d.Run(t, "systemd-analyze", "security", "--no-pager", "--threshold=15", "towline-agent.service"); !strings.Contains(out, "OK") {
		t.Errorf("got %s", out)
	}
	d.Run(t, "systemctl", "stop", "towline-agent.service")
	if result := strings.TrimSpace(d.Run(t, "systemctl", "show", "--property=Result", "--value", "towline-agent.service")); result != "success" {
		t.Errorf("got result %s of the agent after a stop, want success", result)
	}
}
