package publish

import (
	"slices"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// maxSteps bounds the steps kept for one server.
const maxSteps = 40

// The words that a step may be told in; others are passed over.
var (
	stepNames  = []deployment.Step{deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm, deployment.Prune, deployment.RollBack}
	stepStates = []deployment.State{deployment.Started, deployment.Done, deployment.StepFail}
)

// StepResult is one step of a deployment on one server. All of it comes from the server and is untrusted.
type StepResult struct {
	Step    deployment.Step  `json:"step"`     // one of those that there are
	State   deployment.State `json:"state"`    // done, failed, or started when its end was not heard of
	StartMS int64            `json:"start_ms"` // since the run began
	TookMS  int64            `json:"took_ms"`
	Bytes   int64            `json:"bytes,omitempty"`   // pulled over the network
	Message string           `json:"message,omitempty"` // what went wrong: of a check, the probe's answer
}

// steps makes the steps of the events of one server, of which the last was heard took after moved; both in milliseconds,
// moved since the run began. The clocks of servers are not relied on but for the distances between their own events: the
// last event is laid where it was heard.
func steps(events []deployment.Event, moved, took int64) []StepResult {
	var out []StepResult
	var first, last time.Time
	for _, e := range events {
		at, err := time.Parse(time.RFC3339, e.Time)
		if err != nil {
			at = last // out of turn, but in its order
		}
		begin := at.Add(-time.Duration(e.TookMS) * time.Millisecond)
		if e.Terminal() {
			begin = at // it took the whole deployment
		}
		if first.IsZero() {
			first = begin
		}
		last = at
		if e.Terminal() || !slices.Contains(stepNames, e.Step) || !slices.Contains(stepStates, e.State) || len(out) == maxSteps {
			continue
		}
		start := max(0, begin.Sub(first).Milliseconds())
		s := StepResult{Step: e.Step, State: e.State, StartMS: start, TookMS: max(0, e.TookMS), Bytes: max(0, e.Bytes)}
		if e.State == deployment.StepFail {
			s.Message = e.Message
		}
		// What was started and is over now takes the place of its beginning.
		if n := len(out); n > 0 && out[n-1].Step == s.Step && out[n-1].State == deployment.Started && s.State != deployment.Started {
			if s.TookMS == 0 {
				s.TookMS = max(0, at.Sub(first).Milliseconds()-out[n-1].StartMS)
			}
			s.StartMS = out[n-1].StartMS
			out = out[:n-1]
		}
		out = append(out, s)
	}
	span := max(0, last.Sub(first).Milliseconds())
	for i := range out {
		s := &out[i]
		if s.State == deployment.Started && i == len(out)-1 {
			s.TookMS = max(0, span-s.StartMS)
		}
		// Whatever a server says, it was between the move and the last event that was heard.
		s.StartMS = min(s.StartMS+max(0, took-span), took)
		s.TookMS = min(s.TookMS, took-s.StartMS)
		s.StartMS += moved
	}
	return out
}

// pulled is what a server says that it fetched over the network, in bytes.
func pulled(events []deployment.Event) int64 {
	var n int64
	for _, e := range events {
		if e.Step == deployment.Fetch && e.State == deployment.Done {
			n += max(0, e.Bytes)
		}
	}
	return n
}
