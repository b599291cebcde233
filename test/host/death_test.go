package host

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// death is one fault at one step of a deployment on the machine.
type death struct {
	*machine
	t       *testing.T
	version string // of the release that is on its way
	live    string // of the one that is live
	gate    string // file in /srv/gate that holds the deployment at the step; "" for fetch, which the store holds
	reached chan struct{}
	goOn    chan struct{}
	before  map[string]string // the logs of the units when the deployment began
}

// steps are where a deployment is held, and what becomes of it when it goes on.
var steps = []struct {
	name, version, gate string
	outcome             deployment.Outcome
}{
	{"fetch", "v", "", deployment.Deployed},
	{"before", "v", "before", deployment.Deployed},
	{"start", "v", "start", deployment.Deployed},
	{"check", "v", "check", deployment.Deployed},
	{"after", "v", "after", deployment.Deployed},
	{"bad", "bad", "check", deployment.RolledBack},
	{"undo", "dead", "start", deployment.RolledBack},
}

// TestDeathAtEveryStep has the power go, the machine be rebooted, the agent be killed, and the agent be restarted, with a
// deployment at each of its steps, the roll back among them. The fetch is in the middle of changing what was a release
// directory. After a boot the unit starts from where current leads, which is whole; the agent takes the deployment up before
// its first look at the bucket; and it ends, once, as it would have ended.
func TestDeathAtEveryStep(t *testing.T) {
	for name, faults := range map[string][]string{"machine": {"power", "reboot"}, "agent": {"kill", "restart"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			live, n := "", 0
			for _, fault := range faults {
				for i := range 3 { // so many that nothing has disturbed that the next is made of the oldest
					live = fault + strconv.Itoa(i)
					m.release(live)
					m.ended(t, deployment.Deployed, live)
				}
				for _, step := range steps {
					n++
					d := &death{
						machine: m, version: step.version + strconv.Itoa(n), live: live, gate: step.gate,
						reached: make(chan struct{}), goOn: make(chan struct{}),
					}
					if step.outcome == deployment.Deployed {
						live = d.version
					}
					ok := t.Run(fault+" at "+step.name, func(t *testing.T) {
						d.t = t
						d.begin(step.name)
						d.strike(fault, step.name)
						m.ended(t, step.outcome, live)
					})
					if !ok {
						return // the next would start from who knows where
					}
				}
			}
		})
	}
}

// begin publishes the release and waits until its deployment is held at the step.
func (d *death) begin(step string) {
	d.t.Helper()
	d.before = map[string]string{}
	for _, unit := range []string{agentUnit, appUnit} {
		d.before[unit] = d.Journal(d.t, unit)
	}
	switch step {
	case "fetch":
		d.store.set(func() { d.store.half = func() { close(d.reached); <-d.goOn } })
	case "undo": // the release shuts the gate itself
	default:
		d.WriteFile(d.t, "/srv/gate/"+d.gate, nil, 0o644)
	}
	releases := d.releases()
	d.release(d.version)
	switch step {
	case "fetch":
		eventually(d.t, "half of it is fetched", func() (bool, string) {
			select {
			case <-d.reached:
				return true, ""
			default:
				return false, d.Journal(d.t, agentUnit)
			}
		})
		if names := d.releases(); len(names) != len(releases)+1 || names[0] != ".stage-begun" || names[1] != ".stage-begun.notes" {
			d.t.Fatalf("got %q, want one of %q be the stage, with notes", names, releases)
		}
	case "before", "after":
		unit := map[string]string{"before": "before-activate", "after": "after-healthy"}[step]
		d.logs("towline-app-web@"+unit+".service", "at "+step+" of "+d.version)
	case "start":
		d.logs(appUnit, "starting "+d.version)
	case "check", "bad":
		d.logs(agentUnit, fmt.Sprintf("seq=%d step=check state=started", d.seq))
	case "undo":
		d.logs(agentUnit, fmt.Sprintf("seq=%d step=\"roll back\" state=started", d.seq))
		d.logs(appUnit, "starting "+d.live)
	}
	if got := len(d.outcomes(d.t)); got != 0 {
		d.t.Fatalf("got %d records of it already", got)
	}
}

// releases are the names in the directory of that name.
func (d *death) releases() []string {
	d.t.Helper()
	return strings.Fields(d.Run(d.t, "ls", "-A", "/srv/web/releases"))
}

// logs waits until the unit's log has the text once more than it had when the deployment began.
func (d *death) logs(unit, text string) {
	d.t.Helper()
	eventually(d.t, unit+": "+text, func() (bool, string) {
		log := d.Journal(d.t, unit)
		return strings.Count(log, text) > strings.Count(d.before[unit], text), log
	})
}

// open lets the deployment go on.
func (d *death) open() {
	d.t.Helper()
	d.Run(d.t, "sh", "-c", "rm -f /srv/gate/*")
	close(d.goOn)
}

// strike does the fault, lets the deployment go on, and waits until an agent has taken it up.
func (d *death) strike(fault, step string) {
	d.t.Helper()
	const takenUp = "taking up an interrupted deployment"
	switch fault {
	case "power", "reboot":
		since := time.Now()
		if fault == "power" {
			d.Kill(d.t)
		} else {
			d.Poweroff(d.t)
		}
		d.before = nil // the log is of this boot
		current := d.Run(d.t, "cat", "/srv/web/current/version")
		if files := d.Run(d.t, "sh", "-c", "find /srv/web/current/ -type f | wc -l"); files != fmt.Sprintln(len(d.files)+1) {
			d.t.Errorf("current holds %s files, want %d", files, len(d.files)+1)
		}
		d.open()
		d.Boot(d.t)
		d.logs(appUnit, "starting ")
		if first := d.Journal(d.t, appUnit); !strings.HasPrefix(first[strings.Index(first, "starting "):], "starting "+current+"\n") {
			d.t.Errorf("the unit started\n%s\nwant it to start %s, where current led", first, current)
		}
		d.logs(agentUnit, takenUp)
		d.recoveredFirst(d.t, since)
	case "kill":
		d.Run(d.t, "systemctl", "kill", "--kill-who=main", "--signal=KILL", agentUnit)
		d.open()
		d.logs(agentUnit, takenUp)
	case "restart":
		d.Run(d.t, "systemctl", "restart", "--no-block", agentUnit)
		d.logs(agentUnit, "towline-agent is stopping")
		d.open()
		if step == "undo" { // which nothing stops: the old release comes first
			d.logs(agentUnit, "Started towline-agent")
			return
		}
		d.logs(agentUnit, takenUp)
	}
}

// recoveredFirst wants the agent to have taken up what was interrupted before it asked the store for the pointer.
func (m *machine) recoveredFirst(t *testing.T, since time.Time) {
	t.Helper()
	line := m.Run(t, "sh", "-c", "journalctl --boot --unit="+agentUnit+" --output=short-unix | grep -m1 'taking up an interrupted deployment'")
	seconds, err := strconv.ParseFloat(strings.Fields(line)[0], 64)
	must(t, err)
	taken := time.UnixMicro(int64(seconds * 1e6))
	var first time.Time
	eventually(t, "the agent looks again", func() (bool, string) {
		m.store.set(func() {
			for _, look := range m.store.looks {
				if first.IsZero() && look.After(since) {
					first = look
				}
			}
		})
		return !first.IsZero(), ""
	})
	if first.Before(taken.Add(-time.Millisecond)) {
		t.Errorf("the agent looked at %v, before it took up what was interrupted at %v", first, taken)
	}
}
