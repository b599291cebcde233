package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const year = 365 * 24 * time.Hour

// redate signs the pointer of the world's app anew, as a publisher whose clock differs from this machine's would have.
func (w *world) redate(clock time.Duration, valid time.Duration) {
	w.t.Helper()
	path := filepath.Join(w.bucket, "web/production/version.json")
	data, err := os.ReadFile(path)
	must(w.t, err)
	v, err := release.NoTrust().Pointer(data, release.Want{App: "web", Environment: "production", Prefix: "web"})
	must(w.t, err)
	p := v.Pointer()
	created := time.Now().Add(clock).UTC()
	p.Created, p.Expires = created.Format(time.RFC3339), created.Add(valid).Format(time.RFC3339)
	data, err = release.SignPointer(p, w.key)
	must(w.t, err)
	must(w.t, os.WriteFile(path, data, 0o644))
}

// TestClockOfTheStore has the store's clock and the server's differ: by some minutes, or by years either way.
func TestClockOfTheStore(t *testing.T) {
	w := newWorld(t)
	s := newStore(t, w)
	for version, ahead := range map[string]time.Duration{"same": 0, "minutes": 20 * time.Minute, "future": 6 * year, "past": -6 * year} {
		s.set(func() { s.ahead = ahead })
		w.publish(version)
		w.ends(deployment.ExitOK, "web: deployed "+version)
		w.stays(version)
	}
	// Where the store does not tell its time nothing can be mended here, and a person is told what to mend.
	before := w.live()
	s.set(func() { s.ahead, s.undone = 6*year, true })
	w.publish("unseen")
	out := w.ends(deployment.ExitUsage, "RequestTimeTooSkewed", "the clock of this machine", "hint: set the clock of this server; timedatectl")
	if strings.Contains(out, "check that the key may read") || strings.Contains(out, "receipts: false") {
		t.Errorf("got\n%s\nwant nothing said of keys and rights", out)
	}
	w.stays(before)
	s.set(func() { s.ahead, s.undone = 0, false })
	w.ends(deployment.ExitOK, "web: deployed unseen")
}

// TestClockOfThePublisher has pointers made by a clock that is wrong by years, as this server sees it, which may be the one that
// is wrong: nothing that runs is stopped, and the files' times in the bucket decide nothing either.
func TestClockOfThePublisher(t *testing.T) {
	w := newWorld(t)
	w.publish("one")
	w.redate(-6*year, 90*24*time.Hour)
	w.ends(deployment.ExitRefused, "the pointer expired at 20", "no ground for a first install")
	w.stays("")
	w.redate(6*year, 90*24*time.Hour) // created in the future
	w.ends(deployment.ExitOK, "web: deployed one")

	// Expired when it arrives: what runs is moved on all the same, and stale is said.
	for version, clock := range map[string]time.Duration{"two": -6 * year, "three": 6 * year, "four": -30 * year} {
		w.publish(version)
		w.redate(clock, 90*24*time.Hour)
		when := time.Now().Add(-clock)
		must(t, os.Chtimes(filepath.Join(w.bucket, "web/production/version.json"), when, when))
		w.ends(deployment.ExitOK, "web: deployed "+version)
		w.stays(version)
	}
	w.publish("five")
	w.redate(-6*year, 90*24*time.Hour)
	w.ends(deployment.ExitOK, "web: deployed five")
	w.start()
	eventually(t, "stale is said", func() (bool, string) {
		got := w.status()
		return strings.HasPrefix(got.Status, "stale: the pointer expired at 20") && got.Live.Hash == "five", got.Status
	})
	w.stays("five")
}
