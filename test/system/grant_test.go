package system

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// bare boots a droplet with the programs and the packaged agent, its user, and apps in its configuration. The bucket is a
// directory.
func bare(t *testing.T, name string, key release.PrivateKey, apps string) *parts.Droplet {
	t.Helper()
	d := parts.NewDroplet(t, parts.DropletOptions{Name: name})
	bin := programs(t, "towline", "towline-agent")
	for _, name := range []string{"towline", "towline-agent"} {
		d.CopyIn(t, filepath.Join(bin, name), "/usr/bin/"+name, 0o755)
	}
	d.CopyIn(t, filepath.Join(root, "packaging/towline-agent.service"), "/etc/systemd/system/towline-agent.service", 0o644)
	d.Run(t, "sh", "-ec", "useradd --system towline; useradd --system shop; install -d -o towline -g towline /etc/towline; install -d /srv/bucket")
	configure(t, d, key, apps)
	return d
}

func configure(t *testing.T, d *parts.Droplet, key release.PrivateKey, apps string) {
	t.Helper()
	d.WriteFile(t, "/etc/towline/agent.yaml", fmt.Appendf(nil, "server: web-1\nbucket: file:///srv/bucket\nreceipts: false\n"+
		"trust: {keys: [%q]}\npoll: 1s\napps:\n%s", key.Public(), apps), 0o640)
	d.Run(t, "chgrp", "towline", "/etc/towline/agent.yaml")
}

// publish signs what lies in /root/app and makes it the release that should be live.
func publish(t *testing.T, d *parts.Droplet, key release.PrivateKey, version string) {
	t.Helper()
	d.Run(t, "env", "TOWLINE_SIGNING_KEY="+key.Reveal(), "towline", "publish", "--promote", "--app", "shop", "--version", version,
		"--path", "/root/app", "--bucket", "file:///srv/bucket", "--message", version, "--date", "2026-11-23T15:06:40Z")
	d.Run(t, "chmod", "-R", "a+rX", "/srv/bucket")
}

// logged waits until a unit has logged the text, and returns its log.
func logged(t *testing.T, d *parts.Droplet, unit, text string) string {
	t.Helper()
	return loggedTimes(t, d, unit, text, 1)
}

func loggedTimes(t *testing.T, d *parts.Droplet, unit, text string, times int) string {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(40 * time.Second); ; {
		log := d.Journal(t, unit)
		if strings.Count(log, text) >= times {
			return log
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s did not log %q %d times:\n%s\nthe agent:\n%s", unit, text, times, log, d.Journal(t, "towline-agent.service"))
		}
	}
}

const shopUnit = `[Service]
Type=exec
User=shop
WorkingDirectory=/srv/shop/current
ExecStart=/bin/sh ./run
Restart=always
RestartSec=3
[Install]
WantedBy=multi-user.target
`

// intruder is an app that tries everything that its user should not be able to do, and says how it went.
const intruder = `#!/bin/sh
try() { name=$1; shift; if sh -c "$*" >/dev/null 2>&1; then echo "DONE $name"; else echo "refused $name"; fi; }
try release 'echo x >> run'
try release-new 'echo x > new'
try release-mode 'chmod 777 .'
try releases 'mkdir /srv/shop/releases/9-evil'
try releases-move 'mv /srv/shop/releases /srv/shop/other'
try current 'ln -sfn /tmp /srv/shop/current'
try current-remove 'rm /srv/shop/current'
try next 'ln -s /tmp /srv/shop/next'
try dir 'touch /srv/shop/x'
try lock 'cat /srv/shop/lock'
try incoming 'touch /srv/shop/incoming/x'
try incoming-list 'ls /srv/shop/incoming'
try state 'ls /var/lib/towline'
try state-write 'touch /var/lib/towline/x'
try record 'cat /var/lib/towline/apps/shop/*'
try socket 'curl --fail --unix-socket /run/towline/agent.sock http://agent/v1/apps'
try socket-move 'mv /run/towline/agent.sock /run/towline/other'
try command 'towline hold shop'
try configuration 'cat /etc/towline/agent.yaml'
try configuration-write 'echo >> /etc/towline/agent.yaml'
try rule 'echo > /etc/polkit-1/rules.d/50-towline-shop.rules'
try rule-new 'echo > /etc/polkit-1/rules.d/10-evil.rules'
try programs 'echo >> /etc/systemd/system/towline-app-shop@.service'
try drop-in 'echo > /etc/systemd/system/towline-agent.service.d/evil.conf'
try agent 'echo >> /usr/bin/towline-agent'
try agent-kill 'kill -9 $(systemctl show --property=MainPID --value towline-agent)'
try restart-own 'systemctl --no-ask-password restart shop.service'
try restart-other 'systemctl --no-ask-password restart cron-like.service'
try restart-agent 'systemctl --no-ask-password restart towline-agent.service'
try restart-program 'systemctl --no-ask-password start towline-app-shop@after-healthy.service'
try transient 'busctl --no-pager call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit "ssa(sv)a(sa(sv))" evil.service replace 0 0'
try grant 'towline app add shop'
try bucket 'touch /srv/bucket/x'
try shared 'echo x > /srv/shop/shared/data/x && cat data/x'
try shared-top 'touch /srv/shop/shared/y'
try shared-file 'echo A=1 >> .env'
try read 'cat run'
echo "that was all, as $(id -un)"
exec sleep infinity
`

