package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
)

// A file cannot ask for fewer than one signature, for more than its keys can give, or count one key twice.
func TestThresholdAndDistinctKeys(t *testing.T) {
	file := func(common, own string) []byte {
		text := "server: web\nbucket: s3://deploys?region=r\n"
		if common != "" {
			text += "trust: " + common + "\n"
		}
		text += "apps:\n  web:\n    unit: web.service\n"
		if own != "" {
			text += "    trust: " + own + "\n"
		}
		return []byte(text)
	}
	keys := func(list ...string) string { return `{keys: ["` + strings.Join(list, `", "`) + `"]` }
	for _, c := range []struct {
		trust string
		keys  int // of the trust, 0 when the file is refused
	}{
		{keys(key1) + "}", 1},
		{keys(key1) + ", threshold: 1}", 1},
		{keys(key1, key2) + ", threshold: 2}", 2},
		{keys(key1, key1) + ", threshold: 1}", 1},
		{keys(key1, key1) + ", threshold: 2}", 0},
		{keys(key1, " "+key1) + ", threshold: 2}", 0},
		{keys(key1, key2, key1) + ", threshold: 3}", 0},
		{keys(key1) + ", threshold: 0}", 0},
		{keys(key1) + ", threshold: -1}", 0},
		{keys(key1) + ", threshold: 2}", 0},
		{keys(key1) + ", threshold: 18446744073709551617}", 0}, // 1 in 64 bits
		{keys(key1) + ", threshold: 1.9}", 0},
		{keys(key1) + `, threshold: "one"}`, 0},
		{keys(key1) + ", threshold: 1, threshold: 1}", 0},
		{keys(key1) + ", Threshold: 1}", 0},
		{"{keys: []}", 0},
		{"{keys: [], threshold: 0}", 0},
		{"{threshold: 0}", 0},
		{"{threshold: 1}", 0},
		{"{}", 0},
		{"[]", 0},
		{"NONE", 0},
		{"~", 0},
		{"false", 0},
		{`""`, 0},
	} {
		for place, data := range map[string][]byte{"for all": file(c.trust, ""), "for one": file("", c.trust)} {
			s, err := Parse("agent.yaml", data, "host")
			if _, refused := errors.AsType[*Error](err); refused != (c.keys == 0) {
				t.Errorf("%s, trust: %s: err = %v, want refused: %v", place, c.trust, err, c.keys == 0)
				continue
			}
			if err != nil {
				continue
			}
			trust := s.Apps[0].Trust
			if got := len(trust.Keys()); got != c.keys || trust.None() {
				t.Errorf("%s, trust: %s: %d keys, none: %v, want %d", place, c.trust, got, trust.None(), c.keys)
			}
			for _, unsigned := range []string{`{"hash":"abc"}`, fmt.Sprintf(`{"envelope":{"payloadType":%q,"payload":"e30=","signatures":[]}}`, release.PointerPayloadType)} {
				if _, err := trust.Pointer([]byte(unsigned), release.Want{}); !errors.Is(err, release.ErrVerify) {
					t.Errorf("%s, trust: %s: an unsigned pointer: %v, want ErrVerify", place, c.trust, err)
				}
			}
		}
	}
	// What an app writes replaces what is common, and neither lowers the other's threshold by accident.
	s, err := Parse("agent.yaml", file(keys(key1, key2)+", threshold: 2}", "{reverts: refuse}"), "host")
	if err != nil || len(s.Apps[0].Trust.Keys()) != 2 || !strings.Contains(s.Effective(), "threshold: 2") {
		t.Errorf("an app that only refuses reverts: %v\n%s", err, s.Effective())
	}
	for _, c := range []struct{ common, own string }{
		{keys(key1, key2) + ", threshold: 2}", "{threshold: 3}"},
		{keys(key1, key2) + ", threshold: 2}", "{threshold: 0}"},
		{keys(key1) + "}", "{threshold: 2}"},
	} {
		if _, err := Parse("agent.yaml", file(c.common, c.own), "host"); err == nil {
			t.Errorf("common trust %s with %s of the app: accepted", c.common, c.own)
		}
	}
}
