package look_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/action"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

// Commits of the app, one after the other.
const (
	first  = "4be1c0e55d0a8a0f0c4f7f3f3b6ad21c5d9e7a10"
	second = "e02371ab6db3a60c3f9ead35e36187c91155b5a1"
	third  = "91d70fa2c8e4b36b5527c3ba03f1a4ce50d2b8f7"
)

// job is a workflow's job: a workspace, a directory for a bucket, the runner's files, and a version that is live already.
type job struct {
	t                    *testing.T
	dir, workspace, temp string
	key                  release.PrivateKey
	env                  map[string]string
	paced                bool // servers take the time that they say they took
}

func newJob(t *testing.T) *job {
	t.Helper()
	dir := t.TempDir()
	j := &job{t: t, dir: dir, workspace: filepath.Join(dir, "workspace"), temp: filepath.Join(dir, "temp")}
	for _, d := range []string{filepath.Join(dir, "bucket"), filepath.Join(j.workspace, "dist"), j.temp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	noise := rand.NewChaCha8([32]byte{1})
	for i := range 24 {
		chunk := make([]byte, 90<<10)
		_, _ = noise.Read(chunk)
		j.write(fmt.Sprintf("dist/chunk-%02d.js", i), chunk)
	}
	var err error
	if j.key, err = release.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	j.env = map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_SHA": first, "GITHUB_REPOSITORY": "acme/shop", "GITHUB_SERVER_URL": "https://github.com",
		"GITHUB_RUN_ID": "9714227731", "GITHUB_ACTOR": "ada", "GITHUB_REF": "refs/heads/main", "GITHUB_WORKSPACE": j.workspace, "RUNNER_TEMP": j.temp,
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
		"INPUT_APP": "shop", "INPUT_PATH": "dist", "INPUT_BUCKET": "file://" + filepath.Join(dir, "bucket"), "INPUT_SIGNING-KEY": j.key.Reveal(),
		"INPUT_ENVIRONMENT-URL": "https://shop.example",
	}
	if e := j.run(); e.code != 0 {
		t.Fatalf("the first release: exit %d\n%s", e.code, e.log)
	}
	j.commit(second, "Take orders in two currencies\n\nand more")
	return j
}

func (j *job) write(path string, data []byte) {
	j.t.Helper()
	if err := os.WriteFile(filepath.Join(j.workspace, path), data, 0o644); err != nil {
		j.t.Fatal(err)
	}
}

// commit is a push of a commit that changes one file.
func (j *job) commit(hash, message string) {
	j.t.Helper()
	j.write("dist/chunk-07.js", []byte("the one file that changed, by "+hash+"\n"))
	j.env["GITHUB_SHA"] = hash
	data, err := json.Marshal(map[string]any{"head_commit": map[string]any{"id": hash, "message": message, "timestamp": "2026-11-23T13:06:43+01:00"}})
	if err != nil {
		j.t.Fatal(err)
	}
	j.env["GITHUB_EVENT_PATH"] = filepath.Join(j.dir, "event.json")
	if err := os.WriteFile(j.env["GITHUB_EVENT_PATH"], data, 0o644); err != nil {
		j.t.Fatal(err)
	}
}

// with gives the job other inputs (lower case) or variables (upper case): name, value, …
func (j *job) with(pairs ...string) *job {
	c := *j
	c.env = maps.Clone(j.env)
	for i := 0; i < len(pairs); i += 2 {
		name := pairs[i]
		if strings.ToUpper(name) != name {
			name = "INPUT_" + strings.ToUpper(name)
		}
		c.env[name] = pairs[i+1]
	}
	return &c
}

// ended is what a run left.
type ended struct {
	code         int
	log, summary string
	took         time.Duration
}

func (j *job) run() ended {
	j.t.Helper()
	os.Remove(j.env["GITHUB_STEP_SUMMARY"])
	var environ []string
	for name, value := range j.env {
		environ = append(environ, name+"="+value)
	}
	var out bytes.Buffer
	began := time.Now()
	e := ended{code: action.Run(j.t.Context(), action.Env{Environ: environ, Stdout: &out}), took: time.Since(began)}
	summary, err := os.ReadFile(j.env["GITHUB_STEP_SUMMARY"])
	if err != nil {
		j.t.Fatalf("no summary: %v\n%s", err, out.String())
	}
	e.log, e.summary = out.String(), string(summary)
	return e
}

