package health

import (
	"context"
	"fmt"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// look asks for the unit's state. Not getting an answer is no verdict: the next look may.
func (w *watch) look(ctx context.Context) error {
	if w.Unit == nil {
		w.rise(deployment.UnitState{})
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	st, err := w.Unit(limited)
	if ctx.Err() != nil {
		return fmt.Errorf("health check: %w", ctx.Err())
	}
	w.unitErr = err
	if err != nil {
		w.say("cannot see the unit: %s", err)
		return nil
	}
	w.unit = st
	switch {
	case !st.Managed:
		w.rise(st)
	case w.upAt.IsZero():
		return w.awaitActive(st)
	default:
		return w.keepActive(st)
	}
	return nil
}

// rise begins the soak.
func (w *watch) rise(st deployment.UnitState) {
	if w.upAt.IsZero() {
		w.upAt, w.active = time.Now(), st
	}
}

// awaitActive judges a unit that was not yet seen active in its new invocation.
func (w *watch) awaitActive(st deployment.UnitState) error {
	fresh := st.Invocation != "" && st.Invocation != w.before.Invocation
	switch {
	case st.Active == "inactive", st.Active == "failed":
		// Also without a new invocation: a start that was refused makes none, and a unit that ended and was
		// unloaded has lost it. Restart has returned before, so nothing is still to come.
		return w.fail("%s", describe(st))
	case !fresh:
		w.say("waiting: unit was not restarted yet")
	case waitsForRestart(st):
		return w.fail("%s", describe(st))
	case st.Restarts > 0:
		return w.fail("unit's main process ended and was %s", restarted(st))
	case st.Active == "active" && st.Sub == "exited" && st.Type != "oneshot":
		return w.fail("%s: the main process is gone (RemainAfterExit=yes hides it)", describe(st))
	case active(st):
		w.rise(st)
		if st.MainPID > 0 {
			w.say("unit is running, pid %d", st.MainPID)
		} else {
			w.say("unit is active (%s)", st.Sub)
		}
	default:
		w.say("waiting: %s", describe(st))
	}
	return nil
}

// keepActive judges a unit in its soak: any change of process is a failure.
func (w *watch) keepActive(st deployment.UnitState) error {
	after := time.Since(w.upAt).Round(100 * time.Millisecond)
	switch {
	case waitsForRestart(st), !active(st):
		return w.fail("%s, %s after it was up", describe(st), after)
	case st.Restarts > w.active.Restarts:
		return w.fail("unit's main process ended and was %s, %s after it was up", restarted(st), after)
	case st.Invocation != w.active.Invocation:
		return w.fail("unit was restarted by somebody else, %s after it was up", after)
	case st.Sub == "exited" && st.Type != "oneshot":
		return w.fail("%s: the main process is gone (RemainAfterExit=yes hides it)", describe(st))
	case w.active.MainPID == 0:
		w.active.MainPID = st.MainPID // Type=forking without a PID file: systemd may still be guessing
	case st.MainPID != w.active.MainPID:
		return w.fail("main process changed from pid %d to %d, %s after it was up", w.active.MainPID, st.MainPID, after)
	}
	return nil
}

// active reports whether the unit does its work; one that reloads does.
func active(st deployment.UnitState) bool {
	return st.Active == "active" || st.Active == "reloading" || st.Active == "refreshing"
}

// restarted says how often systemd has started the unit again.
func restarted(st deployment.UnitState) string {
	if st.Restarts == 1 {
		return "restarted once"
	}
	return fmt.Sprintf("restarted %d times", st.Restarts)
}
