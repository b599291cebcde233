package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// story prints a deployment as it happens, one line an event.
type story struct {
	w     io.Writer
	on    painter
	begun bool
}

func (s *story) event(e deployment.Event) {
	if !s.begun && e.Terminal() { // nothing was done
		s.begun = true
		fmt.Fprintf(s.w, "%s on %s: %s", release.CleanText(e.App, 63), release.CleanText(e.Server, 63), s.on.outcome(e.Outcome, string(e.Outcome)))
		reason := release.CleanText(e.Reason, 500)
		if reason == "" && e.Outcome == deployment.RolledBack {
			reason = "that release failed here before; --force tries it again"
		}
		if reason != "" {
			fmt.Fprintf(s.w, ": %s", reason)
		}
		fmt.Fprintln(s.w)
		return
	}
	if !s.begun {
		s.begun = true
		head := release.CleanText(e.App, 63) + " on " + release.CleanText(e.Server, 63)
		if e.Hash != "" {
			head += ": " + named(e.Seq, release.CleanText(e.Hash, 64))
		}
		fmt.Fprintln(s.w, head)
	}
	if e.Terminal() {
		s.end(e)
		return
	}
	text := release.CleanText(e.Message, 500)
	switch {
	case e.State == deployment.Started:
		return
	case e.State == deployment.Done && text == "":
		text = "done, " + took(e.TookMS)
	case e.State == deployment.Done:
		text += ", " + took(e.TookMS)
	case e.State == deployment.StepFail:
		text = s.on.paint(red, "failed") + ": " + text
	}
	fmt.Fprintf(s.w, "  %-10s%s\n", e.Step, text)
	s.log(e.Log)
}

func (s *story) end(e deployment.Event) {
	fmt.Fprintf(s.w, "  %s in %s", s.on.outcome(e.Outcome, string(e.Outcome)), took(e.TookMS))
	if e.Reason != "" {
		fmt.Fprintf(s.w, ": %s", release.CleanText(e.Reason, 500))
	}
	fmt.Fprintln(s.w)
	s.log(e.Log)
}

// log prints what the app itself wrote.
func (s *story) log(lines []string) {
	for _, line := range lines {
		fmt.Fprintf(s.w, "    | %s\n", release.CleanText(line, 500))
	}
}

// took is a duration for people.
func took(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", ms)
	case d < 10*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
