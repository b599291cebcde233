package agent

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// The packaged socket unit and the secrets of the service, under a real systemd: the port stays open while the agent is
// restarted, and what it needs to know comes from files that its user may not read.
func TestPackagedSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for a droplet")
	}
	bin := filepath.Join(t.TempDir(), "towline-agent")
	build := exec.Command("go", "build", "-o", bin, "github.com/towline/towline/cmd/towline-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w := newWorld(t)
	addr := parts.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	w.must(err)
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "socket"})
	d.Run(t, "useradd", "--system", "--user-group", "--no-create-home", "towline")
	d.CopyIn(t, bin, "/usr/bin/towline-agent", 0o755)
	for _, unit := range []string{"towline-agent.service", "towline-agent.socket"} {
		d.CopyIn(t, "../../packaging/"+unit, "/etc/systemd/system/"+unit, 0o644)
	}
	d.WriteFile(t, "/etc/systemd/system/towline-agent.socket.d/port.conf", []byte("[Socket]\nListenStream=\nListenStream=127.0.0.1:"+port+"\n"), 0o644)
	d.WriteFile(t, "/etc/systemd/system/towline-agent.service.d/secrets.conf", []byte("[Service]\n"+
		"LoadCredential=token:/etc/towline/token\nLoadCredential=web.key:/etc/towline/web.key\nLoadCredential=web.pem:/etc/towline/web.pem\n"+
		"ReadWritePaths=/srv/bucket /srv/web\n"), 0o644)
	d.WriteFile(t, "/etc/towline/token", []byte("open sesame\n"), 0o600)
	// The configuration first, for the certificate that the agent makes for itself, then with that as a credential.
	config := func(extra string) {
		t.Helper()
		d.WriteFile(t, "/etc/towline/agent.yaml", []byte("server: agent\nbucket: file:///srv/bucket\ntrust: none\npoll: 1h\nlisten: "+addr+"\n"+
			extra+"apps: {web: {}}\n"), 0o644)
	}
	config("ping_token_file: token\n")
	d.Run(t, "sh", "-c", "mkdir -p /srv/web /srv/bucket && chown towline:towline /srv/web /srv/bucket && install -d -o towline -g towline -m 700 /var/lib/towline && systemctl daemon-reload")

	// Root looks at the pin before the agent has ever run, and leaves files that the agent can read.
	pin := d.Run(t, "towline-agent", "--pin")
	if owner := d.Run(t, "stat", "-c", "%U:%G %a", "/var/lib/towline/tls/key.pem"); owner != "towline:towline 600\n" {
		t.Errorf("got %q for the key that root had made, want the agent's", owner)
	}
	d.Run(t, "sh", "-c", "cp /var/lib/towline/tls/key.pem /etc/towline/web.key && cp /var/lib/towline/tls/cert.pem /etc/towline/web.pem && chown root:root /etc/towline/web.* && chmod 600 /etc/towline/web.*")
	config("ping_token_file: token\ntls: {cert: web.pem, key: web.key}\n")
	d.Run(t, "rm", "-r", "/var/lib/towline/tls")

	// A connection starts the agent; there is no word of --now for the service.
	d.Run(t, "systemctl", "enable", "--now", "towline-agent.socket")
	ask := func() error {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 30 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		w.must(conn.SetDeadline(time.Now().Add(30 * time.Second)))
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		answer, err := io.ReadAll(conn)
		if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 OK")) {
			err = errors.New(string(answer))
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatalf("the first one to come: %v\n%s", err, d.Journal(t, "towline-agent.service"))
	}
	d.WaitActive(t, "towline-agent.service")
	log := d.Journal(t, "towline-agent.service")
	if want := "pin=" + strings.TrimPrefix(strings.TrimSpace(pin), "sha256="); !strings.Contains(log, want) || !strings.Contains(log, "listen="+addr) {
		t.Errorf("missing %s and listen=%s in:\n%s", want, addr, log)
	}
	for token, want := range map[string]int{"open sesame": http.StatusAccepted, "sesame": http.StatusUnauthorized} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr+"/v1/ping", strings.NewReader(`{"hash":"v1"}`))
		w.must(err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Transport: transport}).Do(req)
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("token %q: got %s, want %d", token, resp.Status, want)
		}
	}

	// Restarts, a kill, and somebody who asks all the while.
	stop, asked := make(chan struct{}), make(chan error, 1)
	answers := 0
	go func() {
		for {
			select {
			case <-stop:
				asked <- nil
				return
			default:
			}
			err := ask()
			switch {
			case errors.Is(err, syscall.ECONNREFUSED):
				asked <- err
				return
			case err == nil:
				answers++
			}
		}
	}()
	for range 3 {
		d.Run(t, "systemctl", "restart", "towline-agent.service")
	}
	d.Run(t, "systemctl", "kill", "--signal=KILL", "towline-agent.service")
	if err := ask(); err != nil {
		t.Errorf("while the agent is dead: %v", err)
	}
	close(stop)
	if err := <-asked; err != nil || answers == 0 {
		t.Errorf("got %d answers, then %v", answers, err)
	}

	// Without listen: the agent says so, and goes on.
	d.Run(t, "sh", "-c", "sed -i '/^listen/d; /^tls/d' /etc/towline/agent.yaml && systemctl restart towline-agent.service")
	d.WaitActive(t, "towline-agent.service")
	if log := d.Journal(t, "towline-agent.service"); !strings.Contains(log, "listen is not configured") {
		t.Errorf("nothing is said of a socket that nobody wants:\n%s", log)
	}
	d.Run(t, "systemctl", "stop", "towline-agent.socket", "towline-agent.service")

	// The file of a secret that the group may read, and a credential that the unit does not pass.
	d.Run(t, "chmod", "640", "/etc/towline/token")
	d.Run(t, "sed", "-i", "s|^ping_token_file:.*|ping_token_file: /etc/towline/token|", "/etc/towline/agent.yaml")
	if _, err := d.TryRun(t, "towline-agent", "--once"); err == nil || !strings.Contains(err.Error(), "run chmod 600 /etc/towline/token") {
		t.Errorf("an open file: got %v", err)
	}
	if out := d.Run(t, "systemd-analyze", "security", "--no-pager", "--threshold=15", "towline-agent.service"); !strings.Contains(out, "OK") {
		t.Errorf("got %s", out)
	}
}
