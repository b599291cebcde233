package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
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

	allowRoot, noRestart, dryRun, json bool
}

func (p *program) appCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "app", Short: "Grant the agent what it needs for an app, or take it away", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.PersistentFlags().StringVar(&p.config, "config", defaultConfig, "the configuration `file`")
	g := &granting{
		p: p, euid: os.Geteuid(), inspect: service.Inspect, account: lookUp, polkit: grant.Polkit, systemctl: systemctl,
	}
	add := &cobra.Command{
		Use: "add NAME", Short: "Make the app's directory and let the agent write there and restart the app's unit",
		Long: `Make the app's directory and let the agent write there and restart the app's unit, and nothing else. NAME is the app's
key in the configuration, which is to be written first. It may be run again: what is as it should be stays.`,
		Args: oneName, RunE: func(cmd *cobra.Command, args []string) error { return g.add(cmd.Context(), args[0]) },
	}
	add.Flags().BoolVar(&g.allowRoot, "allow-root", false, "take a unit that runs as root: a signed release is root then")
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Take away what add has granted; the app, its directory and its data stay",
		Args: oneName, RunE: func(cmd *cobra.Command, args []string) error { return g.remove(cmd.Context(), args[0]) },
	}
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
	Findings  []finding      `json:"findings"`
	Restarted bool           `json:"restarted"`
	Next      string         `json:"next,omitempty"`
}

