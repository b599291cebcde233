package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	// maxInterruptions is how often the agent may die over one release before it gives up on it. Its own death is no
	// evidence against the release, but a release that takes the machine down each time must not be tried for ever.
	maxInterruptions = 10
	// logLines is how many of the unit's last lines go into a reason.
	logLines = 40
	// spareSpace is left free on the filesystem beyond what a release needs, in bytes.
	spareSpace = 64 << 20
	// spareInodes likewise.
	spareInodes = 1000
)

// errSuperseded is the cause with which work on an older pointer is dropped.
var errSuperseded = errors.New("superseded")

// finish runs the attempt in the state from its phase to its outcome. When ctx ends first, the attempt stays in the state
// and the error is ctx's: the next finish takes it up.
func (e *Engine) finish(ctx context.Context) (deployment.Outcome, error) {
	a := e.state.Attempt
	untouched := a.Phase == deployment.Fetch || a.Phase == deployment.Unpack
	switch {
	case a.Phase == deployment.Confirm: // proven before the agent died
		return e.confirm(ctx, a)
	case untouched && a.Failure != "":
		if a.Made {
			e.discardTree(a)
		}
		return e.end(a, deployment.Failed, a.Failure)
	}
	if a.Failure == "" && (a.Phase == deployment.Fetch || a.Phase == deployment.Unpack) {
		err := e.stage(ctx, a)
		switch {
		case err == nil:
		case errors.Is(err, errSuperseded):
			return e.end(a, deployment.Superseded, "a newer pointer arrived before this release was activated")
		case ctx.Err() != nil:
			return "", ctx.Err()
		default:
			var hook *hookError
			a.Refused = errors.Is(err, release.ErrVerify)
			a.Guilty = errors.As(err, &hook) || a.Refused
			return e.end(a, deployment.Failed, err.Error())
		}
	}
	if a.Failure == "" {
		err := e.activate(ctx, a)
		switch {
		case err == nil:
			return e.confirm(ctx, a)
		case ctx.Err() != nil:
			return "", ctx.Err()
		}
	}
	// From here the old release is put back whatever happens to ctx; only the time is bounded.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.UndoWithin)
	defer cancel()
	return e.rollBack(undo, a)
}

