package agent

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// systemctl reload under the packaged, hardened unit: a new app is taken up, a file that cannot be used changes nothing, and
// systemctl status says so.
func TestReloadUnderSystemd(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for a droplet")
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "github.com/towline/towline/cmd/towline", "github.com/towline/towline/cmd/towline-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "reload"})
	d.Run(t, "useradd", "--system", "--user-group", "--no-create-home", "towline")
	for _, name := range []string{"towline", "towline-agent"} {
		d.CopyIn(t, bin+"/"+name, "/usr/bin/"+name, 0o755)
	}
	unit, err := os.ReadFile("../../packaging/towline-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	d.WriteFile(t, "/etc/systemd/system/towline-agent.service", unit, 0o644)
	if !strings.Contains(string(unit), "ExecReload=") {
		d.WriteFile(t, "/etc/systemd/system/towline-agent.service.d/reload.conf", []byte("[Service]\nExecReload=/bin/kill -HUP $MAINPID\n"), 0o644)
	}
	file := func(apps string) {
		t.Helper()
		d.WriteFile(t, "/etc/towline/agent.yaml", []byte("server: agent\nbucket: file:///srv/bucket\ntrust: none\napps:\n"+apps), 0o644)
	}
	file("  web: {dir: /srv/web}\n")
	d.Run(t, "sh", "-c", "for i in bucket web api; do mkdir /srv/$i && chown towline:towline /srv/$i; done; mkdir /etc/systemd/system/towline-agent.service.d -p; "+
		"printf '[Service]\\nReadWritePaths=/srv\\n' >/etc/systemd/system/towline-agent.service.d/srv.conf; systemctl daemon-reload; systemctl start towline-agent")
	d.WaitActive(t, "towline-agent.service")
	show := func(property string) string {
		t.Helper()
		return strings.TrimSpace(d.Run(t, "systemctl", "show", "--value", "--property="+property, "towline-agent.service"))
	}
	until := func(what, want string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
			if got = show("StatusText"); strings.Contains(got, want) && show("ActiveState") == "active" {
				return
			}
		}
		t.Errorf("%s: got %q, want %q; state %s:\n%s", what, got, want, show("ActiveState"), d.Journal(t, "towline-agent.service"))
	}
	until("at first", "1 app")
	pid := show("MainPID")

	file("  web: {dir: /srv/web}\n  api: {dir: /srv/api}\n")
	d.Run(t, "systemctl", "reload", "towline-agent")
	until("a new app", "2 apps")
	if out := d.Run(t, "towline", "status", "--json"); !strings.Contains(out, `"api"`) || !strings.Contains(out, `"web"`) {
		t.Errorf("got %s, want both apps", out)
	}
	d.Run(t, "test", "-d", "/srv/api/releases")

	file("  web: {dir: /srv/web, keep: 0}\n")
	d.Run(t, "systemctl", "reload", "towline-agent")
	until("a bad file", "/etc/towline/agent.yaml is refused since ")
	if log := d.Journal(t, "towline-agent.service"); !strings.Contains(log, "apps.web.keep") || !strings.Contains(log, "line=5") {
		t.Errorf("the problem is not in the journal:\n%s", log)
	}
	for range 20 { // however many come
		d.Run(t, "systemctl", "kill", "--kill-who=main", "--signal=HUP", "towline-agent")
	}
	file("  web: {dir: /srv/web}\n")
	d.Run(t, "systemctl", "reload", "towline-agent")
	until("mended", "1 app")
	if got := show("MainPID"); got != pid || show("NRestarts") != "0" {
		t.Errorf("got process %s and %s restarts, want %s all the time", got, show("NRestarts"), pid)
	}
	d.Run(t, "systemctl", "stop", "towline-agent.service")
	if got := show("Result"); got != "success" {
		t.Errorf("got result %s after a stop, want success", got)
	}
}
