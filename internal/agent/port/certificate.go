package port

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/towline/towline/internal/agent/secret"
	"github.com/towline/towline/internal/ping"
)

// Certificate is a certificate in two PEM files. It is read again when they have changed, so that a renewed one is shown
// without a restart; while the new one cannot be used, the old one is.
type Certificate struct {
	secrets   secret.Store
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	stamp  [2]stamp
	loaded *tls.Certificate
	pin    string
}

// stamp tells one version of a file from another.
type stamp struct{ modified, size int64 }

// Open reads the certificate. The key must be closed to others (see secret.Store).
func Open(secrets secret.Store, cert, key string, log *slog.Logger) (*Certificate, error) {
	cert, certErr := secrets.Path(cert)
	key, keyErr := secrets.Path(key)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	c := &Certificate{secrets: secrets, cert: cert, key: key, log: log}
	stamp, err := c.look()
	if err != nil {
		return nil, err
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	c.stamp = stamp
	return c, nil
}

// Pin is what publishers compare (see ping.Pin).
func (c *Certificate) Pin() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin
}

// Get returns the certificate as it is now; for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := c.look()
	if err != nil || stamp == c.stamp {
		return c.loaded, nil // gone for a moment, or as it was
	}
	c.stamp = stamp // of a pair that is half written: the other file will change too
	before := c.pin
	if err := c.load(); err != nil {
		c.log.Warn("the certificate has changed and cannot be used; the one before stays", "error", err)
		return c.loaded, nil
	}
	c.log.Info("the certificate has changed", "pin", c.pin, "new_pin", c.pin != before)
	return c.loaded, nil
}

func (c *Certificate) look() (stamps [2]stamp, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime().UnixNano(), info.Size()}
	}
	return stamps, nil
}

func (c *Certificate) load() error {
	public, err := os.ReadFile(c.cert)
	if err != nil {
		return err
	}
	private, err := c.secrets.Read(c.key)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(public, private)
	if err != nil {
		return fmt.Errorf("%s and %s: %w: %w", c.cert, c.key, err, fs.ErrInvalid)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("%s: %w", c.cert, err)
		}
	}
	c.loaded, c.pin = &pair, ping.Pin(pair.Leaf)
	return nil
}
