package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// rollBack puts the previous release back and ends the deployment.
func (e *Engine) rollBack(ctx context.Context, a *attempt) (deployment.Outcome, error) {
	if a.From == "" || !e.Tree.Has(a.From) {
		return e.rollBackToNothing(ctx, a)
	}
	if e.runsOn(ctx, a) {
		return e.leaveRunning(ctx, a)
	}
	begun := time.Now()
	from, _ := e.state.treeNamed(a.From)
	back := "back to " + a.From
	if from.Drift != nil {
		// What ran before is better than nothing.
		a.Note = fmt.Sprintf("%s, which runs again, was changed on this server: %s", a.From, from.Drift)
		back += ", though it was changed on this server"
	}
	e.step(a, deployment.RollBack, deployment.Started, back)
	var before deployment.UnitState
	err := again(ctx, func() error {
		var unseen error
		before, unseen = e.Service.State(ctx)
		// Whoever starts the unit next, it is the old release that is started; no bus is needed for that.
		if err := e.point(a.From); err != nil {
			return err
		}
		if unseen != nil {
			return outOfReach{unseen}
		}
		return e.restart(ctx)
	})
	if err == nil {
		report := func(s string) { e.step(a, deployment.RollBack, deployment.Progress, s) }
		err = e.Check(ctx, before, from.Hash, report)
	}
	if err != nil && e.Service.GoingDown(ctx) {
		return "", errDown
	}
	if err != nil {
		lines, _ := e.Service.Log(ctx, logLines)
		e.emit(a, deployment.Event{Step: deployment.RollBack, State: deployment.StepFail, Message: err.Error(), Log: lines})
		if guilty(err) {
			if cerr := e.change(func(l *ledger) { l.unwell(a.From) }); cerr != nil {
				e.Log.Error("write state", "app", e.Key, "error", cerr)
			}
		}
		return e.end(a, deployment.Broken, fmt.Sprintf("%s; then the previous release %s: %v", a.Failure, release.ShortHash(from.Hash), err))
	}
	e.stepTook(a, deployment.RollBack, time.Since(begun))
	if a.Made {
		e.discardTree(a)
	}
	if a.Blameless {
		return e.end(a, deployment.Failed, a.Failure)
	}
	return e.end(a, deployment.RolledBack, a.Failure)
}

// runsOn reports whether the unit still runs what it ran before the deployment: nobody has restarted it since.
func (e *Engine) runsOn(ctx context.Context, a *attempt) bool {
	if !a.Untouched {
		return false
	}
	now, err := e.Service.State(ctx)
	return err != nil || a.Invocation == "" || now.Invocation == a.Invocation
}

// leaveRunning ends a deployment whose release the unit was never restarted for: only current has to lead back.
func (e *Engine) leaveRunning(ctx context.Context, a *attempt) (deployment.Outcome, error) {
	e.step(a, deployment.RollBack, deployment.Started, "back to "+a.From+", which was not restarted and runs on")
	if err := again(ctx, func() error { return e.point(a.From) }); err != nil {
		e.step(a, deployment.RollBack, deployment.StepFail, err.Error())
		return e.end(a, deployment.Broken, fmt.Sprintf("%s; the previous release runs on, but: %v", a.Failure, err))
	}
	e.step(a, deployment.RollBack, deployment.Done, "")
	if a.Made {
		e.discardTree(a)
	}
	return e.end(a, deployment.Failed, a.Failure)
}

const (
	undoTries = 3
	undoPause = 200 * time.Millisecond
	undoMost  = 2 * time.Second // between two tries
	undoFor   = time.Minute     // that a service manager may be out of reach
)

