package page

import (
	"net/url"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	maxHistory = 10      // deployments shown of an app
	maxSteps   = 12      // steps shown of a deployment
	maxLines   = 20      // lines of the log shown of a deployment, the last ones
	maxLog     = 3 << 10 // bytes of all the logs of an app, the newest first
	maxLink    = 300     // bytes of an address
	asked      = "asked for on this server"
)

// historyView is one deployment of the past.
type historyView struct {
	ID, Hash, Full, Message   string
	Outcome, Tone, Mark, Took string
	Reason                    string
	When                      moment
	From                      origin
	Steps                     []stepView // of one that did not go well
	Went                      string     // the steps of one that did
	Log                       []string
}

// stepView is one step of a deployment. Since is how long it has been under way, in milliseconds; 0 when it is not.
type stepView struct {
	Name, Message, Took, Bytes string
	Tone, Word                 string
	Since                      int64
	at                         time.Time
}

// origin is who had a deployment made, in which run, and why. Addresses are ones that a browser may be led to.
type origin struct {
	Who, Why           string
	Run, RunText       string
	Compare, CompareOf string
}

func history(records []deployment.Record, messages map[string]string) (out []historyView) {
	room := maxLog
	for i, rec := range records {
		if i == maxHistory {
			break
		}
		before := ""
		for _, older := range records[i+1:] {
			if older.Outcome == deployment.Deployed {
				before = older.Hash
				break
			}
		}
		v := historyView{
			ID: rec.ID, Hash: release.ShortHash(rec.Hash), Full: rec.Hash, Message: messages[rec.Hash], Outcome: outcomeWord(rec.Outcome),
			Reason: cut(rec.Reason, 400), When: newMoment(rec.Finished), From: newOrigin(rec, before), Steps: steps(rec.Events, time.Time{}, false),
		}
		for i := range v.Steps {
			if strings.HasPrefix(v.Reason, strings.TrimSuffix(v.Steps[i].Message, "…")) {
				v.Steps[i].Message = "" // once is enough
			}
		}
		v.Tone, v.Mark = outcomeMark(rec.Outcome)
		if v.Tone == "good" {
			v.Went, v.Steps = went(v.Steps), nil
		}
		if n := len(rec.Events); n > 0 {
			last := rec.Events[n-1]
			v.Took = took(last.TookMS)
			v.Log = lastLines(last.Log, &room)
		}
		out = append(out, v)
	}
	return out
}

// lastLines are the last lines of a log, as many as there is room for.
func lastLines(log []string, room *int) (out []string) {
	for i := len(log) - 1; i >= max(0, len(log)-maxLines); i-- {
		text := release.CleanLine(log[i], 160)
		if *room -= len(text) + 1; *room < 0 {
			*room = 0
			break
		}
		out = append([]string{text}, out...)
	}
	return out
}

func outcomeWord(o deployment.Outcome) string { return strings.ReplaceAll(string(o), "-", " ") }

func outcomeMark(o deployment.Outcome) (tone, mark string) {
	switch o {
	case deployment.Deployed:
		return "good", "✓"
	case deployment.Unchanged:
		return "good", "="
	case deployment.RolledBack:
		return "warn", "↩"
	case deployment.Failed:
		return "warn", "!"
	case deployment.Broken:
		return "bad", "✕"
	case deployment.Held:
		return "idle", "‖"
	}
	return "idle", "·"
}

// newOrigin is where a deployment came from; before is the version that was live until then.
func newOrigin(rec deployment.Record, before string) (o origin) {
	for _, e := range rec.Events {
		if why, ok := strings.CutPrefix(e.Message, asked); ok {
			return origin{Who: "a command on this server", Why: line(strings.TrimPrefix(why, ": "))}
		}
	}
	if rec.Origin == nil {
		return o
	}
	o.Who, o.Why = cut(rec.Origin.Actor, 60), line(rec.Origin.Reason)
	u, err := url.Parse(rec.Origin.Run)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(rec.Origin.Run) > maxLink {
		return o
	}
	o.Run, o.RunText = u.String(), "run"
	repository, number, found := strings.Cut(o.Run, "/actions/runs/")
	if !found {
		return o
	}
	if number, _, _ = strings.Cut(number, "/"); len(number) <= 20 && strings.Trim(number, "0123456789") == "" {
		o.RunText += " " + number
	}
	if release.IsCommit(before) && release.IsCommit(rec.Hash) && before != rec.Hash {
		o.Compare, o.CompareOf = repository+"/compare/"+before+"..."+rec.Hash, release.ShortHash(before)
	}
	return o
}

// liveOrigin is where the live release came from: the newest deployment that made it live.
func liveOrigin(records []deployment.Record, hash string) origin {
	for i, rec := range records {
		if rec.Hash != hash || rec.Outcome != deployment.Deployed {
			continue
		}
		for _, older := range records[i+1:] {
			if older.Outcome == deployment.Deployed {
				return newOrigin(rec, older.Hash)
			}
		}
		return newOrigin(rec, "")
	}
	return origin{}
}

// all are the steps that a deployment that goes well has.
var all = []deployment.Step{deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm}

// steps folds events into one line a step, in the order in which they began; of a deployment under way those to come follow.
func steps(events []deployment.Event, now time.Time, running bool) (out []stepView) {
	at := map[deployment.Step]int{}
	for _, e := range events {
		if e.Step == "" || e.Step == deployment.End || len(out) == maxSteps {
			continue
		}
		i, known := at[e.Step]
		if !known {
			i = len(out)
			at[e.Step] = i
			began, _ := time.Parse(time.RFC3339, e.Time)
			out = append(out, stepView{Name: string(e.Step), at: began})
		}
		s := &out[i]
		if e.Message != "" {
			s.Message = line(e.Message)
		}
		if e.Bytes > 0 {
			s.Bytes = size(e.Bytes)
		}
		switch e.State {
		case deployment.Done:
			s.Tone, s.Word, s.Took = "good", "done", took(e.TookMS)
		case deployment.StepFail:
			s.Tone, s.Word, s.Took = "warn", "failed", took(e.TookMS)
		default:
			s.Tone, s.Word = "busy", "under way"
		}
	}
	if !running {
		return out
	}
	for i := range out {
		if s := &out[i]; s.Tone == "busy" && !s.at.IsZero() {
			s.Since = max(1, now.Sub(s.at).Milliseconds())
			s.Took = clock(s.Since)
		}
	}
	if _, back := at[deployment.RollBack]; back || failed(out) {
		return out
	}
	for _, step := range all {
		if _, known := at[step]; !known {
			if len(out) > 0 && ahead(step, out) {
				continue // it was taken up after it
			}
			out = append(out, stepView{Name: string(step), Tone: "idle", Word: "to come"})
		}
	}
	return out
}

// went are the steps of a deployment that went well, in one line.
func went(steps []stepView) string {
	var all []string
	for _, s := range steps {
		text := s.Name
		if s.Took != "" {
			text += " " + s.Took
		}
		if s.Bytes != "" {
			text += " (" + s.Bytes + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " → ")
}

// ahead reports whether the step comes before one that has begun, and so was not needed.
func ahead(step deployment.Step, begun []stepView) bool {
	place := func(name string) int {
		for i, s := range all {
			if string(s) == name {
				return i
			}
		}
		return -1
	}
	for _, s := range begun {
		if s.Word != "to come" && place(s.Name) > place(string(step)) {
			return true
		}
	}
	return false
}

func failed(steps []stepView) bool {
	for _, s := range steps {
		if s.Tone == "warn" {
			return true
		}
	}
	return false
}
