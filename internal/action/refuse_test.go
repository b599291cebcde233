package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/fakegithub"
)

func TestBadInput(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		code  int
		want  string
	}{
		{"missing", []string{"app", ""}, 2, "input app: required"},
		{"unknown", []string{"sevice", "x", "wait-timout", "5m"}, 2, "did you mean wait-timeout?"},
		{"two at once", []string{"app", "", "wait", "x"}, 2, `input wait: "x": want true or false`},
		{"no such path", []string{"path", "nowhere"}, 2, "nowhere"},
		{"empty path", []string{"path", "empty"}, 2, "empty"},
		{"bad compression level", []string{"compression", "zstd:99"}, 2, "the level of zstd is 1 to 22"},
		{"bad version file", []string{"version-file", "version.exe"}, 2, ".js, .json, .env or .txt"},
		{"bad glob", []string{"include", "[a"}, 2, "[a"},
		{"bad bucket", []string{"bucket", "gs://deploys"}, 2, `input bucket: bucket "gs://deploys": unknown scheme`},
		{"missing bucket", []string{"bucket", "file:///nowhere/at/all"}, 2, "hint: create the bucket"},
		{"endpoint down", []string{"bucket", "s3://deploys?endpoint=http://127.0.0.1:1&region=x"}, 1, "hint: check endpoint-url"},
		{"bad key", []string{"signing-key", "hunter2"}, 2, "input signing-key: signing key: want"},
		{"bad CA bundle", []string{"ca-bundle", "nothing.pem"}, 2, "input ca-bundle"},
		{"CA bundle without certificates", []string{"ca-bundle", "-----BEGIN NOTHING-----"}, 2, "certificate"},
		{"no such release", []string{"command", "promote", "version", "abcdefg"}, 4, "no such release"},
		{"nothing to roll back to", []string{"command", "rollback"}, 4, "hint: towline releases lists"},
		{"strangers' code", []string{"GITHUB_EVENT_NAME", "pull_request_target"}, 2, "refused on pull_request_target"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := newJob(t)
			if err := os.Mkdir(filepath.Join(j.workspace, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_ACCESS_KEY_ID", "id")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			e := j.with(tt.pairs...).run()
			if e.code != tt.code || !strings.Contains(e.log, "::error::") || !strings.Contains(e.log, tt.want) {
				t.Errorf("got exit %d, want %d and %q:\n%s", e.code, tt.code, tt.want, e.log)
			}
			if e.outputs["outcome"] != "failed" || !strings.Contains(e.summary, "❌ failed") {
				t.Errorf("outcome: got %q, summary\n%s", e.outputs["outcome"], e.summary)
			}
			if got := j.objects(); len(got) > 0 {
				t.Errorf("written: %q", got)
			}
		})
	}
}

func TestForeignPointerIsRefused(t *testing.T) {
	j := newJob(t)
	if e := j.run(); e.code != 0 {
		t.Fatal(e.log)
	}
	before := j.objects()
	other, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := j.with("signing-key", other.Reveal(), "GITHUB_SHA", strings.Repeat("c", 40)).run()
	if e.code != deployment.ExitRefused || !strings.Contains(e.log, "web/production/version.json: pointer: verification failed") || !strings.Contains(e.log, "hint: if it was signed by a key now replaced") {
		t.Errorf("got exit %d:\n%s", e.code, e.log)
	}
	if got := j.objects(); !slices.Equal(got, before) {
		t.Errorf("written: %q", got)
	}
}

