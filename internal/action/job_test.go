package action

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/schema"
)

// job is a workflow's job with a workspace, a directory bucket and the runner's files.
type job struct {
	t                       *testing.T
	bucket, workspace, temp string
	key                     release.PrivateKey
	env                     map[string]string
}

func newJob(t *testing.T) *job {
	t.Helper()
	dir := t.TempDir()
	j := &job{t: t, bucket: filepath.Join(dir, "bucket"), workspace: filepath.Join(dir, "workspace"), temp: filepath.Join(dir, "temp")}
	for _, d := range []string{j.bucket, filepath.Join(j.workspace, "dist"), j.temp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	j.write("dist/index.html", "<h1>hello</h1>")
	var err error
	if j.key, err = release.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	j.env = map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_SHA": sha, "GITHUB_REPOSITORY": "acme/web", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "77",
		"GITHUB_ACTOR": "ada", "GITHUB_REF": "refs/heads/main", "GITHUB_WORKSPACE": j.workspace, "RUNNER_TEMP": j.temp,
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
		"INPUT_APP": "web", "INPUT_PATH": "dist", "INPUT_BUCKET": "file://" + j.bucket, "INPUT_SIGNING-KEY": j.key.Reveal(),
		"INPUT_ARGS": "", "INPUT_ENTRYPOINT": "",
	}
	return j
}

func (j *job) write(path, text string) {
	j.t.Helper()
	if err := os.WriteFile(filepath.Join(j.workspace, path), []byte(text), 0o644); err != nil {
		j.t.Fatal(err)
	}
}

func (j *job) event(v any) {
	j.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		j.t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(j.temp), "event.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		j.t.Fatal(err)
	}
	j.env["GITHUB_EVENT_PATH"] = path
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

func (j *job) environ() []string {
	var out []string
	for name, value := range j.env {
		out = append(out, name+"="+value)
	}
	return out
}

// ended is what a run left.
type ended struct {
	code         int
	log, summary string // the log without colours
	raw          string // the log as the runner gets it
	outputs      map[string]string
}

var colors = regexp.MustCompile(`\x1b\[[0-9]*m`)

func (j *job) run() ended {
	j.t.Helper()
	var out bytes.Buffer
	return j.runTo(j.t.Context(), &out, &out)
}

func (j *job) runTo(ctx context.Context, w io.Writer, out fmt.Stringer) ended {
	j.t.Helper()
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		os.Remove(j.env[name])
	}
	e := ended{code: Run(ctx, Env{Environ: j.environ(), Stdout: w}), outputs: map[string]string{}}
	e.raw = out.String()
	e.log = colors.ReplaceAllString(e.raw, "")
	summary, _ := os.ReadFile(j.env["GITHUB_STEP_SUMMARY"])
	e.summary = string(summary)
	file, _ := os.ReadFile(j.env["GITHUB_OUTPUT"])
	for rest := string(file); rest != ""; {
		var name, value string
		name, rest, _ = strings.Cut(rest, "<<"+delimiter+"\n")
		value, rest, _ = strings.Cut(rest, "\n"+delimiter+"\n")
		e.outputs[name] = value
	}
	if text := e.outputs["report"]; text != "" {
		schema.Check(j.t, "report", text)
	}
	if left, _ := fs.Glob(os.DirFS(j.temp), "*"); len(left) > 0 {
		j.t.Errorf("left in the temporary directory: %q", left)
	}
	return e
}

// objects are the keys in the bucket.
func (j *job) objects() []string {
	j.t.Helper()
	var out []string
	err := filepath.WalkDir(j.bucket, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(j.bucket, path); err == nil && !d.IsDir() && !strings.HasPrefix(rel, ".towline") {
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		j.t.Fatal(err)
	}
	return out
}

func (j *job) pointer() release.Verified {
	j.t.Helper()
	file, err := os.ReadFile(filepath.Join(j.bucket, "web/production/version.json"))
	if err != nil {
		j.t.Fatal(err)
	}
	return j.verify(file)
}

func (j *job) verify(file []byte) release.Verified {
	j.t.Helper()
	trust, err := release.NewTrust([]release.PublicKey{j.key.Public()}, 1)
	if err != nil {
		j.t.Fatal(err)
	}
	v, err := trust.Pointer(file, release.Want{App: "web", Environment: "production", Prefix: "web"})
	if err != nil {
		j.t.Fatal(err)
	}
	return v
}

// agent is a real ping handler over TLS that verifies the ping and tells a story; it returns the line for servers.
func (j *job) agent(events ...deployment.Event) string {
	j.t.Helper()
	handler := ping.NewHandler(ping.HandlerOptions{Ring: func(_ context.Context, body []byte, _ string) (ping.Answer, error) {
		p := j.verify(body).Pointer()
		return ping.Answer{App: p.App, Seq: p.Seq, Hash: p.Release.Hash, Events: func(context.Context) iter.Seq[deployment.Event] {
			return func(yield func(deployment.Event) bool) {
				for i, e := range events {
					e.N, e.Deployment, e.Seq, e.Hash = i+1, "d1", p.Seq, p.Release.Hash
					if !yield(e) {
						return
					}
				}
			}
		}}, nil
	}})
	server := httptest.NewTLSServer(handler)
	j.t.Cleanup(server.Close)
	sum := sha256.Sum256(server.Certificate().RawSubjectPublicKeyInfo)
	return "web-1=" + server.URL + "#sha256=" + hex.EncodeToString(sum[:])
}
