package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// path is a place in a release directory.
func (r *rig) path(tree string, in ...string) string {
	return filepath.Join(append([]string{r.tree.ReleasePath(tree)}, in...)...)
}

// spoil changes a release as its owner could and no app should: the size and the time stay.
func (r *rig) spoil(tree string) {
	r.t.Helper()
	info, err := os.Stat(r.path(tree, "hash"))
	must(r.t, err)
	must(r.t, os.WriteFile(r.path(tree, "hash"), []byte("EVIL!!!"), 0o644))
	must(r.t, os.Chtimes(r.path(tree, "hash"), time.Time{}, info.ModTime()))
	must(r.t, os.WriteFile(r.path(tree, "more"), nil, 0o644))
}

// verify reads all releases, as the loop's Do would have them read.
func (r *rig) verify() map[string]deployment.Verification {
	r.t.Helper()
	e := r.engine
	got, err := e.command(r.t.Context(), command{verb: "verify", found: e.survey(r.t.Context(), e.trees(), true)})
	must(r.t, err)
	out := map[string]deployment.Verification{}
	for _, v := range got.Releases {
		out[v.Name] = v
	}
	return out
}

// deployed makes a rig on which the releases have been deployed, the last of them live.
func deployed(t *testing.T, hashes ...string) *rig {
	t.Helper()
	r := newRig(t, nil)
	for i, hash := range hashes {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	return r
}

func TestVerifyTellsWhatWasChanged(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	must(t, os.Mkdir(r.tree.ReleasePath("9-ccccccc"), 0o755))
	for name, v := range r.verify() {
		if want := map[bool]deployment.Integrity{true: deployment.Unknown, false: deployment.Sound}[name == "9-ccccccc"]; v.State != want {
			t.Errorf("untouched: %s is %q, want %q", name, v.State, want)
		}
	}
	r.spoil("1-aaaaaaa")
	got := r.verify()
	want := []deployment.Difference{{Path: "hash", What: deployment.Changed}, {Path: "more", What: deployment.Added}}
	if v := got["1-aaaaaaa"]; v.State != deployment.Drifted || !slices.Equal(v.Differ, want) || v.Checked == "" {
		t.Errorf("spoilt: got %+v, want %v", v, want)
	}
	if v := got["2-bbbbbbb"]; v.State != deployment.Sound || !v.Live {
		t.Errorf("live: got %+v, want it sound", v)
	}
	r.start() // the verdict is durable, and said by every agent that follows
	if got := r.engine.Detail().Drift; len(got) != 1 || got[0].Name != "1-aaaaaaa" || !slices.Equal(got[0].Differ, want) {
		t.Errorf("detail: got %+v", got)
	}
	if got := r.engine.Receipt().Status; !strings.Contains(got, "release 1-aaaaaaa was changed on this server") || !strings.Contains(got, "hash (changed), more (added)") {
		t.Errorf("status: got %q", got)
	}
	must(t, os.WriteFile(r.path("1-aaaaaaa", "hash"), []byte("aaaaaaa"), 0o644))
	must(t, os.Remove(r.path("1-aaaaaaa", "more")))
	if v := r.verify()["1-aaaaaaa"]; v.State != deployment.Sound || r.engine.Receipt().Status != "" {
		t.Errorf("put right: got %+v, status %q", v, r.engine.Receipt().Status)
	}
	must(t, os.RemoveAll(r.path("1-aaaaaaa")))
	if v := r.verify()["1-aaaaaaa"]; v.State != deployment.Drifted || !strings.Contains(v.Reason, "gone") {
		t.Errorf("gone: got %+v", v)
	}
}

func TestVerifyNamesTwentyPaths(t *testing.T) {
	r := deployed(t, "aaaaaaa")
	for i := range 25 {
		must(t, os.WriteFile(r.path("1-aaaaaaa", "x"+string(rune('a'+i))), nil, 0o644))
	}
	if v := r.verify()["1-aaaaaaa"]; len(v.Differ) != deployment.MaxDifferences || v.More != 5 {
		t.Errorf("got %d paths and %d more, want 20 and 5", len(v.Differ), v.More)
	}
	r.listings = nil // and without the listing none, but it is not taken for sound
	if v := r.verify()["1-aaaaaaa"]; v.State != deployment.Drifted {
		t.Errorf("without a listing: got %+v", v)
	}
}

// What an older agent, or recover, left has no digest: it is neither condemned nor called sound.
func TestAdoptedReleasesAreNotKnown(t *testing.T) {
	r := deployed(t, "aaaaaaa")
	must(t, os.Remove(filepath.Join(r.root, "state", "state.json")))
	r.start()
	if _, err := r.engine.verify(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("locked: got %v, want ErrLocked", err)
	}
	r.do("recover", deployment.Command{})
	if v := r.verify()["1-aaaaaaa"]; v.State != deployment.Unknown || v.Reason == "" {
		t.Errorf("got %+v, want it not known", v)
	}
}

func TestSpoiltReleaseIsFetchedAgain(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	r.spoil("1-aaaaaaa")
	r.verify()
	n := r.fetched
	if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed || r.fetched != n+1 {
		t.Fatalf("got %+v after %d fetches, want it deployed after one", got, r.fetched-n)
	}
	r.live("aaaaaaa")
	if v := r.verify()["1-aaaaaaa"]; v.State != deployment.Sound || !v.Live {
		t.Errorf("got %+v, want the live one sound", v)
	}
	if names, _ := r.tree.Names(); len(names) != 2 {
		t.Errorf("on disk: got %q, want two releases", names)
	}
}

func TestSpoiltReleaseThatIsNowhereElseIsRefused(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	r.spoil("1-aaaaaaa")
	r.verify()
	r.bad["aaaaaaa"] = fs.ErrNotExist
	for _, c := range []struct {
		verb    string
		version string
	}{{"rollback", ""}, {"rollback", "aaaaaaa"}, {"deploy", "aaaaaaa"}} {
		_, err := r.try(c.verb, deployment.Command{Version: c.version})
		if !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "hash (changed)") {
			t.Errorf("%s %s: got %v, want ErrVerify that says what was changed", c.verb, c.version, err)
		}
	}
	r.live("bbbbbbb")
	if got, want := len(r.restarts), 2; got != want || r.engine.state.Override != "" {
		t.Errorf("got %d restarts and override %q, want %d and none", got, r.engine.state.Override, want)
	}
}

