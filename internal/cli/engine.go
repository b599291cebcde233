package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// silent is a log for verbs that only want the result.
type silent struct{}

func (silent) Phase(string)                       {}
func (silent) Line(publish.Tone, string)          {}
func (silent) Quote(publish.Tone, string, string) {}
func (silent) Warn(string)                        {}
func (silent) Debug(string)                       {}

// parts plugs the adapters into the engine of package publish.
func (in *inputs) parts(ctx context.Context, o publish.Options, log publish.Log) (publish.Parts, error) {
	b, bundle, err := in.open(ctx, o)
	if err != nil {
		return publish.Parts{}, err
	}
	client, err := ping.NewClient(ping.ClientOptions{Roots: bundle, Proxy: http.ProxyFromEnvironment})
	if err != nil {
		return publish.Parts{}, &fault{err: fmt.Errorf("--ca-bundle: %w", err), code: deployment.ExitUsage}
	}
	format, level, err := artifact.ParseCompression(o.Compression)
	if err != nil {
		return publish.Parts{}, err
	}
	packing := func(r release.Release, progress func(done, total int64)) (artifact.PackOptions, error) {
		po := artifact.PackOptions{Dir: o.Path, Include: o.Include, Exclude: o.Exclude, Format: format, Level: level}
		if progress != nil {
			po.Progress = func(_, bytes, total int64) { progress(bytes, total) }
			po.Unmatched = func(what, pattern string) {
				log.Warn(fmt.Sprintf("--%s: %q matched nothing; patterns are matched against the whole path from the top", what, pattern))
			}
		}
		if o.VersionFile == "" {
			return po, nil
		}
		file, err := artifact.VersionFile(o.VersionFile, r)
		po.Extra = []artifact.File{file}
		return po, err
	}
	return publish.Parts{
		Options: o, Bucket: b, Ping: client, Log: log, Compare: compare(o.Path),
		Size: func(ctx context.Context, key string) (int64, error) {
			info, err := b.Stat(ctx, key)
			return info.Size, err
		},
		Pack: func(ctx context.Context, out *os.File, r release.Release, progress func(done, total int64)) (release.Artifact, error) {
			po, err := packing(r, progress)
			if err != nil {
				return release.Artifact{}, err
			}
			return artifact.Pack(ctx, out, po)
		},
		Files: func(ctx context.Context, r release.Release) ([]publish.File, error) {
			po, err := packing(r, nil)
			if err != nil {
				return nil, err
			}
			entries, err := artifact.List(ctx, po)
			var files []publish.File
			for _, e := range entries {
				files = append(files, publish.File{Path: e.Path, Size: e.Size})
			}
			return files, err
		},
	}, nil
}

// run runs the engine and tells the story on standard output, or the report there and the story on standard error.
func (in *inputs) run(ctx context.Context, asJSON, verbose bool) error {
	p := in.p
	o, err := in.parse()
	if err != nil {
		return err
	}
	story := p.env.Stdout
	if asJSON {
		story = p.env.Stderr
	}
	on, err := p.painterFor(story)
	if err != nil {
		return err
	}
	parts, err := in.parts(ctx, o, publish.NewTextLog(story, verbose, bool(on)))
	if err != nil {
		return err
	}
	if o.Command == publish.Deploy || o.Command == publish.Publish {
		if parts.Release, err = p.release(ctx, o); err != nil {
			return err
		}
	}
	result, err := publish.Run(ctx, parts)
	if err != nil {
		if result.Cancelled {
			fmt.Fprintln(story, result.Reason) // how far it came
		}
		return in.explain(err)
	}
	if asJSON {
		p.printJSONText(result.Report())
	}
	fmt.Fprintln(story, on.outcome(result.Outcome, result.LastLine()))
	if code := publish.ExitCode(o, result, nil); code != 0 {
		return &fault{
			err: fmt.Errorf("%s: %s", result.Outcome, cmp.Or(result.Reason, "see above")), code: code,
			what: fmt.Sprintf("make %s live on %s", release.ShortHash(result.Version), o.Environment),
		}
	}
	return nil
}

// explain puts an error of the engine into the words of a command line.
func (in *inputs) explain(err error) error {
	if errors.As(err, new(*publish.UsageError)) {
		return in.usage(err)
	}
	if errors.Is(err, bucket.ErrRole) {
		in.explainRole()
	}
	return &fault{err: err, code: exitCode(err), hint: cmp.Or(likelyFix(err), publish.Hint(err))}
}

// explainRole prints what helps after a role was refused. This may be a step of a workflow: the words that its runner
// obeys stand at the beginning of a line, or behind ##[, which JSON can say in another way.
func (in *inputs) explainRole() {
	token := in.token.Load()
	if token == nil {
		return
	}
	claims, err := github.ParseClaims(*token)
	if err != nil {
		fmt.Fprintln(in.p.env.Stderr, err)
		return
	}
	for _, line := range github.ExplainRefusal(in.role, claims) {
		fmt.Fprintln(in.p.env.Stderr, strings.ReplaceAll(release.CleanLine(line, 4096), "##[", `\u0023#[`))
	}
	fmt.Fprintln(in.p.env.Stderr)
}

// status asks the bucket what is to be live and what the servers say.
func (in *inputs) status(ctx context.Context) (view, error) {
	o, err := in.parse()
	if err != nil {
		return view{}, err
	}
	parts, err := in.parts(ctx, o, silent{})
	if err != nil {
		return view{}, err
	}
	result, err := publish.Run(ctx, parts)
	if err != nil {
		return view{}, in.explain(err)
	}
	return in.p.environment(o, result), nil
}

// releases lists the releases in the bucket.
func (in *inputs) releases(ctx context.Context, n int) ([]deployment.Release, error) {
	o, err := in.parse()
	if err != nil {
		return nil, err
	}
	parts, err := in.parts(ctx, o, silent{})
	if err != nil {
		return nil, err
	}
	list, err := publish.Releases(ctx, parts, n)
	if err != nil {
		return nil, in.explain(err)
	}
	return list, nil
}
