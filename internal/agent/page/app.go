package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// appView is one app on the page.
type appView struct {
	Key, Environment, Unit string
	State, Tone            string
	Notes                  []noteView
	Run                    *runView // the deployment under way
	Live, LiveFull         string
	Message                string
	Seq                    uint64
	Since, Seen            moment
	From                   origin // of the live release
	Health, Verdict        string
	Unwell                 bool // the verdict is a bad one
	Checked                moment
	History                []historyView
	Done, Say              string // the last deployment that ended, and how
	Alone                  bool   // there is no other app: its history is open
}

// noteView is one thing that a person should know.
type noteView struct{ Tone, Word, Text string }

// runView is a deployment under way.
type runView struct {
	Hash, Full, Message string
	Began               moment
	From                origin
	Steps               []stepView
}

// view is what the page shows of the app.
func (a App) view(now time.Time) appView {
	d, r := a.Detail, a.Detail.Receipt
	messages := map[string]string{}
	for _, known := range d.Releases {
		messages[known.Hash] = line(known.Msg)
	}
	v := appView{
		Key: d.Key, Environment: a.Environment, Unit: d.Unit, Health: healthText(a.Health),
		Live: release.ShortHash(r.Live.Hash), LiveFull: r.Live.Hash, Message: messages[r.Live.Hash], Seq: r.Live.Seq,
		Since: newMoment(r.Live.Since), Seen: newMoment(r.Seen),
		History: history(d.Deployments, messages),
	}
	v.State, v.Tone = state(r, a.Ready)
	v.From = liveOrigin(d.Deployments, r.Live.Hash)
	v.Verdict, v.Checked, v.Unwell = verdict(d.Deployments)
	if run := a.Running; run != nil {
		v.Run = &runView{
			Hash: release.ShortHash(run.Hash), Full: run.Hash, Message: messages[run.Hash], Began: newMoment(run.Started),
			From: newOrigin(*run, r.Live.Hash), Steps: steps(run.Events, now, true),
		}
	}
	v.Notes = a.notes(v.Tone)
	if len(d.Deployments) > 0 {
		last := d.Deployments[0]
		v.Done = last.ID
		v.Say = fmt.Sprintf("%s on %s: %s %s", d.Key, a.Environment, outcomeWord(last.Outcome), release.ShortHash(last.Hash))
	}
	return v
}

// line is a text of others as one line of at most 200 characters.
func line(text string) string { return cut(text, 200) }

// cut is a text of others as one line of at most n characters.
func cut(text string, n int) string {
	short := release.CleanText(text, n)
	if len(short) < len(release.CleanText(text, n+1)) {
		short += "…"
	}
	return short
}

// state is the one word about an app, and how it is coloured.
func state(r deployment.Receipt, ready error) (word, tone string) {
	last := deployment.Outcome("")
	if r.Deployment != nil {
		last = r.Deployment.Outcome
	}
	switch {
	case r.Deployment != nil && last == "":
		return "deploying", "busy"
	case last == deployment.Broken:
		return "broken", "bad"
	case r.Live.Hash == "" && strings.HasPrefix(r.Status, unpublished):
		return "waiting", "idle"
	case ready != nil:
		return "not ready", "bad"
	case strings.HasPrefix(r.Status, "refused: "):
		return "pointer refused", "warn"
	case last == deployment.RolledBack:
		return "rolled back", "warn"
	case last == deployment.Failed:
		return "last one failed", "warn"
	case r.Held != "":
		return "held", "warn"
	case r.Live.Hash == "":
		return "waiting", "idle"
	case strings.HasPrefix(r.Status, "stale: "):
		return "stale", "warn"
	case r.Status != "":
		return "live", "warn" // the older release, or a pointer that cannot be followed
	}
	return "live", "good"
}

// topics are what the lines of a receipt's status are about, by their beginnings. A beginning that says no more than the
// word is left out of the text.
var topics = []struct{ begin, word, tone string }{
	{"not ready: ", "Not ready", "bad"},
	{"refused: ", "Pointer refused", "warn"},
	{"stale: ", "Stale", "warn"},
	{"cannot read the pointer: ", "Pointer not read", "warn"},
	{"on hold: ", "Held", "warn"},
	{"a command on this server overrides", "", "warn"},
	{"the last deployment failed", "", "warn"},
	{"the receipt cannot be written", "", "warn"},
}

// notes are what a person should know, the worst first.
func (a App) notes(tone string) (out []noteView) {
	r := a.Detail.Receipt
	if a.Running == nil && r.Deployment != nil && r.Deployment.Reason != "" && r.Deployment.Outcome.ExitCode() != 0 && tone != "good" {
		word := map[deployment.Outcome]string{
			deployment.Broken: "Broken", deployment.RolledBack: "Rolled back", deployment.Failed: "Failed", deployment.Held: "",
		}[r.Deployment.Outcome]
		if word != "" {
			out = append(out, noteView{tone, word, release.ShortHash(r.Deployment.Hash) + ": " + cut(r.Deployment.Reason, 400)})
		}
	}
	status := r.Status
	switch {
	case strings.HasPrefix(status, unpublished):
		return append(out, noteView{"idle", "", unpublished}) // where it was looked for is for the log
	case r.Held != "" && !strings.HasPrefix(status, "a command on this server overrides"):
		out = append(out, noteView{"warn", "Held", line(r.Held)})
		status = strings.TrimPrefix(strings.TrimPrefix(status, "on hold: "+r.Held), "; ")
	}
	if a.Ready != nil && !strings.Contains(status, a.Ready.Error()) {
		out = append(out, noteView{"bad", "Not ready", cut(strings.TrimPrefix(a.Ready.Error(), "not ready: "), 400)})
	}
	if status == "" || a.Running != nil && !strings.HasPrefix(status, "not ready: ") {
		return out
	}
	n := noteView{"warn", "", status}
	for _, w := range topics {
		if rest, ok := strings.CutPrefix(status, w.begin); ok {
			n.Tone, n.Word = w.tone, w.word
			if w.word != "" {
				n.Text = rest
			}
		}
	}
	if _, rest, ok := strings.Cut(status, "did not become healthy; it is "); ok {
		n.Word, n.Text = "Quarantined", rest
	}
	n.Text = cut(n.Text, 400)
	return append(out, n)
}

func healthText(h config.Health) string {
	soak := ""
	if h.Stable > 0 {
		soak = ", steady for " + h.Stable.String()
	}
	switch {
	case h.HTTP != "" && h.Expect != "":
		return "HTTP probe with expected text" + soak
	case h.HTTP != "":
		return "HTTP probe" + soak
	case h.TCP != "":
		return "TCP probe" + soak
	case h.Exec != nil:
		return "program" + soak
	case h.Stable > 0:
		return "no probe" + soak
	}
	return "none"
}

// verdict is the last word of the health check: of what is live now, wherever the story of a deployment tells of it.
func verdict(records []deployment.Record) (text string, when moment, unwell bool) {
	for _, rec := range records {
		for i := len(rec.Events) - 1; i >= 0; i-- {
			e := rec.Events[i]
			back := e.Step == deployment.RollBack
			switch {
			case e.State == deployment.Done && (e.Step == deployment.Check || back && e.Message == ""):
				return "passed", newMoment(e.Time), false
			case e.State == deployment.StepFail && (e.Step == deployment.Check || back):
				return "failed", newMoment(e.Time), true
			}
		}
	}
	return "", moment{}, false
}