// TestSignedAppStaysInItsPlace deploys, through the packaged agent, a signed release that turns out to be hostile: all that
// it gets is what its user may do anyway.
func TestSignedAppStaysInItsPlace(t *testing.T) {
	key := newKey(t)
	d := bare(t, "place", key, `  shop:
    unit: shop.service
    shared: [data/, .env]
    health: {stable: 500ms}
    hooks: {after-healthy: [/bin/true]}
`)
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(shopUnit), 0o644)
	d.WriteFile(t, "/etc/systemd/system/cron-like.service", []byte("[Service]\nExecStart=/bin/sleep infinity\n"), 0o644)
	d.WriteFile(t, "/root/app/run", []byte(intruder), 0o755)
	out := d.Run(t, "towline", "app", "add", "shop")
	t.Logf("towline app add shop:\n%s", out)
	if strings.Contains(out, "warning") {
		t.Error("an ordinary unit is warned of")
	}
	d.Run(t, "systemctl", "start", "towline-agent.service", "cron-like.service")
	d.WaitActive(t, "towline-agent.service")
	publish(t, d, key, "v1")
	logged(t, d, "towline-agent.service", "outcome=deployed")
	report := logged(t, d, "shop.service", "that was all, as shop")

	allowed := map[string]bool{"shared": true, "shared-top": true, "shared-file": true, "read": true}
	tried := 0
	for line := range strings.Lines(intruder) {
		rest, ok := strings.CutPrefix(line, "try ")
		if !ok {
			continue
		}
		tried++
		name, _, _ := strings.Cut(rest, " ")
		want := "refused "
		if allowed[name] {
			want = "DONE "
		}
		if !strings.Contains(report, want+name+"\n") {
			t.Errorf("want %s%s", want, name)
		}
	}
	if tried < 35 || t.Failed() {
		t.Errorf("%d attempts; the app says:\n%s", tried, report)
	}
	if out := d.Run(t, "towline", "status", "--json"); !strings.Contains(out, `"hash": "v1"`) {
		t.Errorf("the agent's state afterwards: %s", out)
	}

	// What was granted is taken away whole, and the app goes on.
	d.Run(t, "towline", "app", "remove", "shop")
	left := d.Run(t, "sh", "-c", "ls /etc/systemd/system /etc/systemd/system/towline-agent.service.d /etc/polkit-1/rules.d")
	if strings.Contains(left, "towline-app-shop") || strings.Contains(left, "shop.conf") || strings.Contains(left, "towline-shop.rules") {
		t.Errorf("after app remove there is still:\n%s", left)
	}
	if out, err := d.TryRun(t, "runuser", "-u", "towline", "--", "systemctl", "--no-ask-password", "restart", "shop.service"); err == nil {
		t.Errorf("the agent's user may still restart the unit: %s", out)
	}
	d.Run(t, "test", "-s", "/srv/shop/current/run", "-a", "-s", "/srv/shop/shared/data/x")
	d.WaitActive(t, "shop.service")
}

// tryAdd runs app add for shop, without doing anything, and returns what it prints.
func tryAdd(t *testing.T, d *parts.Droplet, args ...string) (string, error) {
	t.Helper()
	return d.TryRun(t, append([]string{"towline", "app", "add", "shop", "--dry-run"}, args...)...)
}

