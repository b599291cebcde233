package action

import (
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
)

// A key is masked by itself, however the lines of the secret were written: what stands beside it in its line would make a
// mask of something that is printed nowhere. Comments are no secrets, keys in comments are.
func TestEachKeyIsMaskedByItself(t *testing.T) {
	j := newJob(t)
	var keys []string
	for range 4 {
		key, err := release.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.Reveal())
	}
	for _, tt := range []struct {
		name, secret string
		want         []string
		code         int
	}{
		{"one", keys[0], keys[:1], 0},
		{"line ends of Windows, blank lines, indents", "\r\n" + keys[0] + "\r\n\r\n  " + keys[1] + "\t\r\n", keys[:2], 0},
		{"comments", "# of Ann\n" + keys[0] + " # since May\n#" + keys[2] + "\n" + keys[1] + "\n", keys[:3], 0},
		{"two in one line", keys[0] + " " + keys[1], append([]string{keys[0] + " " + keys[1]}, keys[:2]...), 2},
		{"with a comma", keys[0] + "," + keys[1], append([]string{keys[0] + "," + keys[1]}, keys[:2]...), 2},
		{"as an assignment", "KEY=" + keys[0], []string{"KEY=" + keys[0], keys[0]}, 2},
		{"no key", "hunter2", []string{"hunter2"}, 2},
	} {
		e := j.with("signing-key", tt.secret).run()
		var got []string
		var rest strings.Builder
		for line := range strings.Lines(e.log) {
			if masked, ok := strings.CutPrefix(line, "::add-mask::"); ok {
				got = append(got, strings.TrimSpace(masked))
			} else {
				rest.WriteString(line)
			}
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(tt.want))
		if !slices.Equal(got, want) || e.code != tt.code {
			t.Errorf("%s: got exit %d, masks %q, want exit %d, %q", tt.name, e.code, got, tt.code, want)
		}
		for _, key := range append(keys, "hunter2") {
			if strings.Contains(rest.String()+e.summary, strings.TrimPrefix(key, "towline-secret-ed25519:")) {
				t.Errorf("%s: the key is shown:\n%s", tt.name, rest.String())
			}
		}
	}
}
