package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPaintedTableKeepsItsColumns(t *testing.T) {
	var t1 table
	t1.add("OUTCOME", "RELEASE")
	t1.add("rolled-back", "#2 v2")
	t1.add("deployed", "#1 v1")
	t1.add("", "v0")
	var bare, painted bytes.Buffer
	t1.print(&bare, false, 0)
	t1.print(&painted, true, 0)
	got := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(painted.String(), "")
	if got != bare.String() || got == painted.String() {
		t.Errorf("got %q, want the same words as %q, painted", painted.String(), bare.String())
	}
	if strings.Contains(bare.String(), "\x1b") {
		t.Errorf("got %q, want no colour", bare.String())
	}
}

func TestTableCleansItsCells(t *testing.T) {
	var t1 table
	t1.add("a\x1b[2Jb\nc")
	var out bytes.Buffer
	t1.print(&out, false, none)
	if got := out.String(); strings.ContainsAny(strings.TrimSuffix(got, "\n"), "\x1b\n") {
		t.Errorf("got %q, want one line without control characters", got)
	}
}

func TestWhenToPaint(t *testing.T) {
	for _, c := range []struct {
		color string
		want  painter
	}{{"always", true}, {"never", false}, {"auto", false}} { // a buffer is no terminal
		p := &program{env: Env{Stdout: new(bytes.Buffer), Getenv: func(string) string { return "" }}, color: c.color}
		if got, err := p.painter(); got != c.want || err != nil {
			t.Errorf("--color %s: got %v, %v; want %v", c.color, got, err, c.want)
		}
	}
}

func TestAgo(t *testing.T) {
	p := &program{now: func() time.Time { return testNow }}
	for text, want := range map[string]string{
		"2026-11-23T15:00:00Z": "just now", "2026-11-23T14:59:30Z": "30 s ago", "2026-11-23T14:00:00Z": "60 min ago",
		"2026-11-23T03:00:00Z": "12 h ago", "2026-11-13T15:00:00Z": "10 days ago", "": "", "yesterday": "yesterday",
	} {
		if got := p.ago(text); got != want {
			t.Errorf("ago(%q): got %q, want %q", text, got, want)
		}
	}
}

func TestClosest(t *testing.T) {
	words := []string{"status", "releases", "rollback", "resume", "app", "path"}
	for name, want := range map[string]string{
		"statsu": "status", "stat": "status", "realeases": "releases", "roll": "rollback", "pth": "path", "frobnicate": "", "x": "",
	} {
		if got := closest(name, words); got != want {
			t.Errorf("closest(%q): got %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-d]{0,8}`)
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		got := distance(a, b)
		if (got == 0) != (a == b) || got != distance(b, a) || got > max(len(a), len(b)) || got < len(a)-len(b) || got < len(b)-len(a) {
			t.Errorf("distance(%q, %q): got %d", a, b, got)
		}
	})
}