func TestMissingCredentials(t *testing.T) {
	fork := map[string]any{"pull_request": map[string]any{"head": map[string]any{"repo": map[string]any{"fork": true, "full_name": "eve/web"}}}}
	for _, tt := range []struct {
		name  string
		event any
		pairs []string
		code  int
	}{
		{"fork", fork, nil, 0},
		{"dependabot", map[string]any{"sender": map[string]any{"login": "dependabot[bot]"}}, nil, 0},
		{"dependabot's rerun by a person", nil, []string{"GITHUB_ACTOR", "dependabot[bot]"}, 0},
		{"own branch", map[string]any{}, nil, 2},
		{"own branch, skip", map[string]any{}, []string{"on-missing-credentials", "skip"}, 0},
		{"fork, fail", fork, []string{"on-missing-credentials", "fail"}, 2},
		{"fork with another mistake", fork, []string{"wait", "perhaps"}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := newJob(t)
			j.event(tt.event)
			e := j.with(append(tt.pairs, "signing-key", "")...).run()
			if e.code != tt.code {
				t.Errorf("got exit %d, want %d:\n%s", e.code, tt.code, e.log)
			}
			if skipped := e.outputs["outcome"] == "skipped" && strings.Contains(e.log, "::notice::skipped: no credentials"); skipped != (tt.code == 0) {
				t.Errorf("outcome %q:\n%s", e.outputs["outcome"], e.log)
			}
			last := e.log[strings.LastIndex(strings.TrimSpace(e.log), "\n")+1:]
			if want := e.outputs["outcome"] + ": web e02371ab6db3 on production, in "; !strings.HasPrefix(last, want) || e.outputs["version"] != sha {
				t.Errorf("last line: got %q, want %q; version %q", last, want, e.outputs["version"])
			}
			if got := j.objects(); len(got) > 0 {
				t.Errorf("written: %q", got)
			}
		})
	}
}

// A role needs a token that only jobs with id-token: write have; runs of forks have none, whatever the workflow says.
func TestMissingIDToken(t *testing.T) {
	fork := map[string]any{"pull_request": map[string]any{"head": map[string]any{"repo": map[string]any{"fork": true}}}}
	for event, code := range map[*map[string]any]int{&fork: 0, {}: deployment.ExitUsage} {
		j := newJob(t)
		j.event(*event)
		e := j.with("bucket", "s3://deploys?endpoint=http://127.0.0.1:1&region=x", "role-to-assume", "arn:aws:iam::1:role/deploys",
			"trust", "none", "signing-key", "").run()
		if e.code != code || (e.outputs["outcome"] == "skipped") != (code == 0) {
			t.Errorf("got exit %d, outcome %q, want exit %d:\n%s", e.code, e.outputs["outcome"], code, e.log)
		}
		if code != 0 && (!strings.Contains(e.log, "the job needs `permissions: id-token: write`") || !strings.Contains(e.log, "hint: set role-to-assume (permissions: id-token: write)")) {
			t.Errorf("the log does not name the permission:\n%s", e.log)
		}
	}
}

func TestAdviceNamesVerbsThatExist(t *testing.T) {
	verbs := []string{"status", "logs", "resume", "recover"} // those of the command that advice speaks of
	for _, o := range []deployment.Outcome{deployment.RolledBack, deployment.Broken, deployment.TimedOut, deployment.Held, deployment.Failed} {
		for _, rest := range strings.Split(advice(publish.ServerResult{Outcome: o}), "towline ")[1:] {
			verb := strings.FieldsFunc(rest, func(r rune) bool { return r < 'a' || r > 'z' })[0]
			if !slices.Contains(verbs, verb) {
				t.Errorf("%s: %q names towline %s", o, advice(publish.ServerResult{Outcome: o}), verb)
			}
		}
	}
}

// A run that was not cancelled has time for a slow answer of GitHub; a cancelled one is about to be killed.
func TestTimeForLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct{ at, want time.Duration }{
			"not cancelled": {-1, 30 * time.Second}, "cancelled before": {0, 3 * time.Second}, "cancelled meanwhile": {5 * time.Second, 8 * time.Second},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			if tt.at >= 0 {
				time.AfterFunc(tt.at, cancel)
				synctest.Wait()
			}
			began := time.Now()
			after, end := lastWords(ctx)
			<-after.Done()
			if got := time.Since(began); got != tt.want {
				t.Errorf("%s: got %v, want %v", name, got, tt.want)
			}
			end()
			cancel()
		}
	})
}

func TestMasksOnlyForARunner(t *testing.T) {
	j := newJob(t)
	e := j.run()
	if !strings.HasPrefix(e.log, "::add-mask::"+j.key.Reveal()+"\n") {
		t.Errorf("the key is not masked first:\n%s", e.log)
	}
	if e := j.with("GITHUB_ACTIONS", "").run(); strings.Contains(e.log, j.key.Reveal()) {
		t.Errorf("the key is shown where nobody masks:\n%s", e.log)
	}
}