// TestUnitsThatReachTooFar has systemd load units through which a release would get more than its user's rights.
func TestUnitsThatReachTooFar(t *testing.T) {
	d := bare(t, "units", newKey(t), "  shop: {unit: shop.service}\n")
	with := func(lines string) string {
		return strings.Replace(shopUnit, "Restart=always\n", "Restart=always\n"+lines+"\n", 1)
	}
	install := func(unit string) {
		t.Helper()
		d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(unit), 0o644)
		d.Run(t, "systemctl", "daemon-reload")
	}
	install(shopUnit)
	if out, err := tryAdd(t, d); err != nil || strings.Contains(out, "warning") {
		t.Fatalf("an ordinary unit: got %v:\n%s", err, out)
	}
	for _, test := range []struct {
		name, unit, want string
		pardons          bool
	}{
		{"root", strings.Replace(shopUnit, "User=shop", "User=root", 1), "has User=root, which is root", true},
		{"number 0", strings.Replace(shopUnit, "User=shop", "User=0", 1), "which is root", true},
		{"no user", strings.Replace(shopUnit, "User=shop", "", 1), "has no User=", true},
		{"plus", with("ExecStartPre=+/srv/shop/current/setup"), "ExecStartPre=+/srv/shop/current/setup", true},
		{"plus and minus", with("ExecReload=-+/bin/sh -c 'exec /srv/shop/current/reload'"), "ExecReload=+", true},
		{"plus by the working directory", with("ExecStop=+/bin/sh ./stop"), "ExecStop=+/bin/sh ./stop", true},
		{"one exclamation mark", with("ExecStartPost=!/srv/shop/current/post"), "ExecStartPost=!", true},
		{"two exclamation marks", with("ExecStartPre=!!/srv/shop/current/pre"), "ExecStartPre=!!", true},
		{"permissions for the start only", with("PermissionsStartOnly=yes\nExecStartPre=/srv/shop/current/pre"), "ExecStartPre=+", true},
		{"dynamic", with("DynamicUser=yes"), "DynamicUser=yes", false},
		{"the agent", strings.Replace(shopUnit, "User=shop", "User=towline", 1), "User=towline, as the agent", false},
		{"group", with("Group=towline"), "runs in group towline", false},
		{"supplementary group", with("SupplementaryGroups=adm towline"), "runs in group towline", false},
		{"nobody there", strings.Replace(shopUnit, "User=shop", "User=ghost", 1), "look up user ghost", false},
		{"broken", strings.Replace(shopUnit, "Type=exec", "Type=exec\nExecStop=relative/path is no path", 1), "bad-setting", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			install(test.unit)
			out, err := tryAdd(t, d)
			if err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want exit status 2 and %q:\n%s", err, test.want, out)
			}
			out, err = tryAdd(t, d, "--allow-root")
			if test.pardons != (err == nil) || err == nil && !strings.Contains(out, "warning: ") {
				t.Errorf("with --allow-root: got %v, want success %v and a warning:\n%s", err, test.pardons, out)
			}
		})
	}
	d.Run(t, "rm", "/etc/systemd/system/shop.service")
	d.Run(t, "systemctl", "daemon-reload")
	if _, err := d.TryRun(t, "towline", "app", "add", "shop"); err == nil || !strings.Contains(err.Error(), "there is no unit shop.service") {
		t.Errorf("without the unit: got %v", err)
	}
	if out := d.Run(t, "ls", "/srv"); strings.Contains(out, "shop") {
		t.Errorf("something was made: %s", out)
	}

	// A unit file that comes with the app would be the app's to change.
	d.WriteFile(t, "/srv/shop/current/shop.service", []byte(shopUnit), 0o644)
	d.Run(t, "systemctl", "link", "/srv/shop/current/shop.service")
	if out, err := tryAdd(t, d); err == nil || !strings.Contains(err.Error(), "/srv/shop/current/shop.service of shop.service lies in the app's directory") {
		t.Errorf("a linked unit file: got %v\n%s", err, out)
	}
	d.Run(t, "systemctl", "disable", "shop.service")
	d.WriteFile(t, "/etc/systemd/system/web.service", []byte(strings.Replace(shopUnit, "[Install]", "[Install]\nAlias=shop.service", 1)), 0o644)
	d.Run(t, "systemctl", "enable", "web.service")
	if out, err := tryAdd(t, d); err == nil || !strings.Contains(err.Error(), "write unit: web.service") {
		t.Errorf("an alias: got %v\n%s", err, out)
	}
}

