package ping

import (
	"strings"
	"testing"
)

func TestParseServer(t *testing.T) {
	pin := strings.Repeat("0a", 32)
	for _, c := range []struct {
		in   string
		want Server
	}{
		{"https://web-1:8422", Server{URL: "https://web-1:8422"}},
		{" https://web-1:8422/ ", Server{URL: "https://web-1:8422"}},
		{"web-1=https://203.0.113.9:8422", Server{Name: "web-1", URL: "https://203.0.113.9:8422"}},
		{"web-1=https://[2001:db8::1]:8422#sha256=" + pin, Server{Name: "web-1", URL: "https://[2001:db8::1]:8422", Pin: pin}},
		{"https://web-1:8422#sha256=" + strings.ToUpper(pin), Server{URL: "https://web-1:8422", Pin: pin}},
		{"https://web-1/towline/", Server{URL: "https://web-1/towline"}},
		{"http://10.0.0.1:8422", Server{URL: "http://10.0.0.1:8422"}},
	} {
		got, err := ParseServer(c.in)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.in, got, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"":                                      "not an address",
		"web-1:8422":                            "not an address",
		"https://":                              "not an address",
		"https://:8422":                         "not an address",
		"ftp://web-1":                           "not an address",
		"https://web-1:port":                    "not an address",
		"=https://web-1:8422":                   "server",
		"Web 1=https://web-1:8422":              "server",
		"https://user:secret@web-1:8422":        "no user",
		"https://web-1:8422?token=1":            "query",
		"https://web-1:8422#" + pin:             "#sha256=",
		"https://web-1:8422#sha256=" + pin[1:]:  "#sha256=",
		"https://web-1:8422#sha256=x" + pin[1:]: "#sha256=",
		"http://web-1:8422#sha256=" + pin:       "needs https",
	} {
		if got, err := ParseServer(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want an error about %q", in, got, err, want)
		}
	}
}
