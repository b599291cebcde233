package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// afterwards is the time for looking at a unit when the caller's time is up.
const afterwards = 5 * time.Second

// Systemd is a unit of the system's service manager, reached by D-Bus: as root over systemd's own socket, otherwise
// over the system bus, where polkit decides about every verb. The connection is made when it is first needed and made
// again after it broke. A Systemd is safe for concurrent use.
type Systemd struct {
	unit string
	log  *slog.Logger
	bus  bus

	mu   sync.Mutex
	old  deployment.UnitState // what the last Restart ended: its lines are not wanted any more
	when time.Time            // of the last Restart; zero before
}

// NewSystemd returns the unit of that name, which need not exist yet; see Check. Close frees its connection.
func NewSystemd(unit string, log *slog.Logger) (*Systemd, error) {
	if err := release.CheckUnit(unit); err != nil {
		return nil, err
	}
	return &Systemd{unit: unit, log: log, bus: bus{dial: dial}}, nil
}

// Close drops the connection. The Systemd stays usable: the next call connects again.
func (s *Systemd) Close() { s.bus.drop(nil) }

// Check reports whether systemd can start the unit at all. A unit that it does not know is fs.ErrNotExist.
func (s *Systemd) Check(ctx context.Context) error {
	props, err := s.bus.properties(ctx, s.unit)
	if err != nil {
		return fmt.Errorf("check %s: %w", s.unit, err)
	}
	reload, _ := props["NeedDaemonReload"].(bool)
	switch state, _ := props["LoadState"].(string); state {
	case "loaded":
		if reload {
			s.log.Warn("unit file changed on disk: run systemctl daemon-reload", "unit", s.unit)
		}
		return nil
	case "not-found":
		return fmt.Errorf("check %s: no such unit: write /etc/systemd/system/%s, then run systemctl daemon-reload: %w",
			s.unit, s.unit, fs.ErrNotExist)
	case "masked":
		return fmt.Errorf("check %s: the unit is masked: run systemctl unmask %s", s.unit, s.unit)
	default: // bad-setting, error
		return fmt.Errorf("check %s: systemd cannot load the unit (%s%s): run systemd-analyze verify %s",
			s.unit, state, loadError(props), s.unit)
	}
}

// loadError is the message of the LoadError property, led by a colon, or empty.
func loadError(props map[string]any) string {
	if e, ok := props["LoadError"].([]any); ok && len(e) == 2 {
		if text, _ := e[1].(string); text != "" {
			return ": " + text
		}
	}
	return ""
}

// Restart clears the unit's failures, because its start limit counts manual restarts too, then restarts it and waits
// for the end of the job. When ctx ends first the job goes on without us, and the error wraps ctx's. What State counts as
// restarts afterwards are those of what the job has started.
func (s *Systemd) Restart(ctx context.Context) error { return s.restart(ctx, "restart") }

// restart is Restart under the name op.
func (s *Systemd) restart(ctx context.Context, op string) error {
	old, err := s.State(ctx)
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, s.unit, &refusal{err: err, untouched: true})
	}
	s.mu.Lock()
	s.old, s.when = old, time.Now()
	s.mu.Unlock()

	switch err := s.bus.resetFailed(ctx, s.unit); {
	case err == nil, errorName(err) == "org.freedesktop.systemd1.NoSuchUnit":
	default:
		return fmt.Errorf("%s %s: %w", op, s.unit, &refusal{err: s.explain("reset-failed", err), untouched: true})
	}
	result, err := s.bus.job(ctx, s.unit, "restart")
	if err := s.outcome(ctx, op, "restart", result, err); err != nil {
		return err
	}
	s.uncount(ctx)
	return nil
}

// uncount clears the count of automatic restarts once more where what ran before was still crashing between the first time
// and the job: a job that meets the unit waiting for its next start leaves the count as it is. A unit that is not up keeps
// it, and the reason that would be cleared with it. A restart of the new process in this moment is forgotten too; if that
// process is no good, there will be another.
func (s *Systemd) uncount(ctx context.Context) {
	st, err := s.State(ctx)
	if err == nil && st.Restarts > 0 && st.Active == "active" {
		err = s.bus.resetFailed(ctx, s.unit)
	}
	if err != nil {
		s.log.Warn("restarts of what ran before may be counted", "unit", s.unit, "error", err)
	}
}

// Stop stops the unit and waits for the end of the job. A unit that does not run or does not exist is no error.
func (s *Systemd) Stop(ctx context.Context) error {
	result, err := s.bus.job(ctx, s.unit, "stop")
	if errorName(err) == "org.freedesktop.systemd1.NoSuchUnit" {
		return nil
	}
	return s.outcome(ctx, "stop", "stop", result, err)
}

