package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// command sends a verb that makes a deployment, shows the deployment and returns by its outcome.
func (p *program) command(ctx context.Context, verb string, c deployment.Command, asJSON bool) error {
	on, err := p.painter()
	if err != nil {
		return err
	}
	agent := p.agent()
	app, err := agent.only(ctx, p.app)
	if err != nil {
		return err
	}
	var follow func(deployment.Event)
	told := &story{w: p.env.Stdout, on: on}
	if !asJSON {
		follow = told.event
	}
	result, err := agent.do(ctx, app, verb, c, follow)
	if err != nil {
		return err
	}
	if asJSON {
		if err := p.printJSON(result); err != nil {
			return err
		}
		return exit(result.Outcome.ExitCode())
	}
	if !told.begun { // an answer without a stream
		p.result(on, app, result)
	}
	return exit(result.Outcome.ExitCode())
}

// result prints the answer to a verb that has no story.
func (p *program) result(on painter, app string, r deployment.Result) {
	head := app
	switch {
	case r.Outcome != "" && r.Reason != "":
		head += ": " + on.outcome(r.Outcome, string(r.Outcome)) + ": " + release.CleanText(r.Reason, 500)
	case r.Outcome != "":
		head += ": " + on.outcome(r.Outcome, string(r.Outcome))
	case r.Reason != "":
		head += ": " + release.CleanText(r.Reason, 500)
	case len(r.Lines) == 0:
		head += ": nothing to do"
	}
	p.printf("%s\n", head)
	for _, line := range r.Lines {
		p.printf("  %s\n", release.CleanText(line, 500))
	}
}

// simple makes a verb that the agent answers at once.
func (p *program) simple(verb, use, short string, fill func(*cobra.Command) func(*deployment.Command)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: atMost("APP")}
	p.socketFlags(cmd)
	asJSON := jsonFlag(cmd)
	set := fill(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		on, err := p.painter()
		if err != nil {
			return err
		}
		var c deployment.Command
		set(&c)
		agent := p.agent()
		app, err := agent.only(cmd.Context(), p.app)
		if err != nil {
			return err
		}
		result, err := agent.do(cmd.Context(), app, verb, c, nil)
		if err != nil {
			return err
		}
		if *asJSON {
			return p.printJSON(result)
		}
		p.result(on, app, result)
		return nil
	}
	return cmd
}

func (p *program) holdCommand() *cobra.Command {
	return p.simple("hold", "hold [APP]", "Keep this server where it is; new pointers are not followed",
		func(cmd *cobra.Command) func(*deployment.Command) {
			reason := reasonFlag(cmd)
			return func(c *deployment.Command) { c.Reason = *reason }
		})
}

func (p *program) resumeCommand() *cobra.Command {
	return p.simple("resume", "resume [APP]", "End a hold, or a release chosen on this server; the pointer is followed again",
		func(cmd *cobra.Command) func(*deployment.Command) {
			reason := reasonFlag(cmd)
			return func(c *deployment.Command) { c.Reason = *reason }
		})
}

func (p *program) pruneCommand() *cobra.Command {
	return p.simple("prune", "prune [APP]", "Delete old releases from this server; never the live one nor the one before it",
		func(cmd *cobra.Command) func(*deployment.Command) {
			keep := cmd.Flags().Int("keep", 0, "how many `releases` to keep (default as configured)")
			return func(c *deployment.Command) { c.Keep = *keep }
		})
}

func (p *program) recoverCommand() *cobra.Command {
	return p.simple("recover", "recover [APP]", "Unlock an app whose record was lost, or set by hand which pointers are followed",
		func(cmd *cobra.Command) func(*deployment.Command) {
			seq := cmd.Flags().Uint64("accept-seq", 0, "follow only pointers above this `seq`")
			return func(c *deployment.Command) { c.AcceptSeq = *seq }
		})
}

func (p *program) deployCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy [APP] [VERSION]",
		Short: "Look at the pointer now; with VERSION, make that release live on this server",
		Long: `Look at the pointer now and follow it. With VERSION (a version, or a unique prefix of 7 or more), make that release live
on this server: one that is on disk or named by verified history. It stays until another pointer arrives, or resume.`,
		Args: atMost("APP", "VERSION"),
	}
	p.socketFlags(cmd)
	reason := reasonFlag(cmd)
	force := cmd.Flags().Bool("force", false, "though it is on hold, or the release failed here before")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		c := deployment.Command{Reason: *reason, Force: *force}
		if len(args) == 2 {
			c.Version = args[1]
		}
		return p.command(cmd.Context(), "deploy", c, *asJSON)
	}
	return cmd
}

// positive reads a flag that counts lines.
func positive(n int, flag string) (string, error) {
	if n < 1 {
		return "", usagef("--%s %d: at least 1", flag, n)
	}
	return strconv.Itoa(n), nil
}
