package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/towline/towline/internal/cli/setup"
	"github.com/towline/towline/internal/cli/setup/prompt"
	"github.com/towline/towline/internal/deployment"
)

// setupQuestions are the flags that answer a question of the guided init, beside those that it shares with --print-policy.
var setupQuestions = [][2]string{
	{"kind", "what the app is made of: node, go, python, php, static or other (default what the checkout looks like)"},
	{"access-key-id", "this server's key for the bucket; empty: the AWS SDK finds one"},
	{"secret-access-key-file", "`file` with its secret, - for standard input (default AWS_SECRET_ACCESS_KEY)"},
	{"listen", "port for pings, such as :8422 (default none)"},
	{"address", "name or address by which runners reach this server (default its own)"},
	{"unit", "systemd unit of the app, or none (default APP.service)"},
	{"exec", "`command` that starts the app, where there is no unit yet"},
	{"http", "`URL` that answers 200 once the app works"},
	{"repository", "OWNER/NAME on GitHub (default the checkout's)"},
	{"public-key", "`key` that releases are signed for (default a new pair is made)"},
}

// setupFlags gives init the flags of its guided part.
func (p *program) setupFlags(flags *pflag.FlagSet, f *setup.Flags) {
	for _, q := range setupQuestions {
		flags.String(q[0], "", q[1])
	}
	flags.StringVar(&f.Workflow, "workflow", "", "`file` for the workflow, - to print it (default .github/workflows/deploy.yml of the checkout)")
	flags.StringVar(&f.Branch, "branch", "", "whose pushes are deployed (default the checkout's main one)")
	flags.BoolVarP(&f.Yes, "yes", "y", false, "ask nothing")
	flags.BoolVar(&f.Force, "force", false, "replace files that are there; they are kept as FILE.bak")
	flags.BoolVar(&f.NoCheck, "no-check", false, "do not look at the bucket")
	flags.BoolVar(&f.DryRun, "dry-run", false, "print what would be written, and write nothing")
}

// setUp is init without --print-policy and --config.
func (p *program) setUp(ctx context.Context, flags *pflag.FlagSet, f initFlags) error {
	w, err := p.world(ctx)
	if err != nil {
		return err
	}
	given := f.setup
	given.Given, given.Prefix = map[string]string{}, f.prefix
	flags.Visit(func(flag *pflag.Flag) { given.Given[flag.Name] = flag.Value.String() })
	if flags.Changed("for") {
		given.Half = f.of
	}
	if f.json {
		w.Out, w.Terminal = io.Discard, false
	}
	result, err := setup.Run(ctx, w, given)
	what := "set up"
	if errors.Is(err, setup.ErrDeclined) {
		return exit(deployment.ExitError) // it has been said
	}
	if wrong := (*setup.UsageError)(nil); errors.As(err, &wrong) {
		return &fault{err: err, hint: wrong.Hint, code: deployment.ExitUsage, what: what}
	}
	if err != nil {
		return &fault{err: err, hint: likelyFix(err), code: exitCode(err), what: what}
	}
	if f.json {
		return p.printJSON(result)
	}
	return nil
}

// world is this machine, as the guided init sees it.
func (p *program) world(ctx context.Context) (setup.World, error) {
	host, err := os.Hostname()
	if err != nil {
		return setup.World{}, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return setup.World{}, err
	}
	w := setup.World{
		In: p.env.Stdin, Out: p.env.Stdout, Getenv: p.env.Getenv,
		Terminal: prompt.IsTerminal(p.env.Stdin) && prompt.IsTerminal(p.env.Stdout),
		Euid:     os.Geteuid(), Host: host, Dir: dir, Addresses: addresses,
		Account: func(name string) (uid, gid int, err error) {
			a, err := lookUp(name, "")
			return a.UID, a.GID, err
		},
		Git: func(dir string, args ...string) (string, error) { return git(ctx, dir, args...) },
	}
	if p.machine != nil {
		p.machine(&w)
	}
	return w, nil
}

// addresses are this machine's, in the order in which GitHub's runners, which have no IPv6, may reach them.
func addresses() []string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var public, six, private []string
	for _, a := range list {
		network, ok := a.(*net.IPNet)
		switch {
		case !ok || !network.IP.IsGlobalUnicast():
		case network.IP.IsPrivate():
			private = append(private, network.IP.String())
		case network.IP.To4() == nil:
			six = append(six, network.IP.String())
		default:
			public = append(public, network.IP.String())
		}
	}
	return slices.Concat(public, six, private)
}