// outcome turns the end of a job into an error that says what became of the unit.
func (s *Systemd) outcome(ctx context.Context, op, verb, result string, err error) error {
	var refused *refusal
	if errors.As(err, &refused) {
		return fmt.Errorf("%s %s: %w", op, s.unit, &refusal{err: s.explain(verb, refused.err), untouched: refused.untouched})
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	state, stateErr := s.State(look)
	is := describe(state)
	if stateErr != nil {
		is = "its state is unknown: " + stateErr.Error()
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: not finished in time, %s: %w", op, s.unit, is, ctx.Err())
	case result != "done":
		return fmt.Errorf("%s %s: job %s, %s", op, s.unit, result, is)
	}
	return nil
}

// explain adds to an answer of systemd what a person can do about it.
func (s *Systemd) explain(verb string, err error) error {
	switch errorName(err) {
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return fmt.Errorf("access denied: no polkit rule grants this user org.freedesktop.systemd1.manage-units "+
			"with unit %s and verb %s; towline app add writes one: %w", s.unit, verb, fs.ErrPermission)
	case "org.freedesktop.systemd1.NoSuchUnit":
		return fmt.Errorf("no such unit: %w", fs.ErrNotExist)
	case "org.freedesktop.systemd1.UnitMasked":
		return fmt.Errorf("%w: run systemctl unmask %s", errMasked, s.unit)
	}
	return err
}

// errorName is the D-Bus name of an error, empty for others.
func errorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}

// State returns the unit as it is now, in one D-Bus call, so that its fields belong together. A unit that systemd
// does not know is inactive without an invocation.
func (s *Systemd) State(ctx context.Context) (deployment.UnitState, error) {
	props, err := s.bus.properties(ctx, s.unit)
	if err != nil {
		return deployment.UnitState{}, fmt.Errorf("state of %s: %w", s.unit, err)
	}
	return unitState(props), nil
}

// unitState picks the fields out of a unit's D-Bus properties.
func unitState(props map[string]any) deployment.UnitState {
	st := deployment.UnitState{Managed: true}
	st.Active, _ = props["ActiveState"].(string)
	st.Sub, _ = props["SubState"].(string)
	st.Result, _ = props["Result"].(string)
	st.Type, _ = props["Type"].(string)
	if pid, ok := props["MainPID"].(uint32); ok {
		st.MainPID = int(pid)
	}
	if code, ok := props["ExecMainStatus"].(int32); ok {
		st.ExitCode = int(code)
	}
	if n, ok := props["NRestarts"].(uint32); ok {
		st.Restarts = int(n)
	}
	if id, ok := props["InvocationID"].([]byte); ok && len(id) > 0 {
		st.Invocation = fmt.Sprintf("%x", id)
	}
	return st
}

// describe says in a few words what the unit is doing, and why.
func describe(st deployment.UnitState) string {
	text := fmt.Sprintf("unit is %s (%s)", st.Active, st.Sub)
	switch st.Result {
	case "", "success":
	case "exit-code":
		text += fmt.Sprintf(", exited with status %d%s", st.ExitCode, exitMeaning(st.ExitCode))
	case "signal", "core-dump":
		text += fmt.Sprintf(", killed by signal %d (%s)", st.ExitCode, syscall.Signal(st.ExitCode))
	default:
		text += ", result " + st.Result
	}
	return text
}

// exitMeaning explains the statuses with which systemd itself ends a process that it could not start.
func exitMeaning(code int) string {
	switch code {
	case 200:
		return " (CHDIR: the working directory cannot be entered)"
	case 203:
		return " (EXEC: the program is missing or cannot be executed)"
	case 217:
		return " (USER: the user does not exist)"
	case 226:
		return " (NAMESPACE: a path of the sandbox is missing)"
	}
	return ""
}

// RunInstance runs a oneshot unit, towline-app-NAME@before-activate.service and the like, and returns the last lines,
// at most 40, that its processes wrote. One that runs already is ended and run afresh: it belongs to an interrupted
// deployment. A non-zero exit is an error that names the status; when ctx ends, the unit is stopped.
func (s *Systemd) RunInstance(ctx context.Context, unit string) ([]string, error) {
	inst, err := NewSystemd(unit, s.log)
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	err = inst.restart(ctx, "run")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	if ctx.Err() != nil && err != nil {
		if stopErr := inst.Stop(look); stopErr != nil {
			err = fmt.Errorf("%w; and it still runs: %w", err, stopErr)
		}
	}
	out, logErr := inst.output(look, keepLines, err != nil)
	if logErr != nil {
		out = []string{logErr.Error()} // the run counts, not what can be read of it
	}
	return out, err
}
