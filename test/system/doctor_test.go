package system

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/towline/towline/internal/cli/doctor"
	"github.com/towline/towline/test/parts"
	"github.com/towline/towline/test/schema"
)

// examined runs the doctor as a user of the droplet and gives the worst finding of each name. want is its exit code.
func examined(t *testing.T, d *parts.Droplet, user string, want int) map[string]doctor.Check {
	t.Helper()
	out, err := d.TryRun(t, "runuser", "-u", user, "--", "sh", "-c", "towline doctor --json; test $? = $0", string(rune('0'+want)))
	if err != nil {
		t.Errorf("towline doctor as %s: got another exit code than %d: %v", user, want, err)
	}
	schema.Check(t, "doctor", out)
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	rank := map[doctor.Level]int{doctor.OK: 1, doctor.Warn: 2, doctor.Fail: 3}
	all := map[string]doctor.Check{}
	for _, c := range r.Checks {
		if rank[c.Level] > rank[all[c.Name].Level] {
			all[c.Name] = c
		}
	}
	return all
}

// TestDoctor looks at a server in every state on the way to its first release, and then at what may go wrong with it.
func TestDoctor(t *testing.T) {
	key := newKey(t)
	d := bare(t, "doctor", key, `  shop:
    unit: shop.service
    health: {stable: 500ms}
`)
	wants := func(stage string, all map[string]doctor.Check, want map[string]doctor.Level) {
		t.Helper()
		for name, level := range want {
			if all[name].Level != level {
				t.Errorf("%s: %s: got %s: %q, want %s", stage, name, all[name].Level, all[name].Found, level)
			}
		}
	}
	const ok, warn, fail = doctor.OK, doctor.Warn, doctor.Fail
	// What programs read of the same states.
	schemas := func() {
		t.Helper()
		for _, name := range []string{"status", "releases", "verify"} {
			schema.Check(t, name, d.Run(t, "sh", "-c", "towline "+name+" shop --json || test $? = 6"))
		}
		schema.Check(t, "status", d.Run(t, "towline", "status", "--json"))
	}

	wants("before the agent runs", examined(t, d, "root", 1), map[string]doctor.Level{
		"config": ok, "agent": fail, "service": warn, "user": warn, "systemd": ok, "bucket": ok, "pointer": ok, "unit": fail, "grant": fail})

	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(shopUnit), 0o644)
	d.Run(t, "systemctl", "daemon-reload")
	d.Run(t, "install", "-d", "-o", "towline", "/srv/shop")
	d.Run(t, "systemctl", "enable", "--now", "towline-agent.service")
	wants("before app add", examined(t, d, "root", 1), map[string]doctor.Level{
		"agent": ok, "service": ok, "user": ok, "journal": ok, "grant": fail, "polkit": fail, "sandbox": fail})
	schema.Check(t, "status", d.Run(t, "towline", "status", "--json"))

	d.Run(t, "towline", "app", "add", "shop")
	d.Run(t, "systemctl", "enable", "shop.service")
	d.WriteFile(t, "/root/app/run", []byte("#!/bin/sh\nexec sleep infinity\n"), 0o755)
	publish(t, d, key, "v1")
	logged(t, d, "towline-agent.service", "outcome=deployed")
	well := examined(t, d, "root", 0)
	t.Logf("%s", d.Run(t, "towline", "doctor"))
	wants("deployed", well, map[string]doctor.Level{
		"config": ok, "agent": ok, "service": ok, "user": ok, "journal": ok, "trust": ok, "pointer": ok, "rights": ok, "disk": ok, "state": ok, "unit": warn, // it has no health check
		"running": ok, "grant": ok, "polkit": ok, "sandbox": ok, "contact": ok, "last deployment": ok, "releases": ok})

	schemas()
	if out := d.Run(t, "towline", "status"); !strings.Contains(out, "HEALTH") || !strings.Contains(out, "  ok  ") {
		t.Errorf("got %s, want that the live release is well", out)
	}

	// What others see: never that all is well with what they could not look at.
	wants("as a stranger", examined(t, d, "nobody", 2), map[string]doctor.Level{"config": fail, "agent": warn, "user": warn, "polkit": "", "bucket": ""})
	d.Run(t, "useradd", "--groups", "towline", "ops")
	wants("as an operator", examined(t, d, "ops", 0), map[string]doctor.Level{
		"config": ok, "agent": ok, "unit": warn, "grant": warn, "polkit": warn, "sandbox": warn, "contact": ok})

	d.Run(t, "sh", "-ec", "mv /etc/polkit-1/rules.d/50-towline-shop.rules /root/; systemctl restart polkit; systemctl stop shop.service; towline hold shop -m lunch")
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(strings.Replace(shopUnit, "User=shop\n", "", 1)), 0o644)
	d.Run(t, "systemctl", "daemon-reload")
	d.Run(t, "sh", "-c", "echo x >> /srv/shop/current/run; towline verify shop || true")
	spoilt := examined(t, d, "root", 1)
	wants("spoilt", spoilt, map[string]doctor.Level{
		"polkit": fail, "grant": fail, "unit": fail, "running": warn, "hold": warn, "releases": fail, "agent": ok, "sandbox": ok})
	schemas()
	if out := d.Run(t, "towline", "status"); !strings.Contains(out, "  ailing  ") || !strings.Contains(out, "shop: on hold: lunch") {
		t.Errorf("got %s, want an ailing app on hold for lunch", out)
	}
	if fix := spoilt["grant"].Fix; fix != "sudo towline app add shop" {
		t.Errorf("grant: got fix %q, want sudo towline app add shop", fix)
	}

	// Every fix is what it says.
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte(shopUnit), 0o644)
	for _, fix := range []string{"systemctl daemon-reload", spoilt["grant"].Fix, spoilt["running"].Fix, spoilt["hold"].Fix, spoilt["releases"].Fix} {
		if out, err := d.TryRun(t, "sh", "-c", "sudo() { \"$@\"; }; "+fix); err != nil {
			t.Errorf("%s: %v\n%s", fix, err, out)
		}
	}
	wants("mended", examined(t, d, "root", 0), map[string]doctor.Level{"polkit": ok, "grant": ok, "unit": warn, "running": ok, "releases": ok, "hold": ""})
}
