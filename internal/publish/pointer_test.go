package publish

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func TestDeploysFormOneChain(t *testing.T) {
	s := newSite(t)
	first := s.must(commit(1))
	if first.Outcome != deployment.Published || first.Seq != 1 || first.Previous != "" || first.Uploaded == 0 {
		t.Errorf("first: got %+v", first)
	}
	second := s.must(commit(2))
	if second.Seq != 2 || second.Previous != commit(1) {
		t.Errorf("second: got seq %d, previous %q, want 2, %q", second.Seq, second.Previous, commit(1))
	}
	again := s.must(commit(2))
	if again.Seq != 3 || again.Uploaded != 0 {
		t.Errorf("same bytes: got seq %d, %d bytes uploaded, want 3, 0", again.Seq, again.Uploaded)
	}
	if got := s.linear(); got != 3 {
		t.Errorf("history: got %d entries, want 3", got)
	}
	p := s.pointer().Pointer()
	if p.Kind != release.KindDeploy || p.Release.Hash != commit(2) || p.Artifact != again.Artifact {
		t.Errorf("pointer: got %+v", p)
	}
}

func TestPublishLeavesThePointerAlone(t *testing.T) {
	s := newSite(t)
	r := s.with("command", "publish").must(commit(1))
	keys, _ := s.bucket.List(t.Context(), "")
	if r.Outcome != deployment.Published || r.Seq != 0 || len(keys) != 2 {
		t.Errorf("got %s, seq %d, objects %q, want the artifact and its release object", r.Outcome, r.Seq, keys)
	}
	if r := s.with("command", "promote", "version", commit(1)[:39]).must(""); r.Version != commit(1) || s.pointer().Pointer().Kind != release.KindPromote {
		t.Errorf("promote: got %+v", r)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	s.must(commit(2))
	before := s.bucket.writes
	for _, command := range []string{"deploy", "publish", "promote", "rollback"} {
		version := ""
		if command == "promote" {
			version = commit(1)
		}
		r := s.with("command", command, "dry-run", "yes", "version", version).must(commit(3))
		if r.Outcome != deployment.DryRun || s.bucket.writes != before {
			t.Errorf("%s: got %s and %d writes, want none", command, r.Outcome, s.bucket.writes-before)
		}
	}
	for _, want := range []string{"index.html", "would upload", "- seq 2  hash " + commit(2), "+ seq 3  hash " + commit(3)} {
		if !strings.Contains(s.log.text(), want) {
			t.Errorf("log does not say %q:\n%s", want, s.log.text())
		}
	}
}

func TestCommitBehindThePointerWritesNothing(t *testing.T) {
	s := newSite(t)
	s.order = []string{commit(1), commit(2)}
	s.must(commit(2))
	before := s.bucket.writes
	r := s.must(commit(1))
	if r.Outcome != deployment.Superseded || r.Seq != 0 || s.bucket.writes != before {
		t.Errorf("got %s, seq %d, %d writes, want superseded and none", r.Outcome, r.Seq, s.bucket.writes-before)
	}
	// A person's word is not held to that.
	s.with("command", "publish").must(commit(1))
	if r := s.with("command", "promote", "version", commit(1)).must(""); r.Seq != 2 {
		t.Errorf("promote of an older commit: got %s, seq %d, want seq 2", r.Outcome, r.Seq)
	}
}

// intrude makes another publisher write seq and pointer right before ours touches the pointer, once.
func (s *site) intrude(version string) {
	s.bucket.beforePut = func(b *memory, key string) {
		if !strings.HasSuffix(key, "version.json") {
			return
		}
		b.beforePut = nil
		seq := uint64(1)
		for b.get(release.HistoryKey("web", "production", seq)) != nil {
			seq++
		}
		file := s.pointerFile(seq, s.verify(b.get(release.HistoryKey("web", "production", seq-1))).Digest(), version)
		b.place(release.HistoryKey("web", "production", seq), file)
		b.place(key, file)
	}
}

func TestNewerPublisherWins(t *testing.T) {
	for _, tt := range []struct {
		name    string
		order   []string
		outcome deployment.Outcome
		live    string
		seq     uint64
	}{
		{"unrelated", nil, deployment.Superseded, commit(8), 0},
		{"ours is older", []string{commit(1), commit(8)}, deployment.Superseded, commit(8), 0},
		{"ours descends from it", []string{commit(8), commit(1)}, deployment.Published, commit(1), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.order = tt.order
			s.intrude(commit(8))
			r := s.must(commit(1))
			if r.Outcome != tt.outcome || r.Seq != tt.seq {
				t.Errorf("got %s, seq %d, want %s, %d", r.Outcome, r.Seq, tt.outcome, tt.seq)
			}
			if got := s.pointer().Pointer().Release.Hash; got != tt.live {
				t.Errorf("live: got %s, want %s", got, tt.live)
			}
			s.linear()
		})
	}
}

