package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/cli/adopt"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
)

// adoption looks at the directory that is to become the first release.
func (g *granting) adoption(settings config.Settings, c config.App, report *grantReport) (*adopt.Adoption, error) {
	a, err := adopt.Look(adopt.Options{
		Key: c.Key, From: strings.TrimSuffix(g.wish.adopt, "/"), Dir: c.Dir, Shared: c.Shared, Version: g.wish.version, State: settings.State,
		Agent: report.agent, User: report.app,
	})
	if err != nil {
		return nil, &fault{err: err, code: deployment.ExitUsage, what: "adopt " + g.wish.adopt}
	}
	if strings.Contains(c.Health.Expect, "{{hash}}") && !a.Known {
		return nil, &fault{
			err:  errors.New("the health check expects the release's hash in the answer, and nothing there says what the app calls its version"),
			hint: "ask the app for its version and name it with --adopt-version; without, it would not be found healthy when a deployment goes back to it",
			code: deployment.ExitUsage, what: "adopt " + g.wish.adopt,
		}
	}
	for _, note := range a.Notes {
		report.adopted = append(report.adopted, finding{warning, note})
	}
	return a, nil
}

// adopts plans the adoption, once the app's user is there.
func (g *granting) adopts(ctx context.Context, a *adopt.Adoption, settings config.Settings, c config.App, f *founding, report *grantReport) (grant.Plan, error) {
	if !g.dryRun && f.newUser != "" {
		f.newUser = "" // is there now, with a number
		if _, err := g.grants(ctx, settings, c, f, report); err != nil {
			return grant.Plan{}, err
		}
	}
	a.Agent, a.User = report.agent, report.app
	plan := a.Plan(ctx)
	if plan.Todo() > 0 {
		report.adopted = append(report.adopted, finding{advice, g.wish.adopt + " leads to the live release, release " + a.Name() +
			" for now. What it was runs on until the next restart; to lead it back: " + a.Undo()})
		if unit, err := g.inspect(ctx, c.Unit); c.Unit != "" && err == nil && unit.ActiveState == "active" {
			report.next = append(report.next, "systemctl restart "+c.Unit)
		}
	}
	return plan, nil
}

// stopped is the error of a change that could not be made.
func stopped(err error, hint string) error {
	if errors.Is(err, appdir.ErrLocked) {
		return &fault{
			err: err, code: deployment.ExitHeld,
			hint: "systemctl stop " + grant.AgentUnit + ", run the command again, then systemctl start " + grant.AgentUnit,
		}
	}
	return hinted(err, "%s", hint)
}