// servers starts an agent's ping handler for each story; server n is web-n. The result is the input servers.
func (j *job) servers(stories ...[]deployment.Event) string {
	j.t.Helper()
	trust, err := release.NewTrust([]release.PublicKey{j.key.Public()}, 1)
	if err != nil {
		j.t.Fatal(err)
	}
	var lines []string
	for i, story := range stories {
		name := fmt.Sprintf("web-%d", i+1)
		handler := ping.NewHandler(ping.HandlerOptions{Ring: func(_ context.Context, body []byte, _ string) (ping.Answer, error) {
			v, err := trust.Pointer(body, release.Want{App: "shop", Environment: "production", Prefix: "shop"})
			if err != nil {
				return ping.Answer{}, err
			}
			p := v.Pointer()
			return ping.Answer{App: p.App, Server: name, Seq: p.Seq, Hash: p.Release.Hash, Events: func(ctx context.Context) iter.Seq[deployment.Event] {
				return func(yield func(deployment.Event) bool) {
					for i, e := range story {
						if j.paced {
							j.pace(ctx, e)
						}
						e.N, e.Deployment, e.App, e.Server, e.Seq, e.Hash = i+1, "d1", p.App, name, p.Seq, p.Release.Hash
						e.Time = time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
						if !yield(e) {
							return
						}
					}
				}
			}}, nil
		}})
		server := httptest.NewTLSServer(handler)
		j.t.Cleanup(server.Close)
		lines = append(lines, name+"="+server.URL+"#sha256="+ping.Pin(server.Certificate()))
	}
	return strings.Join(lines, "\n")
}

// pace lets a step take its time, for pictures whose times are to add up.
func (j *job) pace(ctx context.Context, e deployment.Event) {
	if e.Terminal() {
		return
	}
	select {
	case <-time.After(time.Duration(e.TookMS) * time.Millisecond):
	case <-ctx.Done():
	}
}

// healthy is the story of a server where all went well.
func healthy(fetch, activate, check int64) []deployment.Event {
	return []deployment.Event{
		{Step: deployment.Fetch, State: deployment.Started},
		{Step: deployment.Fetch, State: deployment.Done, Bytes: 94 << 10, TookMS: fetch, Message: "1 of 24 frames"},
		{Step: deployment.Unpack, State: deployment.Done, TookMS: 21},
		{Step: deployment.Activate, State: deployment.Done, TookMS: activate},
		{Step: deployment.Check, State: deployment.Done, TookMS: check, Message: "GET http://127.0.0.1:3000/healthz: 200, 3 in a row"},
		{Step: deployment.Confirm, State: deployment.Done, TookMS: 4},
		{Step: deployment.End, State: deployment.Done, Outcome: deployment.Deployed, Bytes: 94 << 10, TookMS: fetch + activate + check + 25},
	}
}

// unwell is the story of a server that put the previous release back. The texts are the probe's and the app's.
func unwell(answer, reason string, log []string) []deployment.Event {
	return []deployment.Event{
		{Step: deployment.Fetch, State: deployment.Started},
		{Step: deployment.Fetch, State: deployment.Done, Bytes: 94 << 10, TookMS: 131, Message: "1 of 24 frames"},
		{Step: deployment.Unpack, State: deployment.Done, TookMS: 19},
		{Step: deployment.Activate, State: deployment.Done, TookMS: 412},
		{Step: deployment.Check, State: deployment.StepFail, TookMS: 1900, Message: answer, Log: log},
		{Step: deployment.RollBack, State: deployment.Done, TookMS: 398},
		{Step: deployment.End, State: deployment.Done, Outcome: deployment.RolledBack, Reason: reason, Log: log, Bytes: 94 << 10, TookMS: 2860},
	}
}

// A failure as apps have it.
const (
	answer = `GET http://127.0.0.1:3000/healthz: 503: {"status":"down","db":"SQLITE_BUSY"} (6 times)`
	reason = "not healthy within 30 s: " + answer
)

var appLog = []string{
	"listening on :3000",
	"migrate: 0042_currencies.sql",
	"Error: SQLITE_BUSY: database is locked",
	"    at Database.exec (/srv/shop/releases/e02371ab6db3/node_modules/better-sqlite3/lib/database.js:9:14)",
	"    at migrate (file:///srv/shop/current/server/migrate.js:31:6)",
	"    at async start (file:///srv/shop/current/server/index.js:12:3) {",
	"  code: 'SQLITE_BUSY'",
	"}",
	"health: db down, answering 503",
}
