// Package action is the face of the CI half inside GitHub Actions: inputs → publish → outputs, summary, masks.
//
// Parties: the runner hands in INPUT_* and GITHUB_* and reads workflow commands from the output and from the files
// that it names; package publish does the work; the adapters are plugged in here. It is the only importer of
// go-githubactions, and the only place of this half that reads the environment.
//
// Invariants: nothing is written before all inputs are found good. Text that a server or a commit wrote never reaches
// the runner as a command: it is printed while commands are stopped, and escaped in annotations and in the summary.
// Secrets are masked before anything else is said. Nothing is left in the workspace, and nothing anywhere at the exit.
package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// lastWords is for the report to GitHub: half a minute, and from when ctx ends three seconds. The runner kills ten seconds after
// it cancelled a run.
func lastWords(ctx context.Context) (context.Context, context.CancelFunc) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(3 * time.Second):
			cancel()
		case <-after.Done():
		}
	})
	return after, func() {
		stop()
		cancel()
	}
}

var errTarget = errors.New("refused on pull_request_target: it gives this repository's secrets to code of strangers; " +
	"run on push, or on pull_request without secrets")

// Env is the world of one run.
type Env struct {
	Environ []string // NAME=value, as os.Environ gives it
	Stdout  io.Writer
}

// face is one run of the action.
type face struct {
	env   map[string]string
	log   *log
	event event
	temp  string                 // own directory, removed at the end
	hub   *hub                   // GitHub's side of the deployment
	token atomic.Pointer[string] // OIDC token that a role was last asked for with
}

// Run does what the inputs say and returns the exit code. When ctx ends it stops waiting, tells GitHub and returns
// within a few seconds.
func Run(ctx context.Context, e Env) int {
	f := &face{env: map[string]string{}}
	for _, line := range e.Environ {
		name, value, _ := strings.Cut(line, "=")
		f.env[name] = value
	}
	f.log = newLog(e.Stdout, f.getenv)
	f.hub = &hub{log: f.log}
	f.mask()
	started := time.Now()
	o, r, err := f.run(ctx)
	if r == nil {
		r = &publish.Result{Command: o.Command, App: o.App, Environment: o.Environment, Version: o.Version, URL: o.EnvironmentURL,
			Outcome: deployment.Failed, Took: time.Since(started)}
		if err != nil {
			r.Reason = release.CleanText(err.Error(), 500)
		}
	}
	code := exitCode(o, r, err)
	if err != nil && f.mayskip(err) {
		code = deployment.ExitOK
		r.Outcome, r.Reason = deployment.Skipped, "no credentials: a run of a fork or of Dependabot gets no secrets"
		if f.input("on-missing-credentials") == "skip" {
			r.Reason = "no credentials, and on-missing-credentials is skip"
		}
		err = nil
	}
	f.log.Phase("")
	if errors.Is(err, bucket.ErrRole) {
		f.explainRole(o.RoleARN)
	}
	f.annotate(o, r, err)
	// What is on this machine first: GitHub may take its time, and a run that is cancelled has little.
	f.outputs(r)
	if o.Summary {
		f.summarize(o, r, err)
	}
	after, cancel := lastWords(ctx)
	f.hub.finish(after, r, err)
	cancel()
	f.log.Line(publish.ToneOf(r.Outcome), r.LastLine())
	if f.temp != "" {
		os.RemoveAll(f.temp)
	}
	return code
}

func (f *face) getenv(name string) string { return f.env[name] }

// input is the raw text of an input. Hyphens stay in the variable's name.
func (f *face) input(name string) string { return f.env["INPUT_"+strings.ToUpper(name)] }

// secretVariables are those of the environment that a log must not show. Whoever set them may have masked them already;
// a secret that came by `env:` from a file of the job has not been.
var secretVariables = []string{"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"}

var privateKey = regexp.MustCompile(`towline-secret-ed25519:[A-Za-z0-9+/=_-]+`)

// mask hides the secrets from the log, first of all, and nothing but them: what is masked is missing from every log and
// output that happens to hold the same characters.
func (f *face) mask() {
	for _, in := range publish.Inputs() {
		if in.Secret && in.Name != "signing-key" {
			f.hide(f.input(in.Name))
		}
	}
	// A key by itself, without the comment beside it, and also one in a comment, or in a line that will be refused.
	keys := f.input("signing-key")
	secrets := append(publish.Lines(keys), privateKey.FindAllString(keys, -1)...)
	slices.Sort(secrets)
	for _, secret := range slices.Compact(secrets) {
		f.hide(secret)
	}
	for _, name := range secretVariables {
		f.hide(f.env[name])
	}
}

// hide masks each line of a secret. Outside of a runner the command would print what it is to hide.
func (f *face) hide(secret string) {
	if f.env["GITHUB_ACTIONS"] != "true" {
		return
	}
	for line := range strings.Lines(secret) {
		if line = strings.TrimSpace(line); len(line) > 3 {
			f.log.mask(line)
		}
	}
}