// A publisher that died after its entry in the history, or is slow to move the pointer: we finish its work.
func TestHigherHistoryIsCopiedOverThePointer(t *testing.T) {
	s := newSite(t)
	s.bucket.onReplaced = func(b *memory, key string, wrote []byte) {
		b.onReplaced = nil
		v := s.verify(wrote)
		b.place(release.HistoryKey("web", "production", 2), s.pointerFile(2, v.Digest(), commit(9)))
	}
	r := s.must(commit(1))
	if r.Outcome != deployment.Superseded || s.pointer().Pointer().Release.Hash != commit(9) {
		t.Errorf("got %s, live %s, want superseded by %s", r.Outcome, s.pointer().Pointer().Release.Hash, commit(9))
	}
	s.linear()
}

func TestRestoreByAPersonMeanwhile(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	old := s.bucket.get("web/production/version.json")
	s.must(commit(2))
	s.bucket.beforePut = func(b *memory, key string) {
		if strings.HasSuffix(key, "version.json") {
			b.beforePut = nil
			b.place(key, old)
		}
	}
	if r := s.must(commit(3)); r.Seq != 3 {
		t.Errorf("got seq %d, want 3", r.Seq)
	}
	// And one that lies there when we come: the next seq is above the history's highest.
	s.bucket.place("web/production/version.json", old)
	if r := s.must(commit(4)); r.Seq != 4 || r.Previous != commit(1) {
		t.Errorf("got seq %d, previous %s, want 4, %s", r.Seq, r.Previous, commit(1))
	}
	s.linear()
}

func TestStoreWithoutCreateOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.bucket.noCreate = true
		s.bucket.onReplaced = func(b *memory, key string, _ []byte) {
			b.onReplaced = nil
			time.AfterFunc(time.Second, func() {
				b.place(release.HistoryKey("web", "production", 1), s.pointerFile(1, "", commit(7)))
			})
		}
		if r := s.must(commit(1)); r.Seq != 2 || r.Took != 4*time.Second || strings.Count(s.log.text(), "concurrency: group") != 1 {
			t.Errorf("got seq %d after %v, want 2 after 4 s, and one word about concurrency:\n%s", r.Seq, r.Took, s.log.text())
		}
		s.linear()
	})
	s := newSite(t)
	if r := s.must(commit(1)); r.Took > time.Second || strings.Contains(s.log.text(), "concurrency") {
		t.Errorf("store with create-only: %v\n%s", r.Took, s.log.text())
	}
}

