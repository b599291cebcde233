package action

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/sethvargo/go-githubactions"

	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

const maxAnnotations = 10 // the page shows no more of a kind

// log tells a run's story to the runner: a group for each phase, workflow commands for what must be seen. It may be
// used from several goroutines.
type log struct {
	mu       sync.Mutex
	out      io.Writer
	action   *githubactions.Action
	grouped  bool
	stopped  string // token that starts command processing again; empty while it runs
	warnings int
	errors   int
	colors   bool
	debug    bool // the runner's own switch
}

// newLog writes to a runner, whose page shows colours although it is no terminal. NO_COLOR turns them off, as everywhere.
func newLog(out io.Writer, getenv func(string) string) *log {
	return &log{
		out: out, action: githubactions.New(githubactions.WithWriter(out), githubactions.WithGetenv(getenv)),
		colors: getenv("GITHUB_ACTIONS") == "true" && getenv("NO_COLOR") == "", debug: getenv("RUNNER_DEBUG") == "1",
	}
}

func (l *log) paint(tone publish.Tone, text string) string {
	if !l.colors {
		return text
	}
	return tone.Paint(text)
}

// command prints a workflow command, having started command processing again if need be.
func (l *log) command(print func(*githubactions.Action)) {
	if l.stopped != "" {
		l.action.IssueCommand(&githubactions.Command{Name: l.stopped})
		l.stopped = ""
	}
	print(l.action)
}

// Phase implements publish.Log.
func (l *log) Phase(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grouped {
		l.command(func(a *githubactions.Action) { a.EndGroup() })
	}
	if l.grouped = name != ""; l.grouped {
		l.command(func(a *githubactions.Action) { a.Group(name) })
	}
}

// Line implements publish.Log. Our own words hold names and numbers that were checked, but they stand behind a
// stopped processor or begin with a letter all the same.
func (l *log) Line(tone publish.Tone, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(text, "::") || strings.Contains(text, "##[") {
		l.stop()
	}
	fmt.Fprintln(l.out, l.paint(tone, text))
}

// Quote implements publish.Log: commands are stopped by a word that nobody can guess while others' text is printed.
func (l *log) Quote(tone publish.Tone, who, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	name := fmt.Sprintf("%-*s", min(len([]rune(who)), 100), release.CleanLine(who, 4096)) // padded, as it came
	fmt.Fprintf(l.out, "%s  %s\n", l.paint(publish.Name, name), l.paint(tone, strings.TrimRight(release.CleanLine(text, 4096), " ")))
}

// Foreign prints lines that hold others' words as they are, to be copied, while commands are stopped.
func (l *log) Foreign(lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	for _, line := range lines {
		fmt.Fprintln(l.out, release.CleanLine(line, 4096))
	}
}

func (l *log) stop() {
	if l.stopped == "" {
		l.stopped = "towline-" + rand.Text()
		l.action.IssueCommand(&githubactions.Command{Name: "stop-commands", Message: l.stopped})
	}
}

// clean is the text of an annotation: one line without control characters, no longer than the page shows.
func clean(text string) string { return release.CleanText(text, 4096) }

// Warn implements publish.Log. After ten annotations the rest are lines.
func (l *log) Warn(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.warnings++; l.warnings > maxAnnotations {
		l.stop()
		fmt.Fprintln(l.out, "warning: "+clean(text))
		return
	}
	l.command(func(a *githubactions.Action) { a.Warningf("%s", clean(text)) })
}

// Error is an annotation with the likely fix, unless there were ten.
func (l *log) Error(text, hint string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.errors++; l.errors > maxAnnotations {
		return
	}
	if text = clean(text); hint != "" {
		text += "\nhint: " + hint
	}
	l.command(func(a *githubactions.Action) { a.Errorf("%s", text) })
}

// Notice is an annotation that is neither warning nor error.
func (l *log) Notice(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.command(func(a *githubactions.Action) { a.Noticef("%s", clean(text)) })
}

// Debug implements publish.Log. The runner shows these lines when debug logging is on, and without it the words that let
// commands through for them would be all that is seen.
func (l *log) Debug(text string) {
	if !l.debug {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.command(func(a *githubactions.Action) { a.Debugf("%s", clean(text)) })
}

func (l *log) mask(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.command(func(a *githubactions.Action) { a.AddMask(secret) })
}

// handler brings the adapters' log into the run's: warnings as such, all else as debug lines.
type handler struct {
	log   *log
	attrs []slog.Attr
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	if text = release.CleanText(text, 1000); r.Level >= slog.LevelWarn {
		h.log.Warn(text)
	} else {
		h.log.Debug(text)
	}
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.log, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h handler) WithGroup(string) slog.Handler { return h }
