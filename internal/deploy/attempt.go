package deploy

import (
	"context"
	"errors"
	"io/fs"
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
)

// errSuperseded is the cause with which work on an older pointer is dropped.
var errSuperseded = errors.New("superseded")

// origin is where the attempt's pointer came from. A command on this server says so itself.
func (a *attempt) origin() *deployment.Origin {
	p := a.Pointer
	if a.Digest == "" || p.Run == nil && p.Reason == "" {
		return nil
	}
	o := &deployment.Origin{Kind: string(p.Kind), Reason: p.Reason}
	if p.Run != nil {
		o.Actor, o.Run = p.Run.Actor, p.Run.URL
	}
	return o
}

// before names the release to go back to: the live one, or, where somebody has removed current, the one that it led to. Its app
// may run still, and is not to be stopped for a new release that fails.
func (e *Engine) before(live tree) string {
	if live.Name == "" && e.state.Live != "" && e.Tree.Has(e.state.Live) {
		return e.state.Live
	}
	return live.Name
}

// finish runs the attempt in the state from its phase to its outcome. When ctx ends first, the attempt stays in the state
// and the error is ctx's: the next finish takes it up.
func (e *Engine) finish(ctx context.Context) (deployment.Outcome, error) {
	a := e.state.Attempt
	name, err := e.Tree.Current()
	course := recovery(a.Phase, a.Failure != "", err == nil && name == a.To && name != "")
	switch course {
	case courseConfirm:
		return e.confirm(ctx, a)
	case courseGiveUp:
		if a.Made {
			e.discardTree(a)
		}
		return e.end(a, deployment.Failed, a.Failure)
	case courseStage:
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
			a.Guilty = errors.As(err, &hook) && !harmless(hook.err) || a.Refused
			return e.end(a, deployment.Failed, err.Error())
		}
	}
	if course != courseUndo {
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

// activate makes the release live and proves it healthy. Doing it again is harmless.
func (e *Engine) activate(ctx context.Context, a *attempt) error {
	begun := time.Now()
	e.step(a, deployment.Activate, deployment.Started, a.To)
	before, err := e.makeLive(ctx, a.To)
	if err != nil {
		var r *restartError
		a.Untouched = a.Interruptions == 0 && (!errors.As(err, &r) || impossible(err))
		a.Invocation = before.Invocation
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
	if err := e.point(name); err != nil {
		return before, err
	}
	return before, e.restart(ctx)
}

// point makes current lead to the release.
func (e *Engine) point(name string) error {
	if err := e.Tree.Switch(name); err != nil {
		return err
	}
	e.mu.Lock()
	e.state.Live = name // written with the next step; until then the attempt itself says it
	e.mu.Unlock()
	return nil
}

func (e *Engine) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.RestartWithin)
	defer cancel()
	if err := e.Service.Restart(ctx); err != nil {
		return &restartError{err}
	}
	return nil
}

// fault is an error of the health gate or of a restart that may say something about the release. Any other error says only
// that nobody could tell.
type fault interface {
	error
	ReleaseFault() bool
}

// restartError is a restart that did not work, which is the release's fault unless the agent may not restart the unit, there
// is none, or the service manager did not take it on.
type restartError struct{ err error }

func (r *restartError) Error() string      { return r.err.Error() }
func (r *restartError) Unwrap() error      { return r.err }
func (r *restartError) ReleaseFault() bool { return !harmless(r.err) }

// guilty reports errors that are held against the release.
func guilty(err error) bool {
	var f fault
	return errors.As(err, &f) && f.ReleaseFault()
}

// impossible reports errors of a restart after which the unit is as it was: it may not be restarted, there is none, it is
// masked, the service manager was not to be reached.
func impossible(err error) bool {
	var r interface{ Untouched() bool }
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.As(err, &r) && r.Untouched()
}

// harmless reports errors of a restart that say nothing about the release.
func harmless(err error) bool {
	var f fault
	return impossible(err) || errors.As(err, &f) && !f.ReleaseFault()
}

// fails notes why the release is to be undone, with the unit's last lines, unless it is only ctx that ended. Only a failed
// unit or probe is held against the release; the disk, the bus and polkit are not.
func (e *Engine) fails(ctx context.Context, a *attempt, step deployment.Step, err error) error {
	e.awaitStop(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	lines, lerr := e.Service.Log(ctx, logLines)
	if lerr != nil {
		lines = append(lines, "(the unit's log cannot be read: "+lerr.Error()+")")
	}
	e.emit(a, deployment.Event{Step: step, State: deployment.StepFail, Message: err.Error(), Log: lines})
	if serr := e.change(func(*ledger) {
		a.Failure, a.Blameless, a.Guilty, a.Log = err.Error(), !guilty(err), guilty(err), lines
	}); serr != nil {
		e.Log.Error("write state before undoing", "app", e.Key, "error", serr)
	}
	return err
}
