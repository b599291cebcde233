package packaging

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// server is a person's server, and the apt repository that it installs from.
type server struct {
	*parts.Droplet
	site, key string // the repository's directory, and what signs it
	url       string
}

// newServer makes a server that knows no other repository; it has this checkout's packages.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{key: signingKey(t), site: filepath.Join(t.TempDir(), "site")}
	s.publish(t, debs(t))
	s.Droplet = parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"})
	files := httptest.NewServer(http.FileServer(http.Dir(s.site)))
	t.Cleanup(files.Close)
	s.url = files.URL
	s.Run(t, "sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
	return s
}

func (s *server) publish(t *testing.T, debs []string, args ...string) {
	t.Helper()
	if err := aptRepo(t, debs, append(args, s.site, s.key)...); err != nil {
		t.Fatal(err)
	}
}

// install pastes the line, with further arguments.
func (s *server) install(t *testing.T, args ...string) string {
	t.Helper()
	return s.Run(t, append([]string{"sh", "-c", `curl -fsSL "$0/install.sh" | sh -s -- --repo "$0" "$@" 2>&1`, s.url}, args...)...)
}

func (s *server) has(t *testing.T, path string) bool {
	t.Helper()
	_, err := s.TryRun(t, "test", "-e", path)
	return err == nil
}

// state is how a unit is enabled, and whether it runs.
func (s *server) state(t *testing.T, unit string) string {
	t.Helper()
	enabled, _ := s.TryRun(t, "systemctl", "is-enabled", unit)
	active, _ := s.TryRun(t, "systemctl", "is-active", unit)
	return strings.TrimSpace(enabled) + " " + strings.TrimSpace(active)
}

func (s *server) pid(t *testing.T, unit string) string {
	t.Helper()
	return strings.TrimSpace(s.Run(t, "systemctl", "show", "--property=MainPID", "--value", unit))
}

// everything is the server's files with when they were changed.
func (s *server) everything(t *testing.T) string {
	t.Helper()
	return s.Run(t, "sh", "-c", `find /etc /usr /var/lib/towline /var/lib/dpkg -xdev -printf '%p %m %u %g %s %C@\n' 2>/dev/null | sort`)
}

