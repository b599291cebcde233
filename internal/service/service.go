// Package service restarts and watches what runs an app: a systemd unit by D-Bus ([Systemd]), a command of the
// administrator ([Command]), or nothing at all ([None], static files).
//
// All three have the same four methods: Restart, Stop, State and Log. Restart returns when the service manager has
// finished the job, which proves little: a unit of Type=simple whose program is missing restarts without an error.
// Whether the new release works is the health check's question; State gives it what it needs, one consistent snapshot
// a call.
//
// Errors fit the standard sentinels: fs.ErrNotExist for a unit that systemd does not know, fs.ErrPermission where
// polkit refuses, the context's own error where time ran out. What a service wrote comes back as lines that are
// valid UTF-8 without control characters, at most 500 runes each.
package service

import (
	"context"
	"regexp"
	"strings"
	"unicode"

	"github.com/towline/towline/internal/deployment"
)

// None is the service of an app that needs no restart. Its methods do nothing and succeed.
type None struct{}

// Restart does nothing.
func (None) Restart(context.Context) error { return nil }

// Stop does nothing.
func (None) Stop(context.Context) error { return nil }

// State returns the zero state: no unit.
func (None) State(context.Context) (deployment.UnitState, error) {
	return deployment.UnitState{}, nil
}

// Log returns no lines.
func (None) Log(context.Context, int) ([]string, error) { return nil, nil }

// maxLine is the length in runes at which a line of output is cut.
const maxLine = 500

// escapes matches terminal control sequences, which programs write to colour their output.
var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]`)

// clean makes one line of a foreign program's output safe to show anywhere.
func clean(line string) string {
	line = escapes.ReplaceAllString(strings.ToValidUTF8(line, "\uFFFD"), "")
	line = strings.TrimRightFunc(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, line), unicode.IsSpace)
	if runes := []rune(line); len(runes) > maxLine {
		return string(runes[:maxLine-1]) + "…"
	}
	return line
}
