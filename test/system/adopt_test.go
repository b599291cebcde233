package system

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// TestAdopt has an app that has run from a directory of its own for years become one that is deployed: nobody who asks for it
// notices, its data stays where it was, and the first deployment, which is a bad one, goes back to what ran before.
func TestAdopt(t *testing.T) {
	server := filepath.Join(t.TempDir(), "server")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", server, ".")
	build.Dir = filepath.Join(root, "examples/zero-downtime/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	key := newKey(t)
	addr := map[string]string{"shop": parts.FreeAddr(t), "plain": parts.FreeAddr(t)}
	apps := ""
	for name, trust := range map[string]string{"shop": "", "plain": ", trust: none"} {
		apps += fmt.Sprintf("  %s: {unit: %s.service, shared: [uploads/], health: {http: \"http://%s/\", expect: \"{{hash}}\", stable: 0s, within: 5s}%s}\n",
			name, name, addr[name], trust)
	}
	d := bare(t, "adopt", key, apps)
	url := func(name string) string { return "http://" + addr[name] + "/" }
	answers := func(name, want string) {
		t.Helper()
		body, err := get(url(name))
		if err != nil || strings.TrimSpace(string(body)) != want {
			t.Fatalf("%s: got %q, %v, want %s:\n%s", name, body, err, want, d.Journal(t, "towline-agent.service"))
		}
	}
	for _, name := range []string{"shop", "plain"} {
		_, port, _ := net.SplitHostPort(addr[name])
		d.WriteFile(t, "/etc/systemd/system/"+name+".service", fmt.Appendf(nil, `[Service]
Type=exec
User=shop
Environment=PORT=%s
WorkingDirectory=/apps/%s
ExecStart=/apps/%s/server
Restart=always
RestartSec=3
[Install]
WantedBy=multi-user.target
`, port, name, name), 0o644)
		d.CopyIn(t, server, "/apps/"+name+"/server", 0o755)
		d.WriteFile(t, "/apps/"+name+"/version.txt", []byte("old\n"), 0o644)
		d.WriteFile(t, "/apps/"+name+"/uploads/cat", []byte("meow\n"), 0o600)
		d.Run(t, "chown", "-R", "shop:", "/apps/"+name)
		d.Run(t, "systemctl", "daemon-reload")
		d.Run(t, "systemctl", "enable", "--now", name)
		d.WaitActive(t, name+".service")
	}
	if _, err := d.TryRun(t, "towline", "app", "add", "shop", "--adopt", "/apps/shop"); err == nil || !strings.Contains(err.Error(), "--adopt-version") {
		t.Errorf("without a version that the health check could find: got %v", err)
	}
	for _, name := range []string{"shop", "plain"} {
		var out string
		g := ask(url(name), func() {
			out = d.Run(t, "towline", "app", "add", name, "--adopt", "/apps/"+name, "--adopt-version", "old")
		})
		if g.failed > 0 || g.asked == 0 || strings.Contains(out, "warning") || !strings.Contains(out, "next: systemctl restart "+name+".service") {
			t.Errorf("got %+v:\n%s", g, out)
		}
		t.Log(out)
		again := d.Run(t, "towline", "app", "add", name, "--adopt", "/apps/"+name)
		if !strings.Contains(again, "nothing to do") || strings.Contains(again, "leads to the live") {
			t.Errorf("again: got\n%s", again)
		}
		for file, want := range map[string]string{"": "/srv/" + name + "/releases/0-old\n", "/uploads": "/srv/" + name + "/shared/uploads\n"} {
			if got := d.Run(t, "realpath", "/apps/"+name+file); got != want {
				t.Errorf("/apps/%s%s: got %q, want %q", name, file, got, want)
			}
		}
		if owners := d.Run(t, "stat", "--format=%U %a", "/apps/"+name+"/server", "/srv/"+name+"/lock", "/apps/"+name+"/uploads/cat"); owners != "towline 755\ntowline 600\nshop 600\n" {
			t.Errorf("got owners\n%s", owners)
		}
		answers(name, "old") // from the old directory still
		d.Run(t, "systemctl", "restart", name)
		d.WaitActive(t, name+".service")
		if got := d.Run(t, "sh", "-c", "readlink /proc/$(systemctl show --property=MainPID --value "+name+")/exe"); got != "/srv/"+name+"/releases/0-old/server\n" {
			t.Errorf("it runs from %s", got)
		}
		answers(name, "old")
	}

	// The agent has never run before. Its first deployments are bad.
	d.WriteFile(t, "/root/app/server", []byte("#!/bin/sh\necho cannot; exit 1\n"), 0o755)
	publish(t, d, key, "bad1")
	d.Run(t, "sh", "-ec", `mkdir -p /srv/bucket/plain/production; cd /root/app; tar czf /srv/bucket/plain/production/bad1.tar.gz .
		printf '{"hash":"bad1","msg":"m","date":"2026-11-23"}' > /srv/bucket/plain/production/version.json; chmod -R a+rX /srv/bucket`)
	d.Run(t, "systemctl", "start", "towline-agent.service")
	d.WaitActive(t, "towline-agent.service")
	loggedTimes(t, d, "towline-agent.service", "outcome=rolled-back", 2)
	for _, name := range []string{"shop", "plain"} {
		answers(name, "old")
		d.Run(t, "grep", "-q", "meow", "/apps/"+name+"/uploads/cat")
	}
	if out := d.Run(t, "towline", "verify", "shop"); !strings.Contains(out, "ok") {
		t.Errorf("the adopted release is not known whole: %s", out)
	}

	// A good one then, and back by hand.
	d.CopyIn(t, server, "/root/app/server", 0o755)
	d.WriteFile(t, "/root/app/version.txt", []byte("v2\n"), 0o644)
	publish(t, d, key, "v2")
	logged(t, d, "towline-agent.service", "outcome=deployed")
	answers("shop", "v2")
	if got := d.Run(t, "cat", "/apps/shop/version.txt", "/apps/shop/uploads/cat"); got != "v2\nmeow\n" {
		t.Errorf("by the old path: got %q", got)
	}
	d.Run(t, "towline", "rollback", "shop")
	answers("shop", "old")
}