func TestNextOlderSoundReleaseIsTaken(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb", "ccccccc")
	r.spoil("2-bbbbbbb")
	r.verify()
	r.bad["bbbbbbb"] = errors.New("the bucket is down")
	got := r.do("rollback", deployment.Command{})
	if got.Outcome != deployment.Deployed || !strings.Contains(got.Reason, "older than the previous release") || !strings.Contains(got.Reason, "the bucket is down") {
		t.Errorf("got %+v, want it deployed with the reason why an older one", got)
	}
	r.live("aaaaaaa")
}

// What ran before the failed release runs again even if it was changed: the app goes on, and it is said.
func TestUndoGoesBackToWhatRan(t *testing.T) {
	r := deployed(t, "aaaaaaa")
	must(t, os.WriteFile(r.path("1-aaaaaaa", "more"), nil, 0o644))
	r.verify()
	r.sick["bbbbbbb"] = true
	r.publish(2, "bbbbbbb")
	r.once(deployment.RolledBack)
	r.live("aaaaaaa")
	if got := r.last().Reason; !strings.Contains(got, "GET /version: 500") || !strings.Contains(got, "1-aaaaaaa, which runs again, was changed on this server: more (added)") {
		t.Errorf("reason: got %q", got)
	}
}

// The live release is reported and left alone, until somebody asks for it again. Then it is unpacked beside, since a
// process runs from it.
func TestSpoiltLiveRelease(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	must(t, os.WriteFile(r.path("2-bbbbbbb", "more"), nil, 0o644))
	r.verify()
	r.once(deployment.Deployed)
	if got := len(r.restarts); got != 2 {
		t.Errorf("it was fought: %d restarts, want 2", got)
	}
	if got := r.engine.Receipt().Status; got != "the live release 2-bbbbbbb was changed on this server: more (added)" {
		t.Errorf("status: got %q", got)
	}
	r.onRestart = func() {
		if !r.tree.Has("2-bbbbbbb") {
			t.Error("the directory was removed while its process ran")
		}
	}
	if got := r.do("deploy", deployment.Command{Force: true}); got.Outcome != deployment.Deployed {
		t.Fatalf("force: got %+v, want it deployed", got)
	}
	r.onRestart = nil
	live, err := r.tree.Current()
	if err != nil || live != "2-bbbbbbb.2" {
		t.Errorf("live: got %q, %v, want 2-bbbbbbb.2", live, err)
	}
	if r.tree.Has("2-bbbbbbb") {
		t.Error("what was changed is still there although nothing needs it")
	}
	if v := r.verify()["2-bbbbbbb.2"]; v.State != deployment.Sound || r.engine.Receipt().Status != "" {
		t.Errorf("got %+v, status %q, want it sound", v, r.engine.Receipt().Status)
	}
	if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed {
		t.Fatalf("rollback: got %+v", got)
	}
	r.live("aaaaaaa")
}

