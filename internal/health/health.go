// Package health decides whether a release that was just activated works: the gate between activate and confirm.
//
// Two witnesses are heard at the same time. The unit, where there is one, must be seen running in a new invocation
// and stay the same process for the soak: a restart that succeeded proves nothing, and a unit with Restart=always
// may crash for ever without once being "failed". The probe ([HTTP], [TCP], [Exec]) asks the app itself.
//
// Only what they say counts against the release. Trouble with asking, such as a service manager that does not answer,
// and the end of the context are plain errors; a verdict is a *[Failure].
package health

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"unicode"

	"github.com/towline/towline/internal/deployment"
)

// Probe asks the app once whether it works. The detail says what was seen, in one line; it is for people and is empty
// where there is nothing to say. Try returns soon after ctx ends. A Gate never runs two attempts at the same time.
type Probe interface {
	Try(ctx context.Context) (detail string, err error)
}

// Failure is the verdict against a release.
type Failure struct {
	Reason   string               // the one thing that decided, in one line
	Attempts []string             // the last probe attempts, equal ones in a row taken together, oldest first
	Unit     deployment.UnitState // as last seen; the zero state without a unit
}

// Error returns the reason.
func (f *Failure) Error() string { return f.Reason }

// ReleaseFault marks the failure as a verdict about the release, unlike errors that only say that nobody could tell.
func (f *Failure) ReleaseFault() bool { return true }

// shown is how much of a foreign text is shown, in runes.
const shown = 200

// excerpt makes the beginning of a foreign text fit to be shown in one line.
func excerpt(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r)
	}), " ")
	if runes := []rune(text); len(runes) > shown {
		return string(runes[:shown]) + "…"
	}
	return text
}

// describe says what became of a unit that does not run as it should.
func describe(st deployment.UnitState) string {
	var text string
	switch st.Result {
	case "exit-code":
		text = fmt.Sprintf("unit exited with status %d (exit-code)%s", st.ExitCode, exitMeaning(st.ExitCode))
	case "signal", "core-dump":
		text = fmt.Sprintf("unit was killed by signal %d (%s)", st.ExitCode, syscall.Signal(st.ExitCode))
	case "start-limit-hit":
		text = "unit was not started: start limit hit"
	case "timeout":
		text = "unit did not start or stop within its own time limit (timeout)"
	case "oom-kill":
		text = "unit was killed for lack of memory (oom-kill)"
	case "watchdog":
		text = "unit missed its watchdog"
	case "", "success":
		switch {
		case st.Active == "active" && st.Sub == "running":
			text = "unit is running"
		case st.Type == "oneshot" && st.Active == "inactive":
			text = "oneshot unit ended and is inactive: set RemainAfterExit=yes"
		case st.Active == "deactivating" && (st.MainPID > 0 || st.ExitCode != 0):
			text = "unit is stopping (" + st.Sub + ")"
		case st.Active == "activating" && !waitsForRestart(st):
			text = "unit is still starting (" + st.Sub + ")"
		default:
			// Also while what a program has left behind is being ended: nobody asked for that, the program itself has ended.
			text = "unit exited with status 0 and is " + st.Active
			if st.Type == "simple" || st.Type == "exec" {
				text += ": a program that puts itself in the background needs Type=forking"
			}
		}
	default:
		text = fmt.Sprintf("unit is %s (%s), result %s", st.Active, st.Sub, st.Result)
	}
	switch {
	case st.Restarts == 1:
		text += ", restarted once"
	case st.Restarts > 1:
		text += fmt.Sprintf(", restarted %d times", st.Restarts)
	}
	return text
}

// exitMeaning explains the statuses with which systemd itself ends a process that it could not start.
func exitMeaning(code int) string {
	switch code {
	case 200:
		return ": the working directory cannot be entered"
	case 203:
		return ": the program is missing or cannot be executed"
	case 217:
		return ": the user does not exist"
	case 226:
		return ": a path of the sandbox is missing"
	}
	return ""
}

// waitsForRestart reports whether the unit crashed and systemd is about to start it again.
func waitsForRestart(st deployment.UnitState) bool {
	return strings.Contains(st.Sub, "auto-restart")
}
