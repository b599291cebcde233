package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/ping"
)

// port looks whether pings arrive, from where we are: what a firewall does is seen from elsewhere only.
func (s *Server) port(ctx context.Context, t topic) {
	set := s.Settings
	if set.Listen == "" {
		t.ok("port", "none: this server is not pinged, and looks every %v", set.Poll)
		return
	}
	host, number, err := net.SplitHostPort(set.Listen)
	if err != nil {
		t.fail("port", "sudoedit "+word(set.Path), "listen: %v", err)
		return
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	at := net.JoinHostPort(host, number)
	scheme := "https"
	if set.TLS.Mode == config.TLSOff {
		scheme = "http"
	}
	var seen *x509.Certificate
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // #nosec G402 -- the certificate is looked at, nothing is told to its holder
		VerifyConnection: func(state tls.ConnectionState) error {
			seen = state.PeerCertificates[0]
			return nil
		},
	}}}
	// What is no pointer is refused: so a ping gets through, and buys nothing.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+at+"/v1/ping", strings.NewReader("{}"))
	if err != nil {
		t.fail("port", "sudoedit "+word(set.Path), "listen: %v", err)
		return
	}
	fix := "sudo ss -ltnp 'sport = :" + number + "'; journalctl --unit " + agentUnit + " --lines 20 --no-pager"
	resp, err := client.Do(request)
	if err != nil {
		t.fail("port", fix, "nobody answers at %s: %v", at, cause(err))
		return
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusTooManyRequests:
		t.ok("port", "%s takes pings", at)
	default:
		t.fail("port", fix, "%s answers %s to what is no ping: that is not this agent", at, resp.Status)
		return
	}
	s.certificate(t, seen)
}

// cause leaves out the address that the client repeats.
func cause(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok && u.Unwrap() != nil {
		return u.Unwrap()
	}
	return err
}

func (s *Server) certificate(t topic, c *x509.Certificate) {
	if c == nil {
		t.warn("certificate", "sudoedit "+word(s.Settings.Path), "tls: off: pings work, and CI cannot follow a deployment live, since nobody could tell who answers")
		return
	}
	left := c.NotAfter.Sub(s.Now())
	text := fmt.Sprintf("pin sha256=%s, good until %s", ping.Pin(c), c.NotAfter.UTC().Format("2006-01-02"))
	fix := "sudo systemctl restart " + agentUnit
	if s.Settings.TLS.Mode == config.TLSFiles {
		fix = "openssl x509 -noout -dates -in " + word(s.Settings.TLS.Cert)
	}
	switch {
	case left <= 0:
		t.fail("certificate", fix, "it has expired: %s", text)
	case s.Now().Before(c.NotBefore):
		t.fail("certificate", "timedatectl", "it is good from %s on only: %s", c.NotBefore.UTC().Format("2006-01-02"), text)
	case left < 14*24*time.Hour:
		t.warn("certificate", fix, "%s left: %s", ago(left), text)
	default:
		t.ok("certificate", "%s", text)
	}
}