func TestPublishersRace(t *testing.T) {
	s := newSite(t)
	var wg sync.WaitGroup
	results := make([]*Result, 16)
	for i := range results {
		p := s.parts(commit(i))
		wg.Go(func() {
			var err error
			if results[i], err = Run(t.Context(), p); err != nil {
				t.Errorf("publisher %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	top := s.linear()
	won := 0
	for _, r := range results {
		if r.Outcome == deployment.Published && r.Seq == top {
			won++
		}
	}
	if won != 1 {
		t.Errorf("publishers whose pointer stands: got %d, want 1", won)
	}
}

func TestWhatCannotBeVerifiedIsNamed(t *testing.T) {
	other, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, key string
		file      func(s *site) []byte
	}{
		{"foreign key", "web/production/version.json", func(s *site) []byte {
			s.key = other
			return s.pointerFile(1, "", commit(1))
		}},
		{"no JSON", "web/production/version.json", func(*site) []byte { return []byte("<html>") }},
		{"huge", "web/production/version.json", func(*site) []byte { return make([]byte, 100<<10) }},
		{"plain", "web/production/version.json", func(*site) []byte { return []byte(`{"hash":"abc","msg":"","date":""}`) }},
		{"history", "web/production/history/0000000002.json", func(*site) []byte { return []byte("{}") }},
		{"history under another seq", "web/production/history/0000000002.json", func(s *site) []byte { return s.pointerFile(1, "", commit(1)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			p := s.parts(commit(3))
			s.bucket.place(tt.key, tt.file(s))
			r, err := Run(t.Context(), p)
			if !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), tt.key) || ExitCode(p.Options, r, err) != deployment.ExitRefused {
				t.Errorf("got %v, exit %d, want one that names %s, exit 6", err, ExitCode(p.Options, r, err), tt.key)
			}
			if s.bucket.writes != 1 {
				t.Errorf("got %d writes, want none", s.bucket.writes-1)
			}
		})
	}
}

func TestTrustedKeysAreBuiltUpon(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	next, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	rotated := s.with("signing-key", next.Reveal())
	if _, err := rotated.run(commit(2)); !errors.Is(err, release.ErrVerify) {
		t.Errorf("without trusted-keys: got %v, want a refusal", err)
	}
	if r := rotated.with("trusted-keys", s.key.Public().String()+"\n").must(commit(2)); r.Seq != 2 {
		t.Errorf("with trusted-keys: got seq %d, want 2", r.Seq)
	}
}

func TestUnsigned(t *testing.T) {
	s := newSite(t).with("signing-key", "", "trust", "none")
	s.bucket.place("web/production/version.json", []byte(`{"hash":"abc","msg":"by a script","date":"today"}`))
	if r := s.must(commit(1)); r.Seq != 1 || r.Previous != "abc" {
		t.Errorf("got seq %d, previous %q, want 1, abc", r.Seq, r.Previous)
	}
	if r := s.must(commit(2)); r.Seq != 2 {
		t.Errorf("got seq %d, want 2", r.Seq)
	}
}

func TestWithoutLeaveToList(t *testing.T) {
	s := newSite(t)
	s.bucket.denyList = true
	for i := range 5 {
		if r := s.must(commit(i)); r.Seq != uint64(i)+1 {
			t.Fatalf("got seq %d, want %d", r.Seq, i+1)
		}
	}
	old := s.bucket.get(release.HistoryKey("web", "production", 1))
	s.bucket.place("web/production/version.json", old)
	if r := s.must(commit(9)); r.Seq != 6 {
		t.Errorf("after a restore: got seq %d, want 6", r.Seq)
	}
	s.linear()
	s.bucket.fail = func(operation, key string) error {
		if operation == "get" && strings.HasSuffix(key, "version.json") {
			return fs.ErrPermission
		}
		return nil
	}
	if _, err := s.run(commit(10)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("pointer that is kept from us: got %v, want forbidden", err)
	}
}

func TestClimbFindsTheTop(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		top := rapid.Uint64Range(0, 5000).Draw(rt, "top")
		from := rapid.Uint64Range(0, top).Draw(rt, "from")
		asked := 0
		r := run{Parts: Parts{Options: Options{Prefix: "web", Environment: "production"}, Size: func(_ context.Context, key string) (int64, error) {
			asked++
			if seq, ok := release.ParseHistoryKey("web", "production", key); ok && seq <= top {
				return 1, nil
			}
			return 0, fs.ErrNotExist
		}}}
		got, err := r.climb(t.Context(), from)
		if got != top || err != nil {
			rt.Errorf("from %d: got %d, %v, want %d", from, got, err, top)
		}
		if asked > 30 {
			rt.Errorf("from %d to %d: asked %d times", from, top, asked)
		}
	})
}
