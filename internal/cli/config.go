package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
)

const defaultConfig = "/etc/towline/agent.yaml"

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check or show the agent's configuration", Args: cobra.ArbitraryArgs}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.PersistentFlags().StringVar(&p.config, "config", defaultConfig, "the configuration `file`")
	cmd.AddCommand(p.configCheckCommand(), p.configShowCommand())
	return cmd
}

func (p *program) configCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Say whether the configuration is right, and where it is not", Args: atMost("FILE"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		settings, err := p.settings(args)
		var wrong *config.Error
		switch {
		case err != nil && !errors.As(err, &wrong):
			return err
		case *asJSON:
			type problem struct {
				Line    int    `json:"line"`
				Column  int    `json:"column"`
				Message string `json:"message"`
			}
			list := []problem{}
			if wrong != nil {
				for _, w := range wrong.Problems {
					list = append(list, problem{w.Line, w.Column, w.Message})
				}
			}
			if err := p.printJSON(map[string]any{"config": p.config, "problems": list}); err != nil {
				return err
			}
			if wrong != nil {
				return exit(deployment.ExitUsage)
			}
			return nil
		case wrong != nil:
			return p.misconfigured(wrong)
		}
		p.printf("%s is right: server %s, %s\n", p.config, settings.Server, count(len(settings.Apps), "app"))
		return nil
	}
	return cmd
}

func (p *program) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [FILE]", Short: "Print the configuration with all defaults, secrets hidden", Args: atMost("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			settings, err := p.settings(args)
			if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
				return p.misconfigured(wrong)
			}
			if err != nil {
				return err
			}
			p.printf("%s", settings.Effective())
			return nil
		},
	}
}

// settings reads the file that --config or the positional argument names.
func (p *program) settings(args []string) (config.Settings, error) {
	if len(args) == 1 {
		p.config = args[0]
	}
	settings, err := config.Load(p.config)
	if wrong := (*config.Error)(nil); err != nil && !errors.As(err, &wrong) {
		f := &fault{err: err, code: deployment.ExitUsage}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.hint = "name the file with --config"
		case errors.Is(err, fs.ErrPermission):
			f.hint = "use sudo; the file may hold secrets"
		}
		return settings, f
	}
	return settings, err
}

// misconfigured prints every problem with its line: more than fits one line of an error.
func (p *program) misconfigured(wrong *config.Error) error {
	fmt.Fprintf(p.env.Stderr, "towline: cannot use %s: %s\n\n%s\n", p.config, count(len(wrong.Problems), "problem"), wrong)
	return exit(deployment.ExitUsage)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
