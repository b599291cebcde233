package cli

import (
	"context"
	"strings"

	"github.com/towline/towline/internal/grant"
)

// work is what app add and app remove do, in this order.
type work struct {
	before [][]string                   // of systemctl, at first
	first  grant.Plan                   // before anything can be granted
	diff   []string                     // of the configuration, told with it
	reload bool                         // have systemd read units after first
	steps  []func() (grant.Plan, error) // what comes then, each planned when the one before it is done
	runs   [][]string                   // of systemctl, at last
	note   string                       // said at last, before what is next
	start  string                       // starts an agent that does not run; empty: it needs none
}

// carryOut does the work, or shows it, and brings systemd and the agent up to date.
func (g *granting) carryOut(ctx context.Context, w work, report *grantReport) error {
	say := func(format string, args ...any) {
		if !g.json {
			g.p.printf(format, args...)
		}
	}
	tell := func(c grant.Change) {
		say("  %s\n", c)
		if c.Path == g.p.config {
			for _, line := range w.diff {
				say("             %s\n", line)
			}
		}
	}
	const again = "what was done until then stays; run the command again once this is settled"
	do := func(plan grant.Plan) error {
		report.Changes = append(report.Changes, plan.Changes...)
		if g.dryRun {
			for _, c := range plan.Changes {
				tell(c)
			}
			return nil
		}
		if err := plan.Apply(tell); err != nil {
			return stopped(err, again)
		}
		return nil
	}
	run := func(args ...string) error {
		say("  %-7s  systemctl %s\n", "run", strings.Join(args, " "))
		if g.dryRun {
			return nil
		}
		return g.systemctl(ctx, args...)
	}
	report.Changes = []grant.Change{}
	for _, args := range w.before {
		if err := run(args...); err != nil {
			return hinted(err, again)
		}
	}
	todo := w.first.Todo()
	if err := do(w.first); err != nil {
		return err
	}
	if w.reload {
		if err := run("daemon-reload"); err != nil {
			return err
		}
	}
	granted := 0
	for _, step := range w.steps {
		plan, err := step()
		if err != nil {
			return err
		}
		granted = plan.Todo()
		todo += granted
		if err := do(plan); err != nil {
			return err
		}
	}
	agent, err := g.inspect(ctx, grant.AgentUnit)
	if err != nil {
		return err
	}
	running := agent.ActiveState == "active" || agent.ActiveState == "activating" || agent.ActiveState == "reloading"
	restart := []string{"try-restart", grant.AgentUnit}
	stale := todo > 0 || agent.Stale // by an earlier run that did not come to its end
	switch {
	case stale && (granted > 0 || agent.Stale):
		if err := run("daemon-reload"); err != nil {
			return err
		}
	case !stale && len(w.runs) == 0:
		say("  nothing to do: everything is as it should be\n")
	}
	for _, args := range w.runs {
		if err := run(args...); err != nil {
			return hinted(err, again)
		}
	}
	switch {
	case !stale && running:
	case !running:
		if w.start != "" {
			report.next = append(report.next, w.start)
		}
	case g.noRestart:
		report.next = append(report.next, "systemctl "+strings.Join(restart, " "))
	default:
		if err := run(restart...); err != nil {
			return hinted(err, "journalctl --unit %s shows why", grant.AgentUnit)
		}
		report.Restarted = !g.dryRun
	}
	report.Findings = append(report.Findings, report.adopted...)
	for _, text := range report.Checks {
		say("ok: %s\n", text)
	}
	for _, f := range report.Findings {
		say("%s: %s\n", f.Level, f.Text)
	}
	say("%s", w.note)
	report.Next = strings.Join(report.next, " && ")
	if report.Next != "" {
		say("next: %s\n", report.Next)
	}
	if g.json {
		return g.p.printJSON(report)
	}
	return nil
}
