package publish

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deployment"
)

// at gives an event a time, in milliseconds of some server's clock.
func at(ms int, step deployment.Step, state deployment.State, took int64) deployment.Event {
	when := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond) // years ahead of ours
	return deployment.Event{Step: step, State: state, TookMS: took, Time: when.Format("2006-01-02T15:04:05.000Z")}
}

func TestSteps(t *testing.T) {
	failed := at(900, deployment.Check, deployment.StepFail, 0)
	failed.Message = "503: not today"
	fetched := at(130, deployment.Fetch, deployment.Done, 120)
	fetched.Bytes = 4096
	end := at(1000, deployment.End, deployment.StepFail, 1000)
	end.Outcome = deployment.RolledBack
	got := steps([]deployment.Event{
		at(10, deployment.Fetch, deployment.Started, 0), fetched, at(200, deployment.Unpack, deployment.Done, 50),
		at(200, deployment.Activate, deployment.Started, 0), at(500, deployment.Activate, deployment.Done, 300),
		at(500, deployment.Check, deployment.Started, 0), failed, at(910, deployment.RollBack, deployment.Started, 0), end,
	}, 5000, 1400)
	// The last word came 1400 ms after the move at 5000, and 990 ms after the first event.
	want := []StepResult{
		{Step: deployment.Fetch, State: deployment.Done, StartMS: 5410, TookMS: 120, Bytes: 4096},
		{Step: deployment.Unpack, State: deployment.Done, StartMS: 5550, TookMS: 50},
		{Step: deployment.Activate, State: deployment.Done, StartMS: 5600, TookMS: 300},
		{Step: deployment.Check, State: deployment.StepFail, StartMS: 5900, TookMS: 400, Message: "503: not today"},
		{Step: deployment.RollBack, State: deployment.Started, StartMS: 6310, TookMS: 90},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
}

// Whatever a server says, its steps lie between the pointer's move and its last word.
func TestStepsOfALiar(t *testing.T) {
	events := []deployment.Event{
		{Step: deployment.Fetch, State: deployment.Done, Time: "yesterday", TookMS: -5, Bytes: -1},
		{Step: deployment.Unpack, State: deployment.Done, Time: "0001-01-01T00:00:00Z", TookMS: math.MaxInt64},
		{Step: deployment.Check, State: deployment.Done, Time: "9999-12-31T23:59:59Z", TookMS: math.MinInt64},
		{Step: deployment.Check, State: deployment.Started, Time: "1970-01-01T00:00:00Z"},
	}
	for range 100 {
		events = append(events, at(1, deployment.Check, deployment.Done, 1), at(1, "::error::", deployment.Done, 1), at(1, deployment.Check, "| x |", 1))
	}
	got := steps(events, 5000, 1000)
	if len(got) != maxSteps {
		t.Errorf("got %d steps, want %d", len(got), maxSteps)
	}
	for _, s := range got {
		if !slices.Contains(stepNames, s.Step) || !slices.Contains(stepStates, s.State) || s.StartMS < 5000 || s.TookMS < 0 || s.StartMS+s.TookMS > 6000 || s.Bytes < 0 {
			t.Errorf("got %+v", s)
		}
	}
	if got := pulled(events); got != 0 {
		t.Errorf("pulled: got %d", got)
	}
}

// What a receipt tells after the fact is in the result as what a stream tells.
func TestStepsOfAReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t).with("expect-servers", "web-1")
		c := receipt(t, 1, commit(1), deployment.Deployed)
		fetched := at(100, deployment.Fetch, deployment.Done, 100)
		fetched.N, fetched.Seq, fetched.Bytes = 1, 1, 77
		c.Deployment.Events = []deployment.Event{fetched}
		s.leave(time.Second, c)
		r := s.must(commit(1))
		if one := r.Servers[0]; one.Pulled != 77 || len(one.Steps) != 1 || one.Steps[0].TookMS != 100 || one.Steps[0].StartMS > one.TookMS {
			t.Errorf("got %+v", one)
		}
	})
}

// The names of several servers stand in one column; the first that answers is told of once.
func TestServersStandInAColumn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t).with("servers", "a=https://one.example:8422\nlonger=https://two.example:8422")
		s.ping = agents{one: story(end(deployment.Deployed)), "https://two.example:8422": story(event(deployment.Fetch, deployment.Done), end(deployment.Deployed))}
		p := s.parts(commit(1))
		var heard []string
		p.Heard = func(_ context.Context, who string) { heard = append(heard, who) }
		if _, err := Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"a     > deployed", "longer> fetch done"} {
			if !strings.Contains(s.log.text(), want) {
				t.Errorf("the log does not say %q:\n%s", want, s.log.text())
			}
		}
		if len(heard) != 1 || heard[0] != "a" && heard[0] != "longer" {
			t.Errorf("heard: got %q, want one of them, once", heard)
		}
	})
}

// Steps are drawn where they were heard, also on a server of which nothing more was heard until the time was up; and why its
// stream ended is said at the end, where a person looks.
func TestSilenceIsNoStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t).with("servers", "web-1="+one, "wait-timeout", "5m")
		fetched := at(0, deployment.Fetch, deployment.Done, 100)
		fetched.Seq, fetched.Hash = 1, commit(1)
		s.ping = agents{one: func(ctx context.Context, on func(deployment.Event)) error {
			fetched.N, fetched.Deployment = 1, "d1"
			on(fetched)
			return errors.New("ping: connection reset (is towline-agent running there?)")
		}}
		r := s.must(commit(1))
		got := r.Servers[0]
		if got.Outcome != deployment.TimedOut || len(got.Steps) != 1 || got.Steps[0].StartMS > 1000 || got.Steps[0].TookMS > 100 {
			t.Errorf("got %+v", got)
		}
		if !strings.Contains(got.Reason, "; ping: ping: connection reset (is towline-agent running there?)") {
			t.Errorf("reason: got %q", got.Reason)
		}
	})
}
