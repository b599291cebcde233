package zoo

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

var rollbacks = flag.Int("rollbacks", 3, "releases that TestRollBackTime has taken back")

// TestRollBackTime has releases that crash taken back, one after the other, and says how long it takes from the verdict of
// the health check until the old release is healthy again: restarted by systemd, and answering with its own version. What the
// agent then waits to see whether it stays so is the second figure.
func TestRollBackTime(t *testing.T) {
	t.Parallel()
	const app, soak = "timed", 200 * time.Millisecond
	z := open(t, []animal{{name: app, first: good, second: "exit 7", health: "stable: 200ms"}})
	z.publish(1, app)
	z.ended(time.Minute, 1, app)
	var healthy, done []time.Duration
	for n := 2; n < 2+*rollbacks; n++ {
		z.Run(t, "sh", "-ec", fmt.Sprintf("cd /opt/%[1]s; test -e %[2]d || cp -r 2 %[2]d; echo %[3]s > %[2]d/version.txt", app, n, version(app, n)))
		z.publish(n, app)
		_, _ = z.TryRun(t, "towline", "deploy", app) // now, not when it is polled for
		d := z.ended(time.Minute, n, app)[app].Deployment
		if d.Outcome != deployment.RolledBack {
			t.Fatalf("release %d: got %s", n, told(d))
		}
		if got := z.answer(app); got != version(app, 1) {
			t.Fatalf("release %d was taken back, and the app answers %q", n, got)
		}
		var verdict, answers, end time.Time
		for _, e := range d.Events {
			switch {
			case e.Step == deployment.Check && e.State == deployment.StepFail:
				verdict = at(e)
			case e.Step == deployment.RollBack && answers.IsZero() && strings.Contains(e.Message, "answer contains"):
				answers = at(e)
			case e.Step == deployment.RollBack && e.State == deployment.Done:
				end = at(e)
			}
		}
		if verdict.IsZero() || answers.Before(verdict) || end.Before(answers) {
			t.Fatalf("release %d: no verdict, answer and end in this order: %s", n, told(d))
		}
		healthy, done = append(healthy, answers.Sub(verdict)), append(done, end.Sub(verdict))
	}
	fmt.Printf("from a failed health verdict to the old release healthy again, %d runs: %s; with the soak of %v: %s\n",
		*rollbacks, spread(healthy), soak, spread(done))
}

// spread says how times are distributed.
func spread(all []time.Duration) string {
	slices.Sort(all)
	of := func(part float64) time.Duration {
		return all[int(part*float64(len(all)-1)+0.5)].Round(time.Millisecond)
	}
	return fmt.Sprintf("median %v, 95th percentile %v, worst %v", of(0.5), of(0.95), of(1))
}
