package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// painter colours words. Every colour takes the same number of bytes, so that a painted column keeps its width.
type painter bool

const (
	plain  = "\x1b[39m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
)

func (on painter) paint(color, s string) string {
	if !on {
		return s
	}
	return color + s + "\x1b[0m"
}

// outcome paints a text in the colour of an outcome.
func (on painter) outcome(o deployment.Outcome, text string) string {
	switch o {
	case deployment.Deployed, deployment.Unchanged:
		return on.paint(green, text)
	case deployment.Failed, deployment.RolledBack, deployment.Broken, deployment.TimedOut:
		return on.paint(red, text)
	case deployment.Held, deployment.Superseded, deployment.Skipped, deployment.DryRun, deployment.Published:
		return on.paint(yellow, text)
	}
	switch o {
	case "ok":
		return on.paint(green, text)
	case "ailing", "not":
		return on.paint(red, text)
	}
	return on.paint(plain, text) // a word that is no outcome
}

// painter decides by --color, NO_COLOR and what standard output is.
func (p *program) painter() (painter, error) { return p.painterFor(p.env.Stdout) }

// painterFor is painter for what is written elsewhere.
func (p *program) painterFor(w io.Writer) (painter, error) {
	switch p.color {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		return painter(p.env.Getenv("NO_COLOR") == "" && p.env.Getenv("TERM") != "dumb" && terminal(w)), nil
	}
	return false, usagef("--color %q: want auto, always or never", p.color)
}

// terminal reports whether what is written to, or read from, is one. /dev/null is a character device too, and none.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) // #nosec G115 -- a descriptor
	return err == nil
}

// none is no column of a table.
const none = -1

// table prints rows under a header. Cells come from servers and commits, so they are cleaned.
type table struct {
	rows [][]string
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = release.CleanText(c, 120)
	}
	t.rows = append(t.rows, cells)
}

// print writes the table. The columns painted, counted from 0, take the colour of the outcome that each cell names first.
func (t *table) print(w io.Writer, on painter, painted ...int) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			if slices.Contains(painted, i) {
				word, _, _ := strings.Cut(cell, " ")
				cell = on.outcome(deployment.Outcome(word), cell)
			}
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, cell)
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}

// printJSON writes v for programs.
func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.env.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// ago tells how long before now a time in RFC 3339 was; an empty text is "-", anything else comes back as it is.
func (p *program) ago(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	d := p.now().Sub(t)
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// day is a date and time in RFC 3339 cut to minutes, as given.
func day(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// named is a release for people: its seq and its version.
func named(seq uint64, hash string) string {
	switch {
	case hash == "":
		return ""
	case seq == 0:
		return release.ShortHash(hash)
	}
	return fmt.Sprintf("#%d %s", seq, release.ShortHash(hash))
}

// printJSONText writes JSON that is text already, in the form of printJSON.
func (p *program) printJSONText(text string) {
	var out bytes.Buffer
	if json.Indent(&out, []byte(text), "", "  ") == nil {
		text = out.String()
	}
	p.printf("%s\n", text)
}
