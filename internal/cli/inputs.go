package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/publish"
)

// Which inputs of the table a verb has as flags.
var (
	// readFlags say which environment of which app in which bucket, and whose signatures count.
	readFlags = []string{"bucket", "environment", "prefix", "aws-region", "endpoint-url", "force-path-style", "role-to-assume",
		"trusted-keys", "trust", "ca-bundle"}
	// moveFlags are for verbs that move the pointer.
	moveFlags = []string{"version", "expires-in", "servers", "wait", "wait-timeout", "expect-servers", "on-superseded", "dry-run"}
	// makeFlags are for the verb that makes a release.
	makeFlags = []string{"path", "include", "exclude", "version-file", "compression", "message", "date"}
	// listFlags may be given several times.
	listFlags = []string{"include", "exclude", "servers", "expect-servers", "trusted-keys"}
	// secrets come from the environment: a command line is no place for them.
	secrets = map[string]string{"signing-key": "TOWLINE_SIGNING_KEY", "ping-token": "TOWLINE_PING_TOKEN"} // #nosec G101 -- names, no secrets
)

// inputs are the action's inputs as flags of the same names.
type inputs struct {
	p       *program
	cmd     *cobra.Command
	command publish.Command
	reason  *string                // nil: the verb has none
	role    string                 // to assume, as parsed
	token   atomic.Pointer[string] // OIDC token that it was last asked for with
}

func (p *program) readInputs(cmd *cobra.Command) *inputs {
	return p.inputs(cmd, publish.Status, readFlags)
}

// inputs declares the flags of that name.
func (p *program) inputs(cmd *cobra.Command, command publish.Command, names ...[]string) *inputs {
	flags := cmd.Flags()
	flags.SortFlags = false
	wanted := slices.Concat(names...)
	for _, in := range publish.Inputs() {
		switch {
		case !slices.Contains(wanted, in.Name):
		case slices.Contains(listFlags, in.Name):
			flags.StringArray(in.Name, nil, usage(command, in))
		case in.Default == "true" || in.Default == "false" || in.Name == "force-path-style":
			on := toggle(in.Default)
			flags.Var(&on, in.Name, usage(command, in))
			flags.Lookup(in.Name).NoOptDefVal = "true"
		default:
			flags.String(in.Name, in.Default, usage(command, in))
		}
	}
	if flags.Lookup("app") == nil {
		flags.StringVar(&p.app, "app", "", "name of the app")
	}
	return &inputs{p: p, cmd: cmd, command: command}
}

// toggle is a flag that may stand alone and then says true. What else it may be is for publish.Parse to say.
type toggle string

func (t *toggle) String() string     { return string(*t) }
func (t *toggle) Set(s string) error { *t = toggle(s); return nil }
func (t *toggle) Type() string       { return "bool" }

// usage is an input's help as the help of a flag: one sentence, and that a list may be given piece by piece.
func usage(command publish.Command, in publish.Input) string {
	if in.Name == "version" && command != publish.Publish {
		return "the release: a version, a unique prefix of 7 or more, or previous"
	}
	text := lowerFirst(firstSentence(in.Help))
	text = strings.Replace(text, ", one a line", "", 1)
	if slices.Contains(listFlags, in.Name) {
		text += "; may be given several times"
	}
	return text
}

func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, ". ")
	return strings.TrimSuffix(s, ".")
}

