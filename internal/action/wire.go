package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// parts plugs the adapters into the engine.
func (f *face) parts(ctx context.Context, o publish.Options) (publish.Parts, error) {
	logger := slog.New(handler{log: f.log})
	roots, err := f.roots(o.CABundle)
	if err != nil {
		return publish.Parts{}, err
	}
	store, err := bucket.Open(ctx, bucket.Options{
		URL: o.Bucket, Region: o.Region, Endpoint: o.Endpoint, PathStyle: o.PathStyle, RoleARN: o.RoleARN, CABundle: roots, Log: logger,
		IDToken: func(ctx context.Context, audience string) (string, error) {
			if f.env["ACTIONS_ID_TOKEN_REQUEST_URL"] == "" {
				return "", fmt.Errorf("%w: there is no ACTIONS_ID_TOKEN_REQUEST_URL: the job needs `permissions: id-token: write`, and runs of forks never have it", bucket.ErrNoCredentials)
			}
			token, err := github.IDToken(ctx, f.env["ACTIONS_ID_TOKEN_REQUEST_URL"], f.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], audience)
			if err == nil {
				f.hide(token)
				f.token.Store(&token)
			}
			return token, err
		},
	})
	if err != nil {
		return publish.Parts{}, usage("bucket", err)
	}
	client, err := ping.NewClient(ping.ClientOptions{Roots: roots, Proxy: http.ProxyFromEnvironment, Log: logger})
	if err != nil {
		return publish.Parts{}, usage("ca-bundle", err)
	}
	p := publish.Parts{
		Options: o, Bucket: store, Ping: client, Temp: f.temp, Log: f.log,
		Run: &release.Run{
			URL: f.runURL(), Actor: release.CleanText(f.env["GITHUB_ACTOR"], 100),
			Repository: release.CleanText(f.env["GITHUB_REPOSITORY"], 200), Ref: release.CleanText(f.env["GITHUB_REF"], 300),
		},
		Size: func(ctx context.Context, key string) (int64, error) {
			info, err := store.Stat(ctx, key)
			return info.Size, err
		},
	}
	if *p.Run == (release.Run{}) {
		p.Run = nil
	}
	if err := f.connect(&p, logger); err != nil {
		return p, err
	}
	if o.Command == publish.Deploy || o.Command == publish.Publish {
		p.Release = f.release(ctx, o)
		p.Pack, p.Files = packing(o, f.workspace(o.Path), f.log.Warn)
	}
	return p, nil
}

// packing makes the engine's two views of package artifact.
func packing(o publish.Options, dir string, warn func(string)) (
	func(context.Context, *os.File, release.Release, func(done, total int64)) (release.Artifact, error),
	func(context.Context, release.Release) ([]publish.File, error),
) {
	options := func(r release.Release) (artifact.PackOptions, error) {
		format, level, err := artifact.ParseCompression(o.Compression)
		p := artifact.PackOptions{Dir: dir, Include: o.Include, Exclude: o.Exclude, Format: format, Level: level}
		if err == nil && o.VersionFile != "" {
			var extra artifact.File
			extra, err = artifact.VersionFile(o.VersionFile, r)
			p.Extra = []artifact.File{extra}
		}
		return p, err
	}
	pack := func(ctx context.Context, out *os.File, r release.Release, progress func(done, total int64)) (release.Artifact, error) {
		p, err := options(r)
		if err != nil {
			return release.Artifact{}, err
		}
		p.Progress = func(_, bytes, total int64) { progress(bytes, total) }
		p.Unmatched = func(what, pattern string) {
			warn(fmt.Sprintf("%s: %q matched nothing; patterns are matched against the whole path from the top", what, pattern))
		}
		return artifact.Pack(ctx, out, p)
	}
	files := func(ctx context.Context, r release.Release) ([]publish.File, error) {
		p, err := options(r)
		if err != nil {
			return nil, err
		}
		entries, err := artifact.List(ctx, p)
		var out []publish.File
		for _, e := range entries {
			out = append(out, publish.File{Path: e.Path, Size: e.Size})
		}
		return out, err
	}
	return pack, files
}

// connect adds GitHub, where there is one to speak to.
func (f *face) connect(p *publish.Parts, logger *slog.Logger) error {
	o := p.Options
	repository := f.env["GITHUB_REPOSITORY"]
	if o.GitHubToken == "" || repository == "" {
		return nil
	}
	client, err := github.New(github.Options{BaseURL: f.env["GITHUB_API_URL"], Token: o.GitHubToken, Repository: repository, Log: logger})
	if err != nil {
		return usage("github-token", err)
	}
	f.hub.client, f.hub.options, f.hub.sha, f.hub.runID, f.hub.runURL = client, o, f.env["GITHUB_SHA"], f.env["GITHUB_RUN_ID"], f.runURL()
	p.Compare = client.Compare
	p.BeforeMove, p.Heard = f.hub.begin, f.hub.heard
	return nil
}

// release is what deploy and publish make. Message and date are the input's, else the event's, else the API's, else
// none.
func (f *face) release(ctx context.Context, o publish.Options) release.Release {
	r := release.Release{Hash: o.Version, Msg: o.Message, Date: o.Date}
	if c := f.event.HeadCommit; c.ID == r.Hash && (r.Msg == "" || r.Date == "") {
		if r.Msg == "" {
			r.Msg = c.Message
		}
		if _, err := time.Parse(time.RFC3339, c.Timestamp); r.Date == "" && err == nil {
			r.Date = c.Timestamp
		}
	}
	if (r.Msg == "" || r.Date == "") && f.hub.client != nil && release.IsCommit(r.Hash) {
		msg, date, err := f.hub.client.Commit(ctx, r.Hash)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn("GitHub: the release is without its commit's message and date: " + release.CleanText(err.Error(), 300))
		}
		if r.Msg == "" {
			r.Msg = msg
		}
		if r.Date == "" {
			r.Date = date
		}
	}
	if r.Date == "" {
		at := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
		if seconds, err := strconv.ParseInt(f.env["SOURCE_DATE_EPOCH"], 10, 40); err == nil && seconds >= 0 {
			at = time.Unix(seconds, 0).UTC()
		}
		r.Date = at.Format(time.RFC3339)
	}
	r.Msg = release.FirstLine(r.Msg)
	return r
}

// roots reads ca-bundle: PEM text, or the path of a file with it.
func (f *face) roots(bundle string) ([]byte, error) {
	if bundle == "" || strings.Contains(bundle, "-----BEGIN") {
		return []byte(bundle), nil
	}
	data, err := os.ReadFile(f.workspace(bundle))
	if err != nil {
		return nil, usage("ca-bundle", fmt.Errorf("%w; want PEM text, or the path of a PEM file", err))
	}
	return data, nil
}

func (f *face) runURL() string {
	if f.env["GITHUB_RUN_ID"] == "" {
		return ""
	}
	return fmt.Sprintf("%s/%s/actions/runs/%s", f.env["GITHUB_SERVER_URL"], f.env["GITHUB_REPOSITORY"], f.env["GITHUB_RUN_ID"])
}

func usage(input string, err error) error {
	return &publish.UsageError{Problems: []publish.Problem{{Input: input, Text: err.Error()}}}
}
