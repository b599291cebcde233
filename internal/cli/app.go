package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
)

// agentUser is whom the packaged agent runs as, and the group that may command it.
const agentUser = "towline"

// granting is what app add and app remove do on a machine.
type granting struct {
	p         *program
	root      string // before every path that is written
	euid      int
	inspect   func(context.Context, string) (service.Description, error)
	account   func(name, group string) (account, error)
	polkit    func(context.Context) (version string, able bool, err error)
	systemctl func(ctx context.Context, args ...string) error
	useradd   func(ctx context.Context, args ...string) error

	wish        wishes
	entry, unit bool // what app remove takes away too

	allowRoot, noRestart, dryRun, json bool
}

func (p *program) appCommand() *cobra.Command {
	g := &granting{
		p: p, euid: os.Geteuid(), inspect: service.Inspect, account: lookUp, polkit: grant.Polkit, systemctl: systemctl, useradd: useradd,
	}
	return g.command()
}

func (g *granting) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "app", Short: "Grant the agent what it needs for an app, or take it away", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.PersistentFlags().StringVar(&g.p.config, "config", defaultConfig, "the configuration `file`")
	add := &cobra.Command{
		Use: "add NAME", Short: "Make the app's directory and let the agent write there and restart the app's unit",
		Long: `Make the app's directory and let the agent write there and restart the app's unit, and nothing else. NAME is the app's
key in the configuration; an app that is not there yet is added by what the flags say, and all else in the file stays as it
is. It may be run again: what is as it should be stays.`,
		Example: `  towline app add nodeapi --exec "node server.js" --http http://127.0.0.1:3000/version
  towline app add nodeapi --unit nodeapi.service --socket 3000`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := g.wish.note(cmd); err != nil {
				return err
			}
			return g.add(cmd.Context(), args[0])
		},
	}
	g.wish.flags(add)
	add.Flags().BoolVar(&g.allowRoot, "allow-root", false, "take a unit that runs as root: a signed release is root then")
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Take away what add has granted; the app, its directory and its data stay",
		Long: `Take away what add has granted, and the socket that it has set up. The app runs on; its directory with releases and data
stays, and so do its user, its unit and its entry in the configuration unless they are named.`,
		Args: oneName, RunE: func(cmd *cobra.Command, args []string) error { return g.remove(cmd.Context(), args[0]) },
	}
	remove.Flags().BoolVar(&g.entry, "entry", false, "take its entry out of the configuration too")
	remove.Flags().BoolVar(&g.unit, "unit", false, "stop it, and delete the unit that add has written, unless somebody has changed it")
	for _, c := range []*cobra.Command{add, remove} {
		c.Flags().BoolVar(&g.dryRun, "dry-run", false, "print what would be done, and do nothing")
		c.Flags().BoolVar(&g.noRestart, "no-restart", false, "leave a running agent alone: it gets its rights at its next start")
		c.Flags().BoolVar(&g.json, "json", false, "print JSON")
		cmd.AddCommand(c)
	}
	return cmd
}

// oneName is the rule of a verb that takes one app.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("name the app as the configuration does")
	}
	return atMost("NAME")(cmd, args)
}

// grantReport is what --json prints.
type grantReport struct {
	App       string         `json:"app"`
	Dir       string         `json:"dir,omitempty"`
	Unit      string         `json:"unit,omitempty"`
	User      string         `json:"user,omitempty"`
	AgentRoot bool           `json:"agent_as_root"`
	DryRun    bool           `json:"dry_run"`
	Changes   []grant.Change `json:"changes"`
	Checks    []string       `json:"checks,omitempty"` // what is as it should be
	Findings  []finding      `json:"findings"`
	Restarted bool           `json:"restarted"`
	Next      string         `json:"next,omitempty"`

	next       []string
	adopted    []finding // about what is adopted
	agent, app grant.Owner
}