// stage brings the release onto the disk, complete and durable, or finds it there. Nothing live is touched.
func (e *Engine) stage(ctx context.Context, a *attempt) error {
	if _, err := e.live(); err != nil {
		return err
	}
	if err := e.Service.Check(ctx); err != nil {
		return err
	}
	if t, ok := e.state.treeOf(identity(a.Pointer, a.Plain)); ok && e.Tree.Has(t.Name) {
		e.step(a, deployment.Fetch, deployment.Done, "on this server already, as "+t.Name)
		e.mu.Lock()
		a.To = t.Name
		e.mu.Unlock()
	} else {
		work, stop := e.watch(ctx, a)
		err := e.bring(work, a)
		stop()
		if context.Cause(work) == errSuperseded && ctx.Err() == nil {
			return errSuperseded
		}
		if err != nil {
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

// bring fetches and unpacks.
func (e *Engine) bring(ctx context.Context, a *attempt) error {
	if err := e.room(a.Pointer); err != nil {
		return err
	}
	archive, err := e.fetch(ctx, a)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := e.change(func(*ledger) { a.Phase = deployment.Unpack }); err != nil {
		return err
	}
	if err := e.unpack(ctx, a, archive); err != nil {
		return err
	}
	return e.Tree.ClearIncoming()
}

// room refuses a release that would not fit, before a byte of it is fetched.
func (e *Engine) room(p release.Pointer) error {
	bytes, inodes, err := e.Tree.Space()
	if err != nil {
		return err
	}
	need := p.Artifact.Size + p.Artifact.UnpackedSize + p.Artifact.UnpackedSize/10 + spareSpace
	if bytes < need {
		return fmt.Errorf("not enough space in %s: %d MiB free, %d MiB needed", e.Tree.Path(), bytes>>20, need>>20)
	}
	if want := p.Artifact.Entries + spareInodes; inodes > 0 && inodes < want {
		return fmt.Errorf("not enough inodes in %s: %d free, %d needed", e.Tree.Path(), inodes, want)
	}
	return nil
}

// fetch downloads the artifact whole, going on where a broken download stopped, and verifies it. A file that does not verify
// is fetched once more from the start: what was there before may have been another object's beginning.
func (e *Engine) fetch(ctx context.Context, a *attempt) (*os.File, error) {
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
	begun := time.Now()
	e.step(a, deployment.Fetch, deployment.Started, sizeText(a.Pointer.Artifact.Size))
	for try := 0; ; try++ {
		from := have
		report := e.progress(a, deployment.Fetch, a.Pointer.Artifact.Size)
		err := e.Source.Fetch(ctx, a.Pointer, f, have, func(done int64) {
			a.Pulled = max(a.Pulled, done-from)
			report(done)
		})
		if err == nil {
			e.stepTook(a, deployment.Fetch, time.Since(begun))
			return f, nil
		}
		if !errors.Is(err, release.ErrVerify) || have == 0 || try > 0 || ctx.Err() != nil {
			e.step(a, deployment.Fetch, deployment.StepFail, err.Error())
			_ = f.Close()
			if errors.Is(err, release.ErrVerify) {
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
	name := e.state.directory(a)
	stage, root, err := e.Tree.Stage()
	if err != nil {
		return err
	}
	warn := func(s string) { e.step(a, deployment.Unpack, deployment.Progress, s) }
	err = e.Unpack(ctx, archive, root, a.Pointer, warn, e.progress(a, deployment.Unpack, a.Pointer.Artifact.UnpackedSize))
	if cerr := root.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		// A tree of that name which is not in the ledger was left by a crash between naming and noting it.
		if _, known := e.state.treeNamed(name); !known {
			err = e.Tree.Remove(name)
		}
	}
	if err == nil {
		err = e.Tree.Seal(stage, name, e.Shared)
	}
	if err != nil {
		if derr := e.Tree.Discard(stage); derr != nil {
			e.Log.Warn("discard stage", "app", e.Key, "error", derr)
		}
		return err
	}
	p := a.Pointer
	err = e.change(func(l *ledger) {
		l.dropTree(name)
		l.Trees = append(l.Trees, tree{
			Name: name, ID: identity(p, a.Plain), Seq: p.Seq, Hash: p.Release.Hash, Msg: p.Release.Msg,
			Date: p.Release.Date, SHA256: p.Artifact.SHA256,
		})
		a.To, a.Made = name, true
	})
	if err != nil {
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

// activate makes the release live and proves it healthy. Doing it again is harmless.
func (e *Engine) activate(ctx context.Context, a *attempt) error {
	begun := time.Now()
	e.step(a, deployment.Activate, deployment.Started, a.To)
	before, err := e.makeLive(ctx, a.To)
	if err != nil {
		return e.fails(ctx, a, deployment.Activate, err)
	}
	e.stepTook(a, deployment.Activate, time.Since(begun))
	if err := e.change(func(*ledger) { a.Phase = deployment.Check }); err != nil {
		return e.fails(ctx, a, deployment.Activate, err)
	}
	begun = time.Now()
	e.step(a, deployment.Check, deployment.Started, "")
	report := func(s string) { e.step(a, deployment.Check, deployment.Progress, s) }
	if err := e.Check(ctx, before, a.Pointer.Release.Hash, report); err != nil {
		return e.fails(ctx, a, deployment.Check, err)
	}
	e.stepTook(a, deployment.Check, time.Since(begun))
	return nil
}

// makeLive switches to the release and restarts the unit. It returns the unit's state before the restart.
func (e *Engine) makeLive(ctx context.Context, name string) (deployment.UnitState, error) {
	before, err := e.Service.State(ctx)
	if err != nil {
		return before, err
	}
	if err := e.Tree.Switch(name); err != nil {
		return before, err
	}
	restart, cancel := context.WithTimeout(ctx, e.RestartWithin)
	defer cancel()
	if err := e.Service.Restart(restart); err != nil {
		return before, &restartError{err}
	}
	return before, nil
}

// fault is an error of the health gate or of a restart that may say something about the release. Any other error says only
// that nobody could tell.
type fault interface {
	error
	ReleaseFault() bool
}

// restartError is a restart that did not work, which is the release's fault unless the agent may not restart the unit or
// there is none.
type restartError struct{ err error }

func (r *restartError) Error() string      { return r.err.Error() }
func (r *restartError) Unwrap() error      { return r.err }
func (r *restartError) ReleaseFault() bool { return !impossible(r.err) }

// impossible reports errors of a restart that say nothing about the release.
func impossible(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)
}

// fails notes why the release is to be undone, with the unit's last lines, unless it is only ctx that ended. Only a failed
// unit or probe is held against the release; the disk, the bus and polkit are not.
func (e *Engine) fails(ctx context.Context, a *attempt, step deployment.Step, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	lines, lerr := e.Service.Log(ctx, logLines)
	if lerr != nil {
		lines = append(lines, "(the unit's log cannot be read: "+lerr.Error()+")")
	}
	e.emit(a, deployment.Event{Step: step, State: deployment.StepFail, Message: err.Error(), Log: lines})
	var f fault
	guilty := errors.As(err, &f) && f.ReleaseFault()
	if serr := e.change(func(*ledger) { a.Failure, a.Blameless, a.Guilty, a.Log = err.Error(), !guilty, guilty, lines }); serr != nil {
		e.Log.Error("write state before undoing", "app", e.Key, "error", serr)
	}
	return err
}
