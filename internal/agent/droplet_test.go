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
WorkingDirectory=-/srv/shop/current
ExecStart=/bin/sh -c 'grep -q broken version.txt && { echo the settings are gone; exit 7; }; exec sleep infinity'
`

// The packaged agent, and what towline app add grants it for one app, under a real systemd: an agent that may do nothing but
// write its own directories and handle one unit.
func TestPackagedAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for a droplet")
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "github.com/towline/towline/cmd/towline", "github.com/towline/towline/cmd/towline-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w := newWorld(t)
	program := "#!/bin/sh\necho \"$(basename \"$0\") of $(cat version.txt) ran as $(id -un), $(cat ../../current/version.txt 2>&1) live\"\nprintf 'with %s\\n' \"$@\"\n"
	w.files = map[string]string{
		"bin/migrate": program + "! grep -q unmigratable version.txt\n", "bin/warm": program, "bin/probe": program,
	}
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "agent"})
	publish := func(hash, content string) {
		t.Helper()
		w.publish("shop", hash, content)
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
	for _, name := range []string{"towline", "towline-agent"} {
		d.CopyIn(t, filepath.Join(bin, name), "/usr/bin/"+name, 0o755)
	}
	d.CopyIn(t, "../../packaging/towline-agent.service", "/etc/systemd/system/towline-agent.service", 0o644)
	// The directory of another app is missing.
	d.WriteFile(t, "/etc/systemd/system/towline-agent.service.d/absent.conf", []byte("[Service]\nReadWritePaths=-/srv/absent\n"), 0o644)
	d.WriteFile(t, "/etc/systemd/system/towline-agent.service.d/bucket.conf", []byte("[Service]\nReadWritePaths=/srv/bucket\n"), 0o644)
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(appUnit), 0o644)
	d.WriteFile(t, "/etc/towline/agent.yaml", []byte(`
server: agent
bucket: file:///srv/bucket
trust: {keys: ["`+w.key.Public().String()+`"]}
poll: 1s
apps:
  shop:
    unit: shop.service
    health: {stable: 500ms, exec: [./bin/probe]}
    hooks: {before-activate: [./bin/migrate], after-healthy: [./bin/warm, '50 % of $HOME; it''s "quoted" \ twice']}
`), 0o644)
	d.Run(t, "sh", "-c", "mkdir /srv/bucket && chown towline:towline /srv/bucket && towline app add shop && systemctl start towline-agent")
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
	d.WaitActive(t, "shop.service")
	ran := func(wants ...string) {
		t.Helper()
		log := d.Run(t, "journalctl", "--no-pager", "--output=cat", "--unit=towline-app-shop@*")
		for _, want := range wants {
			if !strings.Contains(log, want) {
				t.Errorf("missing %q in:\n%s", want, log)
			}
		}
		if _, err := d.TryRun(t, "test", "-L", "/srv/shop/next"); err == nil {
			t.Error("the link of the programs is still there")
		}
	}
	ran("probe of one ran as nobody, one live", "warm of one ran as nobody, one live", `with 50 % of $HOME; it's "quoted" \ twice`)
	if out := d.Run(t, "towline", "app", "add", "shop"); !strings.Contains(out, "nothing to do") {
		t.Errorf("with a release that is live: got\n%s\nwant nothing to do", out)
	}

	// Before it is activated, a release is asked with its own files, while the old one is live.
	publish(hash("3"), "three")
	if got := ended(hash("3")); got.Outcome != deployment.Deployed {
		t.Fatalf("got %s", got.Reason)
	}
	ran("migrate of three ran as nobody, one live", "probe of three ran as nobody, three live", "warm of three ran as nobody, three live")
	publish(hash("4"), "unmigratable")
	if got := ended(hash("4")); got.Outcome != deployment.Failed || !strings.Contains(got.Reason, "hook before-activate") {
		t.Errorf("got %s", got.Reason)
	}
	ran("migrate of unmigratable ran as nobody, three live")

	publish(hash("2"), "broken")
	got := ended(hash("2"))
	if got.Outcome != deployment.RolledBack || !strings.Contains(got.Reason, "status 7") {
		t.Errorf("got %s", got.Reason)
	}
	if receipt := d.Run(t, "cat", "/srv/bucket/shop/production/receipts/agent.json"); !strings.Contains(receipt, "the settings are gone") {
		t.Errorf("the unit's own words are missing in the receipt:\n%s", receipt)
	}
	if version := d.Run(t, "cat", "/srv/shop/current/version.txt"); version != "three" {
		t.Errorf("got %q live", version)
	}
	if out, err := d.TryRun(t, "runuser", "-u", "towline", "--", "systemctl", "--no-ask-password", "restart", "polkit.service"); err == nil {
		t.Errorf("user towline may restart any unit: %s", out)
	}
	// A unit of a granted name must not be the agent's to make up, even where none has it.
	for _, unit := range []string{"shop.service", "towline-app-shop@probe.service", "towline-app-shop@other.service"} {
		if out, err := d.TryRun(t, "runuser", "-u", "towline", "--", "busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
			"org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", "0", "0"); err == nil {
			t.Errorf("user towline may make up a unit %s: %s", unit, out)
		} else if !strings.Contains(err.Error(), "Access denied") && !strings.Contains(err.Error(), "authentication") {
			t.Errorf("a made up unit %s: got %v, want access denied", unit, err)
		}
	}
	if mode := strings.TrimSpace(d.Run(t, "stat", "-c", "%a %G", "/run/towline/agent.sock")); mode != "660 towline" {
		t.Errorf("got socket %s, want 660 towline", mode)
	}
	if out := d.Run(t, "systemd-analyze", "security", "--no-pager", "--threshold=15", "towline-agent.service"); !strings.Contains(out, "OK") {
		t.Errorf("got %s", out)
	}
	if class := strings.TrimSpace(d.Run(t, "sh", "-c", "ionice -p $(systemctl show --property=MainPID --value towline-agent)")); class != "idle" {
		t.Errorf("got I/O class %s, want idle", class)
	}
	d.Run(t, "systemctl", "stop", "towline-agent.service")
	if result := strings.TrimSpace(d.Run(t, "systemctl", "show", "--property=Result", "--value", "towline-agent.service")); result != "success" {
		t.Errorf("got result %s of the agent after a stop, want success", result)
	}
}
