package cli

import (
	"errors"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func (p *program) logsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "logs [APP]", Short: "Show what the app itself writes: the journal of its unit", Args: atMost("APP"),
	}
	p.socketFlags(cmd)
	lines := cmd.Flags().IntP("lines", "n", 50, "how many `lines`")
	follow := cmd.Flags().BoolP("follow", "f", false, "go on until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		n, err := positive(*lines, "lines")
		if err != nil {
			return err
		}
		detail, err := p.agent().detail(cmd.Context(), p.app)
		if err != nil {
			return err
		}
		if detail.Unit == "" {
			return &fault{err: errors.New("the app has no unit, so that its output is not in the journal"), code: deployment.ExitError}
		}
		if err := release.CheckUnit(detail.Unit); err != nil {
			return err
		}
		argv := []string{"--unit", detail.Unit, "--lines", n, "--no-pager"}
		if *follow {
			argv = append(argv, "--follow")
		}
		journal := exec.CommandContext(cmd.Context(), "journalctl", argv...)
		journal.Stdout, journal.Stderr = p.env.Stdout, p.env.Stderr
		err = journal.Run()
		if cmd.Context().Err() != nil {
			return nil // Ctrl-C is how following ends
		}
		if errors.Is(err, exec.ErrNotFound) {
			return hinted(err, "the journal needs systemd's journalctl")
		}
		return err
	}
	return cmd
}
