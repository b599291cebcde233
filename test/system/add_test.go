package system

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// TestAppAddFromNothing has `towline app add` make everything of an app that has nothing on the server but a line of its
// README, deploys it, and has `app remove` take everything away again.
func TestAppAddFromNothing(t *testing.T) {
	key := newKey(t)
	d := bare(t, "add", key, "  # not deployed yet\n  site: {}\n")
	addr := parts.FreeAddr(t)
	url := "http://" + addr + "/"
	add := []string{"towline", "app", "add", "api", "--exec", "node server.js", "--http", url, "--socket", addr, "--shared", "data/"}
	before := d.Run(t, "cat", "/etc/towline/agent.yaml")
	if out := d.Run(t, append(add, "--dry-run")...); !strings.Contains(out, "+   api:\n") || !strings.Contains(out, "make     user api") {
		t.Errorf("got\n%s", out)
	}
	if out, err := d.TryRun(t, "id", "api"); err == nil {
		t.Errorf("a dry run has made %s", out)
	}
	out := d.Run(t, add...)
	t.Log(out)
	if strings.Contains(out, "warning") || strings.Contains(out, "advice") {
		t.Errorf("what it made itself is warned of:\n%s", out)
	}
	if after := d.Run(t, "cat", "/etc/towline/agent.yaml"); !strings.HasPrefix(after, before) || !strings.Contains(after, "  api:\n    unit: api.service\n") {
		t.Errorf("got\n%s", after)
	}
	if mode := d.Run(t, "stat", "--format=%a %U:%G", "/etc/towline/agent.yaml"); mode != "640 root:towline\n" {
		t.Errorf("the configuration: got %s", mode)
	}
	d.Run(t, "towline", "config", "check")
	if got := d.Run(t, "getent", "passwd", "api"); !strings.HasSuffix(got, ":/srv/api:/usr/sbin/nologin\n") {
		t.Errorf("got user %s", got)
	}
	d.Run(t, "systemd-analyze", "verify", "/etc/systemd/system/api.service", "/etc/systemd/system/api.socket")
	for _, unit := range []string{"api.service", "api.socket"} {
		if got := d.Run(t, "systemctl", "is-enabled", unit); got != "enabled\n" {
			t.Errorf("%s: got %s", unit, got)
		}
	}
	if out := d.Run(t, add...); !strings.Contains(out, "nothing to do") {
		t.Errorf("again: got\n%s", out)
	}

	// The first release. Where it stays up for five seconds, it is healthy.
	d.CopyIn(t, filepath.Join(root, "examples/zero-downtime/node/server.js"), "/root/app/server.js", 0o644)
	d.WriteFile(t, "/root/app/version.txt", []byte("v1\n"), 0o644)
	d.Run(t, "systemctl", "start", "towline-agent.service")
	d.WaitActive(t, "towline-agent.service")
	publishAs(t, d, key, "api", "v1")
	logged(t, d, "towline-agent.service", "outcome=deployed")
	answers := func(want string) {
		t.Helper()
		var last string
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
			body, err := get(url)
			if last = fmt.Sprintf("%q, %v", body, err); err == nil && strings.TrimSpace(string(body)) == want {
				return
			}
		}
		t.Fatalf("got %s, want %s:\n%s", last, want, d.Journal(t, "api.service"))
	}
	answers("v1")

	// A release that dies at once is taken back; who asks meanwhile waits and gets the old one's answer.
	d.WriteFile(t, "/root/app/server.js", []byte("throw new Error('the flux capacitor is missing');\n"), 0o644)
	g := ask(url, func() {
		publishAs(t, d, key, "api", "v2")
		logged(t, d, "towline-agent.service", "outcome=rolled-back")
	})
	if answers("v1"); g.failed > 0 {
		t.Errorf("a release that does not start: %d of %d requests failed, want none", g.failed, g.asked)
	}

	// What add has set up goes, and the app runs on, with the socket that it has.
	d.Run(t, "towline", "app", "remove", "api")
	answers("v1")
	if out, err := d.TryRun(t, "systemctl", "is-active", "api.socket"); err == nil {
		t.Errorf("the socket is %s", out)
	}
	_, port, _ := net.SplitHostPort(addr)
	d.WriteFile(t, "/etc/systemd/system/api.service.d/port.conf", []byte("[Service]\nEnvironment=PORT="+port+"\n"), 0o644)
	d.Run(t, "systemctl", "daemon-reload")
	d.Run(t, "systemctl", "restart", "api.service")
	answers("v1")

	// And a socket for an app that runs: the restart hands over.
	d.Run(t, "towline", "app", "add", "api")
	if out := d.Run(t, "towline", "app", "add", "api", "--socket", addr); !strings.Contains(out, "next: systemctl restart api.service\n") {
		t.Errorf("got\n%s", out)
	}
	answers("v1")
	d.Run(t, "systemctl", "restart", "api.service")
	answers("v1")
	if out := d.Run(t, "systemctl", "is-active", "api.socket"); out != "active\n" {
		t.Errorf("the socket is %s", out)
	}

	d.Run(t, "towline", "app", "remove", "api", "--unit", "--entry")
	if after := d.Run(t, "cat", "/etc/towline/agent.yaml"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if out, err := d.TryRun(t, "systemctl", "cat", "api.socket"); err == nil {
		t.Errorf("there is still\n%s", out)
	}
	if _, err := get(url); err == nil {
		t.Error("it still answers")
	}
	d.Run(t, "test", "-s", "/srv/api/current/server.js", "-a", "-d", "/srv/api/shared/data")
}