// TestAppUserInGroupTowline shows why no app's user may be in the agent's group, and that it is not let in.
func TestAppUserInGroupTowline(t *testing.T) {
	d := bare(t, "group", newKey(t), "  shop: {unit: shop.service}\n")
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(shopUnit), 0o644)
	d.Run(t, "towline", "app", "add", "shop")
	d.Run(t, "systemctl", "start", "towline-agent.service")
	d.WaitActive(t, "towline-agent.service")
	hold := []string{"runuser", "-u", "shop", "--", "towline", "hold", "shop"}
	if out, err := d.TryRun(t, hold...); err == nil {
		t.Fatalf("the app's user commands the agent: %s", out)
	}
	d.Run(t, "usermod", "--append", "--groups", "towline", "shop")
	if _, err := d.TryRun(t, hold...); err != nil {
		t.Errorf("a member of the group: got %v; is the group what opens the socket?", err)
	}
	_, err := d.TryRun(t, "towline", "app", "add", "shop")
	if err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), "gpasswd --delete shop towline") {
		t.Errorf("got %v, want it refused, with what helps", err)
	}
	if _, err := d.TryRun(t, "towline", "app", "add", "shop", "--allow-root"); err == nil {
		t.Error("--allow-root lets it pass")
	}
	d.Run(t, "gpasswd", "--delete", "shop", "towline")
	if out := d.Run(t, "towline", "app", "add", "shop"); !strings.Contains(out, "nothing to do") {
		t.Errorf("got\n%s", out)
	}
}

// TestAgentAsRoot is a server whose polkit cannot tell units apart. The polkit is a fake as far as its version goes: the
// program that app add asks for it says 0.105. All else is real: the agent runs as root, in what is left of its sandbox, and
// the app and its hooks run as their user.
func TestAgentAsRoot(t *testing.T) {
	key := newKey(t)
	d := bare(t, "old", key, `  shop:
    unit: shop.service
    shared: [data/]
    health: {stable: 500ms, exec: [node, -e, "console.log('probe', process.getuid())"]}
    hooks: {before-activate: [/bin/sh, -c, "id -un > data/migrated"]}
`)
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(shopUnit), 0o644)
	d.WriteFile(t, "/usr/local/bin/pkaction", []byte("#!/bin/sh\necho pkaction version 0.105\n"), 0o755)
	d.WriteFile(t, "/root/app/run", []byte("echo running as $(id -un); exec sleep infinity\n"), 0o755)
	d.Run(t, "systemctl", "start", "towline-agent.service") // as an unprivileged agent that is not granted anything yet
	out := d.Run(t, "towline", "app", "add", "shop")
	if !strings.Contains(out, "THE AGENT RUNS AS ROOT") || !strings.Contains(out, "systemctl try-restart towline-agent.service") {
		t.Errorf("got\n%s\nwant it said, and the agent restarted", out)
	}
	d.WaitActive(t, "towline-agent.service")
	logged(t, d, "towline-agent.service", "the agent runs as root")
	publish(t, d, key, "v1")
	log := logged(t, d, "towline-agent.service", "outcome=")
	if !strings.Contains(log, "outcome=deployed") {
		t.Fatalf("got\n%s", log)
	}
	if out := d.Run(t, "cat", "/srv/shop/shared/data/migrated"); out != "shop\n" {
		t.Errorf("the hook ran as %q, want shop", out)
	}
	logged(t, d, "shop.service", "running as shop")
	if owner := d.Run(t, "stat", "--format=%U %a", "/srv/shop/current/run", "/srv/shop/releases", "/srv/shop/shared/data"); owner != "root 755\nroot 755\nshop 755\n" {
		t.Errorf("got owners\n%s", owner)
	}
	if mode := d.Run(t, "stat", "--format=%a %G", "/run/towline/agent.sock"); mode != "660 towline\n" {
		t.Errorf("got socket %s, want 660 towline", mode)
	}
	caps := d.Run(t, "sh", "-c", "grep CapBnd /proc/$(systemctl show --property=MainPID --value towline-agent)/status")
	if !strings.HasSuffix(strings.TrimSpace(caps), "00000000000000eb") { // chown dac_override fowner kill setgid setuid
		t.Errorf("got capabilities %s", caps)
	}

	// polkit is renewed: the agent gives root back, and can work with what it has made as root.
	d.Run(t, "rm", "/usr/local/bin/pkaction")
	if out := d.Run(t, "towline", "app", "add", "shop"); strings.Contains(out, "ROOT") || !strings.Contains(out, "delete   /etc/systemd/system/towline-agent.service.d/_root.conf") {
		t.Errorf("got\n%s", out)
	}
	d.WaitActive(t, "towline-agent.service")
	d.WriteFile(t, "/root/app/more", []byte("more\n"), 0o644)
	publish(t, d, key, "v2")
	loggedTimes(t, d, "towline-agent.service", "outcome=deployed", 2)
	d.Run(t, "test", "-e", "/srv/shop/current/more")
	if owner := d.Run(t, "sh", "-c", "stat --format=%U /proc/$(systemctl show --property=MainPID --value towline-agent) /srv/shop/releases/*v1/run"); owner != "towline\ntowline\n" {
		t.Errorf("got owners\n%s", owner)
	}
}
