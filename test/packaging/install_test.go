package packaging

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// installScript returns the text of install.sh as a repository has it, with a key.
func installScript(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "site")
	if err := aptRepo(t, small(t, version, "any"), dir, signingKey(t)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "install.sh")
}

func TestInstallRefuses(t *testing.T) {
	script := installScript(t)
	for _, test := range []struct {
		what string
		argv []string
		want string
	}{
		{"an unknown option", []string{script, "--verison", "1.2.3"}, "usage: install.sh"},
		{"a version", []string{script, "--version", "1.2.3 evil"}, "want X.Y.Z"},
		{"no version", []string{script, "--version"}, "needs a value"},
		{"an address", []string{script, "--repo", "https://example.com/ [trusted=yes]"}, "not an address"},
		{"a scheme", []string{script, "--repo", "ftp://example.com"}, "want an https:// address"},
		{"the file of the checkout", []string{root + "/packaging/install.sh", "--dry-run"}, "has no key in it"},
	} {
		_, err := try(t, nil, append([]string{"sh"}, test.argv...)...)
		refused(t, test.what, err, test.want)
	}

	// A system without apt: only what every system has is on the PATH.
	bin := t.TempDir()
	for _, name := range []string{"cat", "sed", "grep", "uname", "id"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		run(t, nil, "ln", "-s", path, filepath.Join(bin, name))
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	_, err = try(t, []string{"PATH=" + bin}, shell, script, "--dry-run", "--version", "1.2.3")
	refused(t, "no apt", err, "elsewhere take towline_1.2.3_linux_")

	// A download that broke off does nothing, wherever it did.
	text := read(t, script)
	cut := filepath.Join(t.TempDir(), "cut.sh")
	for _, end := range []int{len(text) / 3, strings.LastIndex(text, "main \"$@\""), strings.LastIndex(text, "\nmain \"$@\"")} {
		write(t, cut, []byte(text[:end]), 0o644)
		if out, _ := try(t, nil, "sh", cut, "--dry-run"); out != "" {
			t.Errorf("the first %d bytes: got %q, want nothing to be done", end, out)
		}
	}
}

// A person's server, from the first line that he pastes to the last trace.
func TestInstallOnServer(t *testing.T) {
	key, site := signingKey(t), filepath.Join(t.TempDir(), "site")
	if err := aptRepo(t, debs(t), site, key); err != nil {
		t.Fatal(err)
	}
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"})
	server := httptest.NewServer(http.FileServer(http.Dir(site)))
	defer server.Close()
	d.Run(t, "sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*") // only ours is asked
	install := func(args ...string) string {
		t.Helper()
		return d.Run(t, append([]string{"sh", "-c", `curl -fsSL "$0/install.sh" | sh -s -- --repo "$0" "$@" 2>&1`, server.URL}, args...)...)
	}
	state := func(command, unit string) string {
		t.Helper()
		out, _ := d.TryRun(t, "systemctl", command, unit)
		return strings.TrimSpace(out)
	}
	has := func(path string) bool {
		t.Helper()
		_, err := d.TryRun(t, "test", "-e", path)
		return err == nil
	}
	everything := func() string {
		return d.Run(t, "sh", "-c", `find /etc /usr /var/lib/towline /var/lib/dpkg -xdev -printf '%p %m %u %g %s %C@\n' | sort`)
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}

	before := everything()
	if out := install("--dry-run"); !strings.Contains(out, "would write /etc/apt/sources.list.d/towline.sources") || !strings.Contains(out, "would run: apt-get install") {
		t.Errorf("--dry-run: got\n%s", out)
	}
	if got := everything(); got != before {
		t.Error("--dry-run: got changed files, want none")
	}

	// Installed: the programs run, the agent waits for its configuration, nothing is failed.
	if out := install(); !strings.Contains(out, "towline "+version+" is installed\nnext: ") {
		t.Errorf("install: got\n%s", out)
	}
	if got := d.Run(t, "towline", "version"); !strings.HasPrefix(got, "towline "+version+" (commit ") {
		t.Errorf("towline version: got %q", got)
	}
	expect("towline-agent --version", d.Run(t, "towline-agent", "--version"), "towline-agent "+version+"\n")
	expect("the user's groups", d.Run(t, "id", "--name", "--groups", "towline"), "towline systemd-journal\n")
	expect("the state", d.Run(t, "stat", "--format=%a %U %G", "/var/lib/towline"), "700 towline towline\n")
	expect("the configuration", d.Run(t, "sh", "-c", "stat --format='%n %a %U' /etc/towline /etc/towline/*"),
		"/etc/towline 755 root\n/etc/towline/agent.yaml.example 644 root\n")
	expect("the agent", state("is-enabled", "towline-agent.service")+" "+state("is-active", "towline-agent.service"), "enabled inactive")
	expect("the socket", state("is-enabled", "towline-agent.socket")+" "+state("is-active", "towline-agent.socket"), "disabled inactive")
	expect("failed units", d.Run(t, "systemctl", "list-units", "--failed", "--no-legend", "--plain", "towline*"), "")

	before = everything()
	if out := install(); !strings.HasSuffix(out, "towline "+version+": already up to date\n") {
		t.Errorf("again: got\n%s", out)
	}
	if got := everything(); got != before {
		t.Errorf("again: got changed files, want none:\n%s", changed(before, got))
	}

	// Configured: it starts, and comes back with its new program after an upgrade.
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte("[Service]\nUser=shop\nExecStart=/srv/shop/current/run\n"), 0o644)
	d.Run(t, "useradd", "--system", "shop")
	d.Run(t, "install", "-d", "-o", "towline", "/srv/bucket")
	d.WriteFile(t, "/etc/towline/agent.yaml", []byte("bucket: file:///srv/bucket\ntrust: none\napps:\n  shop:\n    unit: shop.service\n"), 0o644)
	d.Run(t, "towline", "config", "check")
	d.Run(t, "towline", "app", "add", "shop")
	d.Run(t, "systemctl", "restart", "towline-agent")
	d.WaitActive(t, "towline-agent.service")
	pid := func() string {
		return d.Run(t, "systemctl", "show", "--property=MainPID", "--value", "towline-agent.service")
	}
	process := pid()

	if err := aptRepo(t, []string{as(t, "99.0.0", debs(t)[0])}, site, key); err != nil {
		t.Fatal(err)
	}
	if out := install(); !strings.Contains(out, "towline 99.0.0 is installed\n") || strings.Contains(out, "next:") {
		t.Errorf("upgrade: got\n%s", out)
	}
	d.WaitActive(t, "towline-agent.service")
	if got := pid(); got == process {
		t.Errorf("upgrade: got the same process %q, want the agent restarted", got)
	}
	d.Run(t, "towline", "status")

	// Back to a version, and what the administrator has switched off stays off.
	d.Run(t, "systemctl", "disable", "--now", "towline-agent.service")
	if out := install("--version", version); !strings.Contains(out, "towline "+version+" is installed\n") {
		t.Errorf("--version: got\n%s", out)
	}
	expect("the agent that was disabled", state("is-enabled", "towline-agent.service")+" "+state("is-active", "towline-agent.service"), "disabled inactive")
	d.Run(t, "systemctl", "enable", "--now", "towline-agent.service")
	d.WaitActive(t, "towline-agent.service")

	// Removed: programs and unit are gone; the app, the configuration and the state are not.
	if out := install("--uninstall"); !strings.Contains(out, "were left alone") {
		t.Errorf("--uninstall: got\n%s", out)
	}
	for path, want := range map[string]bool{
		"/etc/apt/sources.list.d/towline.sources": false, "/usr/bin/towline": false, "/usr/bin/towline-agent": false,
		"/usr/lib/systemd/system/towline-agent.service": false, "/etc/towline/agent.yaml": true, "/var/lib/towline": true,
		"/srv/shop/releases": true, "/etc/systemd/system/shop.service": true,
	} {
		if got := has(path); got != want {
			t.Errorf("--uninstall: %s: got %v, want %v", path, got, want)
		}
	}
	expect("the agent, removed", state("is-active", "towline-agent.service"), "inactive")
	install("--uninstall") // nothing left to do is no error

	d.Run(t, "apt-get", "purge", "--yes", "towline")
	for path, want := range map[string]bool{
		"/etc/towline": false, "/var/lib/towline": false, "/etc/systemd/system/towline-agent.service.d": false,
		"/etc/polkit-1/rules.d/50-towline-shop.rules": false, "/etc/systemd/system/multi-user.target.wants/towline-agent.service": false,
		"/srv/shop/releases": true, "/srv/bucket": true, "/etc/systemd/system/shop.service": true,
	} {
		if got := has(path); got != want {
			t.Errorf("purge: %s: got %v, want %v", path, got, want)
		}
	}
	expect("units known after the purge", d.Run(t, "sh", "-c", "find /etc/systemd /var/lib/systemd -name '*towline*'"), "")
}

// changed lists the lines that one text has and the other has not.
func changed(before, after string) string {
	var out strings.Builder
	for line := range strings.Lines(after) {
		if !strings.Contains(before, line) {
			out.WriteString(line)
		}
	}
	return out.String()
}
