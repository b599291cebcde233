package publish

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// A newer commit's publisher is between its entry in the history and the pointer: the older commit waits for it, and where the
// pointer never comes, because that run has died or a person went back, it goes on.
func TestOlderCommitWaitsForThePointer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		after   time.Duration // until the pointer is moved; 0: never
		outcome deployment.Outcome
		took    time.Duration
	}{
		{"alive", 3 * time.Second, deployment.Superseded, 3 * time.Second},
		{"dead", 0, deployment.Published, patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				s.order = []string{commit(1), commit(2), commit(3)}
				s.must(commit(1))
				file := s.pointerFile(2, s.pointer().Digest(), commit(3))
				s.bucket.place(release.HistoryKey("web", "production", 2), file)
				if tt.after > 0 {
					time.AfterFunc(tt.after, func() { s.bucket.place(release.PointerKey("web", "production"), file) })
				}
				r := s.must(commit(2))
				if r.Outcome != tt.outcome || r.Took < tt.took || r.Took > tt.took+time.Second {
					t.Errorf("got %s after %v, want %s after %v", r.Outcome, r.Took, tt.outcome, tt.took)
				}
				if n := strings.Count(s.log.text(), "waiting for its publisher to move the pointer"); n != 1 {
					t.Errorf("said %d times that it waits, want once:\n%s", n, s.log.text())
				}
				s.linear()
			})
		})
	}
}

// Whoever puts a winner's pointer there on a store that minds no ETag may do so after a newer one's.
func TestFinisherLooksForANewerEntry(t *testing.T) {
	s := newSite(t)
	s.bucket.onReplaced = func(b *memory, key string, wrote []byte) {
		second := s.pointerFile(2, s.verify(wrote).Digest(), commit(8))
		b.place(release.HistoryKey("web", "production", 2), second) // beats ours
		b.onReplaced = func(b *memory, key string, wrote []byte) {
			b.onReplaced = nil
			b.place(release.HistoryKey("web", "production", 3), s.pointerFile(3, s.verify(wrote).Digest(), commit(9)))
		}
	}
	r := s.must(commit(1))
	if r.Outcome != deployment.Superseded || s.pointer().Pointer().Release.Hash != commit(9) {
		t.Errorf("got %s, live %s, want superseded, %s", r.Outcome, s.pointer().Pointer().Release.Hash, commit(9))
	}
	s.linear()
}

// Two that took one seq on a store without conditions: whose pointer it is then, the history decides, and not who is last.
func TestTwoWithOneSeqAskTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.bucket.noCreate = true
		s.bucket.onReplaced = func(b *memory, key string, _ []byte) {
			b.onReplaced = nil
			file := s.pointerFile(1, "", commit(7))
			b.place(release.HistoryKey("web", "production", 1), file)
			b.place(key, file)
		}
		if r := s.must(commit(1)); r.Seq != 2 || r.Took != 2*settle {
			t.Errorf("got seq %d after %v, want 2 after %v", r.Seq, r.Took, 2*settle)
		}
		if want := "another publisher took seq 1 at the same moment and the store let it"; strings.Count(s.log.text(), want) != 1 {
			t.Errorf("want once %q:\n%s", want, s.log.text())
		}
		s.linear()
	})
}

func TestSupersededNamesTheRun(t *testing.T) {
	s := newSite(t)
	s.order = []string{commit(1), commit(2)}
	p := s.parts(commit(2))
	p.Run = &release.Run{URL: "https://ci.example/runs/7"}
	if _, err := Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	want := "seq 1, release " + release.ShortHash(commit(2)) + ", is newer: https://ci.example/runs/7"
	if r := s.must(commit(1)); r.Reason != want {
		t.Errorf("got %q, want %q", r.Reason, want)
	}
}
