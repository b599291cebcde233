package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/setup"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// initFlags are the flags of init.
type initFlags struct {
	policy, json                            bool
	bucket, prefix, environment, server, of string
	publisher, agent, config                string
	setup                                   setup.Flags
}

func (p *program) initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Set up a server, and the repository that deploys to it; or print rights and addresses",
		Long: `Ask for what has to be known, show what would be written, write it, and say what to paste where.

On a server, as root, that is /etc/towline/agent.yaml, the key for the bucket beside it, the key pair and the workflow;
elsewhere the key pair and the workflow. The workflow is written into the git checkout that this is run in; where there
is none, it is printed. The private key is printed once and stored nowhere. Every question has a flag, and what flags
answer is not asked. Nothing is asked with --yes, with --json, without a terminal, or when --app, --bucket and
--access-key-id are there. A file that exists is not touched without --force.

With --print-policy, print the policies that give CI and a server's agent what they need in an S3 bucket, and nothing
more: one for an AWS role or user each, and a bucket policy with both for stores that take those instead. Another
environment, and another server, have policies of their own.

With --config, on a server with listen: in that file, print the line for the action's input servers, with the pin of
the agent's self-signed certificate. The certificate is made if it is not there yet; nothing else is written.

With --json and nothing else, print a key pair, as keygen does.`,
		Example: "  towline init\n  towline init --print-policy --app web --bucket my-deploys --server web-1\n" +
			"  sudo towline init --config /etc/towline/agent.yaml",
	}
	var f initFlags
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&p.app, "app", "", "name of the app")
	flags.StringVar(&f.bucket, "bucket", "", "name or URL of the bucket (default TOWLINE_BUCKET)")
	flags.StringVar(&f.prefix, "prefix", "", "of the app's keys (default the app's name)")
	flags.StringVar(&f.environment, "environment", "production", "the environment")
	flags.StringVar(&f.server, "server", "", "name of the server (default what this one calls itself); with --print-policy for leave to write its receipt; "+
		"without, the agent needs receipts: false")
	flags.StringVar(&f.of, "for", "both", "whose half or policies: ci, agent or both (default both, and ci where this is no server)")
	p.setupFlags(flags, &f.setup)
	flags.BoolVar(&f.policy, "print-policy", false, "print the policies of the bucket")
	flags.StringVar(&f.publisher, "principal-ci", "arn:aws:iam::ACCOUNT:role/towline-ci", "CI, as the store calls it in a bucket policy")
	flags.StringVar(&f.agent, "principal-agent", "arn:aws:iam::ACCOUNT:user/towline-agent", "the agent, as the store calls it in a bucket policy")
	flags.StringVar(&f.config, "config", "", "print the servers line of the configuration `file`")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := cmd.Flags()
		if err := together(flags, f.policy, f.config != ""); err != nil {
			return err
		}
		switch {
		case f.policy:
			return p.policies(f)
		case f.config != "":
			return p.serverLine(f)
		case f.json && flags.NFlag() == 1:
			return p.keyPair(true)
		}
		return p.setUp(cmd.Context(), flags, f)
	}
	return cmd
}

// together refuses flags that say nothing beside one another.
func together(flags *pflag.FlagSet, policy, config bool) error {
	policies := []string{"principal-ci", "principal-agent"}
	shared := append(policies, "app", "bucket", "prefix", "environment", "server", "for")
	var err error
	flags.Visit(func(flag *pflag.Flag) {
		name := flag.Name
		switch {
		case err != nil || slices.Contains([]string{"json", "print-policy", "config", "color"}, name):
		case policy && !slices.Contains(shared, name):
			err = usagef("--%s does not go with --print-policy", name)
		case !policy && config:
			err = usagef("--%s does not go with --config, which only prints", name)
		case !policy && slices.Contains(policies, name):
			err = usagef("--%s goes with --print-policy", name)
		}
	})
	if policy && config {
		return usagef("--print-policy and --config: print the one or the other")
	}
	return err
}

