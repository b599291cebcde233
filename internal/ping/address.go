package ping

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/towline/towline/internal/release"
)

// Server is one agent as the input `servers` names it.
type Server struct {
	Name string // as the agent calls itself, for its receipt; empty when not given
	URL  string // https://host:port or http://host:port, without a slash at the end
	Pin  string // lower-case hex SHA-256 of the public key info of its certificate; empty when not given
}

// ParseServer reads [name=]https://host:8422[#sha256=<hex>]. A pin needs https.
func ParseServer(s string) (Server, error) {
	server, err := parseServer(strings.TrimSpace(s))
	if err != nil {
		return Server{}, fmt.Errorf("server %q: %w", s, err)
	}
	return server, nil
}

func parseServer(s string) (Server, error) {
	var server Server
	if before, _, ok := strings.Cut(s, "://"); ok && strings.Contains(before, "=") {
		server.Name, s, _ = strings.Cut(s, "=")
		if err := release.CheckServer(server.Name); err != nil {
			return Server{}, err
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		// The parser's error repeats the whole input, which the caller names already.
		return Server{}, fmt.Errorf("not an address: want [name=]https://host:8422[#sha256=<hex>]")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return Server{}, fmt.Errorf("not an address: want [name=]https://host:8422[#sha256=<hex>]")
	case u.User != nil, u.RawQuery != "", u.ForceQuery:
		return Server{}, fmt.Errorf("an address has no user, password or query")
	}
	if u.Fragment != "" {
		pin, ok := strings.CutPrefix(u.Fragment, "sha256=")
		if server.Pin = strings.ToLower(pin); !ok || !isPin(server.Pin) {
			return Server{}, fmt.Errorf("the pin is #sha256= and 64 hex digits, as the agent prints it")
		}
		if u.Scheme != "https" {
			return Server{}, fmt.Errorf("a pin needs https://")
		}
	}
	u.Fragment, u.RawFragment = "", ""
	server.URL = strings.TrimRight(u.String(), "/")
	return server, nil
}

func isPin(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64
}
