package crash

import (
	"strings"
	"testing"
)

// TestScenarios plays each scenario undisturbed: what the others compare with.
func TestScenarios(t *testing.T) {
	w := newWorld(t)
	for _, s := range w.scenarios() {
		t.Run(s.name, func(t *testing.T) {
			k := newWorker(t, w)
			for _, b := range s.before {
				k.once(t, b)
			}
			code, out := k.once(t, s.now)
			if err := k.settled(s.ends); code != s.code || err != nil {
				t.Errorf("got exit code %d and %v, want %d:\n%s", code, err, s.code, out)
			}
			if got, want := strings.Contains(out, " recycled"), strings.HasPrefix(s.name, "recycled"); got != want {
				t.Errorf("got a directory recycled: %v, want %v:\n%s", got, want, out)
			}
		})
	}
}
