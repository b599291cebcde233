package publishers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

const bucketName = "deploys"

var programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "towline-publishers-"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/towline", "./cmd/towline-agent")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if made.Load() {
		dir, _ := programs()
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

var made atomic.Bool // the programs were, or their directory

// world is a real S3 server with one bucket, real programs, and a git repository with a checkout of every commit.
type world struct {
	*testing.T
	bin   string
	s3    *parts.S3Server
	name  string // of the bucket
	key   release.PrivateKey
	trust release.Trust
	start time.Time

	repo    string
	commits []string // by the order in which they were made
	parents commits

	mu  *sync.Mutex
	ops []op
}

func newWorld(t *testing.T) *world {
	t.Helper()
	made.Store(true)
	bin, err := programs()
	must(t, err)
	w := &world{T: t, bin: bin, s3: parts.S3(t), name: bucketName, start: time.Now(), parents: commits{}, mu: new(sync.Mutex)}
	w.s3.Bucket(t, w.name)
	w.key, w.trust = newKey(t)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) git(argv ...string) string {
	w.Helper()
	cmd := exec.Command("git", append([]string{"-C", w.repo, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"}, argv...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.Fatalf("git %q: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// checkouts makes one commit for each parent: the number of an earlier one, -1 for none.
func (w *world) checkouts(parents ...int) {
	w.Helper()
	w.repo = w.TempDir()
	w.git("init", "--quiet", ".")
	for i, parent := range parents {
		from := ""
		if parent >= 0 {
			from = w.commits[parent]
			w.git("checkout", "--quiet", "--detach", from)
		}
		must(w, os.MkdirAll(filepath.Join(w.repo, "dist"), 0o755))
		must(w, os.WriteFile(filepath.Join(w.repo, "dist/version"), fmt.Appendf(nil, "release %d\n", i), 0o644))
		w.git("add", ".")
		w.git("commit", "--quiet", "--message", fmt.Sprintf("Make release %d", i))
		hash := w.git("rev-parse", "HEAD")
		w.commits, w.parents[hash] = append(w.commits, hash), from
		w.git("worktree", "add", "--quiet", "--detach", w.dir(i), hash)
	}
}

// dir is the checkout of a commit.
func (w *world) dir(i int) string { return filepath.Join(w.repo, "..", fmt.Sprintf("checkout-%d", i)) }

// report is of what a run says at its end, and what it wrote on the way.
type report struct {
	Outcome  deployment.Outcome `json:"outcome"`
	Reason   string             `json:"reason"`
	Version  string             `json:"version"`
	Previous string             `json:"previous_version"`
	Seq      uint64             `json:"seq"`
	Warnings []string           `json:"warnings"`

	code int // -1: a signal ended it
	log  string
}

// command is the real towline, to be started. Endpoint is the store's, or that of a gate before it.
func (w *world) command(ctx context.Context, endpoint, app string, argv ...string) *exec.Cmd {
	through := *w.s3
	through.Endpoint = endpoint
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "towline"), append(argv, "--json", "--app", app, "--bucket", through.URL(w.name))...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "HOME=/nonexistent", "TOWLINE_SIGNING_KEY=" + w.key.Reveal()}, w.s3.Env()...)
	return cmd
}

// towline runs the real one to its end.
func (w *world) towline(endpoint, app string, argv ...string) (r report) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := w.command(ctx, endpoint, app, argv...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	if cmd.ProcessState == nil {
		w.Errorf("%q: %v", cmd.Args, err)
		return r
	}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			w.Errorf("%q: report: %v in %s", argv, err, out.String())
		}
	}
	r.code, r.log = cmd.ProcessState.ExitCode(), log.String()
	return r
}

// publish runs the real towline as an operation of a client.
func (w *world) publish(endpoint, app string, client int, kind release.Kind, version string, argv ...string) report {
	o := op{name: fmt.Sprintf("op-%d", client), client: client, kind: kind, version: version, invoke: int64(time.Since(w.start))}
	r := w.towline(endpoint, app, append(argv, "--reason", o.name)...)
	o.outcome, o.seq, o.reason, o.warnings = r.Outcome, r.Seq, r.Reason, r.Warnings
	switch {
	case r.code == deployment.ExitUnknown && kind == release.KindRollback:
		return r // the pointer is the first release: there is nothing before it, and nothing was done
	case r.code != 0:
		o.err = fmt.Errorf("exit code %d: %s", r.code, r.log)
	}
	if kind != release.KindDeploy {
		o.version = r.Version
	}
	w.add(o)
	return r
}

func (w *world) add(o op) {
	o.done = int64(time.Since(w.start))
	w.mu.Lock()
	w.ops = append(w.ops, o)
	w.mu.Unlock()
}

// deploy is the whole job of one commit.
func (w *world) deploy(endpoint, app string, client, commit int) report {
	return w.publish(endpoint, app, client, release.KindDeploy, w.commits[commit], "publish", "--promote", "--path", filepath.Join(w.dir(commit), "dist"))
}

// restore puts an old version.json back, as a person does.
func (w *world) restore(app string, client int, seq uint64) {
	o := op{name: fmt.Sprintf("person-%d", client), client: client, seq: seq, invoke: int64(time.Since(w.start))}
	w.put(release.PointerKey(app, "production"), w.get(release.HistoryKey(app, "production", seq)))
	w.add(o)
}

// get reads an object from the store itself, nil when there is none.
func (w *world) get(key string) []byte {
	status, body := w.s3.Do(w, http.MethodGet, "/"+w.name+"/"+key, nil)
	switch status {
	case http.StatusOK:
		return body
	case http.StatusNotFound:
	default:
		w.Errorf("get %s: status %d: %s", key, status, body)
	}
	return nil
}

func (w *world) put(key string, data []byte) {
	if status, body := w.s3.Do(w, http.MethodPut, "/"+w.name+"/"+key, data); status != http.StatusOK {
		w.Errorf("put %s: status %d: %s", key, status, body)
	}
}

func (w *world) record(app string) record {
	w.Helper()
	r := record{ops: w.ops, behind: w.parents.behind, quick: true}
	r.read(w.T, w.trust, app, w.get)
	return r
}
