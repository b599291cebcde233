package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	// spareSpace is left free on the filesystem beyond what a release needs, in bytes.
	spareSpace = 64 << 20
	// spareInodes likewise.
	spareInodes = 1000
)

// stage brings the release onto the disk, complete and durable, or finds it there. Nothing live is touched.
func (e *Engine) stage(ctx context.Context, a *attempt) error {
	if _, err := e.live(); err != nil {
		return err
	}
	if err := e.emptied(); err != nil {
		return err
	}
	if err := e.Service.Check(ctx); err != nil {
		return err
	}
	t, known := e.state.treeOf(identity(a.Pointer, a.Plain))
	if known && t.Drift == nil && e.Tree.Has(t.Name) {
		e.step(a, deployment.Fetch, deployment.Done, "on this server already, as "+t.Name)
		e.mu.Lock()
		a.To = t.Name
		e.mu.Unlock()
		if err := e.Tree.ClearIncoming(); err != nil { // an agent that died after the unpacking left the archive
			return err
		}
	} else {
		if known && t.Drift != nil {
			e.step(a, deployment.Fetch, deployment.Progress, fmt.Sprintf("%s was changed on this server (%s): fetching it again", t.Name, t.Drift))
		}
		work, stop := e.watch(ctx, a)
		err := e.bring(work, a)
		stop()
		if context.Cause(work) == errSuperseded && ctx.Err() == nil {
			return errSuperseded
		}
		if err != nil {
			if known && t.Drift != nil && ctx.Err() == nil {
				err = fmt.Errorf("%s was changed on this server and is not used, and: %w", t.Name, err)
			}
			return err
		}
	}
	if a.Digest != "" {
		if err := e.hook(ctx, a, "before-activate"); err != nil {
			if a.Made {
				e.discardTree(a)
			}
			return err
		}
	}
	return e.change(func(*ledger) { a.Phase = deployment.Activate })
}

// watch drops the work on a when a newer pointer arrives meanwhile.
func (e *Engine) watch(ctx context.Context, a *attempt) (context.Context, func()) {
	work, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTicker(max(e.Poll, time.Second))
		defer timer.Stop()
		rung := false
		defer func() {
			if rung { // what rang may have been more than a newer seq: a restored pointer, a plain one
				e.Wake()
			}
		}()
		for {
			select {
			case <-work.Done():
				return
			case <-e.wake:
				rung = true
			case <-timer.C:
			}
			v, _, err := e.look(work)
			if err == nil && a.Digest != "" && !v.Plain() && v.Pointer().Seq > a.Pointer.Seq && v.Pointer().Seq > e.highSeq() {
				cancel(errSuperseded)
				rung = true
				return
			}
		}
	}()
	return work, func() { cancel(nil); <-done }
}

func (e *Engine) highSeq() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.HighSeq
}

// fetch downloads the artifact whole, going on where a broken download stopped, and verifies it. A file that does not verify
// is fetched once more from the start: what was there before may have been another object's beginning. So is one of a store that
// gives no parts.
func (e *Engine) fetch(ctx context.Context, a *attempt, begun time.Time) (*os.File, error) {
	name := "plain-" + release.ShortHash(a.Pointer.Release.Hash) + ".part"
	if !a.Plain {
		name = a.Pointer.Artifact.SHA256 + ".part"
	}
	f, have, err := e.Tree.Incoming(name)
	if err != nil {
		return nil, err
	}
	if a.Plain && have > 0 { // nothing says whether the object is still the one that was begun
		have = 0
		if err := f.Truncate(0); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	for try := 0; ; try++ {
		from, pulled := have, a.Pulled
		report := e.progress(a, deployment.Fetch, a.Pointer.Artifact.Size)
		err := e.Source.Fetch(ctx, a.Pointer, f, have, func(done int64) {
			a.Pulled = max(a.Pulled, pulled+done-from)
			report(done)
		})
		if err == nil {
			e.stepTook(a, deployment.Fetch, time.Since(begun))
			return f, nil
		}
		whole := errors.Is(err, errors.ErrUnsupported) // the store gives no rest of an object
		if !errors.Is(err, release.ErrVerify) && !whole || have == 0 || try > 0 || ctx.Err() != nil {
			e.step(a, deployment.Fetch, deployment.StepFail, err.Error())
			err = e.noSpace(err)
			_ = f.Close()
			if errors.Is(err, release.ErrVerify) || roomless(err) { // whoever has filled the disk needs the space more
				_ = e.Tree.ClearIncoming()
			}
			return nil, fmt.Errorf("fetch: %w", err)
		}
		have = 0
		if err := f.Truncate(0); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("fetch: %w", err)
		}
	}
}

// unpack makes the release's directory out of the archive.
func (e *Engine) unpack(ctx context.Context, a *attempt, archive *os.File) (err error) {
	begun := time.Now()
	e.step(a, deployment.Unpack, deployment.Started, "")
	defer func() {
		if err != nil {
			e.step(a, deployment.Unpack, deployment.StepFail, err.Error())
			err = fmt.Errorf("unpack: %w", err)
		}
	}()
	if a.Plain {
		if err := e.change(func(l *ledger) { l.Plain++ }); err != nil {
			return err
		}
	}
	name, err := e.place(ctx, a)
	if err != nil {
		return err
	}
	stage, root, err := e.Tree.Stage()
	if err != nil {
		return err
	}
	warn := func(s string) { e.step(a, deployment.Unpack, deployment.Progress, s) }
	digest, err := e.Unpack(ctx, archive, root, a.Pointer, warn, e.progress(a, deployment.Unpack, a.Pointer.Artifact.UnpackedSize))
	if cerr := root.Close(); err == nil {
		err = cerr
	}
	var sealed deployment.Sealed
	if err == nil {
		sealed, err = e.seal(stage, name)
	}
	if err != nil {
		err = e.noSpace(err)
		if derr := e.Tree.Discard(stage); derr != nil {
			e.Log.Warn("discard stage", "app", e.Key, "error", derr)
		}
		return err
	}
	if err := e.made(a, tree{Name: name, Digest: digest}, sealed); err != nil {
		return err
	}
	e.stepTook(a, deployment.Unpack, time.Since(begun))
	return nil
}

// hook runs a configured hook in the new release.
func (e *Engine) hook(ctx context.Context, a *attempt, name string) error {
	run := e.Hooks[name]
	if run == nil {
		return nil
	}
	step := deployment.Unpack
	if name == "after-healthy" {
		step = deployment.Confirm
	}
	begun := time.Now()
	e.step(a, step, deployment.Started, "hook "+name)
	out, err := run(ctx, e.Tree.ReleasePath(a.To))
	if err != nil {
		e.awaitStop(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err() // it was stopped with the agent, and runs again with it
	}
	ev := deployment.Event{Step: step, State: deployment.Done, Message: "hook " + name, Log: tail(out, logLines), TookMS: time.Since(begun).Milliseconds()}
	if err != nil {
		ev.State, ev.Message = deployment.StepFail, fmt.Sprintf("hook %s: %v", name, err)
		a.Log = ev.Log
	}
	e.emit(a, ev)
	if err != nil {
		return &hookError{name: name, err: err}
	}
	return nil
}

// hookError is a hook that said no: it counts against the release, so the deployment is not tried again by itself.
type hookError struct {
	name string
	err  error
}

func (h *hookError) Error() string { return fmt.Sprintf("hook %s: %v", h.name, h.err) }
