package cli

import (
	"errors"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

func (p *program) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work on this machine: deploy, a broken release, roll back",
		Long: `Run the whole story on this machine in a few seconds: a bucket in a temporary directory, a fresh key, a sample app, the
real engines and the real agent. It deploys v1, then v2, then a v3 that does not start, then rolls back by hand. It needs
neither root nor network, listens on the loopback only, and leaves nothing behind.`,
	}
	var o DemoOptions
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "leave it running, with the address of its status page, until Ctrl-C")
	verbose := cmd.Flags().Bool("verbose", false, "show the agent's own log too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if p.env.Demo == nil {
			return errors.New("this program was made without it")
		}
		on, err := p.painter()
		if err != nil {
			return err
		}
		o.Color, o.Stdout = bool(on), p.env.Stdout
		log := io.Discard
		if *verbose {
			log = p.env.Stderr
		}
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		return p.env.Demo(cmd.Context(), o)
	}
	return cmd
}

// demoAppCommand is what the demonstration runs as its app; people have no use for it.
func (p *program) demoAppCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo-app", Hidden: true, DisableFlagParsing: true, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.env.DemoApp == nil {
				return errors.New("this program was made without it")
			}
			return p.env.DemoApp(cmd.Context(), args)
		},
	}
}