func TestSpoiltLiveReleaseIsNotUnchanged(t *testing.T) {
	r := newRig(t, nil)
	r.put(r.sign(1, "aaaaaaa", "content", nil), time.Unix(1, 0))
	r.once(deployment.Deployed)
	must(t, os.WriteFile(r.path("1-aaaaaaa", "more"), nil, 0o644))
	r.verify()
	r.put(r.sign(2, "bbbbbbb", "content", nil), time.Unix(2, 0))
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	if _, err := os.Stat(r.path("2-bbbbbbb", "more")); err == nil {
		t.Error("what was put into the old directory is in the new one")
	}
}

// A restored pointer to a spoilt release: it is fetched; while it cannot be, nothing is touched and it is tried again.
func TestPointerToASpoiltRelease(t *testing.T) {
	r := newRig(t, nil)
	first := r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	r.spoil("1-aaaaaaa")
	r.verify()
	r.bad["aaaaaaa"] = errors.New("the bucket is down")
	r.put(first, r.modified.Add(time.Minute))
	r.once(deployment.Failed)
	r.live("bbbbbbb")
	if got := r.last().Reason; !strings.Contains(got, "1-aaaaaaa was changed on this server and is not used") || !strings.Contains(got, "the bucket is down") {
		t.Errorf("reason: got %q", got)
	}
	delete(r.bad, "aaaaaaa")
	r.engine.clearRetry()
	r.once(deployment.Deployed)
	r.live("aaaaaaa")
}

func TestDeathWhileASpoiltReleaseIsReplaced(t *testing.T) {
	for die := 1; ; die++ {
		r := deployed(t, "aaaaaaa", "bbbbbbb")
		r.spoil("1-aaaaaaa")
		r.verify()
		if r.deadAt(die, func() { r.do("rollback", deployment.Command{}) }) {
			if die < 6 {
				t.Errorf("only %d saves", die-1)
			}
			return
		}
		r.start()
		_, err := r.engine.Once(t.Context())
		must(t, err)
		if r.engine.state.Attempt == nil && r.restarts[len(r.restarts)-1] == "2-bbbbbbb" { // it died before it was begun
			r.do("rollback", deployment.Command{})
		}
		r.live("aaaaaaa")
		if v := r.verify()["1-aaaaaaa"]; v.State != deployment.Sound {
			t.Errorf("death at save %d: got %+v, want it sound", die, v)
		}
	}
}
