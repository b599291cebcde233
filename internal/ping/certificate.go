package ping

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/durable"
)

// Pin is the lower-case hex SHA-256 of a certificate's public key info: what a publisher compares. It outlives
// renewal with the same key.
func Pin(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// SelfSigned makes a fresh key and a certificate for it that names hosts, both as PEM. It is valid from a day before
// from for twenty years: publishers compare the pin, so the dates only keep other clients content.
func SelfSigned(from time.Time, hosts ...string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: KeptName},
		NotBefore:             from.Add(-24 * time.Hour),
		NotAfter:              from.AddDate(20, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode certificate key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

// KeptName is the host that certificates made by Keep name.
const KeptName = "towline-agent"

// Keep returns the files of the self-signed certificate in dir, and makes them the first time. Publishers know its key
// by its pin, so that it is kept for good: files that are there and cannot be used are not replaced. The certificate names
// no server, since strangers see it, but KeptName, by which clients that compare no pins can trust just this one. Made by root,
// the files belong to the owner of the directory that dir is in.
func Keep(dir string) (certificate, key string, err error) {
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := os.Stat(certificate); !errors.Is(err, fs.ErrNotExist) {
		return certificate, key, nil
	}
	return certificate, key, asOwner(filepath.Dir(dir), func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		public, private, err := SelfSigned(time.Now(), KeptName)
		if err != nil {
			return err
		}
		// The key first: a certificate without a key would be such a file.
		if err := durable.WriteFile(key, private, 0o600); err != nil {
			return err
		}
		return durable.WriteFile(certificate, public, 0o644)
	})
}

// asOwner runs f with the file access of dir's owner where root would leave files that the owner cannot read. It does not
// give them away afterwards: the owner could put a link in their place meanwhile.
func asOwner(dir string, f func() error) error {
	info, err := os.Stat(dir)
	if os.Geteuid() != 0 || errors.Is(err, fs.ErrNotExist) {
		return f()
	} else if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine, and its identity with it
		_ = unix.Setfsgid(int(owner.Gid))
		_ = unix.Setfsuid(int(owner.Uid))
		if now, err := unix.SetfsuidRetUid(-1); err != nil || now != int(owner.Uid) {
			done <- fmt.Errorf("act as user %d, whom %s belongs to: %w", owner.Uid, dir, fs.ErrPermission)
			return
		}
		done <- f()
	}()
	return <-done
}

// trust is the client's side of TLS: with a pin exactly that key and nothing else, without one the given roots.
func trust(pin string, roots *x509.CertPool) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if pin == "" {
		return config
	}
	// The pin replaces chain and name: the handshake proves that the peer holds the key, the pin says which key.
	// VerifyConnection runs on resumed sessions too.
	config.InsecureSkipVerify = true // #nosec G402 -- the pin below is the stricter check
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if got := Pin(state.PeerCertificates[0]); got != pin {
			return fmt.Errorf("%w: its key has pin %s, want %s", ErrUntrusted, got, pin)
		}
		return nil
	}
	return config
}