// lowerFirst leaves abbreviations alone.
func lowerFirst(s string) string {
	if len(s) > 1 && strings.ToUpper(s[:2]) != s[:2] {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// bucket reports whether the bucket is meant and not the agent: --bucket, or TOWLINE_BUCKET without --socket. Flags that
// the agent has no use for are refused: whoever typed them meant another place.
func (in *inputs) bucket() (bool, error) {
	flags := in.cmd.Flags()
	if flags.Changed("bucket") && flags.Changed("socket") {
		return false, usagef("--bucket and --socket: ask the one or the other")
	}
	if flags.Changed("bucket") || in.p.env.Getenv("TOWLINE_BUCKET") != "" && !flags.Changed("socket") {
		return true, nil
	}
	for _, name := range slices.Concat(readFlags, moveFlags) {
		if name != "version" && flags.Changed(name) {
			return false, usagef("--%s goes with --bucket; the agent of this server is asked without it", name)
		}
	}
	return false, nil
}

// get is one input for publish.Parse.
func (in *inputs) get(name string) string {
	switch name {
	case "app":
		return in.p.app
	case "command":
		return string(in.command)
	case "reason":
		if in.reason == nil {
			return ""
		}
		return *in.reason
	}
	if variable, ok := secrets[name]; ok {
		return in.p.env.Getenv(variable)
	}
	flag := in.cmd.Flags().Lookup(name)
	if flag == nil {
		return ""
	}
	if slices.Contains(listFlags, name) {
		list, err := in.cmd.Flags().GetStringArray(name)
		if err != nil {
			return ""
		}
		return strings.Join(list, "\n")
	}
	if name == "bucket" {
		return cmp.Or(flag.Value.String(), in.p.env.Getenv("TOWLINE_BUCKET"))
	}
	return flag.Value.String()
}

// parse checks all inputs.
func (in *inputs) parse() (publish.Options, error) {
	o, err := publish.Parse(in.get)
	if err == nil {
		return o, nil
	}
	return o, in.usage(err)
}

// usage puts problems with inputs into the words of a command line.
func (in *inputs) usage(err error) error {
	var wrong *publish.UsageError
	if !errors.As(err, &wrong) {
		return err
	}
	f := &fault{code: deployment.ExitUsage, err: err}
	for _, p := range wrong.Problems {
		flag := "--" + p.Input
		text := p.Text
		if strings.HasPrefix(text, "required: ") {
			text = firstSentence(text)
		}
		if variable, ok := secrets[p.Input]; ok {
			flag = variable
		}
		switch {
		case p.Input != "signing-key":
		case p.Missing && in.command == publish.Status:
			text = "empty, and no --trusted-keys"
			f.hint = "whose signatures count? --trusted-keys ed25519:… names the public key, TOWLINE_SIGNING_KEY holds the private one, --trust none asks for neither"
		case p.Missing:
			text = "empty: set it to the private key that `towline keygen` printed"
			f.hint = "without signatures, write --trust none here and trust: none on every server"
		}
		f.all = append(f.all, flag+": "+text)
	}
	return f
}

// open opens the bucket that the options name.
func (in *inputs) open(ctx context.Context, o publish.Options) (bucket.Bucket, []byte, error) {
	bundle, err := readBundle(o.CABundle)
	if err != nil {
		return nil, nil, err
	}
	in.role = o.RoleARN
	getenv := in.p.env.Getenv
	b, err := bucket.Open(ctx, bucket.Options{
		URL: o.Bucket, Region: o.Region, Endpoint: o.Endpoint, PathStyle: o.PathStyle, RoleARN: o.RoleARN, CABundle: bundle,
		Log: slog.New(slog.NewTextHandler(in.p.env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		IDToken: func(ctx context.Context, audience string) (string, error) {
			if getenv("ACTIONS_ID_TOKEN_REQUEST_URL") == "" {
				return "", fmt.Errorf("%w: there is no ACTIONS_ID_TOKEN_REQUEST_URL: the job needs `permissions: id-token: write`, and runs of forks never have it", bucket.ErrNoCredentials)
			}
			token, err := github.IDToken(ctx, getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"), audience)
			if err == nil {
				in.token.Store(&token)
			}
			return token, err
		},
	})
	if err != nil {
		return nil, nil, &fault{err: err, code: deployment.ExitUsage}
	}
	return b, bundle, nil
}

// readBundle gives the PEM text of further authorities: the value itself, or the file that it names.
func readBundle(value string) ([]byte, error) {
	if value == "" || strings.Contains(value, "-----BEGIN") {
		return []byte(value), nil
	}
	data, err := os.ReadFile(value)
	if err != nil {
		return nil, &fault{err: fmt.Errorf("--ca-bundle: %w", err), code: deployment.ExitUsage}
	}
	return data, nil
}
