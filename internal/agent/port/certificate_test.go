package port

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/agent/secret"
	"github.com/towline/towline/internal/ping"
)

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	// As renewal does it, and never with the time of the file before, which a fast test could hit.
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err == nil {
		later := info.ModTime().Add(time.Second)
		if err := os.Chtimes(path+".new", later, later); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestARenewedCertificateIsShown(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var pems [3][2][]byte
	for i := range pems {
		public, private, err := ping.SelfSigned(time.Now(), "web.example")
		if err != nil {
			t.Fatal(err)
		}
		pems[i] = [2][]byte{public, private}
	}
	write(t, cert, pems[0][0], 0o644)
	write(t, key, pems[0][1], 0o600)
	var log bytes.Buffer
	c, err := Open(secret.Store{Owner: os.Geteuid()}, cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		got, err := c.Get(nil)
		if err != nil {
			t.Fatal(err)
		}
		if pin := ping.Pin(got.Leaf); pin != c.Pin() {
			t.Errorf("got pin %s shown and %s told", pin, c.Pin())
		}
		return c.Pin()
	}
	first := shown()
	if shown() != first || log.Len() > 0 {
		t.Errorf("nothing has changed: got %s", log.String())
	}

	write(t, cert, pems[1][0], 0o644) // the key is still the old one
	if got := shown(); got != first || !strings.Contains(log.String(), "the one before stays") {
		t.Errorf("half of a pair: got %s; %s", got, log.String())
	}
	said := log.Len()
	if shown(); log.Len() != said {
		t.Errorf("the same trouble is told at every connection: %s", log.String())
	}
	write(t, key, pems[1][1], 0o600)
	second := shown()
	if second == first || !strings.Contains(log.String(), second) {
		t.Errorf("the whole pair: got %s; %s", second, log.String())
	}

	write(t, cert, pems[2][0], 0o644)
	write(t, key, pems[2][1], 0o644) // everyone may read it
	if got := shown(); got != second || !strings.Contains(log.String(), "chmod 600 "+key) {
		t.Errorf("an open key: got %s; %s", got, log.String())
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != second {
		t.Errorf("while it is gone: got %s", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	public, private, err := ping.SelfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, public, 0o644)
	write(t, key, private, 0o640)
	log := slog.New(slog.DiscardHandler)
	if _, err := Open(secret.Store{Owner: os.Geteuid()}, cert, key, log); !errors.As(err, new(*secret.ExposedError)) {
		t.Errorf("a key that the group may read: got %v", err)
	}
	if _, err := Open(secret.Store{Owner: os.Geteuid()}, cert, "key.pem", log); err == nil || !strings.Contains(err.Error(), "LoadCredential=key.pem") {
		t.Errorf("a credential that was not passed: got %v", err)
	}
	if _, err := Open(secret.Store{Credentials: dir}, "cert.pem", "key.pem", log); err != nil {
		t.Errorf("credentials: got %v", err)
	}
	write(t, key, []byte("?"), 0o600)
	if _, err := Open(secret.Store{Owner: os.Geteuid()}, cert, key, log); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("no key: got %v, want its file named", err)
	}
	if _, err := Open(secret.Store{Owner: os.Geteuid()}, cert+"-not", key, log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no certificate: got %v", err)
	}
}
