// Package page is the agent's status page: what is live on this server, since when, and how it came about. It is one
// HTML document without script or foreign asset, that asks again by itself.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	maxHistory  = 10 // deployments shown of an app
	calmRefresh = 30 // seconds until the page asks again
	busyRefresh = 2  // while something is being deployed

	unpublished = "nothing is published yet" // what the status of such an app begins with
)

//go:embed page.css
var style string

// Server is what the page is about.
type Server struct {
	Name    string
	Pin     string // of the TLS certificate; empty without
	Started time.Time
	Apps    []App
}

// App is one app on it.
type App struct {
	Detail      deployment.Detail  // Receipt without events
	Running     *deployment.Record // the deployment under way, with its events; nil when there is none
	Ready       error              // why the app could not be deployed now
	Environment string
	Health      config.Health
}

// view is all that the page shows, in words.
type view struct {
	Server, Version, Pin, Up string
	Now                      moment
	Refresh                  int
	Headline                 string
	Tone                     string // good, busy, warn, bad, idle
	Apps                     []appView
}

// appView is one app on it.
type appView struct {
	Key, Environment, Unit, Health string
	State, Tone, Note              string
	Live                           string
	LiveFull, Message              string
	Seq                            uint64
	Since, Seen                    moment
	Steps                          []stepView // of the deployment under way
	History                        []historyView
}

type stepView struct {
	Name, Message, Mark, Tone string
}

type historyView struct {
	Hash, Full, Outcome, Tone, Mark, Reason, Took string
	Seq                                           uint64
	When                                          moment
	Log                                           []string
}

// moment is a time for people and, in the element around it, for machines. The zero value is no time.
type moment struct{ RFC, Ago string }

func newMoment(text string, now time.Time) moment {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return moment{}
	}
	return moment{RFC: t.UTC().Format("2006-01-02 15:04:05 UTC"), Ago: ago(now.Sub(t))}
}

// ago says how long ago something was, in one unit.
func ago(d time.Duration) string {
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	}
	return long(d) + " ago"
}

func long(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// HTML is the page as it is at now.
func (s Server) HTML(now time.Time) string {
	v := view{
		Server: s.Name, Version: release.Version, Pin: s.Pin, Up: long(now.Sub(s.Started)), Refresh: calmRefresh,
		Now: newMoment(now.Format(time.RFC3339), now),
	}
	tones := map[string]int{}
	for _, a := range s.Apps {
		shown := a.view(now)
		tones[shown.Tone]++
		v.Apps = append(v.Apps, shown)
	}
	v.Headline, v.Tone = headline(tones, len(s.Apps))
	if tones["busy"] > 0 {
		v.Refresh = busyRefresh
	}
	return v.html()
}

// Policy is the Content-Security-Policy that the page needs: its own style, and nothing else.
func Policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}

func headline(tones map[string]int, apps int) (text, tone string) {
	switch n := tones["bad"] + tones["warn"]; {
	case n == 1:
		return "1 app needs a look", worse(tones)
	case n > 1:
		return fmt.Sprintf("%d apps need a look", n), worse(tones)
	case tones["busy"] > 0:
		return "Deploying", "busy"
	case tones["idle"] == apps:
		return "Nothing is published yet", "idle"
	}
	return "All is well", "good"
}

func worse(tones map[string]int) string {
	if tones["bad"] > 0 {
		return "bad"
	}
	return "warn"
}

// view is what the page shows of the app.
func (a App) view(now time.Time) appView {
	d, r := a.Detail, a.Detail.Receipt
	v := appView{
		Key: d.Key, Environment: a.Environment, Unit: d.Unit, Health: healthText(a.Health),
		Live: release.ShortHash(r.Live.Hash), LiveFull: r.Live.Hash, Seq: r.Live.Seq,
		Since: newMoment(r.Live.Since, now), Seen: newMoment(r.Seen, now), Note: strings.TrimPrefix(r.Status, "not ready: "),
	}
	if strings.HasPrefix(r.Status, unpublished) {
		v.Note = unpublished // where it was looked for is for the log
	}
	for _, known := range d.Releases {
		if known.Live {
			v.Message = known.Msg
		}
	}
	for i, rec := range d.Deployments {
		if i == maxHistory {
			break
		}
		v.History = append(v.History, history(rec, now))
	}
	v.State, v.Tone = state(r, a.Ready)
	if a.Running != nil {
		v.Steps = steps(a.Running.Events)
		v.Note = "to " + release.ShortHash(a.Running.Hash)
	}
	if r.Held != "" && v.Note == "" {
		v.Note = r.Held
	}
	if last := r.Deployment; v.Note == "" && (v.Tone == "bad" || v.Tone == "warn") && last != nil {
		v.Note = release.ShortHash(last.Hash) + ": " + last.Reason
		if len(v.History) > 0 && v.History[0].Log == nil {
			v.History[0].Reason = "" // once is enough
		}
	}
	return v
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
	case r.Status != "":
		return "live", "warn" // the older release, or a pointer that cannot be followed
	}
	return "live", "good"
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

func history(rec deployment.Record, now time.Time) historyView {
	v := historyView{
		Hash: release.ShortHash(rec.Hash), Full: rec.Hash, Seq: rec.Seq, Outcome: string(rec.Outcome), Reason: rec.Reason,
		When: newMoment(rec.Finished, now),
	}
	switch rec.Outcome {
	case deployment.Deployed, deployment.Unchanged:
		v.Tone, v.Mark = "good", "✓"
	case deployment.RolledBack, deployment.Failed:
		v.Tone, v.Mark = "warn", "↩"
	case deployment.Broken:
		v.Tone, v.Mark = "bad", "✕"
	default:
		v.Tone, v.Mark = "idle", "·"
	}
	if n := len(rec.Events); n > 0 {
		last := rec.Events[n-1]
		v.Log = last.Log
		switch ms := last.TookMS; {
		case ms >= 1000:
			v.Took = fmt.Sprintf("%.1f s", float64(ms)/1000)
		case ms > 0:
			v.Took = fmt.Sprintf("%d ms", ms)
		}
	}
	return v
}

// steps folds events into one line a step, in the order in which they began.
func steps(events []deployment.Event) []stepView {
	var out []stepView
	at := map[deployment.Step]int{}
	for _, e := range events {
		if e.Step == "" || e.Step == deployment.End {
			continue
		}
		i, known := at[e.Step]
		if !known {
			i = len(out)
			at[e.Step] = i
			out = append(out, stepView{Name: string(e.Step)})
		}
		s := &out[i]
		if e.Message != "" {
			s.Message = e.Message
		}
		switch e.State {
		case deployment.Done:
			s.Mark, s.Tone = "✓", "good"
		case deployment.StepFail:
			s.Mark, s.Tone = "✕", "warn"
		default:
			s.Mark, s.Tone = "…", "busy"
		}
	}
	return out
}
