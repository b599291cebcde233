package publish

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func TestFind(t *testing.T) {
	s := newSite(t)
	versions := []string{"aaaaaaa1", "aaaaaaa2", "aaaaaaa", "bbbbbbb1"}
	for _, v := range versions {
		s.with("command", "publish").must(v)
	}
	for _, tt := range []struct {
		version, want string
		err           error
	}{
		{"aaaaaaa", "aaaaaaa", nil}, // exact before prefix
		{"bbbbbbb", "bbbbbbb1", nil},
		{"aaaaaaa1", "aaaaaaa1", nil},
		{"bbbbbb", "", ErrUnknownRelease}, // too short
		{"ccccccc", "", ErrUnknownRelease},
		{"previous", "", ErrUnknownRelease}, // no pointer yet
	} {
		r, err := s.with("command", "promote", "version", tt.version).run("")
		if !errors.Is(err, tt.err) || err == nil && r.Version != tt.want {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.version, r.Version, err, tt.want, tt.err)
		}
		if err == nil {
			s.bucket.mu.Lock()
			for key := range s.bucket.objects {
				if strings.HasPrefix(key, "web/production/") {
					delete(s.bucket.objects, key)
				}
			}
			s.bucket.mu.Unlock()
		}
	}
	s.with("command", "publish").must("ddddddd-one")
	s.with("command", "publish").must("ddddddd-two")
	r, err := s.with("command", "rollback", "version", "ddddddd").run("")
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), "ddddddd-one, ddddddd-two") || ExitCode(Options{}, r, err) != deployment.ExitUnknown {
		t.Errorf("ambiguous: got %v, exit %d, want both candidates, exit 4", err, ExitCode(Options{}, r, err))
	}
}

// previous is what was live before the current release first became it, so that going back twice goes back two.
func TestPrevious(t *testing.T) {
	s := newSite(t)
	back := s.with("command", "rollback", "reason", "it is broken")
	s.must(commit(1))
	if _, err := back.run(""); !errors.Is(err, ErrUnknownRelease) {
		t.Errorf("first release: got %v, want nothing before it", err)
	}
	s.must(commit(2))
	s.must(commit(2)) // deployed again
	s.must(commit(3))
	for _, want := range []string{commit(2), commit(1)} {
		r := back.must("")
		if r.Version != want {
			t.Errorf("got %s, want %s", r.Version, want)
		}
	}
	if p := s.pointer().Pointer(); p.Kind != release.KindRollback || p.Reason != "it is broken" || p.Seq != 6 {
		t.Errorf("pointer: got %+v", p)
	}
	list, err := Releases(t.Context(), s.parts(commit(1)), 100)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for _, r := range list {
		seqs = append(seqs, r.Seq)
	}
	if !slices.Equal(seqs, []uint64{6, 5, 4, 3, 2, 1}) || !list[0].Live || list[1].Live || list[0].Hash != commit(1) {
		t.Errorf("releases: got %+v", list)
	}
}

func TestPromoteNeedsTheArtifact(t *testing.T) {
	s := newSite(t)
	r := s.with("command", "publish").must(commit(1))
	s.bucket.place(r.Artifact.Key, []byte("cut"))
	if _, err := s.with("command", "promote", "version", commit(1)).run(""); !errors.Is(err, release.ErrVerify) {
		t.Errorf("other size: got %v, want a refusal", err)
	}
	s.bucket.mu.Lock()
	delete(s.bucket.objects, r.Artifact.Key)
	s.bucket.mu.Unlock()
	if _, err := s.with("command", "promote", "version", commit(1)).run(""); !errors.Is(err, ErrUnknownRelease) {
		t.Errorf("no artifact: got %v, want unknown", err)
	}
}

func TestNothingIsLeftInTheTemporaryDirectory(t *testing.T) {
	s := newSite(t)
	p := s.parts(commit(1))
	s.bucket.fail = func(operation, key string) error {
		if operation == "create" && strings.HasSuffix(key, ".tar.gz") {
			return errors.New("the wire was cut")
		}
		return nil
	}
	if r, err := Run(t.Context(), p); err == nil || r.Outcome != deployment.Failed {
		t.Errorf("got %s, %v, want failed", r.Outcome, err)
	}
	left, err := fs.Glob(os.DirFS(p.Temp), "*")
	if err != nil || len(left) > 0 {
		t.Errorf("got %q, %v, want nothing", left, err)
	}
}
