package publish

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// With a key of its own for each environment, the release objects that all share carry one environment's signature.
func TestKeyPerEnvironment(t *testing.T) {
	staging := newSite(t).with("environment", "staging")
	s := newSite(t)
	s.bucket = staging.bucket
	for i := range 2 {
		staging.must(commit(i + 1))
		r := s.must(commit(i + 1))
		if r.Uploaded != 0 || r.Seq != uint64(i)+1 || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "not trusted here") {
			t.Errorf("deploy of the same commit: got seq %d, %d bytes uploaded, warnings %q", r.Seq, r.Uploaded, r.Warnings)
		}
	}
	s.linear()
	for _, version := range []string{"previous", commit(2)} {
		if r := s.with("command", "rollback", "version", version).must(""); r.Outcome != deployment.Published {
			t.Errorf("rollback to %s: got %s", version, r.Outcome)
		}
	}
	staging.with("command", "publish").must(commit(3))
	if _, err := s.with("command", "promote", "version", commit(3)).run(""); !errors.Is(err, release.ErrVerify) {
		t.Errorf("promote of what only staging vouches for: got %v, want a refusal", err)
	}
	list, err := Releases(t.Context(), s.parts(commit(1)), 100)
	if err != nil || len(list) != 4 || strings.Count(s.log.text(), "left out 1 that") != 1 {
		t.Errorf("releases: got %+v, %v, want 4 and a word about the other", list, err)
	}
	// An object that speaks of other bytes is refused whoever signed it.
	other := newSite(t)
	r := other.must(commit(4))
	m := release.Manifest{Type: release.ManifestType, App: "web", Release: release.Release{Hash: commit(4), Date: "2026-11-23T13:06:43Z"},
		Artifact: r.Artifact, Created: "2026-11-23T13:06:43Z"}
	m.Artifact.Size++
	data, err := release.SignManifest(m, staging.key)
	if err != nil {
		t.Fatal(err)
	}
	other.bucket.place(release.ManifestKey("web", commit(4), r.Artifact.SHA256), data)
	if _, err := other.run(commit(4)); !errors.Is(err, release.ErrVerify) {
		t.Errorf("other bytes: got %v, want a refusal", err)
	}
}

// Two releases of the same bytes are two; and a clock that goes wrong hides nothing.
func TestPreviousComparesReleases(t *testing.T) {
	s := newSite(t)
	same := func(version string) {
		t.Helper()
		p := s.parts(version)
		pack := p.Pack
		p.Pack = func(ctx context.Context, out *os.File, _ release.Release, progress func(done, total int64)) (release.Artifact, error) {
			return pack(ctx, out, release.Release{Hash: "the same"}, progress)
		}
		if _, err := Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	same(commit(1))
	same(commit(2))
	back := s.with("command", "rollback")
	if r := back.must(""); r.Version != commit(1) {
		t.Errorf("got %s, want %s", r.Version, commit(1))
	}
	// Entries as a machine in another year wrote them: 4 is commit 5, 5 to 44 are others, 45 is commit 5 again.
	for seq := uint64(4); seq <= 45; seq++ {
		version := commit(100 + int(seq))
		if seq == 4 || seq == 45 {
			version = commit(5)
		}
		prev := s.verify(s.bucket.get(release.HistoryKey("web", "production", seq-1))).Digest()
		file := s.pointerFile(seq, prev, version)
		s.bucket.place(release.HistoryKey("web", "production", seq), file)
		s.bucket.place("web/production/version.json", file)
	}
	s.with("command", "publish").must(commit(5))
	if r := back.must(""); r.Version != commit(1) {
		t.Errorf("after 40 others: got %s, want %s, which was there before commit 5 first was", r.Version, commit(1))
	}
}

func TestPreviousAfterTheKeyWasReplaced(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	next, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.with("signing-key", next.Reveal(), "trusted-keys", s.key.Public().String()).must(commit(2))
	rotated := s.with("signing-key", next.Reveal())
	rotated.must(commit(3))
	if r := rotated.with("command", "rollback").must(""); r.Version != commit(2) {
		t.Errorf("got %s, want %s", r.Version, commit(2))
	}
}

func TestReleasesShowsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for _, v := range []string{"zzz-1", "aaa-2", "mmm-3"} {
			s.with("command", "publish").must(v)
			time.Sleep(time.Minute)
		}
		s.must("bbb-4")
		time.Sleep(time.Minute)
		s.with("command", "publish").must("xxx-5")
		list, err := Releases(t.Context(), s.parts("x"), 3)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range list {
			got = append(got, r.Hash)
		}
		if want := []string{"xxx-5", "bbb-4", "mmm-3"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