// configure makes an app with its user and unit, and the agent's configuration, and starts the agent.
func (s *server) configure(t *testing.T) {
	t.Helper()
	s.WriteFile(t, "/etc/systemd/system/shop.service", []byte("[Service]\nUser=shop\nExecStart=/srv/shop/current/run\n"), 0o644)
	s.Run(t, "sh", "-c", "id shop >/dev/null 2>&1 || useradd --system shop")
	s.Run(t, "install", "-d", "-o", "towline", "/srv/bucket")
	s.WriteFile(t, "/etc/towline/agent.yaml", []byte("bucket: file:///srv/bucket\ntrust: none\nreceipts: false\n"+
		"apps:\n  shop:\n    unit: shop.service\n    health: {stable: 0s}\n"), 0o644)
	s.Run(t, "towline", "config", "check")
	s.Run(t, "towline", "app", "add", "shop")
	s.Run(t, "systemctl", "enable", "--now", "towline-agent")
	s.WaitActive(t, "towline-agent.service")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// A person's server, from the first line that he pastes to the last trace.
func TestInstallOnServer(t *testing.T) {
	s := newServer(t)
	before := s.everything(t)
	plan := s.install(t, "--dry-run")
	if got := s.everything(t); got != before {
		t.Errorf("--dry-run: got changed files, want none:\n%s", changed(before, got))
	}

	// Installed: the programs run, the agent waits for its configuration, nothing is failed.
	if out := s.install(t); !strings.Contains(out, "towline "+version+" is installed\nnext:\n  towline init ") {
		t.Errorf("install: got\n%s", out)
	}
	if got := s.Run(t, "towline", "version"); !strings.HasPrefix(got, "towline "+version+" (commit ") {
		t.Errorf("towline version: got %q", got)
	}
	expect(t, "towline-agent --version", s.Run(t, "towline-agent", "--version"), "towline-agent "+version+"\n")
	expect(t, "the user's groups", s.Run(t, "id", "--name", "--groups", "towline"), "towline systemd-journal\n")
	expect(t, "the state", s.Run(t, "stat", "--format=%a %U %G", "/var/lib/towline"), "700 towline towline\n")
	expect(t, "the configuration", s.Run(t, "sh", "-c", "stat --format='%n %a %U' /etc/towline /etc/towline/*"),
		"/etc/towline 755 root\n/etc/towline/agent.yaml.example 644 root\n")
	expect(t, "the agent", s.state(t, "towline-agent.service"), "enabled inactive")
	expect(t, "the socket", s.state(t, "towline-agent.socket"), "disabled inactive")
	expect(t, "failed units", s.Run(t, "systemctl", "list-units", "--failed", "--no-legend", "--plain", "towline*"), "")

	before = s.everything(t)
	if out := s.install(t); !strings.HasSuffix(out, "towline "+version+": already up to date\n") {
		t.Errorf("again: got\n%s", out)
	}
	if got := s.everything(t); got != before {
		t.Errorf("again: got changed files, want none:\n%s", changed(before, got))
	}

	// What the dry run has shown, done by hand, is the same.
	s.Run(t, "apt-get", "purge", "--yes", "towline")
	s.Run(t, "rm", "/etc/apt/sources.list.d/towline.sources")
	_, file, ok := strings.Cut(plan, "would write /etc/apt/sources.list.d/towline.sources:\n")
	file, commands, also := strings.Cut(file, "would run: ")
	if !ok || !also || strings.Count(commands, "would run: ") != 1 {
		t.Fatalf("--dry-run: got\n%s\nwant a file and two commands", plan)
	}
	s.WriteFile(t, "/etc/apt/sources.list.d/towline.sources", []byte(file), 0o644)
	s.Run(t, "sh", "-ec", strings.ReplaceAll(commands, "would run: ", ""))
	if out := s.install(t); !strings.HasSuffix(out, "towline "+version+": already up to date\n") {
		t.Errorf("after what --dry-run has shown: got\n%s", out)
	}

	// Configured: it starts, and comes back with its new program after an upgrade, unless that was not wanted.
	s.configure(t)
	process := s.pid(t, "towline-agent")
	s.publish(t, []string{as(t, "98.0.0", debs(t)[0])})
	if out := s.install(t, "--no-start"); !strings.Contains(out, "towline 98.0.0 is installed\nan agent that runs is still the one before") {
		t.Errorf("--no-start: got\n%s", out)
	}
	expect(t, "--no-start: the agent's process", s.pid(t, "towline-agent"), process)
	s.publish(t, []string{as(t, "99.0.0", debs(t)[0])})
	if out := s.install(t); !strings.Contains(out, "towline 99.0.0 is installed\n") || strings.Contains(out, "next:") {
		t.Errorf("upgrade: got\n%s", out)
	}
	s.WaitActive(t, "towline-agent.service")
	if got := s.pid(t, "towline-agent"); got == process {
		t.Errorf("upgrade: got the same process %q, want the agent restarted", got)
	}
	s.Run(t, "towline", "status")

	// Back to a version, and what the administrator has switched off stays off.
	s.Run(t, "systemctl", "disable", "--now", "towline-agent.service")
	if out := s.install(t, "--version", version); !strings.Contains(out, "towline "+version+" is installed\n") || !strings.Contains(out, "apt-mark hold towline") {
		t.Errorf("--version: got\n%s", out)
	}
	expect(t, "the agent that was disabled", s.state(t, "towline-agent.service"), "disabled inactive")
	s.Run(t, "systemctl", "enable", "--now", "towline-agent.service")
	s.WaitActive(t, "towline-agent.service")

	// Removed: programs and unit are gone; the app, the configuration and the state are not.
	if out := s.install(t, "--uninstall"); !strings.Contains(out, "were left alone") {
		t.Errorf("--uninstall: got\n%s", out)
	}
	for path, want := range map[string]bool{
		"/etc/apt/sources.list.d/towline.sources": false, "/usr/bin/towline": false, "/usr/bin/towline-agent": false,
		"/usr/lib/systemd/system/towline-agent.service": false, "/etc/towline/agent.yaml": true, "/var/lib/towline": true,
		"/srv/shop/releases": true, "/etc/systemd/system/shop.service": true,
	} {
		if got := s.has(t, path); got != want {
			t.Errorf("--uninstall: %s: got %v, want %v", path, got, want)
		}
	}
	s.install(t, "--uninstall") // nothing left to do is no error
}

// sudo stands for that program and for doas: it runs a command as root.
const sudo = `package main

import ("os"; "os/exec"; "syscall")

func main() {
	path, err := exec.LookPath(os.Args[1])
	if err == nil { err = syscall.Setresgid(0, 0, 0) }
	if err == nil { err = syscall.Setresuid(0, 0, 0) }
	if err == nil { err = syscall.Exec(path, os.Args[1:], os.Environ()) }
	println(err.Error())
	os.Exit(1)
}
`

// Who is not root, and what the environment says.
func TestInstallAsSomebody(t *testing.T) {
	s := newServer(t)
	s.publish(t, []string{as(t, "97.0.0", debs(t)[0])}, "--suite", "candidate")
	s.Run(t, "useradd", "--create-home", "ann")
	install := func(arguments string, env ...string) (string, error) {
		t.Helper()
		argv := append([]string{"runuser", "-u", "ann", "--", "env", "TOWLINE_REPO=" + s.url}, env...)
		return s.TryRun(t, append(argv, "sh", "-c", `curl -fsSL "$TOWLINE_REPO/install.sh" | sh -s -- `+arguments+` 2>&1`)...)
	}
	out, err := install("")
	if err == nil || !strings.Contains(out, "only root can do this, and there is neither sudo nor doas here") {
		t.Errorf("without sudo: got %v\n%s", err, out)
	}

	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.go"), []byte(sudo), 0o644)
	run(t, []string{"CGO_ENABLED=0", "GO111MODULE=off"}, "go", "build", "-o", filepath.Join(dir, "sudo"), filepath.Join(dir, "main.go"))
	program, err := os.ReadFile(filepath.Join(dir, "sudo"))
	if err != nil {
		t.Fatal(err)
	}
	s.WriteFile(t, "/usr/local/bin/doas", program, 0o755)
	s.Run(t, "chmod", "u+s", "/usr/local/bin/doas")
	if out, err = install("", "TOWLINE_DRY_RUN=1"); err != nil || !strings.Contains(out, "would run: doas env DEBIAN_FRONTEND=noninteractive apt-get update ") {
		t.Errorf("TOWLINE_DRY_RUN: got %v\n%s", err, out)
	}
	if out, err = install("", "TOWLINE_CHANNEL=candidate"); err != nil || !strings.Contains(out, "towline 97.0.0 is installed\nnext:\n  doas towline init ") {
		t.Errorf("TOWLINE_CHANNEL: got %v\n%s", err, out)
	}
	s.WriteFile(t, "/usr/local/bin/sudo", program, 0o755)
	s.Run(t, "chmod", "u+s", "/usr/local/bin/sudo")
	if out, err = install("", "TOWLINE_VERSION="+version); err != nil || !strings.Contains(out, "towline "+version+" is installed\n") || !strings.Contains(out, ": sudo apt-mark hold towline") {
		t.Errorf("TOWLINE_VERSION: got %v\n%s", err, out)
	}
	if got := string(s.ReadFile(t, "/etc/apt/sources.list.d/towline.sources")); !strings.Contains(got, "\nSuites: stable\n") {
		t.Errorf("towline.sources: got\n%s\nwant the channel stable again", got)
	}
	expect(t, "the file for apt", s.Run(t, "stat", "--format=%a %U", "/etc/apt/sources.list.d/towline.sources"), "644 root\n")
	if out, err = install("--uninstall"); err != nil || s.has(t, "/usr/bin/towline") {
		t.Errorf("--uninstall: got %v\n%s", err, out)
	}
}

// What is printed for systems without apt works as it is printed.
func TestInstallFromTarball(t *testing.T) {
	s := newServer(t)
	release := httptest.NewServer(http.FileServer(http.Dir(theRelease(t))))
	defer release.Close()
	s.Run(t, "sh", "-ec", `mkdir /opt/bin; for program in cat sed grep uname id curl; do ln -s "$(command -v "$program")" /opt/bin/; done`)
	out, err := s.TryRun(t, "sh", "-c", `curl -fsSL "$0/install.sh" | PATH=/opt/bin /bin/sh -s -- --repo "$0" 2>&1`, s.url)
	if err == nil || !strings.Contains(out, "this is Debian GNU/Linux 12 (bookworm): there is no apt-get\n") {
		t.Fatalf("got %v\n%s", err, out)
	}
	steps, _, _ := strings.Cut(out, "\nnext:\n")
	commands := strings.Join(regexp.MustCompile(`(?m)^  .*$`).FindAllString(steps, -1), "\n")
	const home = "https://github.com/towline/towline/releases/download/v" + version
	if strings.Count(commands, home+"/") != 2 {
		t.Fatalf("got\n%s\nwant two downloads from %s", commands, home)
	}
	s.Run(t, "sh", "-ec", strings.ReplaceAll(commands, home, release.URL))

	expect(t, "towline-agent --version", s.Run(t, "towline-agent", "--version"), "towline-agent "+version+"\n")
	expect(t, "the user's groups", s.Run(t, "id", "--name", "--groups", "towline"), "towline systemd-journal\n")
	expect(t, "the state", s.Run(t, "stat", "--format=%a %U %G", "/var/lib/towline"), "700 towline towline\n")
	for _, path := range []string{"/usr/local/share/man/man1/towline.1.gz", "/usr/local/share/bash-completion/completions/towline", "/etc/towline/agent.yaml.example"} {
		if !s.has(t, path) {
			t.Errorf("got no %s", path)
		}
	}
	s.configure(t)
	s.Run(t, "towline", "status")
}

// changed lists the lines that one text has and the other has not.
func changed(before, after string) string {
	had := map[string]bool{}
	for line := range strings.Lines(before) {
		had[line] = true
	}
	var out strings.Builder
	for line := range strings.Lines(after) {
		if !had[line] {
			out.WriteString(line)
		}
	}
	return out.String()
}
