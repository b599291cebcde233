package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// advise names what works and may yet not be meant.
func (r *reader) advise(s Settings) []Problem {
	r.problems = nil
	if s.Listen != "" && !loopback(s.Listen) && s.TLS.Mode == TLSOff {
		r.wrong("tls", "the port is open to others without TLS: no event streams, and tokens can be read on the way; "+
			"write tls: auto, unless something in front of it has a certificate")
	}
	if s.Listen == "" {
		for _, k := range []struct {
			name string
			on   bool
		}{{"tls", true}, {"metrics", s.Metrics}, {"status_page", s.StatusPage}, {"ping_token_file", true}} {
			if k.on && r.places[k.name] != nil {
				r.wrong(k.name, "it means nothing without listen:")
			}
		}
	}
	for i, n := range s.Notify {
		if u, err := url.Parse(n.Webhook.Reveal()); err == nil && u.Scheme != "https" && !loopback(u.Host) {
			r.wrong(fmt.Sprintf("notify[%d]/webhook", i), "it is not https: the address, which is a secret, can be read on the way")
		}
	}
	for key, address := range map[string]string{"bucket": s.Bucket, "receipts": s.Receipts.Bucket} {
		if u, err := url.Parse(address); err == nil {
			if end := u.Query().Get("endpoint"); strings.HasPrefix(end, "http://") && !loopback(strings.TrimPrefix(end, "http://")) {
				r.wrong(key, "the endpoint is not https: what comes from it can be read and changed on the way; signatures still hold")
			}
		}
	}
	for i, a := range s.Apps {
		r.adviseApp(a, s.Apps[:i])
	}
	return r.sorted()
}

func (r *reader) adviseApp(a App, before []App) {
	at := "apps/" + a.Key
	managed := a.Unit != "" || a.Restart != nil
	switch probe := a.Health.HTTP != "" || a.Health.TCP != "" || a.Health.Exec != nil; {
	case !probe && a.Unit != "":
		r.wrong(at+"/health", "without a probe a release counts as healthy once its unit has stayed active for %v; name http, tcp or exec", a.Health.Stable)
	case !probe && managed:
		r.wrong(at+"/health", "without a probe nothing proves a release; name http, tcp or exec")
	}
	if a.Keep == minKeep {
		r.wrong(at+"/keep", "with 2 there is no directory to bring forward: every release is unpacked whole; 3 is faster")
	}
	if a.Trust.None() {
		r.wrong(at+"/trust", "whoever may write to the bucket decides what runs here; towline keygen makes a key")
	}
	for _, other := range before {
		if shared := slices.ContainsFunc(a.Trust.Keys(), func(k string) bool { return slices.Contains(other.Trust.Keys(), k) }); shared &&
			other.App == a.App && other.Environment != a.Environment {
			r.wrong(at+"/trust", "it shares a key with %s, another environment of the same app: whoever may publish to one may publish to both", other.Key)
		}
	}
}

// loopback reports whether an address, with or without a port and a path, is this machine's alone.
func loopback(address string) bool {
	address, _, _ = strings.Cut(address, "/")
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
