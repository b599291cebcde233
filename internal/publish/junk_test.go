package publish

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Whoever may write the bucket can make the publisher refuse, but not search for ever: where listing is denied, and names
// are put where the search looks next.
func TestJunkInTheHistoryEndsTheSearch(t *testing.T) {
	bounded := func(s *site, version string) Parts {
		p := s.parts(version)
		size, asked := p.Size, 0
		p.Size = func(ctx context.Context, key string) (int64, error) {
			if asked++; asked > 1000 {
				return 0, errors.New("asked for more than 1000 objects")
			}
			return size(ctx, key)
		}
		return p
	}
	s := newSite(t)
	s.bucket.denyList = true
	s.must(commit(1))
	s.must(commit(2))
	baits := func(b *memory, seq uint64) {
		for stride := uint64(1); stride > 0 && stride <= math.MaxUint64-seq; stride *= 2 {
			seq += stride
			b.place(release.HistoryKey("web", "production", seq), []byte("junk"))
		}
	}
	baits(s.bucket, 2)
	r, err := Run(t.Context(), bounded(s, commit(3)))
	if !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "web/production/history/") || ExitCode(Options{}, r, err) != deployment.ExitRefused {
		t.Errorf("junk all the way up: got %v, want a refusal that names the object", err)
	}

	// The same between the look and the end: what we wrote is the highest that is anybody's.
	s = newSite(t)
	s.bucket.denyList = true
	s.must(commit(1))
	s.must(commit(2))
	reads := 0
	s.bucket.fail = func(operation, key string) error {
		if operation == "get" && strings.Contains(key, "/history/") {
			if reads++; reads > 1000 {
				return errors.New("read more than 1000 objects")
			}
		}
		return nil
	}
	s.bucket.onReplaced = func(b *memory, _ string, _ []byte) { baits(b, 3) }
	p := bounded(s, commit(3))
	if _, err = Run(t.Context(), p); err != nil {
		t.Errorf("junk after the look: got %v, want none", err)
	}
	if got := s.pointer().Pointer(); got.Seq != 3 || got.Release.Hash != commit(3) {
		t.Errorf("got seq %d, %s, want 3, %s", got.Seq, got.Release.Hash, commit(3))
	}
}

// A thief of the key drives the sequence up. What was made before is beyond the gap; looking for it ends.
func TestGapInTheHistoryEndsTheSearch(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	s.must(commit(2))
	const far = uint64(1) << 40
	file := s.pointerFile(far, s.pointer().Digest(), commit(9))
	s.bucket.place(release.HistoryKey("web", "production", far), file)
	s.bucket.place("web/production/version.json", file)
	reads := 0
	s.bucket.fail = func(operation, key string) error {
		if reads++; reads > 5000 {
			return errors.New("read more than 5000 objects")
		}
		return nil
	}
	list, err := Releases(t.Context(), s.parts(commit(1)), 100)
	if err != nil || len(list) != 3 {
		t.Errorf("releases: got %d, %v, want the thief's, and both as they wait in the bucket", len(list), err)
	}
	if _, err := s.with("command", "rollback").run(""); !errors.Is(err, ErrUnknownRelease) {
		t.Errorf("rollback: got %v, want no release before", err)
	}
	reads = 0
	if r, err := s.with("command", "rollback", "version", commit(2)).run(""); err != nil || r.Seq != far+1 {
		t.Errorf("rollback to %s: got seq %d, %v, want %d", commit(2), r.Seq, err, far+1)
	}
}