// policies prints the policies of the bucket.
func (p *program) policies(f initFlags) error {
	scope, err := p.scope(f)
	if err != nil {
		return err
	}
	for _, principal := range []*string{&f.publisher, &f.agent} { // the flags' defaults are those of most accounts
		*principal = strings.Replace(*principal, "arn:aws:iam::ACCOUNT:", "arn:"+scope.Partition+":iam::ACCOUNT:", 1)
	}
	var out struct {
		CI     *bucket.Policy `json:"ci,omitempty"`
		Agent  *bucket.Policy `json:"agent,omitempty"`
		Bucket bucket.Policy  `json:"bucket"`
	}
	if f.of != "agent" {
		ci := scope.PublisherPolicy()
		out.CI = &ci
	} else {
		f.publisher = ""
	}
	if f.of != "ci" {
		agent := scope.AgentPolicy()
		out.Agent = &agent
	} else {
		f.agent = ""
	}
	out.Bucket = scope.BucketPolicy(f.publisher, f.agent)
	if f.json {
		return p.printJSON(out)
	}
	if out.CI != nil {
		p.printf("For CI, at AWS: the policy of the role that it assumes\n\n%s\n\n", out.CI)
	}
	if out.Agent != nil {
		p.printf("For the agent of %s, at AWS: the policy of its user or role\n\n%s\n\n", cmp.Or(f.server, "a server without receipts"), out.Agent)
	}
	p.printf("For stores that give rights by bucket policy: the policy of bucket %s. It does without the condition that lets\n"+
		"AWS refuse to overwrite releases and history, since other stores do not know it.\n\n%s\n", scope.Bucket, out.Bucket)
	return nil
}

// scope checks the flags of --print-policy. Only names that are right get into a policy: a star in one would open it.
func (p *program) scope(f initFlags) (bucket.Scope, error) {
	if p.app == "" {
		return bucket.Scope{}, usagef("--app: required with --print-policy")
	}
	url := cmp.Or(f.bucket, p.env.Getenv("TOWLINE_BUCKET"))
	if url == "" {
		return bucket.Scope{}, usagef("--bucket: required with --print-policy")
	}
	name, partition, err := bucket.Name(url)
	if err == nil {
		err = release.CheckApp(p.app)
	}
	s := bucket.Scope{Bucket: name, Partition: partition, Prefix: cmp.Or(f.prefix, p.app), Environment: f.environment, Server: f.server}
	for _, check := range []func() error{
		func() error { return release.CheckPrefix(s.Prefix) },
		func() error { return release.CheckEnvironment(s.Environment) },
		func() error {
			if s.Server == "" {
				return nil
			}
			return release.CheckServer(s.Server)
		},
		func() error {
			if !slices.Contains([]string{"ci", "agent", "both"}, f.of) {
				return fmt.Errorf("--for %q: want ci, agent or both", f.of)
			}
			return nil
		},
		func() error { return checkPrincipal("principal-ci", f.publisher) },
		func() error { return checkPrincipal("principal-agent", f.agent) },
	} {
		if err == nil {
			err = check()
		}
	}
	if err != nil {
		return s, &fault{err: err, code: deployment.ExitUsage}
	}
	return s, nil
}

func checkPrincipal(flag, s string) error {
	if s == "" || strings.ContainsAny(s, "*?") {
		return fmt.Errorf("--%s %q: want one role, user or access key, without wildcards", flag, s)
	}
	return nil
}

// serverLine prints this server's line for the action's input servers.
func (p *program) serverLine(f initFlags) error {
	settings, err := p.settings([]string{f.config})
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		return p.misconfigured(wrong)
	}
	if err != nil {
		return err
	}
	if settings.Listen == "" || settings.TLS.Mode == config.TLSOff {
		f := &fault{err: fmt.Errorf("%s: listen: is left out, or tls: is off", p.config), code: deployment.ExitUsage}
		f.hint = "without a port this server is not pinged: it polls, and the action's input expect-servers: " + settings.Server + " waits for it"
		return f
	}
	line, err := address(settings)
	if err != nil {
		return err
	}
	if f.json {
		return p.printJSON(struct {
			Server string `json:"server"`
		}{line})
	}
	p.printf("The line of this server for the action's input servers. Its host is what this machine calls itself: put in its place\n"+
		"the name or address by which runners reach it.\n\n    %s\n", line)
	return nil
}

// address is a line of the input servers. A certificate of an authority needs no pin.
func address(s config.Settings) (string, error) {
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("host name: %w", err)
		}
	}
	line := s.Server + "=https://" + net.JoinHostPort(host, port)
	if s.TLS.Mode != config.TLSAuto {
		return line, nil
	}
	pin, err := setup.Pin(filepath.Join(s.State, "tls"))
	if err != nil {
		return "", err
	}
	return line + "#sha256=" + pin, nil
}
