package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/test/parts"
)

// until runs an agent by the file until it tells of an event that ends it.
func (w *world) until(file string, ends func(deployment.Event) bool) {
	w.t.Helper()
	s, err := config.Load(file)
	w.must(err)
	log := &parts.Buffer{}
	a, err := New(s, slog.New(slog.NewTextHandler(log, nil)))
	w.must(err)
	ctx, stop := context.WithTimeout(w.t.Context(), time.Minute)
	defer stop()
	came := false
	a.Subscribe(func(_ string, e deployment.Event) {
		if ends(e) {
			came = true
			stop() // as SIGTERM does, at this very point of the deployment
		}
	})
	w.must(a.Run(ctx))
	if !came {
		w.t.Fatalf("it did not come to it:\n%s", log)
	}
}

// A stop of the agent, as an upgrade does, at the beginning and at the end of every step of a deployment that works or does not:
// the next agent brings it to one outcome, and what is live is what the outcome says.
func TestStopAtEveryStep(t *testing.T) {
	points := []deployment.Event{
		{Step: deployment.Fetch, State: deployment.Started}, {Step: deployment.Fetch, State: deployment.Done},
		{Step: deployment.Unpack, State: deployment.Started}, {Step: deployment.Unpack, State: deployment.Done},
		{Step: deployment.Activate, State: deployment.Started}, {Step: deployment.Activate, State: deployment.Done},
		{Step: deployment.Check, State: deployment.Started}, {Step: deployment.Check, State: deployment.Done},
		{Step: deployment.Confirm, State: deployment.Done},
	}
	undone := []deployment.Event{
		{Step: deployment.Check, State: deployment.StepFail},
		{Step: deployment.RollBack, State: deployment.Started}, {Step: deployment.RollBack, State: deployment.Done},
	}
	for _, test := range []struct {
		ill     bool
		points  []deployment.Event
		outcome deployment.Outcome
		live    string
	}{{false, points, deployment.Deployed, "two"}, {true, append(points[:7:7], undone...), deployment.RolledBack, "one"}} {
		for _, point := range test.points {
			t.Run(fmt.Sprintf("%s/%s %s", test.outcome, point.Step, point.State), func(t *testing.T) {
				w := newWorld(t)
				site := newSick(t)
				file := w.file("", oneApp+"    health: {http: \""+site.URL+"\", within: 1s}\n    restart: [\"true\"]\n")
				over := func(hash string) func(deployment.Event) bool {
					return func(e deployment.Event) bool { return e.Hash == hash && e.Terminal() }
				}
				w.publish("web", hash("1"), "one")
				w.until(file, over(hash("1")))
				w.publish("web", hash("2"), "two")
				back := false // the release of before is well
				sickness := func(e deployment.Event) {
					if e.Hash == hash("2") {
						back = back || e.Step == deployment.RollBack
						site.ill.Store(test.ill && !back)
					}
				}
				w.until(file, func(e deployment.Event) bool {
					sickness(e)
					return e.Hash == hash("2") && e.Step == point.Step && e.State == point.State && e.Outcome == ""
				})
				if w.records("web")[0].Hash != hash("2") { // else it was told to stop when nothing was left to do
					w.until(file, func(e deployment.Event) bool { sickness(e); return over(hash("2"))(e) })
				}
				records := w.records("web")
				if len(records) != 2 || records[0].Hash != hash("2") || records[0].Outcome != test.outcome {
					t.Errorf("got %d deployments, the last %+v, want 2, the last %s", len(records), records[0], test.outcome)
				}
				if got := w.live("web"); got != test.live {
					t.Errorf("got %q live, want %q", got, test.live)
				}
				if got := w.receipt("web"); got.Deployment.Outcome != test.outcome {
					t.Errorf("got outcome %s in the receipt, want %s", got.Deployment.Outcome, test.outcome)
				}
			})
		}
	}
}

// records are the deployments in the journal of an app, the newest first.
func (w *world) records(key string) []deployment.Record {
	w.t.Helper()
	memory, err := journal.Open(filepath.Join(w.dir, "state", "apps", key))
	w.must(err)
	records, err := memory.Records(10)
	w.must(err)
	return records
}