func (f *face) run(ctx context.Context) (publish.Options, *publish.Result, error) {
	o, err := f.options()
	if err != nil {
		return o, nil, err
	}
	f.event = readEvent(f.getenv)
	f.debug(o)
	if f.env["GITHUB_EVENT_NAME"] == "pull_request_target" {
		return o, nil, errTarget
	}
	if f.temp, err = makeTemp(f.env["RUNNER_TEMP"]); err != nil {
		return o, nil, err
	}
	p, err := f.parts(ctx, o)
	if err != nil {
		return o, nil, err
	}
	r, err := publish.Run(ctx, p)
	return p.Options, r, err
}

// options reads the inputs, refuses unknown ones, and fills in what the run tells by itself.
func (f *face) options() (publish.Options, error) {
	var names []string
	for name := range f.env {
		if name, ok := strings.CutPrefix(name, "INPUT_"); ok && name != "ARGS" && name != "ENTRYPOINT" {
			names = append(names, strings.ToLower(name))
		}
	}
	unknown := publish.CheckUnknown(names)
	o, err := publish.Parse(f.input)
	if err != nil {
		o = f.named()
	}
	var some, more *publish.UsageError
	if errors.As(unknown, &some) {
		if errors.As(err, &more) {
			some.Problems = append(some.Problems, more.Problems...)
		}
		return o, some
	}
	if o.Version == "" {
		o.Version = f.env["GITHUB_SHA"]
	}
	return o, err
}

// named is what a run can be called by whose inputs cannot be read: those of them that are good.
func (f *face) named() publish.Options {
	o := publish.Options{Command: publish.Deploy, Environment: "production", Summary: f.input("summary") != "false"}
	commands := []publish.Command{publish.Publish, publish.Promote, publish.Rollback, publish.Status}
	if command := publish.Command(f.input("command")); slices.Contains(commands, command) {
		o.Command = command
	}
	if version := f.input("version"); release.CheckVersion(version) == nil {
		o.Version = version
	}
	if address := f.input("environment-url"); publish.CheckAddress(address) == nil {
		o.EnvironmentURL = address
	}
	if name := f.input("app"); release.CheckApp(name) == nil {
		o.App = name
	}
	if name := f.input("environment"); release.CheckEnvironment(name) == nil {
		o.Environment = name
	}
	return o
}

// mayskip reports whether err is nothing but missing credentials, where they are to be missing.
func (f *face) mayskip(err error) bool {
	var usage *publish.UsageError
	missing := errors.Is(err, bucket.ErrNoCredentials) || errors.As(err, &usage) && usage.OnlyCredentials()
	switch f.input("on-missing-credentials") {
	case "skip":
		return missing
	case "", "auto":
		return missing && readEvent(f.getenv).untrusted()
	}
	return false
}

func exitCode(o publish.Options, r *publish.Result, err error) int {
	for _, target := range []error{errTarget, bucket.ErrNoBucket, bucket.ErrNoCredentials, artifact.ErrSource} {
		if errors.Is(err, target) {
			return deployment.ExitUsage
		}
	}
	return publish.ExitCode(o, r, err)
}

// hint is what most likely helps.
func hint(err error) string {
	switch {
	case errors.Is(err, bucket.ErrNoCredentials):
		return "set role-to-assume (permissions: id-token: write), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in env from secrets"
	case errors.Is(err, bucket.ErrRole):
		return "the log above shows what the job's token says, and the trust policy of the role that would match it"
	case errors.Is(err, bucket.ErrNoBucket):
		return "create the bucket (of file:// the directory), or correct bucket, aws-region and endpoint-url"
	case errors.Is(err, bucket.ErrUnreachable):
		return "check endpoint-url and aws-region; a private store may need ca-bundle"
	case errors.Is(err, artifact.ErrSource) && errors.Is(err, fs.ErrPermission):
		return "the container of the action runs as root: is the file on a file system that root may not read?"
	case errors.Is(err, artifact.ErrSource) && errors.Is(err, fs.ErrNotExist):
		return "path is relative to the workspace: does the job check out and make it before this step?"
	case errors.Is(err, context.Canceled):
		return ""
	}
	return publish.Hint(err)
}

// makeTemp makes a directory of our own below the runner's, or where there is none (a bare container) below the
// system's.
func makeTemp(runner string) (string, error) {
	base := runner
	if info, err := os.Stat(base); base == "" || err != nil || !info.IsDir() {
		base = os.TempDir()
		if err := os.MkdirAll(base, 0o777); err != nil {
			return "", fmt.Errorf("make temporary directory: %w", err)
		}
	}
	return os.MkdirTemp(base, "towline-")
}

// workspace gives path as the runner means it: relative to the workspace.
func (f *face) workspace(path string) string {
	if base := f.env["GITHUB_WORKSPACE"]; base != "" && !filepath.IsAbs(path) {
		return filepath.Join(base, path)
	}
	return path
}
