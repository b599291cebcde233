package bench

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// sshd is an ssh server on the loopback that lets in whoever has the key, which was made for it.
type sshd struct {
	addr  string
	pid   int
	login string // user@host
	dir   string
}

func newSSHD(t *turn) *sshd {
	t.Helper()
	program := parts.Program(t, "sshd", "openssh-server")
	keygen := parts.Program(t, "ssh-keygen", "openssh-client")
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	d := &sshd{addr: parts.FreeAddr(t), dir: t.TempDir(), login: who.Username + "@127.0.0.1"}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // it insists, as root
			t.Fatal(err)
		}
	}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(d.dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	_, port, _ := net.SplitHostPort(d.addr)
	config := fmt.Sprintf("ListenAddress 127.0.0.1\nPort %s\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nUsePAM no\n"+
		"StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n", port, d.dir, d.dir)
	if err := os.WriteFile(filepath.Join(d.dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d.pid = daemon(t, nil, filepath.Join(d.dir, "log"), program, "-D", "-e", "-f", filepath.Join(d.dir, "config"))
	eventually(t, "sshd listens", func() bool {
		c, err := net.Dial("tcp", d.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return d
}

// command is the client's command line, through a wire that ends at the server.
func (d *sshd) command(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return strings.Join([]string{"ssh", "-p", port, "-i", filepath.Join(d.dir, "user"), "-F", "none", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}, " ")
}

// serve answers HTTP on the loopback until the measurement ends, and returns where.
func serve(b testing.TB, h http.Handler) (addr string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(listener)
		close(ended)
	}()
	b.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return listener.Addr().String()
}
