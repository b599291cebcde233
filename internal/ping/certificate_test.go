package ping

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/towline/towline/test/parts"
)

func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "tls")
	certFile, keyFile, err := Keep(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.Leaf.DNSNames, []string{KeptName}) || len(first.Leaf.IPAddresses)+len(first.Leaf.Subject.Organization) > 0 || first.Leaf.Subject.CommonName != "towline-agent" {
		t.Errorf("got a certificate for %v %v, which strangers see", first.Leaf.Subject, first.Leaf.DNSNames)
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a key of mode 600", info, err)
	}
	for range 2 {
		if _, _, err := Keep(dir); err != nil {
			t.Fatal(err)
		}
		again, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil || !bytes.Equal(again.Certificate[0], first.Certificate[0]) {
			t.Errorf("got another certificate, %v", err)
		}
	}
	if err := os.WriteFile(certFile, []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Keep(dir); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(certFile); err != nil || string(data) != "?" {
		t.Errorf("got %q, %v: publishers would not know a new one", data, err)
	}
}

// A certificate that root looks at must stay readable for the agent, which is another user.
func TestKeepAsTheOwnerOfTheState(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to act as another user")
	}
	const nobody = 65534
	state := t.TempDir()
	for _, dir := range []string{filepath.Dir(state), state} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(state, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := Keep(filepath.Join(state, "tls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(certFile), certFile, keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != nobody || stat.Gid != nobody {
			t.Errorf("%s belongs to %d:%d, want %d", path, stat.Uid, stat.Gid, nobody)
		}
	}
	// Where the owner led the directory elsewhere, root does not write for them.
	link := filepath.Join(state, "link")
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Keep(link); err == nil {
		t.Error("files were written into a directory that is not the owner's")
	}
}