func TestOutputsOutsideOfARunner(t *testing.T) {
	j := newJob(t).with("GITHUB_OUTPUT", "", "GITHUB_STEP_SUMMARY", "", "RUNNER_DEBUG", "1")
	if e := j.run(); e.code != 0 || !strings.Contains(e.log, "::debug::output outcome=published") {
		t.Errorf("got %d:\n%s", e.code, e.log)
	}
	j = newJob(t).with("GITHUB_OUTPUT", "/nowhere/output")
	if e := j.run(); e.code != 0 || !strings.Contains(e.log, "::warning::output outcome was not written") {
		t.Errorf("unwritable: got %d:\n%s", e.code, e.log)
	}
	j = newJob(t)
	e := j.with("message", delimiter).run()
	if e.code != 0 || e.outputs["report"] != "" || e.outputs["outcome"] != "published" || e.outputs["duration-ms"] == "" {
		t.Errorf("delimiter in the message: got %d, %q", e.code, e.outputs)
	}
}

func (j *job) states(hub *fakegithub.Server, id int64) []string {
	var out []string
	for _, s := range hub.Statuses(id) {
		out = append(out, s.State)
	}
	return out
}

func TestGitHubDeployment(t *testing.T) {
	j := newJob(t)
	hub := fakegithub.New(t, fakegithub.Options{Repository: "acme/web", Token: "a-token"})
	hub.AddCommit(sha, "", "Told by the API\n\nmore", "2026-11-23T10:00:00Z")
	good := deployment.Event{Step: deployment.End, State: deployment.Done, Outcome: deployment.Deployed}
	j = j.with("GITHUB_API_URL", hub.URL, "github-token", "a-token", "environment-url", "https://web.example", "servers", j.agent(good))

	e := j.run()
	deployments := hub.Deployments()
	if e.code != 0 || len(deployments) != 1 || e.outputs["deployment-id"] != fmt.Sprint(deployments[0].ID) || deployments[0].Environment != "production" {
		t.Fatalf("got %d, deployments %+v:\n%s", e.code, deployments, e.log)
	}
	if got, want := j.states(hub, deployments[0].ID), []string{"queued", "in_progress", "success"}; !slices.Equal(got, want) {
		t.Errorf("states: got %q, want %q", got, want)
	}
	if s := hub.Statuses(deployments[0].ID)[2]; s.EnvironmentURL != "https://web.example" || s.LogURL != "https://github.com/acme/web/actions/runs/77" {
		t.Errorf("status: got %+v", s)
	}
	if r := j.pointer().Pointer().Release; r.Msg != "Told by the API" || r.Date != "2026-11-23T10:00:00Z" {
		t.Errorf("release: got %+v", r)
	}

	// The job's own deployment is adopted, and red is told as failure.
	own := hub.AddDeployment(fakegithub.Deployment{SHA: sha, Environment: "production"}, fakegithub.Status{State: "in_progress", LogURL: "https://github.com/acme/web/actions/runs/77/job/1"})
	bad := good
	bad.Outcome, bad.Reason = deployment.RolledBack, "probe answered 503"
	e = j.with("servers", j.agent(bad)).run()
	if got, want := j.states(hub, own), []string{"in_progress", "in_progress", "failure"}; e.code != 3 || !slices.Equal(got, want) || e.outputs["deployment-id"] != fmt.Sprint(own) {
		t.Errorf("adopted: got %d, states %q, want 3, %q:\n%s", e.code, got, want, e.log)
	}

	// An older commit writes nothing, also no deployment.
	child := strings.Repeat("d", 40)
	hub.AddCommit(child, sha, "newer", "2026-11-23T11:00:00Z")
	if e := j.with("GITHUB_SHA", child, "deployment", "off").run(); e.code != 0 || e.outputs["deployment-id"] != "" {
		t.Errorf("off: got %d, deployment %q:\n%s", e.code, e.outputs["deployment-id"], e.log)
	}
	count, objects := len(hub.Deployments()), j.objects()
	e = j.run()
	if e.code != 0 || e.outputs["outcome"] != "superseded" || len(hub.Deployments()) != count || !slices.Equal(j.objects(), objects) || !strings.Contains(e.log, "::notice::superseded") {
		t.Errorf("older commit: got %d, %q:\n%s", e.code, e.outputs["outcome"], e.log)
	}
	if e := j.with("on-superseded", "fail").run(); e.code != 1 {
		t.Errorf("older commit, fail: got exit %d, want 1", e.code)
	}

	// What GitHub refuses is a warning; the release goes on.
	e = j.with("github-token", "another", "GITHUB_SHA", strings.Repeat("e", 40)).run()
	if e.code != 0 || e.outputs["outcome"] != "deployed" || !strings.Contains(e.log, "::warning::GitHub deployment: ") {
		t.Errorf("refused token: got %d:\n%s", e.code, e.log)
	}
}

