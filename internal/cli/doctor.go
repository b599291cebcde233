package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/doctor"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
)

func (p *program) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor [APP]", Short: "Look at everything that a deployment needs, and say how to mend it", Args: atMost("APP"),
		Long: `Look at everything that a deployment on this server needs: the configuration, the agent and whom it runs as, the clock,
disks, the port and its certificate, the bucket with the agent's key and what that key may do, the pointer and its
signatures, units and what the agent may do with them, the last contact, holds, and the releases on disk.

With --bucket, from CI or a laptop: what this key may do in the bucket.

Each line is ok, warn or fail, and what is not ok comes with a command that mends it. Nothing is changed, and nothing is
left in the bucket. Run it as root: others see less, and it says what.

Exit code 0 when nothing fails, 1 when something does, 2 when the configuration cannot be used.`,
		Example: "  sudo towline doctor\n  towline doctor --bucket my-deploys --app web --trusted-keys ed25519:…",
	}
	p.socketFlags(cmd)
	cmd.Flags().StringVar(&p.config, "config", defaultConfig, "the configuration `file`")
	in := p.readInputs(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		on, err := p.painter()
		if err != nil {
			return err
		}
		inBucket, err := in.bucket()
		if err != nil {
			return err
		}
		look := p.examine
		if inBucket {
			look = in.examine
		}
		report, code, err := look(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			if err := p.printJSON(report); err != nil {
				return err
			}
		} else {
			p.examined(on, report)
		}
		if code == deployment.ExitOK && report.Level == doctor.Fail {
			code = deployment.ExitError
		}
		return exit(code)
	}
	return cmd
}

// examine looks at this server. The code is that of a configuration that cannot be used, else 0.
func (p *program) examine(ctx context.Context) (*doctor.Report, int, error) {
	settings, err := p.settings(nil)
	var wrong *config.Error
	report := doctor.NewReport(settings.Server)
	s := &doctor.Server{Machine: doctor.NewMachine(), Settings: settings, Only: p.app}
	code := deployment.ExitUsage
	switch {
	case errors.As(err, &wrong):
		for _, w := range wrong.Problems {
			at := p.config
			if w.Line > 0 {
				at += fmt.Sprintf(":%d", w.Line)
			}
			report.Add(doctor.Check{Name: "config", Level: doctor.Fail, Found: at + ": " + w.Message,
				Fix: "sudoedit " + p.config + " && towline config check " + p.config})
		}
		return report, code, nil
	case errors.Is(err, fs.ErrPermission):
		report.Add(doctor.Check{Name: "config", Level: doctor.Fail, Found: p.config + " is not for us to read, so that most is not looked at", Fix: "sudo towline doctor"})
		s.Unread = true
	case errors.Is(err, fs.ErrNotExist):
		report.Add(doctor.Check{Name: "config", Level: doctor.Fail, Found: "there is no " + p.config, Fix: "sudo towline init"})
		return report, code, nil
	case err != nil:
		return nil, 0, err
	default:
		code = deployment.ExitOK
		if err := knows(settings, p.app); err != nil {
			return nil, 0, err
		}
		report.Add(doctor.Check{Name: "config", Level: doctor.OK, Found: fmt.Sprintf("%s: server %s, %s", p.config, settings.Server, count(len(settings.Apps), "app"))})
	}
	if p.socket == "" && p.env.Getenv("TOWLINE_SOCKET") == "" && settings.Socket != "" {
		p.socket = settings.Socket
	}
	agent := p.agent()
	s.Socket = agent.path
	s.Now, s.Overview, s.Detail, s.Grants = p.now, bySocket(agent.overview), agent.detail, p.grants(settings)
	s.Run(ctx, report)
	return report, code, nil
}

// knows reports an app that the configuration does not have.
func knows(settings config.Settings, app string) error {
	if app == "" {
		return nil
	}
	for _, a := range settings.Apps {
		if a.Key == app {
			return nil
		}
	}
	return &fault{err: fmt.Errorf("%s has no app %s", settings.Path, app), code: deployment.ExitUnknown, hint: nearest(settings, app)}
}