func (g *granting) add(ctx context.Context, name string) error {
	if err := g.mayWrite(name); err != nil {
		return err
	}
	settings, c, draft, err := g.configured(name)
	if err != nil {
		return err
	}
	f, err := g.found(ctx, c, draft)
	if err != nil {
		return err
	}
	report := &grantReport{App: name, Dir: c.Dir, Unit: c.Unit, DryRun: g.dryRun}
	// The first time to see whether anything stands in the way, before anything is written.
	plan, err := g.grants(ctx, settings, c, f, report)
	if err != nil {
		return err
	}
	w := work{first: f.plan, reload: f.unread, start: "systemctl enable --now " + grant.AgentUnit}
	if draft != nil {
		w.diff = draft.Diff()
	}
	if g.wish.adopt != "" {
		adoption, err := g.adoption(settings, c, report)
		if err != nil {
			return err
		}
		defer adoption.Close()
		w.steps = append(w.steps, func() (grant.Plan, error) { return g.adopts(ctx, adoption, settings, c, f, report) })
	}
	w.steps = append(w.steps, func() (grant.Plan, error) {
		if g.dryRun || f.plan.Todo() == 0 && g.wish.adopt == "" {
			return plan, nil
		}
		f.newUser = "" // is there now, with a number
		return g.grants(ctx, settings, c, f, report)
	})
	if f.service != nil || f.socket != nil {
		unit, err := g.inspect(ctx, c.Unit)
		if err != nil {
			return err
		}
		w.runs, report.next = f.starts(unit)
	}
	if !g.json {
		g.p.printf("app %s in %s%s\n", name, c.Dir, runsAs(c, report.User))
	}
	if f.socket != nil && f.unread {
		w.note = f.lines()
	}
	return g.carryOut(ctx, w, report)
}

// grants plans what the agent gets for the app, and fills the report in with what is known then. What stands in the way is an
// error.
func (g *granting) grants(ctx context.Context, settings config.Settings, c config.App, f *founding, report *grantReport) (grant.Plan, error) {
	app, findings, err := g.plan(ctx, settings, c, f)
	if err != nil {
		return grant.Plan{}, err
	}
	report.agent, report.app = app.Agent, app.User
	report.User, report.AgentRoot, report.Checks, report.Findings = app.User.User, app.AsRoot, f.sound, findings
	if refused := only(findings, refusal); len(refused) > 0 {
		if g.json {
			report.Changes = []grant.Change{}
			if err := g.p.printJSON(report); err != nil {
				return grant.Plan{}, err
			}
		}
		return grant.Plan{}, &fault{err: errors.New(refused[0]), all: refused, code: deployment.ExitUsage, what: "add app " + c.Key}
	}
	plan, err := grant.Add(g.root, app)
	if err != nil {
		f := &fault{err: err, code: deployment.ExitUsage, what: "add app " + c.Key}
		if g.euid != 0 && errors.Is(err, fs.ErrPermission) {
			f.hint = "use sudo: not everybody may look at what is granted"
		}
		return plan, f
	}
	if others := otherKeys(settings, c.Key); plan.EndsRoot() && len(others) > 0 {
		report.Findings = append(report.Findings, finding{warning, "the agent is root no longer, and so far it has no rights for " +
			strings.Join(others, ", ") + ": run towline app add for each"})
	}
	return plan, nil
}

// otherKeys are the keys of all apps but one.
func otherKeys(settings config.Settings, name string) (keys []string) {
	for _, a := range settings.Apps {
		if a.Key != name {
			keys = append(keys, a.Key)
		}
	}
	return keys
}

func runsAs(c config.App, user string) string {
	if c.Unit == "" {
		return ", without a unit"
	}
	return fmt.Sprintf(", unit %s, which runs as %s", c.Unit, user)
}

// mayWrite checks the name, and that this is root, who alone may grant anything.
func (g *granting) mayWrite(name string) error {
	if err := release.CheckApp(name); err != nil {
		return usagef("%w", err)
	}
	if g.euid != 0 && !g.dryRun {
		return &fault{
			err: errors.New("only root may grant rights"), hint: "use sudo; --dry-run shows what it would do", code: deployment.ExitUsage,
		}
	}
	return nil
}