// watcher cancels the run when a text is printed.
type watcher struct {
	bytes.Buffer
	text   string
	cancel func()
}

func (w *watcher) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

func TestCancel(t *testing.T) {
	j := newJob(t)
	hub := fakegithub.New(t, fakegithub.Options{Repository: "acme/web", Token: "a-token"})
	hub.AddCommit(sha, "", "m", "2026-11-23T10:00:00Z")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &watcher{text: "Ping and wait", cancel: cancel}
	e := j.with("expect-servers", "web-1", "GITHUB_API_URL", hub.URL, "github-token", "a-token").runTo(ctx, w, w)
	if e.code != 1 || e.outputs["outcome"] != "failed" || !strings.Contains(e.log, "::error::cannot deploy web on production: cancelled after the pointer was moved to seq 1: the servers follow it by themselves\n") {
		t.Errorf("got exit %d, outcome %q:\n%s", e.code, e.outputs["outcome"], e.log)
	}
	all := hub.Deployments()
	if len(all) != 1 {
		t.Fatalf("deployments: got %+v, want one", all)
	}
	if got, want := j.states(hub, all[0].ID), []string{"queued", "error"}; !slices.Equal(got, want) {
		t.Errorf("states: got %q, want %q", got, want)
	}
	if j.pointer().Pointer().Seq != 1 {
		t.Error("the pointer is not whole")
	}
}

// Sixteen publishers at once on one directory: one chain, and the newest of it is what the pointer says.
func TestPublishersRace(t *testing.T) {
	j := newJob(t)
	var wg sync.WaitGroup
	for i := range 16 {
		one := j.with("version", fmt.Sprintf("v%d", i), "GITHUB_OUTPUT", "", "GITHUB_STEP_SUMMARY", "")
		wg.Go(func() {
			var out bytes.Buffer
			if code := Run(t.Context(), Env{Environ: one.environ(), Stdout: &out}); code != 0 {
				t.Errorf("publisher %d: exit code %d:\n%s", i, code, out.String())
			}
		})
	}
	wg.Wait()
	prev := ""
	seq := uint64(0)
	for {
		file, err := os.ReadFile(filepath.Join(j.bucket, release.HistoryKey("web", "production", seq+1)))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seq++
		v := j.verify(file)
		if v.Pointer().Seq != seq || v.Pointer().Prev != prev {
			t.Errorf("history %d: got seq %d, prev %q, want prev %q", seq, v.Pointer().Seq, v.Pointer().Prev, prev)
		}
		prev = v.Digest()
	}
	if got := j.pointer(); got.Digest() != prev || seq == 0 {
		t.Errorf("pointer: got seq %d, want the top of the history, %d", got.Pointer().Seq, seq)
	}
}

func TestAnnotationsAreTen(t *testing.T) {
	var out bytes.Buffer
	f := &face{env: map[string]string{}, log: newLog(&out, os.Getenv)}
	r := &publish.Result{Outcome: deployment.Failed}
	for i := range 30 {
		r.Servers = append(r.Servers, publish.ServerResult{Name: fmt.Sprintf("web-%d", i), Outcome: deployment.Failed})
	}
	f.annotate(publish.Options{}, r, nil)
	if got := strings.Count(out.String(), "::error"); got != 10 || !strings.Contains(out.String(), "::error::and 21 more servers") {
		t.Errorf("got %d errors:\n%s", got, out.String())
	}
}

// The page shows ten warnings; the log shows all.
func TestWarningsBeyondTenAreLines(t *testing.T) {
	var out bytes.Buffer
	l := newLog(&out, os.Getenv)
	for i := range 12 {
		l.Warn(fmt.Sprintf("number %d\n::error::boom", i))
	}
	l.Notice("end")
	var lines []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "warning: number 1") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if got := strings.Count(out.String(), "::warning::"); got != 10 || len(lines) != 2 || lines[1] != "warning: number 11 ::error::boom" {
		t.Errorf("got %d annotations and lines %q, want 10 and two:\n%s", got, lines, out.String())
	}
	for _, c := range obeyed(out.String()) {
		if c.name != "warning" && c.name != "notice" {
			t.Errorf("the runner obeyed %+v", c)
		}
	}
}
