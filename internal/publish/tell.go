package publish

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// tell prints an event when it is news.
func (r *run) tell(w *watch, e deployment.Event) {
	if e.State == deployment.Heartbeat {
		if w.last == "" {
			w.last = "it answered the ping"
		}
		return
	}
	if e.N <= w.printed[e.Deployment] {
		return
	}
	w.printed[e.Deployment] = e.N
	w.last = strings.TrimSpace(string(e.Step) + " " + string(e.State))
	if e.State == deployment.Progress && time.Since(w.told) < 10*time.Second && !strings.HasSuffix(e.Message, "0%") {
		return
	}
	w.told = time.Now()
	if e.Seq == r.result.Seq && e.State != deployment.Progress && len(w.events) < maxEvents {
		w.events, w.heard = append(w.events, e), time.Now()
	}
	if !e.Terminal() {
		r.Log.Quote(eventTone(e), w.label, eventLine(e))
	}
	if len(e.Log) == 0 || slices.Equal(e.Log, w.log) {
		return // the last event often holds what the one that failed did
	}
	w.log = e.Log
	for _, line := range e.Log {
		r.Log.Quote(Faint, w.label, "| "+line)
	}
}

// eventTone sets off what failed, and what went well from what is only begun.
func eventTone(e deployment.Event) Tone {
	switch {
	case e.State == deployment.StepFail, e.Step == deployment.RollBack:
		return Bad
	case e.State == deployment.Done:
		return Plain
	}
	return Faint
}

// eventLine is an event for people: "fetch done, 1.2 MiB, in 0.8 s: 3 of 210 frames".
func eventLine(e deployment.Event) string {
	text := strings.TrimSpace(string(e.Step) + " " + string(e.State))
	if e.Bytes > 0 {
		text += ", " + Bytes(e.Bytes)
	}
	if e.TookMS > 0 || e.State == deployment.Done {
		text += ", in " + Took(time.Duration(e.TookMS)*time.Millisecond)
	}
	for _, more := range []string{e.Message, e.Reason} {
		if more != "" {
			text += ": " + more
		}
	}
	return text
}

func verdict(s ServerResult) string {
	text := string(s.Outcome)
	if healthy(s.Outcome) {
		text += ": live and healthy"
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text + ", after " + Took(time.Duration(s.TookMS)*time.Millisecond)
}

func (w *watch) state() string {
	if w.last == "" {
		return "nothing"
	}
	return w.last
}

func pending(watches []*watch) string {
	var out []string
	for _, w := range watches {
		if w.result == nil {
			out = append(out, fmt.Sprintf("%s (%s)", strings.TrimSpace(w.label), w.state()))
		}
	}
	return strings.Join(out, ", ")
}
