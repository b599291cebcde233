package agent

import (
	"bytes"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/test/parts"
)

func TestPinIsPrinted(t *testing.T) {
	w := newWorld(t)
	file := w.file(listening, oneApp)
	pin := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := Run(t.Context(), Options{Args: append([]string{"--config", file, "--pin"}, args...), Stdout: &out, Stderr: &errs})
		return code, out.String(), errs.String()
	}
	code, first, _ := pin()
	if code != 0 || len(first) != len("sha256=")+64+1 || !strings.HasPrefix(first, "sha256=") {
		t.Fatalf("got %d %q", code, first)
	}
	if _, again, _ := pin(); again != first {
		t.Errorf("got %q, then %q", first, again)
	}
	r := w.start(w.settings(listening, oneApp))
	if want := "sha256=" + r.Pin() + "\n"; first != want {
		t.Errorf("got %q, want that of the agent, %q", first, want)
	}
	w.must(r.stop())

	cert, key, err := ping.SelfSigned(time.Now())
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.dir, "cert.pem"), cert, 0o644))
	w.must(os.WriteFile(filepath.Join(w.dir, "key.pem"), key, 0o600))
	file = w.file(listening+"\ntls: {cert: $dir/cert.pem, key: $dir/key.pem}", oneApp)
	if code, other, errs := pin(); code != 0 || other == first || len(other) != len(first) {
		t.Errorf("files: got %d %q %s", code, other, errs)
	}
	file = w.file(listening+"\ntls: off", oneApp)
	if code, out, errs := pin(); code != deployment.ExitUsage || out != "" || !strings.Contains(errs, "no certificate") {
		t.Errorf("off: got %d %q %s", code, out, errs)
	}
}

// Every file that holds a secret is refused while others may use it, and taken as a credential of the service.
func TestEverySecretIsGuarded(t *testing.T) {
	w := newWorld(t)
	cert, key, err := ping.SelfSigned(time.Now())
	w.must(err)
	secrets := filepath.Join(w.dir, "secrets")
	w.must(os.Mkdir(secrets, 0o700))
	for name, data := range map[string]string{"cert": string(cert), "key": string(key), "token": "t\n", "id": "AKIA\n", "secret": "s\n"} {
		w.must(os.WriteFile(filepath.Join(secrets, name), []byte(data), 0o600))
	}
	for name, lines := range map[string]string{
		"key":    listening + "\ntls: {cert: /cert, key: /key}",
		"token":  "trust: none\nping_token_file: /token",
		"id":     "credentials: {access_key_id_file: /id, secret_access_key_file: /secret}",
		"secret": "credentials: {access_key_id_file: /id, secret_access_key_file: /secret}",
	} {
		path := filepath.Join(secrets, name)
		config := func(replaced string) string {
			return w.file(strings.ReplaceAll(lines, " /", " "+replaced), oneApp)
		}
		command := []string{"--pin"}
		if name != "key" {
			command = []string{"--once"}
		}
		run := func(file string) (int, string) {
			var out, errs bytes.Buffer
			code := Run(t.Context(), Options{Args: append([]string{"--config", file}, command...), Stdout: &out, Stderr: &errs})
			return code, errs.String()
		}
		if code, errs := run(config(secrets + "/")); code != deployment.ExitOK {
			t.Errorf("%s: got %d, %s", name, code, errs)
		}
		w.must(os.Chmod(path, 0o640))
		if code, errs := run(config(secrets + "/")); code != deployment.ExitUsage || !strings.Contains(errs, "run chmod 600 "+path) {
			t.Errorf("%s, for the group too: got %d, %s", name, code, errs)
		}
		if code, errs := run(config("")); code != deployment.ExitUsage || !strings.Contains(errs, "LoadCredential=") {
			t.Errorf("%s, a credential that was not passed: got %d, %s", name, code, errs)
		}
		t.Setenv("CREDENTIALS_DIRECTORY", secrets)
		if code, errs := run(config("")); code != deployment.ExitOK {
			t.Errorf("%s, a credential: got %d, %s", name, code, errs)
		}
		w.must(os.Unsetenv("CREDENTIALS_DIRECTORY"))
		w.must(os.Chmod(path, 0o600))
	}
}

func TestAnOpenConfigurationWithWebhooks(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		extra string
		mode  os.FileMode
		want  bool
	}{
		{"notify: [{webhook: \"http://127.0.0.1:1/x\"}]", 0o644, true},
		{"notify: [{webhook: \"http://127.0.0.1:1/x\"}]", 0o640, false},
		{"", 0o644, false},
	} {
		s := w.settings(test.extra, oneApp)
		w.must(os.Chmod(s.Path, test.mode))
		if got := exposed(s); (got != "") != test.want || test.want && !strings.Contains(got, "chmod o= "+s.Path) {
			t.Errorf("%q, mode %o: got %q", test.extra, test.mode, got)
		}
	}
}

// Root that leaves files in the state of the agent's user locks that agent out.
func TestRootKeepsOutOfTheStateOfTheAgentsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to act beside another user")
	}
	daemon, err := user.Lookup("daemon")
	if err != nil {
		parts.Skip(t, "user daemon")
	}
	uid, err := strconv.Atoi(daemon.Uid)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if got := secretOwner(dir, "daemon"); got != uid {
		t.Errorf("an agent that was made root: got owner %d of its secrets, want %d", got, uid)
	}
	for name, want := range map[string]bool{"root": false, "daemon": false} {
		if err := foreignState(dir, name); (err != nil) != want {
			t.Errorf("root's own, %s: got %v", name, err)
		}
	}
	if err := os.Chown(dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	if got := secretOwner(dir, agentName); got != uid {
		t.Errorf("got owner %d of secrets, want %d, whom the state belongs to", got, uid)
	}
	err = foreignState(dir, "daemon")
	if err == nil || exitCode(err) != deployment.ExitUsage || !strings.Contains(err.Error(), "runuser -u daemon -- towline-agent") {
		t.Errorf("got %v, want what to do instead", err)
	}
	if err := foreignState(dir, agentName); err != nil {
		t.Errorf("of a user that no package made, as in a container: got %v", err)
	}
	if err := foreignState(filepath.Join(dir, "none"), "daemon"); err != nil {
		t.Errorf("not there yet: got %v", err)
	}
}