// bySocket tells a socket that is not for us from an agent that is not there.
func bySocket(ask func(context.Context) (deployment.Overview, error)) func(context.Context) (deployment.Overview, error) {
	return func(ctx context.Context) (deployment.Overview, error) {
		all, err := ask(ctx)
		if f := (*fault)(nil); errors.As(err, &f) && strings.HasSuffix(f.Error(), "permission denied") {
			err = fmt.Errorf("%w: %w", err, fs.ErrPermission)
		}
		return all, err
	}
}

// grants looks at an app's unit as app add does, and at what app add would still do.
func (p *program) grants(settings config.Settings) func(context.Context, config.App) (doctor.Grants, error) {
	g := &granting{
		p: p, euid: os.Geteuid(), inspect: service.Inspect, account: lookUp, polkit: grant.Polkit, systemctl: systemctl, dryRun: true,
	}
	return func(ctx context.Context, app config.App) (doctor.Grants, error) {
		var out doctor.Grants
		granted, findings, err := g.plan(ctx, settings, app, new(founding))
		if err != nil {
			return out, err
		}
		out.AsRoot, out.User = granted.AsRoot, granted.User.User
		if app.Unit != "" && granted.User.User == "" {
			out.Missing = []string{"all of it: the unit comes first"}
		} else {
			plan, err := grant.Add(g.root, granted)
			switch {
			case errors.Is(err, fs.ErrPermission) && g.euid != 0:
				out.Unseen = errors.New("only root may look at what is granted")
			case err != nil:
				out.Missing = append(out.Missing, err.Error())
			}
			for _, c := range plan.Changes {
				if c.Action != grant.Keep {
					out.Missing = append(out.Missing, strings.Join(strings.Fields(c.String()), " "))
				}
			}
		}
		whole := out.Unseen == nil && len(out.Missing) == 0
		for _, f := range findings {
			level := doctor.Warn
			// What was granted in spite of it, somebody has taken upon themselves.
			if f.Level == refusal && !(whole && strings.Contains(f.Text, "--allow-root")) {
				level = doctor.Fail
			}
			out.Findings = append(out.Findings, doctor.Finding{Level: level, Text: f.Text})
		}
		return out, nil
	}
}

// examine looks at the bucket with the key of whoever publishes.
func (in *inputs) examine(ctx context.Context) (*doctor.Report, int, error) {
	o, err := in.parse()
	if err != nil {
		return nil, 0, err
	}
	b, _, err := in.open(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	report := doctor.NewReport("")
	d := doctor.Publisher{Now: in.p.now, Bucket: b.(bucket.Upkeep), Trust: o.Trust,
		Want: release.Want{App: o.App, Environment: o.Environment, Prefix: cmp.Or(o.Prefix, o.App)}}
	d.Run(ctx, report)
	return report, deployment.ExitOK, nil
}

// examined prints the report: one line a finding, the fix below it.
func (p *program) examined(on painter, r *doctor.Report) {
	const name = 15 // characters of the longest name
	app := ""
	for _, c := range r.Checks {
		if c.App != app {
			app = c.App
			p.printf("\n%s\n", cmp.Or(app, "this server"))
		}
		p.printf("%s%*s%-*s  %s\n", on.level(c.Level), 6-len(c.Level), "", name, c.Name, c.Found)
		if c.Fix != "" {
			p.printf("%*s→ %s\n", 6+name+2, "", c.Fix)
		}
	}
	p.printf("\n%s: %d ok, %d warn, %d fail\n", on.level(r.Level), r.OK, r.Warn, r.Fail)
}

// level paints how a check ended; the word is always there.
func (on painter) level(l doctor.Level) string {
	return on.paint(map[doctor.Level]string{doctor.OK: green, doctor.Warn: yellow, doctor.Fail: red}[l], string(l))
}
