package publish

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/release"
)

// Log is where a run tells its story, line by line as it happens. The engine calls it from one goroutine at a time;
// what may itself be called from several says so.
type Log interface {
	Phase(name string)      // opens a phase and ends the one before; an empty name only ends it
	Line(text string)       // one line of our own words
	Quote(who, text string) // one line that a server or a commit wrote: untrusted, already free of control characters
	Warn(text string)
	Debug(text string)
}

// TextLog writes the story as plain text, for terminals and other CI systems. It may be used from several goroutines.
type TextLog struct {
	mu      sync.Mutex
	w       io.Writer
	verbose bool
}

// NewTextLog writes to w; Debug lines only when verbose.
func NewTextLog(w io.Writer, verbose bool) *TextLog { return &TextLog{w: w, verbose: verbose} }

func (l *TextLog) print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}

// Phase implements Log.
func (l *TextLog) Phase(name string) {
	if name != "" {
		l.print("%s", name)
	}
}

// Line implements Log.
func (l *TextLog) Line(text string) { l.print("  %s", text) }

// Quote implements Log.
func (l *TextLog) Quote(who, text string) { l.print("  %s  %s", who, text) }

// Warn implements Log.
func (l *TextLog) Warn(text string) { l.print("warning: %s", text) }

// Debug implements Log.
func (l *TextLog) Debug(text string) {
	if l.verbose {
		l.print("debug: %s", text)
	}
}

// meter tells of progress at every tenth of the whole, or every ten seconds, whichever comes later in words: a fast
// transfer prints few lines and a slow one stays alive.
type meter struct {
	log     Log
	what    string
	total   int64 // bytes; 0 when unknown
	started time.Time
	told    time.Time
	tenths  int64
}

func newMeter(log Log, what string, total int64) *meter {
	now := time.Now()
	return &meter{log: log, what: what, total: total, started: now, told: now}
}

// at is called with the bytes done so far, from one goroutine at a time.
func (m *meter) at(done int64) {
	now := time.Now()
	quick := now.Sub(m.told) < time.Second // tenths of a transfer that takes a moment are noise
	slow := now.Sub(m.told) >= 10*time.Second
	tenths := m.tenths
	if m.total > 0 {
		tenths = done * 10 / m.total
	}
	if !slow && (quick || tenths == m.tenths) || done == m.total {
		return
	}
	m.told, m.tenths = now, tenths
	text := fmt.Sprintf("%s %s", m.what, Bytes(done))
	if m.total > 0 {
		text += fmt.Sprintf(" of %s, %d %%", Bytes(m.total), done*100/m.total)
	}
	m.log.Line(text)
}

// Bytes is n for people: 812 B, 3.4 KiB, 12 MiB.
func Bytes(n int64) string {
	v, unit := float64(n), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	switch {
	case unit == "":
		return fmt.Sprintf("%d B", n)
	case v < 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// Took is d for people: 85 ms, 1.4 s, 2m10s.
func Took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// clean makes one harmless line of text that came from elsewhere; white space at its start is kept, for logs.
func clean(s string, n int) string {
	indent := len(s) - len(strings.TrimLeft(s, " "))
	return strings.Repeat(" ", min(indent, 16)) + release.CleanText(s, n)
}

// Count is n with its noun: 1 entry, 2 entries.
func Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func short(version string) string { return release.ShortHash(version) }
