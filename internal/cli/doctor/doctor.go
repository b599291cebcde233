// Package doctor looks at everything that a deployment needs and says, line by line, what is as it should be, what is not,
// and the command that mends it.
//
// Parties: the command line reads the configuration and hands in how its agent, its units and its grants are asked
// (Machine); a server's half (Server) looks at the machine, at the agent and at the bucket with the agent's key; the
// publisher's half (Bucket) at the bucket with the key of CI. A person reads the Report, or a monitor its JSON.
//
// Invariants. Nothing is changed: what is tried in the bucket is tried under a condition that cannot come true, with the very
// bytes that are there, and only once the store was seen to mind conditions. What could not be looked at is never ok: it is a
// warning that says so. Every line that is not ok carries its fix.
package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/release"
)

// Level is how a check ended.
type Level string

// The levels, best first.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, or could not be looked at
	Fail Level = "fail" // a deployment would fail, or somebody may do what they must not
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"name"`          // what was looked at; the same in every report
	App   string `json:"app,omitempty"` // by its key in the configuration; empty: it concerns all
	Level Level  `json:"level"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"` // a command to paste; always there when the level is not ok
}

// Report is all that was found.
type Report struct {
	Level  Level   `json:"level"` // the worst of all
	Server string  `json:"server,omitempty"`
	OK     int     `json:"ok"`
	Warn   int     `json:"warn"`
	Fail   int     `json:"fail"`
	Checks []Check `json:"checks"`
}

// NewReport returns an empty report.
func NewReport(server string) *Report { return &Report{Level: OK, Server: server, Checks: []Check{}} }

// add takes one finding into the report. Texts come from buckets, units and agents, so that they are cleaned.
func (r *Report) add(c Check) {
	c.Found, c.Fix = release.CleanText(c.Found, 1000), release.CleanText(c.Fix, 1000)
	switch c.Level {
	case OK:
		r.OK++
	case Warn:
		r.Warn++
		if r.Level == OK {
			r.Level = Warn
		}
	default:
		r.Fail++
		r.Level = Fail
	}
	r.Checks = append(r.Checks, c)
}

// topic is where the findings of one app, or of the whole server, go.
type topic struct {
	r   *Report
	app string
}

func (t topic) ok(name, format string, args ...any) {
	t.r.add(Check{Name: name, App: t.app, Level: OK, Found: fmt.Sprintf(format, args...)})
}

func (t topic) warn(name, fix, format string, args ...any) {
	t.r.add(Check{Name: name, App: t.app, Level: Warn, Found: fmt.Sprintf(format, args...), Fix: fix})
}

func (t topic) fail(name, fix, format string, args ...any) {
	t.r.add(Check{Name: name, App: t.app, Level: Fail, Found: fmt.Sprintf(format, args...), Fix: fix})
}

// unseen says that nothing is known.
func (t topic) unseen(name, fix, format string, args ...any) {
	t.warn(name, fix, "not looked at: "+format, args...)
}

// Add takes a finding of the caller's into the report.
func (r *Report) Add(c Check) { r.add(c) }

// ago is a span for people.
func ago(d time.Duration) string {
	switch d = d.Abs(); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// word is one word of a command to paste.
func word(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@+,=", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
