package packaging

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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
		{"a channel", []string{script, "--channel", "edge"}, "channel edge: want stable or candidate"},
		{"a channel's name in the environment", []string{"-c", "TOWLINE_CHANNEL=edge . " + script}, "channel edge: want"},
		{"a version in the environment", []string{"-c", "TOWLINE_VERSION=new . " + script}, "version new: want X.Y.Z"},
		{"a repository in the environment", []string{"-c", "TOWLINE_REPO=x . " + script}, "repository x: want an https:// address"},
		{"a switch", []string{"-c", "TOWLINE_NO_START=perhaps . " + script}, "TOWLINE_NO_START=perhaps: want 1, or nothing"},
		{"the file of the checkout", []string{root + "/packaging/install.sh", "--dry-run"}, "has no key in it"},
	} {
		_, err := try(t, nil, append([]string{"sh"}, test.argv...)...)
		refused(t, test.what, err, test.want)
	}

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

// without is a PATH with what every system has, and the further programs.
func without(t *testing.T, more ...string) (env []string, shell string) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range append([]string{"cat", "sed", "grep", "uname", "id"}, more...) {
		path, err := exec.LookPath(name)
		if err != nil {
			path = "/bin/true" // a program that this machine has not, and that is not run
		}
		run(t, nil, "ln", "-s", path, filepath.Join(bin, name))
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + bin}, shell
}

// A system without apt is named, and told what to do, with the program that it has for downloads.
func TestInstallWithoutApt(t *testing.T) {
	script := installScript(t)
	for _, test := range []struct {
		programs []string
		args     []string
		want     []string
	}{
		{[]string{"curl", "wget"}, nil, []string{"  curl -fsSLO https://github.com/towline/towline/releases/download/v" + version + "/towline_" + version + "_linux_"}},
		{[]string{"wget"}, []string{"--version", "v1.2.3"}, []string{"  wget -q https://github.com/towline/towline/releases/download/v1.2.3/towline_1.2.3_linux_"}},
		{nil, []string{"--channel", "candidate"}, []string{"neither curl nor wget here", "/v" + version + "/"}},
	} {
		env, shell := without(t, test.programs...)
		_, err := try(t, env, append([]string{shell, script, "--dry-run"}, test.args...)...)
		for _, want := range append(test.want, "install.sh: this is ", "there is no apt-get", "\n  towline init ") {
			refused(t, strings.Join(test.programs, " "), err, want)
		}
	}
}

func TestInstallPrintsSources(t *testing.T) {
	script := installScript(t)
	got, err := try(t, []string{"TOWLINE_CHANNEL=candidate"}, "sh", script, "--print-sources", "--repo", "https://example.com/apt/")
	if err != nil {
		t.Fatal(err)
	}
	arch := strings.TrimSpace(run(t, nil, "dpkg", "--print-architecture"))
	want := "# Written by install.sh of Towline.\nTypes: deb\nURIs: https://example.com/apt\nSuites: candidate\nComponents: main\n" +
		"Architectures: " + arch + "\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n "
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\n -----END PGP PUBLIC KEY BLOCK-----\n") {
		t.Errorf("got\n%s\nwant\n%s…", got, want)
	}
}
