package zoo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// TestZoo gives every animal a release that works, then its second one.
func TestZoo(t *testing.T) {
	t.Parallel()
	began := time.Now()
	z := open(t, animals)
	var names []string
	for _, a := range animals {
		names = append(names, a.name)
	}
	t.Logf("%.1f s: the server runs with %d apps", time.Since(began).Seconds(), len(names))
	z.publish(1, names...)
	for app, r := range z.ended(2*time.Minute, 1, names...) {
		if r.Deployment.Outcome != deployment.Deployed {
			t.Fatalf("%s: the good release: got %s", app, told(r.Deployment))
		}
	}
	t.Logf("%.1f s: every good release is live", time.Since(began).Seconds())

	pids := map[string]string{}
	for _, a := range animals {
		if a.meanwhile != "" && a.outcome == deployment.Failed {
			pids[a.name] = z.show(a.name, "MainPID")
		}
		if a.sick {
			z.Run(t, "touch", "/run/zoo/"+a.name+".sick")
		}
	}
	z.publish(2, names...)
	for _, a := range animals {
		if a.meanwhile != "" {
			z.meanwhile(t, a)
		}
	}
	receipts := z.ended(2*time.Minute, 2, names...)
	status := z.status()
	t.Logf("%.1f s: every second release has ended", time.Since(began).Seconds())
	for _, a := range animals {
		t.Run(a.name, func(t *testing.T) { z.judge(t, a, receipts[a.name], status[a.name]) })
	}
	for app, want := range pids {
		// What could not be restarted was not: the process of before is there still.
		if pid := z.show(app, "MainPID"); pid != want {
			t.Errorf("%s: got main process %s, want %s, which was never to be touched", app, pid, want)
		}
	}
	if log := z.Journal(t, "towline-agent.service"); !strings.Contains(log, "run systemctl daemon-reload") {
		t.Errorf("the agent does not say that edited.service is to be loaded again:\n%s", log)
	}
	t.Run("both is left alone", func(t *testing.T) { z.leftAlone(t, "both") })
	t.Logf("%.1f s in all", time.Since(began).Seconds())
}

// meanwhile does what is to be done to the server between the unpacking and the activation of the animal's second release.
func (z *zoo) meanwhile(t *testing.T, a animal) {
	t.Helper()
	if !z.poll(time.Minute, func() bool { _, err := z.TryRun(t, "test", "-e", "/run/zoo/"+a.name+".here"); return err == nil }) {
		t.Fatalf("%s: its hook does not run:\n%s", a.name, z.Journal(t, "towline-agent.service"))
	}
	z.Run(t, "sh", "-ec", a.meanwhile)
	z.Run(t, "touch", "/run/zoo/"+a.name+".go")
}

// judge compares what became of an animal's second release with what is to become of it.
func (z *zoo) judge(t *testing.T, a animal, r, status deployment.Receipt) {
	d := r.Deployment
	t.Log(told(d))
	if d.Outcome != a.outcome || !slices.ContainsFunc(strings.Split(a.reason, "|"), func(r string) bool { return strings.Contains(d.Reason, r) }) {
		t.Errorf("got %s: %s, want %s: …%s…", d.Outcome, d.Reason, a.outcome, a.reason)
	}
	if !strings.Contains(told(d), a.said) {
		t.Errorf("got a story without %q", a.said)
	}
	var step deployment.Step
	for _, e := range d.Events {
		if e.State == deployment.StepFail && step == "" && e.Outcome == "" {
			step = e.Step
		}
	}
	if step != a.step {
		t.Errorf("got step %q that failed, want %q", step, a.step)
	}
	live := version(a.name, 1)
	if a.outcome == deployment.Deployed {
		live = version(a.name, 2)
	}
	if r.Live.Hash != live || r.Pointer.Hash != version(a.name, 2) {
		t.Errorf("got %s live and pointer %s, want %s live", r.Live.Hash, r.Pointer.Hash, live)
	}
	if status.Live != r.Live || status.Deployment.Outcome != d.Outcome || status.Deployment.Reason != d.Reason {
		t.Errorf("towline status says %+v %+v, the receipt %+v %s: %s", status.Live, status.Deployment, r.Live, d.Outcome, d.Reason)
	}
	if link := z.current(a.name); link != live {
		t.Errorf("current leads to %s, want %s", link, live)
	}
	switch {
	case a.outcome == deployment.Broken:
	case a.mute:
		if got := strings.TrimSpace(z.Run(t, "cat", "/run/zoo/"+a.name)); got != live {
			t.Errorf("%s ran last, want %s", got, live)
		}
	default:
		if got := z.answer(a.name); got != live {
			t.Errorf("it answers %q, want %q", got, live)
		}
	}
	if took := lasted(d); a.meanwhile == "" && took > deadline { // the others wait for the test
		t.Errorf("took %v, want %v at most", took, deadline)
	}
}

// leftAlone watches an app both of whose releases are bad: nobody starts it again, and one message was sent of it.
func (z *zoo) leftAlone(t *testing.T, app string) {
	before, id := z.show(app, "InvocationID", "NRestarts", "ExecMainStartTimestampMonotonic"), z.status()[app].Deployment.ID
	began := time.Now()
	if !z.poll(time.Minute, func() bool {
		if now := z.show(app, "InvocationID", "NRestarts", "ExecMainStartTimestampMonotonic"); now != before {
			t.Errorf("got %s, want %s: it was started again", now, before)
			return true
		}
		// Long enough for four looks of the agent at its pointer, and for its message.
		return time.Since(began) > 4*time.Second && len(z.about(app)) > 0
	}) {
		t.Error("nobody was told of it")
	}
	if now := z.status()[app].Deployment.ID; now != id {
		t.Errorf("got deployment %s, want %s still", now, id)
	}
	if about := z.about(app); len(about) != 1 || !strings.Contains(about[0], "broken "+app) {
		t.Errorf("got messages %q, want one, that it is broken", about)
	}
}

// about are the messages about an app that the webhook has got.
func (z *zoo) about(app string) []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	var about []string
	for _, n := range z.notices {
		if strings.Contains(n, app+" on zoo") {
			about = append(about, n)
		}
	}
	return about
}

// show is what systemd says of a unit.
func (z *zoo) show(app string, properties ...string) string {
	z.t.Helper()
	return strings.TrimSpace(z.Run(z.t, "systemctl", "show", "--property="+strings.Join(properties, ","), app+".service"))
}

// lasted is the time from the first event of a deployment to its last.
func lasted(d *deployment.Record) time.Duration {
	if len(d.Events) == 0 {
		return 0
	}
	return at(d.Events[len(d.Events)-1]).Sub(at(d.Events[0]))
}

// at is the time of an event.
func at(e deployment.Event) time.Time {
	when, err := time.Parse(time.RFC3339, e.Time)
	if err != nil {
		panic(fmt.Sprintf("event %d: %v", e.N, err))
	}
	return when
}
