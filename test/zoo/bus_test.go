package zoo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// passengers are apps to whose deployments something happens on the way to systemd.
var passengers = []animal{
	{name: "restart", first: good, second: "exec beast -after 2s"},
	{name: "job", unit: "Type=notify", first: good, second: "exec beast -after 2s"},
	{name: "frozen", health: "stable: 500ms", first: good, second: good},
	{name: "fallback", health: "stable: 500ms", first: good, second: good},
	{name: "blind", health: "stable: 500ms", first: good, second: "exec beast -after 1h"},
	{name: "denial", health: "stable: 500ms", first: good, second: good, meanwhile: "systemctl kill --signal=STOP polkit.service"},
}

// stuck is what the agent says when its question is not answered.
const stuck = "no answer in time: systemd, the message bus or polkit is stuck"

// TestBus lets the message bus die and stop answering, and polkit stop answering, while deployments are under way.
func TestBus(t *testing.T) {
	t.Parallel()
	z := open(t, passengers)
	var names []string
	for _, a := range passengers {
		names = append(names, a.name)
	}
	z.publish(1, names...)
	for app, r := range z.ended(2*time.Minute, 1, names...) {
		if r.Deployment.Outcome != deployment.Deployed {
			t.Fatalf("%s: the good release: got %s", app, told(r.Deployment))
		}
	}
	signal := func(name string) { z.Run(t, "systemctl", "kill", "--signal="+name, "dbus.service") }
	t.Cleanup(func() { _, _ = z.TryRun(t, "systemctl", "kill", "--signal=CONT", "dbus.service", "polkit.service") })

	t.Run("dbus dies", func(t *testing.T) {
		z.publish(2, "restart", "job")
		z.reach(t, "restart", deployment.Check)
		z.reach(t, "job", deployment.Activate)
		signal("KILL")
		got := z.ended(time.Minute, 2, "restart", "job")
		for _, app := range []string{"restart", "job"} {
			z.wants(t, got[app], deployment.Deployed, "", 2)
		}
	})
	if _, err := z.TryRun(t, "systemctl", "is-active", "dbus.service"); err != nil {
		z.Run(t, "systemctl", "start", "dbus.service")
	}

	t.Run("dbus is frozen", func(t *testing.T) {
		pid := z.show("frozen", "MainPID")
		z.publish(2, "blind")
		z.reach(t, "blind", deployment.Check)
		signal("STOP")

		// A deployment that begins now touches nothing.
		z.publish(2, "frozen", "fallback")
		r := z.ended(time.Minute, 2, "frozen")["frozen"]
		z.wants(t, r, deployment.Failed, stuck, 1)
		if took := lasted(r.Deployment); took > deadline {
			t.Errorf("took %v, want %v at most", took, deadline)
		}
		if now := z.show("frozen", "MainPID"); now != pid {
			t.Errorf("got %s, want %s: nothing was to be touched", now, pid)
		}
		if got := z.status()["frozen"].Status; !strings.Contains(got, "not ready") {
			t.Errorf("got status %q while the bus is frozen", got)
		}
		z.byRoot(t)

		// Of one that was in its check nobody can tell how it goes: it is taken back. Whatever is started from then on is the
		// old release, and it is started as soon as the bus answers.
		z.reach(t, "blind", deployment.RollBack)
		if !z.poll(time.Minute, func() bool { return z.current("blind") == version("blind", 1) }) {
			t.Errorf("current leads to %s although the release is being taken back", z.current("blind"))
		}
		signal("CONT")
		z.wants(t, z.ended(time.Minute, 2, "blind")["blind"], deployment.Failed, stuck, 1)
		z.Run(t, "towline", "deploy", "frozen", "--force")
		z.wants(t, z.status()["frozen"], deployment.Deployed, "", 2)
	})

	t.Run("polkit is frozen", func(t *testing.T) {
		pid := z.show("denial", "MainPID")
		z.publish(2, "denial")
		z.meanwhile(t, passengers[len(passengers)-1])
		r := z.ended(time.Minute, 2, "denial")["denial"]
		z.Run(t, "systemctl", "kill", "--signal=CONT", "polkit.service")
		z.wants(t, r, deployment.Failed, stuck, 1)
		if took := lasted(r.Deployment); took > deadline {
			t.Errorf("took %v, want %v at most", took, deadline)
		}
		if now := z.show("denial", "MainPID"); now != pid {
			t.Errorf("got %s, want %s: it could not be restarted", now, pid)
		}
		z.Run(t, "towline", "deploy", "denial", "--force")
		z.wants(t, z.status()["denial"], deployment.Deployed, "", 2)
	})
}

// byRoot has an agent that is root deploy while the bus is frozen: it speaks to systemd itself.
func (z *zoo) byRoot(t *testing.T) {
	t.Helper()
	z.WriteFile(t, "/root/agent.yaml", fmt.Appendf(nil, "server: root\nbucket: file:///srv/bucket\ntrust: {keys: [%q]}\n"+
		"state: /root/state\nsocket: /root/agent.sock\nreceipts: false\napps:\n%s", z.key.Public(),
		strings.ReplaceAll(passengers[3].config(z.port["fallback"]), "    unit:", "    dir: /srv/other\n    unit:")), 0o600)
	z.Run(t, "sed", "-i", "s|/srv/fallback/current|/srv/other/current|", "/etc/systemd/system/fallback.service")
	z.Run(t, "sh", "-ec", "systemctl daemon-reload; install -d /srv/other")
	if out := z.Run(t, "towline-agent", "--config", "/root/agent.yaml", "--once"); !strings.Contains(out, "deployed") {
		t.Errorf("as root, without a bus: got %s", out)
	}
	if got, want := z.answer("fallback"), version("fallback", 2); got != want {
		t.Errorf("as root, without a bus: it answers %q, want %q", got, want)
	}
}

// reach waits until the deployment of the second release is at the step.
func (z *zoo) reach(t *testing.T, app string, step deployment.Step) {
	t.Helper()
	if !z.poll(time.Minute, func() bool {
		d := z.status()[app].Deployment
		if d == nil || d.Hash != version(app, 2) {
			return false
		}
		if r := z.receipts()[app].Deployment; r != nil && r.ID == d.ID {
			for _, e := range r.Events {
				if e.Step == step {
					return true
				}
			}
		}
		return false
	}) {
		t.Fatalf("%s does not come to %s: %s", app, step, told(z.receipts()[app].Deployment))
	}
}

// wants compares the end of a deployment, and what is live, with what is wanted.
func (z *zoo) wants(t *testing.T, r deployment.Receipt, outcome deployment.Outcome, reason string, live int) {
	t.Helper()
	t.Log(told(r.Deployment))
	if d := r.Deployment; d.Outcome != outcome || !strings.Contains(d.Reason, reason) {
		t.Errorf("%s: got %s: %s, want %s: …%s…", r.App, d.Outcome, d.Reason, outcome, reason)
	}
	want := version(r.App, live)
	if link := z.current(r.App); r.Live.Hash != want || link != want {
		t.Errorf("%s: got %s live and current to %s, want %s", r.App, r.Live.Hash, link, want)
	}
	if got := z.answer(r.App); got != want {
		t.Errorf("%s answers %q, want %q", r.App, got, want)
	}
}

// current is the version that current leads to.
func (z *zoo) current(app string) string {
	out, err := z.TryRun(z.t, "cat", "/srv/"+app+"/current/version.txt")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}