func (g *granting) add(ctx context.Context, name string) error {
	if err := g.mayWrite(name); err != nil {
		return err
	}
	settings, err := g.p.settings(nil)
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		return g.p.misconfigured(wrong)
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(settings.Apps, func(a config.App) bool { return a.Key == name })
	if i < 0 {
		return unknownApp(settings, name)
	}
	c := settings.Apps[i]
	app, findings, err := g.plan(ctx, settings, c)
	if err != nil {
		return err
	}
	report := grantReport{
		App: name, Dir: c.Dir, Unit: c.Unit, User: app.User.User, AgentRoot: app.AsRoot, DryRun: g.dryRun, Findings: findings,
	}
	if refused := only(findings, refusal); len(refused) > 0 {
		if g.json {
			report.Changes = []grant.Change{}
			if err := g.p.printJSON(report); err != nil {
				return err
			}
		}
		return &fault{err: errors.New(refused[0]), all: refused, code: deployment.ExitUsage, what: "add app " + name}
	}
	plan, err := grant.Add(g.root, app)
	if err != nil {
		f := &fault{err: err, code: deployment.ExitUsage, what: "add app " + name}
		if g.euid != 0 && errors.Is(err, fs.ErrPermission) {
			f.hint = "use sudo: not everybody may look at what is granted"
		}
		return f
	}
	if others := otherKeys(settings, name); plan.EndsRoot() && len(others) > 0 {
		report.Findings = append(report.Findings, finding{warning, "the agent is root no longer, and so far it has no rights for " +
			strings.Join(others, ", ") + ": run towline app add for each"})
	}
	if !g.json {
		g.p.printf("app %s in %s%s\n", name, c.Dir, runsAs(c, app))
	}
	return g.carryOut(ctx, plan, report, "systemctl enable --now "+grant.AgentUnit)
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

func runsAs(c config.App, app grant.App) string {
	if c.Unit == "" {
		return ", without a unit"
	}
	return fmt.Sprintf(", unit %s, which runs as %s", c.Unit, app.User.User)
}

func (g *granting) remove(ctx context.Context, name string) error {
	if err := g.mayWrite(name); err != nil {
		return err
	}
	report := grantReport{App: name, DryRun: g.dryRun, Findings: []finding{}}
	// What is taken away does not depend on the configuration, which may be gone by now.
	settings, unread := g.p.settings(nil)
	configured := -1
	if unread == nil {
		configured = slices.IndexFunc(settings.Apps, func(c config.App) bool { return c.Key == name })
	}
	if configured >= 0 {
		report.Dir, report.Unit = settings.Apps[configured].Dir, settings.Apps[configured].Unit
		report.Findings = append(report.Findings, finding{warning, fmt.Sprintf("app %s is still in %s: "+
			"take it out, or its agent finds it not ready", name, g.p.config)})
	}
	plan, err := grant.Remove(g.root, name)
	if err != nil {
		return &fault{err: err, code: deployment.ExitUsage, what: "remove app " + name}
	}
	if len(plan.Changes) == 0 && unread == nil && configured < 0 {
		return unknownGrant(settings, name)
	}
	if !g.json {
		where := "the app's directory"
		if report.Dir != "" {
			where = report.Dir
		}
		g.p.printf("app %s: %s with all that is in it stays, and so does the app's unit\n", name, where)
	}
	return g.carryOut(ctx, plan, report, "")
}

// carryOut does what is planned, or shows it, and brings systemd and the agent up to date. start is the command that
// starts an agent that does not run; empty: it needs none.
func (g *granting) carryOut(ctx context.Context, plan grant.Plan, report grantReport, start string) error {
	report.Changes = plan.Changes
	if report.Changes == nil {
		report.Changes = []grant.Change{}
	}
	say := func(format string, args ...any) {
		if !g.json {
			g.p.printf(format, args...)
		}
	}
	todo := plan.Todo()
	if g.dryRun {
		for _, c := range plan.Changes {
			say("  %s\n", c)
		}
	} else if err := plan.Apply(func(c grant.Change) { say("  %s\n", c) }); err != nil {
		return hinted(err, "what was done until then stays; run the command again once this is settled")
	}
	agent, err := g.inspect(ctx, grant.AgentUnit)
	if err != nil {
		return err
	}
	running := agent.ActiveState == "active" || agent.ActiveState == "activating" || agent.ActiveState == "reloading"
	run := func(args ...string) error {
		say("  %-7s  systemctl %s\n", "run", strings.Join(args, " "))
		if g.dryRun {
			return nil
		}
		return g.systemctl(ctx, args...)
	}
	restart := []string{"try-restart", grant.AgentUnit}
	stale := todo > 0 || agent.Stale // by an earlier run that did not come to its end
	if stale {
		if err := run("daemon-reload"); err != nil {
			return err
		}
	} else {
		say("  nothing to do: everything is as it should be\n")
	}
	switch {
	case !stale && running:
	case !running:
		report.Next = start
	case g.noRestart:
		report.Next = "systemctl " + strings.Join(restart, " ")
	default:
		if err := run(restart...); err != nil {
			return hinted(err, "journalctl --unit %s shows why", grant.AgentUnit)
		}
		report.Restarted = !g.dryRun
	}
	for _, f := range report.Findings {
		say("%s: %s\n", f.Level, f.Text)
	}
	if report.Next != "" {
		say("next: %s\n", report.Next)
	}
	if g.json {
		return g.p.printJSON(report)
	}
	return nil
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

// unknownGrant is the error of a name that the configuration does not have and that nothing was granted for.
func unknownGrant(settings config.Settings, name string) error {
	f := &fault{
		err:  fmt.Errorf("nothing was granted for an app %s, and %s has none of that name", name, settings.Path),
		code: deployment.ExitUnknown, what: "remove app " + name,
	}
	if near := nearest(settings, name); near != "" {
		f.hint = "did you mean " + near + "?"
	}
	return f
}

// nearest is the app of the configuration whose key looks like the name, "" when none does.
func nearest(settings config.Settings, name string) string {
	keys := make([]string, len(settings.Apps))
	for i, a := range settings.Apps {
		keys[i] = a.Key
	}
	return closest(name, keys)
}

// unknownApp is the error of a name that the configuration does not have.
func unknownApp(settings config.Settings, name string) error {
	f := &fault{err: fmt.Errorf("%s has no app %s", settings.Path, name), code: deployment.ExitUnknown, what: "add app " + name}
	if near := nearest(settings, name); near != "" {
		f.hint = "did you mean " + near + "?"
		return f
	}
	f.hint = fmt.Sprintf(`write it there, below apps:

  %s:
    unit: %s.service
    health:
      http: http://127.0.0.1:3000/

and run towline app add %s again`, name, name, name)
	return f
}

// systemctl runs systemd's own command.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// account is a user of this machine.
type account struct {
	grant.Owner          // with the group that was asked for, else the user's own
	gids        []int    // of all groups
	groups      []string // their names
}

// lookUp finds a user by name or number, with a group or, when that is empty, the user's own one.
func lookUp(name, group string) (account, error) {
	who, err := user.Lookup(name)
	if _, number := strconv.Atoi(name); err != nil && number == nil {
		who, err = user.LookupId(name)
	}
	if err != nil {
		return account{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	main, err := user.LookupGroupId(who.Gid)
	if group != "" {
		main, err = user.LookupGroup(group)
		if _, number := strconv.Atoi(group); err != nil && number == nil {
			main, err = user.LookupGroupId(group)
		}
	}
	if err != nil {
		return account{}, fmt.Errorf("look up the group of user %s: %w", name, err)
	}
	a := account{Owner: grant.Owner{User: who.Username, Group: main.Name}}
	ids, err := who.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("look up the groups of user %s: %w", name, err)
	}
	if !slices.Contains(ids, main.Gid) {
		ids = append(ids, main.Gid)
	}
	for _, id := range ids {
		gid, err := strconv.Atoi(id)
		if err != nil {
			return account{}, fmt.Errorf("look up the groups of user %s: %q is no number", name, id)
		}
		a.gids = append(a.gids, gid)
		if g, err := user.LookupGroupId(id); err == nil {
			a.groups = append(a.groups, g.Name)
		}
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(main.Gid)
	a.UID, a.GID = uid, gid
	return a, errors.Join(uidErr, gidErr)
}
