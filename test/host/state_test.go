package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// TestTornState cuts the agent's memory at one byte after the other, deletes it, and puts rubbish in its place: where it cannot be
// what was written, remote installs are locked, what is live is not touched, and recover makes a new one.
func TestTornState(t *testing.T) {
	w := newWorld(t)
	w.publish("one")
	w.ends(deployment.ExitOK)
	w.publish("two")
	w.ends(deployment.ExitOK)
	path := filepath.Join(w.state, "apps/web/state.json")
	whole, err := os.ReadFile(path)
	must(t, err)
	w.publish("three")
	locked := func(what string) {
		t.Helper()
		w.ends(deployment.ExitHeld, "remote installs are locked", "hint: look at what is live, then run towline recover")
		w.stays("two")
		if t.Failed() {
			t.Fatalf("with %s", what)
		}
	}
	step := 1
	if *many > 0 {
		step = max(1, len(whole) / *many)
	}
	tried := 0
	for length := 0; length < len(whole); length += step {
		must(t, os.WriteFile(path, whole[:length], 0o600))
		locked("a state cut short")
		tried++
	}
	must(t, os.WriteFile(path, whole[:len(whole)-1], 0o600))
	locked("a state without its last byte")
	must(t, os.WriteFile(path, append(whole[:len(whole):len(whole)], '\n'), 0o600))
	locked("a state with a byte more")
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)/2] ^= 1
	must(t, os.WriteFile(path, flipped, 0o600))
	locked("a state with a bit changed")
	must(t, os.WriteFile(path, make([]byte, len(whole)), 0o600))
	locked("a state of zeros")
	must(t, os.Remove(path))
	locked("no state")
	t.Logf("%d lengths of %d bytes", tried, len(whole))

	// recover: what is live counts, and pointers above what a person names.
	w.settings = "poll: 1s\n"
	w.start()
	eventually(t, "it is said", func() (bool, string) { s := w.status().Status; return s != "", s })
	if _, err := w.tryTowline("deploy", "web"); err == nil {
		t.Error("it deploys without a memory")
	}
	w.towline("recover", "web", "--accept-seq", "2")
	eventually(t, "three is deployed", func() (bool, string) { return w.live() == "three", w.live() })
	if out := w.towline("deploy", "web", "two"); w.live() != "two" {
		t.Errorf("what recover has found on disk: got %q live:\n%s", w.live(), out)
	}
}
