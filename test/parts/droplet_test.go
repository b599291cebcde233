package parts

import (
	"strings"
	"testing"
)

// rule lets one user restart one unit.
const rule = `polkit.addRule(function(action, subject) {
  if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "nobodyish" &&
      action.lookup("unit") == "one.service" && action.lookup("verb") == "restart") return polkit.Result.YES;
});
`

func TestDroplet(t *testing.T) {
	needRoot(t, "a droplet")
	var dir string
	var groups []string
	t.Run("life", func(t *testing.T) {
		d := NewDroplet(t, DropletOptions{Name: "web-1"})
		dir, groups = d.dir, d.groups
		if got, want := d.Run(t, "hostname"), "web-1\n"; got != want {
			t.Errorf("host name: got %q, want %q", got, want)
		}
		if got := d.Run(t, "systemctl", "list-units", "--failed", "--plain", "--no-legend"); got != "" {
			t.Errorf("failed units: got %q, want none", got)
		}
		d.Run(t, "useradd", "--system", "nobodyish")
		d.WriteFile(t, "/etc/polkit-1/rules.d/50-test.rules", []byte(rule), 0o644)
		d.WriteFile(t, "/etc/systemd/system/one.service", []byte("[Service]\nExecStartPre=/usr/bin/node -e \"console.log('hello')\"\n"+
			"ExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"), 0o644)
		d.WriteFile(t, "/etc/systemd/system/two.service", []byte("[Service]\nExecStart=/usr/bin/sleep infinity\n"), 0o644)
		d.Run(t, "systemctl", "daemon-reload")
		d.Run(t, "systemctl", "enable", "one.service")

		try := func(verb, unit string, allowed bool) {
			t.Helper()
			_, err := d.TryRun(t, "runuser", "-u", "nobodyish", "--", "systemctl", "--no-ask-password", verb, unit)
			if got := err == nil; got != allowed {
				t.Errorf("%s %s: got allowed %v, want %v (%v)", verb, unit, got, allowed, err)
			}
		}
		try("restart", "one.service", true)
		try("stop", "one.service", false)
		try("restart", "two.service", false)
		d.WaitActive(t, "one.service")
		if got := d.Journal(t, "one.service"); !strings.Contains(got, "hello") {
			t.Errorf("journal: got %q, want it to hold hello", got)
		}

		d.Poweroff(t)
		d.WriteFile(t, "/srv/kept", []byte("off"), 0o600)
		d.Boot(t)
		d.WaitActive(t, "one.service")
		d.Kill(t)
		d.Boot(t)
		if got, want := string(d.ReadFile(t, "/srv/kept")), "off"; got != want {
			t.Errorf("kept file: got %q, want %q", got, want)
		}
		d.WaitActive(t, "one.service")
	})
	if dir == "" {
		Skip(t, "a droplet; the reason is above")
	}
	if got := mountsUnder(dir); len(got) > 0 {
		t.Errorf("left mounted: %q", got)
	}
	for _, group := range append(groups, dir) {
		if exists(group) {
			t.Errorf("left behind: %s", group)
		}
	}
}

func TestDropletsAreApart(t *testing.T) {
	a := NewDroplet(t, DropletOptions{Name: "a"})
	b := NewDroplet(t, DropletOptions{Name: "b"})
	a.WriteFile(t, "/srv/mark", []byte("a"), 0o644)
	if _, err := b.TryRun(t, "test", "-e", "/srv/mark"); err == nil {
		t.Error("a file of one droplet is seen in the other")
	}
	a.Kill(t)
	if got, want := b.Run(t, "systemctl", "is-system-running"), "running\n"; got != want {
		t.Errorf("b after a was killed: got %q, want %q", got, want)
	}
}
