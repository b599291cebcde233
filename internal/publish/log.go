package publish

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/release"
)

// Log is where a run tells its story, line by line as it happens. It may be called from several goroutines.
type Log interface {
	Phase(name string)                 // opens a phase and ends the one before; an empty name only ends it
	Line(tone Tone, text string)       // one line of our own words
	Quote(tone Tone, who, text string) // one line that a server or a commit wrote: untrusted, already free of control characters
	Warn(text string)
	Debug(text string)
}

// TextLog writes the story as plain text, for terminals and other CI systems.
type TextLog struct {
	mu      sync.Mutex
	w       io.Writer
	verbose bool
	colors  bool
}

// NewTextLog writes to w; Debug lines only when verbose.
func NewTextLog(w io.Writer, verbose, colors bool) *TextLog {
	return &TextLog{w: w, verbose: verbose, colors: colors}
}

func (l *TextLog) print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}

func (l *TextLog) paint(tone Tone, text string) string {
	if !l.colors {
		return text
	}
	return tone.Paint(text)
}

// Phase implements Log.
func (l *TextLog) Phase(name string) {
	if name != "" {
		l.print("%s", name)
	}
}

// Line implements Log.
func (l *TextLog) Line(tone Tone, text string) { l.print("  %s", l.paint(tone, harmless(text))) }

// Quote implements Log.
func (l *TextLog) Quote(tone Tone, who, text string) {
	l.print("  %s  %s", l.paint(Name, harmless(who)), l.paint(tone, harmless(text)))
}

// Warn implements Log.
func (l *TextLog) Warn(text string) { l.print("%s %s", l.paint(Careful, "warning:"), harmless(text)) }

// harmless takes from a text what a GitHub runner obeys anywhere in a line: this may be a step of a workflow.
func harmless(text string) string { return strings.ReplaceAll(text, "##[", "## [") }

// Debug implements Log.
func (l *TextLog) Debug(text string) {
	if l.verbose {
		l.print("debug: %s", text)
	}
}

const (
	meterEvery = 10 * time.Second // at least so often something is said
	meterRests = time.Second      // tenths of what takes a moment are noise
)

// meter tells of progress at every tenth of the whole and every ten seconds: a fast transfer prints few lines and a slow
// one, or one that stands still, stays alive.
type meter struct {
	log     Log
	what    string
	started time.Time
	stop    func()

	mu     sync.Mutex
	done   int64 // bytes
	total  int64 // bytes; 0 when unknown
	told   time.Time
	tenths int64
	ended  bool
}

// newMeter starts a meter; end must be called.
func newMeter(log Log, what string, total int64) *meter {
	now := time.Now()
	m := &meter{log: log, what: what, total: total, started: now, told: now}
	ended, finished := make(chan struct{}), make(chan struct{})
	m.stop = sync.OnceFunc(func() {
		close(ended)
		<-finished
	})
	go func() {
		defer close(finished)
		tick := time.NewTicker(meterRests)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				m.say()
			}
		}
	}()
	return m
}

// end stops the meter; nothing is said after it.
func (m *meter) end() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.stop()
}

// at is told the bytes done so far, and the whole where that is known by now.
func (m *meter) at(done, total int64) {
	m.mu.Lock()
	m.done, m.total = done, max(m.total, total)
	m.mu.Unlock()
	m.say()
}

func (m *meter) say() {
	m.mu.Lock()
	defer m.mu.Unlock()
	since := time.Since(m.told)
	tenths := m.tenths
	if m.total > 0 {
		tenths = m.done * 10 / m.total
	}
	if m.ended || since < meterRests || since < meterEvery && tenths == m.tenths || m.done > 0 && m.done == m.total {
		return
	}
	m.told, m.tenths = time.Now(), tenths
	text := m.what + " " + Bytes(m.done)
	if m.total > 0 {
		text += fmt.Sprintf(" of %s, %d %%", Bytes(m.total), m.done*100/m.total)
	}
	m.log.Line(Faint, text+", after "+Took(time.Since(m.started)))
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

// Count is n with its noun: 1 entry, 2 entries.
func Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func short(version string) string { return release.ShortHash(version) }
