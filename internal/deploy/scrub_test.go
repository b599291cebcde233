package deploy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// The scrub reads no contents as long as no metadata has changed, and condemns nothing by metadata alone.
func TestScrub(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	if len(r.compared) != 0 {
		t.Errorf("read after deployments that nobody disturbed: %q", r.compared)
	}
	next := func(seq uint64, hash string) { // a deployment makes a scrub due
		r.t.Helper()
		r.compared = nil
		r.put(r.sign(seq, hash, "bbbbbbb", nil), r.modified.Add(time.Minute))
		r.once(deployment.Unchanged)
	}
	must(t, os.Chtimes(r.path("1-aaaaaaa", "hash"), time.Time{}, time.Unix(1, 0)))
	next(3, "ccccccc")
	if want := []string{"1-aaaaaaa"}; !slices.Equal(r.compared, want) || r.engine.Receipt().Status != "" {
		t.Errorf("touched: read %q, status %q; want %q and nothing said", r.compared, r.engine.Receipt().Status, want)
	}
	next(4, "ddddddd")
	if len(r.compared) != 0 {
		t.Errorf("touched once, read again: %q", r.compared)
	}
	r.spoil("1-aaaaaaa")
	next(5, "eeeeeee")
	if got := r.engine.Receipt().Status; !strings.Contains(got, "1-aaaaaaa was changed") {
		t.Errorf("spoilt: status %q", got)
	}
	next(6, "fffffff")
	if got := r.engine.Receipt().Status; len(r.compared) != 0 || !strings.Contains(got, "1-aaaaaaa was changed") {
		t.Errorf("spoilt as before: read %q, status %q", r.compared, got)
	}
	must(t, os.RemoveAll(r.path("1-aaaaaaa", "hash")))
	next(7, "ggggggg")
	if got := r.engine.Receipt().Status; !strings.Contains(got, "hash (missing)") {
		t.Errorf("half deleted: status %q", got)
	}
}

// A tree that took the name of the one that was looked at is not judged by it.
func TestFindingsOfAReleaseThatIsGone(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	r.spoil("1-aaaaaaa")
	found := r.engine.survey(t.Context(), r.engine.trees(), true)
	must(t, r.engine.learn(found))
	r.do("rollback", deployment.Command{})
	must(t, r.engine.learn(found))
	if got := r.engine.Detail().Drift; len(got) != 0 {
		t.Errorf("got %+v, want the new directory to stay sound", got)
	}
	gone := []finding{{tree: tree{Name: "7-nothing", Made: 7}, read: true, drift: &drift{Reason: "x"}}}
	must(t, r.engine.learn(gone))
	if got := r.engine.Detail().Drift; len(got) != 0 {
		t.Errorf("got %+v of a tree that there is not", got)
	}
}

// A look that began earlier and took longer does not overrule one that saw the release as it was later.
func TestFindingsThatComeLate(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	early := r.engine.survey(t.Context(), r.engine.trees(), true)
	r.spoil("1-aaaaaaa")
	must(t, r.engine.learn(r.engine.survey(t.Context(), r.engine.trees(), true)))
	must(t, r.engine.learn(early))
	if got := r.engine.Detail().Drift; len(got) != 1 || got[0].Name != "1-aaaaaaa" {
		t.Errorf("got %+v, want the release that was changed", got)
	}
}

func TestLoopScrubsAndVerifies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := deployed(t, "aaaaaaa", "bbbbbbb")
		r.spoil("1-aaaaaaa")
		r.start() // nobody watched meanwhile
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()
		synctest.Wait()
		if got := r.engine.Receipt().Status; !strings.Contains(got, "1-aaaaaaa was changed") {
			t.Errorf("at the start: status %q", got)
		}
		r.spoil("2-bbbbbbb")
		time.Sleep(scrubEvery + time.Hour)
		synctest.Wait()
		if got := r.engine.Receipt().Status; !strings.Contains(got, "the live release 2-bbbbbbb was changed") {
			t.Errorf("after hours: status %q", got)
		}
		got, err := r.engine.Do(ctx, "verify", deployment.Command{})
		if err != nil || len(got.Releases) != 2 || got.Releases[0].Name != "2-bbbbbbb" || got.Releases[1].State != deployment.Drifted {
			t.Errorf("verify: got %+v, %v", got, err)
		}
		ended, end := context.WithCancel(ctx)
		end()
		if _, err := r.engine.Do(ended, "verify", deployment.Command{}); !errors.Is(err, context.Canceled) {
			t.Errorf("verify for nobody: got %v, want context.Canceled", err)
		}
		cancel()
		<-done
	})
}

func TestCurrentLedElsewhere(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	must(t, r.tree.Switch("1-aaaaaaa"))
	if got, want := r.engine.Receipt().Status, "current leads to 1-aaaaaaa, though this agent led it to 2-bbbbbbb"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	must(t, r.tree.Clear())
	if got, want := r.engine.Receipt().Status, "current is gone, though this agent led it to 2-bbbbbbb"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	must(t, os.Symlink("releases/7-nothing", filepath.Join(r.root, "app", "current")))
	if got := r.engine.Receipt().Status; !strings.Contains(got, "leads to release 7-nothing, which is gone") {
		t.Errorf("dangling: got %q", got)
	}
	must(t, r.tree.Switch("1-aaaaaaa"))
	r.do("hold", deployment.Command{Reason: "lunch"})
	if got := r.engine.Receipt(); !strings.HasPrefix(got.Status, "current leads to") || got.Held != "lunch" {
		t.Errorf("on hold: got %q and %q", got.Status, got.Held)
	}
	r.do("resume", deployment.Command{})
	r.publish(3, "ccccccc")
	r.once(deployment.Deployed)
	if got := r.engine.Receipt().Status; got != "" {
		t.Errorf("after the next deployment: got %q", got)
	}
	r.sick["ddddddd"] = true
	r.publish(4, "ddddddd")
	r.once(deployment.RolledBack)
	if got := r.engine.Receipt().Status; strings.Contains(got, "current") {
		t.Errorf("after a rollback: got %q", got)
	}
}

func TestListingsOfWhatIsGoneAreDropped(t *testing.T) {
	r := newRig(t, nil)
	for i, hash := range []string{"aaaaaaa", "bbbbbbb", "ccccccc", "ddddddd", "eeeeeee"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	if got, want := len(r.kept), 3; got != want {
		t.Errorf("got %d listings kept, want %d", got, want)
	}
}
