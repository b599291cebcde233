package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/grant/unitfile"
)

func (g *granting) remove(ctx context.Context, name string) error {
	if err := g.mayWrite(name); err != nil {
		return err
	}
	fail := func(err error) error {
		return &fault{err: err, code: deployment.ExitUsage, what: "remove app " + name}
	}
	report := &grantReport{App: name, DryRun: g.dryRun, Findings: []finding{}}
	// What is taken away does not depend on the configuration, which may be gone by now.
	settings, unread := g.p.settings(nil)
	configured := -1
	if unread == nil {
		configured = slices.IndexFunc(settings.Apps, func(c config.App) bool { return c.Key == name })
	}
	if configured >= 0 {
		report.Dir, report.Unit = settings.Apps[configured].Dir, settings.Apps[configured].Unit
	}
	w, left, err := g.leave(ctx, name, configured >= 0, report)
	if err != nil {
		return fail(err)
	}
	plan, err := grant.Remove(g.root, name)
	if err != nil {
		return fail(err)
	}
	if len(plan.Changes) == 0 && len(w.first.Changes) == 0 && unread == nil && configured < 0 {
		return unknownGrant(settings, name)
	}
	if !g.json {
		where := "the app's directory"
		if report.Dir != "" {
			where = report.Dir
		}
		g.p.printf("app %s: %s with all that is in it stays%s\n", name, where, left)
	}
	w.steps = []func() (grant.Plan, error){func() (grant.Plan, error) { return plan, nil }}
	return g.carryOut(ctx, w, report)
}

// leave plans what goes before the grant does: the socket, and what the flags name. left tells what else stays.
func (g *granting) leave(ctx context.Context, name string, configured bool, report *grantReport) (w work, left string, err error) {
	take := func(plan grant.Plan) {
		w.first.Changes = append(w.first.Changes, plan.Changes...)
		w.reload = w.reload || plan.Todo() > 0
	}
	socket, err := unitfile.FindSocket(g.root, name)
	if err != nil {
		return w, "", err
	}
	if socket.Listen != "" {
		plan, err := socket.Forget(g.root)
		if err != nil {
			return w, "", err
		}
		take(plan)
		// Once the unit needs it no more, its end is not the unit's; a process that has taken it keeps it.
		w.before = append(w.before, []string{"disable", socket.Name()})
		w.runs = append(w.runs, []string{"stop", socket.Name()})
		report.Findings = append(report.Findings, finding{warning, fmt.Sprintf("from its next start on, %s has to listen on %s itself", socket.Unit, socket.Listen)})
	}
	switch {
	case g.unit && report.Unit == "":
		report.Unit = name + ".service"
		fallthrough
	case g.unit:
		plan, unchanged, err := unitfile.Forget(g.root, name, report.Unit)
		if err != nil {
			return w, "", err
		}
		if !unchanged {
			report.Findings = append(report.Findings, finding{warning, fmt.Sprintf("%s stays: app add did not write it, or somebody has changed it; "+
				"systemctl disable --now %s and delete its file yourself", report.Unit, report.Unit)})
		}
		if plan.Todo() > 0 {
			w.before = append(w.before, []string{"disable", "--now", report.Unit})
		}
		take(plan)
	case report.Unit != "":
		left = ", and so does " + report.Unit
	default:
		left = ", and so does the app's unit"
	}
	switch {
	case configured && g.entry:
		draft, err := config.OpenDraft(g.p.config)
		if err == nil {
			err = draft.Remove(name)
		}
		if err != nil {
			return w, "", err
		}
		w.diff = draft.Diff()
		w.first.Changes = append(w.first.Changes, grant.Step(grant.Replace, g.p.config, "without app "+name, draft.Write))
	case configured:
		report.Findings = append(report.Findings, finding{warning, fmt.Sprintf("app %s is still in %s: "+
			"take it out, or its agent finds it not ready; --entry does that", name, g.p.config)})
	}
	return w, left, nil
}