// TestUnitsThatDeployBadly has systemd load units that would make deployments worse, and sees that each is explained with what
// helps.
func TestUnitsThatDeployBadly(t *testing.T) {
	d := bare(t, "manners", newKey(t), "  shop: {unit: shop.service, health: {tcp: \"127.0.0.1:3000\"}}\n")
	with := func(lines string) string {
		return strings.Replace(shopUnit, "Restart=always\n", "Restart=always\n"+lines+"\n", 1)
	}
	d.Run(t, "sh", "-ec", "mkdir -p /srv/shop/current /apps; ln -s /srv/shop/current /apps/shop")
	for name, test := range map[string]struct{ unit, want string }{
		"good":                  {shopUnit, "ok: it runs what /srv/shop/current leads to"},
		"good, by a link":       {strings.ReplaceAll(shopUnit, "WorkingDirectory=/srv/shop/current", "WorkingDirectory=/apps/shop"), "ok: it runs what /srv/shop/current leads to"},
		"the way to end":        {shopUnit, "ok: the old release has 1m30s to end, with all its processes (KillMode=control-group)"},
		"the app's directory":   {strings.ReplaceAll(shopUnit, "/srv/shop/current", "/srv/shop"), "warning: WorkingDirectory=/srv/shop of shop.service does not mention"},
		"one release":           {strings.ReplaceAll(shopUnit, "/srv/shop/current", "/srv/shop/releases/1-a"), "write WorkingDirectory=/srv/shop/current"},
		"simple":                {strings.ReplaceAll(shopUnit, "Type=exec", "Type=simple"), "advice: Type=simple of shop.service has started before"},
		"forking":               {strings.ReplaceAll(shopUnit, "Type=exec", "Type=forking"), "advice: Type=forking of shop.service: systemd has to find out"},
		"no restart":            {strings.ReplaceAll(shopUnit, "Restart=always", "Restart=no"), "advice: shop.service has no Restart="},
		"gives up":              {strings.ReplaceAll(shopUnit, "RestartSec=3", "RestartSec=100ms"), "gives up for good after 5 times within 10s"},
		"leaves processes":      {with("KillMode=process"), "warning: KillMode=process of shop.service"},
		"never ends":            {with("TimeoutStopSec=infinity"), "advice: TimeoutStopSec= of shop.service lets an old release take for ever"},
		"ends late":             {with("TimeoutStopSec=10min"), "take 10m0s to end"},
		"settings that move":    {with("EnvironmentFile=-/srv/shop/current/.env"), "warning: EnvironmentFile=/srv/shop/current/.env of shop.service comes with the release"},
		"settings of a release": {with("EnvironmentFile=-/srv/shop/releases/1-a/.env"), "is of one release"},
		"reboots":               {strings.Replace(shopUnit, "[Service]", "[Unit]\nStartLimitAction=reboot\n[Service]", 1), "warning: StartLimitAction=reboot"},
	} {
		d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(test.unit), 0o644)
		d.Run(t, "systemctl", "daemon-reload")
		out, err := tryAdd(t, d)
		if err != nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: got %v, want %q in\n%s", name, err, test.want, out)
		}
	}
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(shopUnit), 0o644)
	d.Run(t, "systemctl", "daemon-reload")
	if out, err := tryAdd(t, d, "--socket", "3000"); err != nil || !strings.Contains(out, "proves nothing with a socket unit") {
		t.Errorf("a tcp probe of systemd's own socket: got %v\n%s", err, out)
	}
}
