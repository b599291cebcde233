package packaging

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// entry is what a snapshot tells of a file.
var entry = regexp.MustCompile(`^(\S+) (.*)$`)

// snapshot is the server's whole tree, its users and groups, and how its units are enabled: each by its name. Left out is
// what other programs write all the time: logs, caches, apt's and dpkg's books.
func (s *server) snapshot(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	tree := s.Run(t, "sh", "-ec", `
		find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /root -o -path /var/log \
			-o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd/timers -o -path /opt/debs \) -prune -o \
			\( -type f -printf '%p f %m %U:%G %s\n' -o -type l -printf '%p l %l\n' -o -printf '%p %y %m %U:%G\n' \)
		sed 's/^\([^:]*\):.*/passwd:&/; s/^passwd:\([^:]*\):/passwd:\1 /' /etc/passwd
		sed 's/^/group:/; s/^group:\([^:]*\):/group:\1 /' /etc/group
		systemctl list-unit-files --no-legend --plain | sed 's/^/unit:/'`)
	for line := range strings.Lines(tree) {
		if m := entry.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			out[m[1]] = m[2]
		}
	}
	if out["/etc/hostname"] == "" || out["passwd:root"] == "" || out["group:root"] == "" || !slices.ContainsFunc(slices.Collect(maps.Keys(out)),
		func(name string) bool { return strings.HasPrefix(name, "unit:dbus.service") }) {
		t.Fatalf("got a snapshot of %d things, want files, users, groups and units", len(out))
	}
	return out
}

// differences are the names of what is not in both snapshots, or not the same. What is below a name that is told is not.
func differences(before, after map[string]string) (added, gone, other []string) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if old, ok := before[name]; !ok {
			added = append(added, name)
		} else if old != after[name] {
			other = append(other, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			gone = append(gone, name)
		}
	}
	return above(added), above(gone), other
}

func above(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(names, filepath.Dir(name)) })
}

// same fails the test unless two snapshots differ in nothing but what is named: +name is new, -name is gone, name is other.
func same(t *testing.T, what string, before, after map[string]string, want ...string) {
	t.Helper()
	added, gone, other := differences(before, after)
	var got []string
	for _, name := range added {
		got = append(got, "+"+name)
	}
	for _, name := range gone {
		got = append(got, "-"+name)
	}
	got = append(got, other...)
	slices.Sort(got)
	slices.Sort(want)
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: got %s (%q, before %q), want it as it was", what, name, after[strings.TrimLeft(name, "+")], before[strings.TrimLeft(name, "-")])
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: got nothing of %s", what, name)
		}
	}
}

// accounts are the files that a new user changes, with what was in them before.
var accounts = []string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "+passwd:towline", "+group:towline", "group:systemd-journal"}

