package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// half has every Bring leave half of a release, and then fail with the error.
func (p *pieces) half(err error) {
	p.trouble = func(context.Context, string) error {
		must(p.t, os.WriteFile(p.path(".stage-begun", "half"), nil, 0o644))
		return err
	}
}

// left reports whether a stage is there for the next deployment.
func (r *rig) left() bool { return slices.Contains(r.names(), ".stage-begun") }

// What the network broke off is taken up by the next deployment, of the same release or of another; what the release or the disk is
// to blame for is not.
func TestStageThatWasBegun(t *testing.T) {
	gone := fmt.Errorf("%w: reset", ErrBrokenOff)
	for name, test := range map[string]struct {
		err  error
		left bool
		then func(*rig, *pieces) // before the next look
		text string              // of the fetch then
	}{
		"the store is away": {gone, true, nil, "7 B of 10 B, 3 B were here already, of a deployment that broke off; 1,234 files"},
		"the next agent":    {gone, true, func(r *rig, _ *pieces) { r.start() }, "7 B of 10 B, 3 B were here already, of a deployment that broke off; 1,234 files"},
		"another release":   {gone, true, func(r *rig, _ *pieces) { r.publish(2, "bbbbbbb") }, "7 B of 10 B, 3 B were here already, of a deployment that broke off; 1,234 files"},
		"nothing in it is good": {gone, true, func(r *rig, _ *pieces) { must(r.t, os.Remove(r.path(".stage-begun", "half"))) },
			"7 B of 10 B, 1,234 files into an empty directory"},
		"it is gone": {gone, true, func(r *rig, _ *pieces) { must(r.t, os.RemoveAll(r.path(".stage-begun"))) },
			"7 B of 10 B, 1,234 files into an empty directory"},
		"it lacks notes, and cannot have any": {gone, true, func(r *rig, _ *pieces) {
			must(r.t, os.Remove(r.path(".stage-begun.notes")))
			must(r.t, os.Mkdir(r.path(".stage-begun.notes"), 0o755))
		}, "7 B of 10 B, 1,234 files into an empty directory"},
		"only whole": {gone, true, func(_ *rig, p *pieces) { p.whole = true }, ""},
		"a refusal":  {fmt.Errorf("%w: frame", release.ErrVerify), false, func(r *rig, _ *pieces) { r.publish(2, "bbbbbbb") }, "7 B of 10 B, 1,234 files into an empty directory"},
		"the disk":   {errors.New("read-only"), false, nil, "7 B of 10 B, 1,234 files into an empty directory"},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := recycling(t, nil)
			p.half(test.err)
			r.publish(1, "aaaaaaa")
			r.once(deployment.Failed)
			if r.left() != test.left {
				t.Fatalf("on disk: got %q, want a stage left: %v", r.names(), test.left)
			}
			p.trouble = nil
			if test.then != nil {
				test.then(r, p)
			}
			r.engine.clearRetry()
			r.once(deployment.Deployed)
			if got := r.fetchedText(); got != test.text {
				t.Errorf("got %q, want %q", got, test.text)
			}
			if names := r.names(); len(names) != 1 || r.engine.state.Begun != nil {
				t.Errorf("on disk: got %q, want the release alone", names)
			}
		})
	}
}

// What nothing will take up does not stay: a person holds the app, the pointer goes back to what is live, or the state says so at a start.
func TestStageThatNobodyAwaits(t *testing.T) {
	for name, do := range map[string]func(r *rig, ended *Engine){
		"a hold": func(r *rig, _ *Engine) {
			r.do("hold", deployment.Command{Reason: "a feast"})
			_, _ = r.engine.Once(t.Context())
		},
		"back to what is live": func(r *rig, _ *Engine) {
			r.put(r.sign(3, "aaaaaaa", "aaaaaaa", nil), r.modified.Add(1))
			r.once(deployment.Unchanged)
		},
		"another start": func(r *rig, e *Engine) {
			must(r.t, e.change(func(l *ledger) { l.Settled = true }))
			r.start()
			_, _ = r.engine.Once(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := recycling(t, nil, "aaaaaaa")
			p.half(fmt.Errorf("%w: reset", ErrBrokenOff))
			r.publish(2, "bbbbbbb")
			r.once(deployment.Failed)
			if !r.left() {
				t.Fatalf("on disk: got %q, want a stage", r.names())
			}
			do(r, r.engine)
			if names := r.names(); len(names) != 1 || r.engine.state.Begun != nil {
				t.Errorf("on disk: got %q, want the live release alone", names)
			}
		})
	}
}

// A directory that was recycled when its deployment broke off is not in the state, and what is known of it is kept until it is taken up.
func TestRecycledStageThatWasBegun(t *testing.T) {
	r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
	old := r.treeDigest("1-aaaaaaa")
	p.half(fmt.Errorf("%w: reset", ErrBrokenOff))
	r.publish(4, "ddddddd")
	r.once(deployment.Failed)
	if got, want := r.names(), []string{".stage-begun", ".stage-begun.notes", "2-bbbbbbb", "3-ccccccc"}; !slices.Equal(got, want) {
		t.Fatalf("on disk: got %q, want %q", got, want)
	}
	r.start()
	r.engine.recover()
	if !slices.Contains(r.kept, old) {
		t.Errorf("got the listings of %q kept, want %s among them", r.kept, old)
	}
	tries := 0
	p.trouble = func(_ context.Context, base string) error { // and what was taken up does not work
		if tries++; base == Begun {
			return fmt.Errorf("%w: again", ErrBase)
		}
		return nil
	}
	r.once(deployment.Deployed)
	if want := []string{old}; !slices.Equal(p.taken, want) || tries != 2 {
		t.Errorf("got %q taken up and %d tries, want %q and 2", p.taken, tries, want)
	}
	if got, want := r.names(), []string{"2-bbbbbbb", "3-ccccccc", "4-ddddddd"}; !slices.Equal(got, want) {
		t.Errorf("on disk: got %q, want %q", got, want)
	}
}
