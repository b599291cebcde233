package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deployment"
)

// adopt makes a release directory as root does, and says so to the next agent.
func (r *rig) adopt(name, hash string, current bool) {
	r.t.Helper()
	stage, root, err := r.tree.Stage()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := root.WriteFile("hash", []byte(hash), 0o644); err != nil {
		r.t.Fatal(err)
	}
	listing, err := artifact.ListTree(r.t.Context(), root, nil)
	if err == nil {
		_, err = r.tree.Seal(stage, name, nil)
	}
	if err == nil && current {
		err = r.tree.Switch(name)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	_ = root.Close()
	r.listings[listing.Digest()] = listing
	next := r.next
	r.next = func(o *Options) {
		if next != nil {
			next(o)
		}
		o.Adopted = &deployment.Adopted{Name: name, Hash: hash, Date: "2026-11-20T08:00:00Z", Digest: listing.Digest()}
	}
	r.running = r.tree.ReleasePath(name)
}

// forget removes the engine's memory, as on a server where no agent has run.
func (r *rig) forget() {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.root, "state", "state.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
}

func TestAdoptedReleaseIsWhatTheFirstDeploymentGoesBackTo(t *testing.T) {
	r := newRig(t, nil)
	r.adopt("0-old", "old", true)
	r.forget()
	r.start()
	if got := r.engine.Receipt().Live; got.Hash != "old" || got.Seq != 0 {
		t.Errorf("live: got %+v, want the adopted release", got)
	}
	r.sick["bad"] = true
	r.publish(1, "bad")
	r.once(deployment.RolledBack)
	r.live("old")
	if r.stops != 0 {
		t.Error("the app was stopped")
	}
	r.publish(2, "good")
	r.once(deployment.Deployed)
	r.live("good")
	// A new process knows it no less, and no more than once.
	r.start()
	r.publish(3, "worse")
	r.sick["worse"] = true
	r.once(deployment.RolledBack)
	r.live("good")
	if len(r.engine.state.Trees) != 2 || r.engine.state.Trees[0].Name != "0-old" {
		t.Errorf("got trees %+v", r.engine.state.Trees)
	}
	if got := r.engine.state.previous(r.engine.state.Trees[1].ID); got != "disk:0-old" {
		t.Errorf("previous: got %q, want the adopted one", got)
	}
}

func TestAdoptedReleaseJoinsAMemory(t *testing.T) {
	r := newRig(t, nil)
	r.sick["bad"] = true
	r.publish(1, "bad") // before there was anything
	r.once(deployment.Failed)
	r.adopt("0-old", "old", true)
	r.start()
	r.publish(2, "bad")
	r.once(deployment.RolledBack)
	r.live("old")
}

func TestAdoptedReleaseIsNoKeyToALostMemory(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*rig)
		locked  bool
	}{
		"whole":       {func(*rig) {}, false},
		"not live":    {func(r *rig) { _ = r.tree.Clear() }, true},
		"not alone":   {func(r *rig) { r.adopt("1-new", "new", false); r.next = nil }, true},
		"another one": {func(r *rig) { r.adopt("1-new", "new", true) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.adopt("0-old", "old", true)
			c.prepare(r)
			r.forget()
			r.start()
			if got := errors.Is(r.engine.locked, ErrLocked); got != c.locked {
				t.Errorf("got %v, want locked %v", r.engine.locked, c.locked)
			}
		})
	}
}

// A touched adopted release is found out like any other.
func TestAdoptedReleaseIsWatched(t *testing.T) {
	r := newRig(t, nil)
	r.adopt("0-old", "old", true)
	r.forget()
	r.start()
	if err := os.WriteFile(filepath.Join(r.tree.ReleasePath("0-old"), "hash"), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	result, err := r.engine.verified(r.engine.survey(t.Context(), r.engine.trees(), true))
	if err != nil || len(result.Releases) != 1 || result.Releases[0].State != deployment.Drifted {
		t.Errorf("got %+v, %v, want it changed", result, err)
	}
}
