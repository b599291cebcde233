// Package cli is the towline command: the people's face of Towline, one verb a file.
//
// It talks to one of two parties. With --bucket (or TOWLINE_BUCKET) the verbs rollback, releases, status, promote and
// publish work on the bucket, as CI does; without, they ask the agent of this server through its socket. Answers go to
// standard output, all else to standard error: an error is one line that begins with "towline: cannot", a second that
// begins with "hint:" where the likely fix is known, and the exit code says which kind it is (package deployment).
//
// Nothing is read from the environment but through Env; the AWS SDK and child processes read theirs.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/cli/setup"
)

// Env is the world around the command.
type Env struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// Demo runs the demonstration; it is handed in because it stands above this package.
	Demo func(context.Context, DemoOptions) error
	// DemoApp is the demonstration's sample app, which the demonstration starts as a child of its own.
	DemoApp func(ctx context.Context, args []string) error
}

// DemoOptions are the flags of towline demo.
type DemoOptions struct {
	Keep   bool      // leave it running until ctx ends
	Color  bool      // paint outcomes
	Stdout io.Writer // the story
	Log    *slog.Logger
}

const help = `Push to git; your own server pulls the release, proves it healthy, or puts the old one back.

On a server the verbs ask the agent through its socket (--socket, TOWLINE_SOCKET). With --bucket or TOWLINE_BUCKET the
verbs publish, promote, rollback, releases and status work on the bucket, from any machine.`

const exitCodes = `
Exit codes:
  0  ok: deployed, unchanged, skipped, published, superseded under skip
  1  error: failed, timed-out, superseded under fail, endpoint down
  2  usage, input, config; bucket missing or forbidden
  3  rolled-back, broken, unhealthy
  4  unknown app or release, ambiguous prefix
  5  held, or another agent's lock
  6  any verification failed: signature, foreign pointer, digest, archive rule
`

// program is one run of the command.
type program struct {
	env        Env
	now        func() time.Time
	machine    func(*setup.World) // tests: changes what the guided init sees
	watchEvery time.Duration
	settle     time.Duration // of gc; 0: as long as publishers need

	socket string
	color  string
	app    string
	config string
}

// Main runs the command and returns its exit code.
func Main(ctx context.Context, env Env) int {
	p := &program{env: env, now: time.Now, watchEvery: 2 * time.Second}
	return p.run(ctx)
}

func (p *program) run(ctx context.Context) int {
	root := p.root()
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	return p.report(cmd, err)
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "towline",
		Short:         "Push to git; your own server pulls the release and proves it healthy",
		Long:          help,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetArgs(p.env.Args)
	root.SetIn(p.env.Stdin)
	root.SetOut(p.env.Stdout)
	root.SetErr(p.env.Stderr)
	root.SetFlagErrorFunc(flagError)
	usage := strings.ReplaceAll(root.UsageTemplate(), "FlagUsages |", "FlagUsagesWrapped 110 |")
	root.SetUsageTemplate(usage + exitCodes)
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})

	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&p.color, "color", "auto", "paint the output: always, never, or auto, on a terminal unless NO_COLOR is set")

	root.AddGroup(
		&cobra.Group{ID: "start", Title: "To begin with:"},
		&cobra.Group{ID: "look", Title: "Look:"},
		&cobra.Group{ID: "act", Title: "Act:"},
		&cobra.Group{ID: "ci", Title: "From CI or a laptop:"},
	)
	group := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			if c.Args == nil {
				c.Args = noArgs
			}
			root.AddCommand(c)
		}
	}
	group("start", p.demoCommand(), p.initCommand(), p.keygenCommand(), p.configCommand(), p.appCommand())
	group("look", p.statusCommand(), p.releasesCommand(), p.logsCommand(), p.verifyCommand(), p.doctorCommand())
	group("act", p.rollbackCommand(), p.deployCommand(), p.holdCommand(), p.resumeCommand(), p.pruneCommand(), p.recoverCommand())
	group("ci", p.publishCommand(), p.promoteCommand(), p.gcCommand())
	group("", p.versionCommand(), p.demoAppCommand())
	return root
}

// socketFlags gives a verb that asks the agent its --socket and --app.
func (p *program) socketFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.socket, "socket", "", "the agent's socket (default TOWLINE_SOCKET, else "+defaultSocket+")")
	cmd.Flags().StringVar(&p.app, "app", "", "the app (default the only one)")
}

// jsonFlag gives a verb its --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

// reasonFlag gives a verb its -m.
func reasonFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("reason", "m", "", "why; shown wherever the deployment is")
}

// printf writes to standard output.
func (p *program) printf(format string, args ...any) {
	fmt.Fprintf(p.env.Stdout, format, args...)
}

// noArgs is the rule of a verb without positional arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// atMost is the rule of a verb whose positional arguments may be left out. names are for the error.
func atMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usagef("unexpected argument %q after %s", args[len(names)], strings.Join(names, " and "))
		}
		return nil
	}
}

// appArg takes the app from the positional argument at i, which must not contradict --app.
func (p *program) appArg(args []string, i int) error {
	if i >= len(args) {
		return nil
	}
	if p.app != "" && p.app != args[i] {
		return usagef("two apps, %q and --app %q", args[i], p.app)
	}
	p.app = args[i]
	return nil
}