// The package from the first installation to the last purge: what comes, what stays, what goes.
func TestLifecycle(t *testing.T) {
	s := newServer(t)
	arch := strings.TrimSpace(s.Run(t, "dpkg", "--print-architecture"))
	first := debs(t)[slices.Index(architectures, arch)]
	s.CopyIn(t, first, "/opt/debs/1.deb", 0o644)
	s.CopyIn(t, as(t, "99.0.0", first), "/opt/debs/2.deb", 0o644)
	s.CopyIn(t, as(t, "99.0.1", first), "/opt/debs/3.deb", 0o644)
	install := func(deb string) string { return s.Run(t, "dpkg", "--install", "/opt/debs/"+deb) }
	s.Run(t, "useradd", "--system", "shop") // and with it the lock and the earlier books that every new user makes
	before := s.snapshot(t)

	// Installed, again, and upgraded: nothing but what is in the package and what it is known to make.
	install("1.deb")
	installed := s.snapshot(t)
	known := append(slices.Clone(accounts), "+/etc/towline", "+/var/lib/towline",
		"+/var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants/towline-agent.service",
		"+/var/lib/systemd/deb-systemd-helper-enabled/towline-agent.service.dsh-also",
		"+/var/lib/systemd/deb-systemd-helper-enabled/towline-agent.socket.dsh-also",
		"+/etc/systemd/system/multi-user.target.wants/towline-agent.service", "+unit:towline-agent.service", "+unit:towline-agent.socket")
	for _, path := range strings.Fields(s.Run(t, "dpkg", "--listfiles", "towline")) {
		if _, ok := before[path]; !ok && !strings.HasPrefix(path, "/etc/") && path != "/." {
			known = append(known, "+"+path)
		}
	}
	known = above(known)
	same(t, "install", before, installed, known...)
	expect(t, "installed", s.state(t, "towline-agent.service"), "enabled inactive")
	install("1.deb")
	same(t, "install again", installed, s.snapshot(t))
	install("2.deb")
	same(t, "upgrade", installed, s.snapshot(t))

	// At work: a release is live.
	s.configure(t)
	s.WriteFile(t, "/opt/debs/app/run", []byte("#!/bin/sh\nexec sleep infinity\n"), 0o755)
	publish := func(version string) {
		t.Helper()
		s.WriteFile(t, "/opt/debs/app/version", []byte(version), 0o644)
		s.Run(t, "towline", "publish", "--promote", "--app", "shop", "--path", "/opt/debs/app", "--bucket", "file:///srv/bucket", "--trust", "none",
			"--version", version, "--message", "any", "--date", "2026-11-20T10:11:12Z")
	}
	publish("v1")
	s.Run(t, "towline", "deploy", "shop")
	s.WaitActive(t, "shop.service")

	// An upgrade while v2 is being watched: the agent that comes with it watches on.
	s.Run(t, "sed", "-i", "s/stable: 0s/stable: 8s/", "/etc/towline/agent.yaml")
	s.Run(t, "systemctl", "restart", "towline-agent")
	s.WaitActive(t, "towline-agent.service")
	publish("v2")
	s.Run(t, "sh", "-c", "towline deploy shop >/dev/null 2>&1 </dev/null &")
	wait := func(what, condition string) {
		t.Helper()
		if _, err := s.TryRun(t, "sh", "-c", "for i in $(seq 300); do "+condition+" && exit 0; sleep 0.1; done; exit 1"); err != nil {
			t.Fatalf("%s: it did not come to that:\n%s", what, s.Journal(t, "towline-agent.service"))
		}
	}
	wait("v2 is activated", `[ "$(cat /srv/shop/current/version)" = v2 ]`)
	install("3.deb")
	if log := s.Journal(t, "towline-agent.service"); strings.Contains(log, "seq=2 step=end") {
		t.Fatalf("got v2's deployment at its end before the upgrade:\n%s", log)
	}
	wait("v2 is deployed", "journalctl --boot --unit=towline-agent.service --output=cat | grep -q 'seq=2 step=end.*outcome=deployed'")
	if log := s.Journal(t, "towline-agent.service"); !strings.Contains(log, "taking up an interrupted deployment") || strings.Count(log, "seq=2 step=end") != 1 {
		t.Errorf("got\n%s\nwant v2's deployment taken up by the new agent", log)
	}
	app := s.pid(t, "shop.service")

	// What the administrator has decided outlives an upgrade: nothing is started that he has stopped for good.
	agent := "towline-agent.service"
	s.Run(t, "systemctl", "disable", "--now", agent)
	install("2.deb")
	expect(t, "disabled, after an upgrade", s.state(t, agent), "disabled inactive")
	s.Run(t, "systemctl", "mask", agent)
	install("3.deb")
	expect(t, "masked, after an upgrade", s.state(t, agent), "masked inactive")
	s.Run(t, "systemctl", "unmask", agent)
	s.Run(t, "systemctl", "enable", "--now", agent)
	s.WaitActive(t, agent)
	s.WriteFile(t, "/usr/sbin/policy-rc.d", []byte("#!/bin/sh\nexit 101\n"), 0o755)
	process := s.pid(t, agent)
	install("2.deb")
	expect(t, "policy-rc.d: the agent's process", s.pid(t, agent), process)
	s.Run(t, "rm", "/usr/sbin/policy-rc.d")
	install("3.deb")
	s.WaitActive(t, agent)
	if got := s.pid(t, agent); got == process {
		t.Error("upgrade: got the process of before, want the agent restarted")
	}
	s.Run(t, "systemctl", "enable", "towline-agent.socket")

	// Removed: the programs are gone, all that was configured and remembered is not.
	working := s.snapshot(t)
	s.Run(t, "dpkg", "--remove", "towline")
	var gone []string
	for _, name := range known {
		switch {
		case strings.HasPrefix(name, "+/usr/"):
			gone = append(gone, "-"+name[1:])
		case strings.HasPrefix(name, "+unit:"):
			gone = append(gone, "-"+name[1:])
		}
	}
	removed := s.snapshot(t)
	same(t, "remove", working, removed, gone...)
	expect(t, "the app, without the agent", s.state(t, "shop.service"), "static active")
	expect(t, "the agent, removed", s.state(t, agent), " inactive")

	// Installed again, it goes on where it was.
	install("3.deb")
	same(t, "install after remove", working, s.snapshot(t),
		"+/var/lib/systemd/deb-systemd-helper-enabled/sockets.target.wants") // what the administrator has enabled is remembered
	s.WaitActive(t, agent)
	if out := s.Run(t, "towline", "status"); !strings.Contains(out, "v2") {
		t.Errorf("status: got\n%s\nwant v2 live", out)
	}

	// Purged: nothing of it is left but the user, whose files the app's releases are; and it says so.
	out := s.Run(t, "sh", "-c", "dpkg --purge towline 2>&1")
	for _, want := range []string{
		"towline: the app in /srv/shop runs on; its releases are left in /srv/shop/releases\n", "towline: the user towline is left: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("purge: got\n%s\nwant %q", out, want)
		}
	}
	left := append(slices.Clone(accounts), "+/srv/shop", "+/srv/bucket", "+/etc/systemd/system/shop.service", "+unit:shop.service")
	same(t, "purge", before, s.snapshot(t), left...)
	expect(t, "the app's process, after it all", s.pid(t, "shop.service"), app)
	if got := s.Run(t, "sh", "-c", "ls /srv/shop/releases; readlink /srv/shop/current; find / -xdev -name '*towline*' -not -path '/opt/*' -not -path '/srv/*' -not -path '/var/log/*'"); strings.Count(got, "\n") != 3 {
		t.Errorf("purge: got\n%s\nwant two releases, the link to one, and nothing with the name towline", got)
	}
	if out, err := s.TryRun(t, "dpkg-query", "--show", "towline"); err == nil {
		t.Errorf("purge: got %q, want dpkg to know of no towline", out)
	}

	// As new.
	install("1.deb")
	s.Run(t, "dpkg", "--purge", "towline")
	same(t, "install and purge", before, s.snapshot(t), left...)
}
