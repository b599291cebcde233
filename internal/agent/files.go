package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/durable"
	"github.com/towline/towline/internal/ping"
)

// maxSecret bounds the files that hold one secret, in bytes.
const maxSecret = 4 << 10

// readSecret reads a file that holds one line. Nobody but its owner and its group may read it.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("%s: everyone on this machine may read it (mode %04o); run chmod 0600 on it", path, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" || len(data) > maxSecret || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s: want one line", path)
	}
	return text, nil
}

// openBuckets opens the bucket that releases come from, and the one that receipts go to. It asks nobody: an error is one
// of the settings.
func openBuckets(s config.Settings, log *slog.Logger) (releases, receipts bucket.Bucket, err error) {
	o := bucket.Options{URL: s.Bucket, Log: log}
	if c := s.Credentials; c != (config.Credentials{}) {
		var idErr, secretErr error
		o.AccessKeyID, idErr = readSecret(c.AccessKeyID)
		o.SecretAccessKey, secretErr = readSecret(c.SecretAccessKey)
		if err := errors.Join(idErr, secretErr); err != nil {
			return nil, nil, fmt.Errorf("credentials: %w", err)
		}
	}
	if releases, err = bucket.Open(context.Background(), o); err != nil {
		return nil, nil, &configError{err}
	}
	if s.Receipts.Bucket == "" {
		return releases, releases, nil
	}
	o.URL = s.Receipts.Bucket
	if receipts, err = bucket.Open(context.Background(), o); err != nil {
		return nil, nil, &configError{fmt.Errorf("receipts: %w", err)}
	}
	return releases, receipts, nil
}

// certificate is what the port is served with, nil for plain HTTP.
func certificate(s config.Settings) (cert *tls.Certificate, pin string, err error) {
	var loaded tls.Certificate
	switch s.TLS.Mode {
	case config.TLSOff:
		return nil, "", nil
	case config.TLSFiles:
		loaded, err = tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
	default:
		loaded, err = ownCertificate(filepath.Join(s.State, "tls"), s.Server)
	}
	if err != nil {
		return nil, "", fmt.Errorf("tls: %w", err)
	}
	leaf, err := x509.ParseCertificate(loaded.Certificate[0])
	if err != nil {
		return nil, "", fmt.Errorf("tls: %w", err)
	}
	loaded.Leaf = leaf
	return &loaded, ping.Pin(leaf), nil
}

// ownCertificate loads the self-signed certificate, or makes it the first time. Publishers know its key by its pin, so
// that it is kept for good: a file that is there and cannot be used is an error, not a reason for a new one.
func ownCertificate(dir, host string) (tls.Certificate, error) {
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := os.Stat(certFile); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return tls.Certificate{}, err
		}
		cert, key, err := ping.SelfSigned(time.Now(), host)
		if err != nil {
			return tls.Certificate{}, err
		}
		// The key first: a certificate without a key would be such a file.
		if err := durable.WriteFile(keyFile, key, 0o600); err != nil {
			return tls.Certificate{}, err
		}
		if err := durable.WriteFile(certFile, cert, 0o644); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.LoadX509KeyPair(certFile, keyFile)
}