// again does what puts the old state back up to three times, unless the release itself says no: one that failed is not
// left live for a disk or a bus that stumbled once. A service manager that cannot be reached is waited for.
func again(ctx context.Context, do func() error) error {
	begun, pause := time.Now(), undoPause
	for try := 1; ; try++ {
		err := do()
		away := away(err) && time.Since(begun) < undoFor
		if err == nil || guilty(err) || !away && (try >= undoTries || impossible(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, undoMost)
	}
}

// outOfReach is a service manager that does not say what the unit is doing.
type outOfReach struct{ error }

func (o outOfReach) Unwrap() error { return o.error }

// Away is true.
func (outOfReach) Away() bool { return true }

// away reports errors of a service manager that was not to be reached.
func away(err error) bool {
	var a interface{ Away() bool }
	return errors.As(err, &a) && a.Away()
}

// rollBackToNothing undoes a first release: the unit is stopped and nothing is live, as before.
func (e *Engine) rollBackToNothing(ctx context.Context, a *attempt) (deployment.Outcome, error) {
	e.step(a, deployment.RollBack, deployment.Started, "there is no previous release; stopping")
	var err error
	stopped := "stopped"
	if e.runsOn(ctx, a) {
		stopped = "it was never started"
	} else {
		err = e.Service.Stop(ctx)
	}
	cerr := again(ctx, e.Tree.Clear)
	if cerr == nil {
		e.mu.Lock()
		e.state.Live = ""
		e.mu.Unlock()
	}
	if err == nil {
		err = cerr
	}
	if err != nil {
		e.step(a, deployment.RollBack, deployment.StepFail, err.Error())
		if a.Blameless && impossible(err) {
			return e.end(a, deployment.Failed, a.Failure)
		}
		return e.end(a, deployment.Broken, fmt.Sprintf("%s; and stopping it: %v", a.Failure, err))
	}
	e.step(a, deployment.RollBack, deployment.Done, stopped)
	if a.Made {
		e.discardTree(a)
	}
	return e.end(a, deployment.Failed, a.Failure+"; there is no previous release to go back to, so the app is stopped")
}

// discardTree undoes unpack. The tree goes out of the ledger first: a crash between leaves a directory that Sweep removes.
func (e *Engine) discardTree(a *attempt) {
	name := a.To
	e.fresh = nil
	err := e.change(func(l *ledger) { l.dropTree(name) })
	if err == nil {
		err = e.Tree.Remove(name)
	}
	if err != nil {
		e.Log.Warn("remove release", "app", e.Key, "release", name, "error", err)
	}
	e.keepListings()
}

// recover puts the disk in order before the first look and counts the interruption of an attempt that was under way.
func (e *Engine) recover() {
	if e.locked != nil {
		return
	}
	if !e.state.awaits() {
		e.mu.Lock()
		e.state.Begun = nil
		e.mu.Unlock()
	}
	if err := e.Tree.Sweep(func(name string) bool { _, ok := e.state.treeNamed(name); return ok }, e.state.Begun != nil); err != nil {
		e.Log.Warn("sweep", "app", e.Key, "error", err)
	}
	e.keepListings()
	a := e.state.Attempt
	// What has been unpacked is not wanted any more; that it was deleted may not have outlived a power cut.
	if a == nil || a.Phase != deployment.Fetch && a.Phase != deployment.Unpack {
		if err := e.Tree.ClearIncoming(); err != nil {
			e.Log.Warn("clear incoming", "app", e.Key, "error", err)
		}
	}
	if a == nil {
		return
	}
	e.Log.Info("taking up an interrupted deployment", "app", e.Key, "deployment", a.ID, "step", a.Phase)
	err := e.change(func(*ledger) {
		a.Interruptions++
		if a.Interruptions > maxInterruptions && a.Failure == "" {
			a.Failure, a.Blameless = fmt.Sprintf("interrupted %d times in a row", maxInterruptions), true
		}
	})
	if err != nil {
		e.Log.Error("write state", "app", e.Key, "error", err)
	}
	for _, ev := range a.Events { // so that whoever follows sees the whole story
		e.OnEvent(ev)
	}
	e.step(a, a.Phase, deployment.Progress, "the agent was restarted; going on")
}
