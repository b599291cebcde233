package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deployment"
)

const (
	hashOne = "e02371ab6db3a60c3f9ead35e36187c91155b5a1"
	hashTwo = "0c1f4b7d2a9e8c6b5f3d1e0a9b8c7d6e5f4a3b2c"
)

var testNow = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)

// fakeAgent answers the socket's routes as the agent does, with what a test puts into it, and keeps what it was asked.
type fakeAgent struct {
	path string

	mu       sync.Mutex
	details  map[string]deployment.Detail
	order    []string
	events   []deployment.Event // the stream that deploy and rollback answer with
	result   deployment.Result  // the answer without a stream
	problem  *deployment.Problem
	asked    []string // verbs with their bodies
	overview func(n int)
	looks    int
}

func newFakeAgent(t *testing.T) *fakeAgent {
	dir, err := os.MkdirTemp("", "cli") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fakeAgent{path: filepath.Join(dir, "agent.sock"), details: map[string]deployment.Detail{}}
	listener, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/apps", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.looks++
		if f.overview != nil {
			f.overview(f.looks)
		}
		out := deployment.Overview{Apps: []deployment.Receipt{}}
		for _, key := range f.order {
			out.Apps = append(out.Apps, f.details[key].Receipt)
		}
		answer(w, http.StatusOK, out)
	})
	mux.HandleFunc("GET /v1/apps/{app}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if d, ok := f.details[r.PathValue("app")]; ok {
			answer(w, http.StatusOK, d)
			return
		}
		answer(w, http.StatusNotFound, deployment.Problem{Message: fmt.Sprintf("app %q: there is none here", r.PathValue("app")), Code: deployment.ExitUnknown})
	})
	mux.HandleFunc("POST /v1/apps/{app}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		var c deployment.Command
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			t.Errorf("command: %v", err)
		}
		body, _ := json.Marshal(c)
		f.asked = append(f.asked, r.PathValue("app")+" "+r.PathValue("verb")+" "+string(body))
		switch {
		case f.problem != nil:
			answer(w, http.StatusConflict, f.problem)
		case r.Header.Get("Accept") == "application/x-ndjson" && f.events != nil:
			w.Header().Set("Content-Type", "application/x-ndjson")
			for _, e := range f.events {
				line, _ := json.Marshal(e)
				fmt.Fprintf(w, "%s\n", line)
			}
		default:
			answer(w, http.StatusOK, f.result)
		}
	})
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(server.Close)
	return f
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// add configures an app.
func (f *fakeAgent) add(d deployment.Detail) {
	d.Receipt.App, d.Receipt.Environment, d.Receipt.Server = d.Key, "production", "web-1"
	f.details[d.Key] = d
	f.order = append(f.order, d.Key)
}

// run runs the command against the agent, an hour or so after its deployments.
func (f *fakeAgent) run(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	p := &program{
		env: Env{Args: args, Stdout: &out, Stderr: &err, Getenv: func(name string) string {
			return map[string]string{"TOWLINE_SOCKET": f.path}[name]
		}},
		now: func() time.Time { return testNow }, watchEvery: time.Microsecond,
	}
	code = p.run(ctx)
	return code, out.String(), err.String()
}

func nodeapi() deployment.Detail {
	failed := deployment.Record{
		ID: "2", Seq: 185, Hash: hashTwo, Outcome: deployment.RolledBack, Reason: "probe: GET /version: 500",
		Started: "2026-11-23T14:00:00Z", Finished: "2026-11-23T14:00:31Z",
		Events: []deployment.Event{{N: 9, Step: deployment.End, Outcome: deployment.RolledBack, TookMS: 31200, Log: []string{"Error: no config", "\x1b[31mexit\x07"}}},
	}
	return deployment.Detail{
		Key: "nodeapi", Dir: "/srv/nodeapi", Unit: "nodeapi.service",
		Receipt: deployment.Receipt{
			Type: deployment.ReceiptType, Seen: "2026-11-23T14:59:48Z", Pointer: deployment.ReceiptPointer{Seq: 185, Hash: hashTwo},
			Live: deployment.ReceiptLive{Seq: 184, Hash: hashOne, Since: "2026-11-23T13:06:43Z"}, Deployment: &failed,
		},
		Releases: []deployment.Release{
			{Seq: 185, Hash: hashTwo, Msg: "Break it", Date: "2026-11-23T13:59:00Z", OnDisk: true, Outcome: deployment.RolledBack},
			{Seq: 184, Hash: hashOne, Msg: "Count views", Date: "2026-11-23T13:00:00Z", OnDisk: true, Live: true, Outcome: deployment.Deployed},
		},
		Deployments: []deployment.Record{failed, {ID: "1", Seq: 184, Hash: hashOne, Outcome: deployment.Deployed, Started: "2026-11-23T13:06:38Z"}},
	}
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("output differs (-want +got):\n%s", diff)
	}
}

func TestReleasesOfServer(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	code, out, _ := f.run(t, t.Context(), "releases")
	if code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	wantText(t, out, `
OUTCOME      RELEASE            DATE              WHERE    MESSAGE
rolled-back  #185 0c1f4b7d2a9e  2026-11-23 13:59  on disk  Break it
deployed     #184 e02371ab6db3  2026-11-23 13:00  live     Count views
`)
	_, out, _ = f.run(t, t.Context(), "releases", "--json", "-n", "1")
	var got []deployment.Release
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 1 || got[0] != f.details["nodeapi"].Releases[0] {
		t.Errorf("got %+v, %v; want the newest release alone", got, err)
	}
}

func TestRollbackTellsTheStory(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	event := func(n int, step deployment.Step, state deployment.State, message string) deployment.Event {
		return deployment.Event{N: n, App: "nodeapi", Server: "web-1", Seq: 184, Hash: hashOne, Step: step, State: state, Message: message, TookMS: int64(n) * 100}
	}
	f.events = []deployment.Event{
		event(1, deployment.Activate, deployment.Started, ""),
		event(2, deployment.Activate, deployment.Done, ""),
		event(2, deployment.Activate, deployment.Heartbeat, ""),
		event(2, deployment.Activate, deployment.Done, ""),
		event(3, deployment.Check, deployment.StepFail, "GET /version: 500"),
		{N: 4, Step: deployment.End, Outcome: deployment.Broken, Reason: "two releases fail", TookMS: 65000, Log: []string{"::error::no"}},
		event(5, deployment.Check, deployment.Done, "never read"),
	}
	code, out, stderr := f.run(t, t.Context(), "rollback", "-m", "too slow")
	if code != deployment.ExitUnwell || stderr != "" {
		t.Errorf("got exit code %d, stderr %q; want %d and none", code, stderr, deployment.ExitUnwell)
	}
	wantText(t, out, `
nodeapi on web-1: #184 e02371ab6db3
  activate  done, 200 ms
  check     failed: GET /version: 500
  broken in 65.0 s: two releases fail
    | ::error::no
`)
	if want := []string{`nodeapi rollback {"version":"previous","reason":"too slow"}`}; !cmp.Equal(f.asked, want) {
		t.Errorf("asked: got %q, want %q", f.asked, want)
	}
}

func TestCommandsThatAreSent(t *testing.T) {
	result := deployment.Result{Outcome: deployment.Held, Reason: "lunch"}
	for _, c := range []struct {
		args   []string
		result deployment.Result
		want   string // command
		code   int
		stdout string
	}{
		{[]string{"hold", "nodeapi", "-m", "lunch"}, result, `nodeapi hold {"reason":"lunch"}`, 0, "nodeapi: held: lunch\n"},
		{[]string{"resume"}, deployment.Result{Reason: "the pointer is followed"}, `nodeapi resume {}`, 0, "nodeapi: the pointer is followed\n"},
		{[]string{"prune", "--keep", "2"}, deployment.Result{Lines: []string{"removed 181-aaaa"}}, `nodeapi prune {"keep":2}`, 0, "nodeapi\n  removed 181-aaaa\n"},
		{[]string{"prune"}, deployment.Result{}, `nodeapi prune {}`, 0, "nodeapi: nothing to do\n"},
		{[]string{"recover", "nodeapi", "--accept-seq", "7"}, deployment.Result{Reason: "recovered"}, `nodeapi recover {"accept_seq":7}`, 0, "nodeapi: recovered\n"},
		{[]string{"deploy"}, deployment.Result{Outcome: deployment.Unchanged}, `nodeapi deploy {}`, 0, "nodeapi: unchanged\n"},
		{[]string{"deploy", "nodeapi", "e02371a", "--force"}, deployment.Result{Outcome: deployment.Failed, Reason: "disk full"}, `nodeapi deploy {"version":"e02371a","force":true}`, 1, "nodeapi: failed: disk full\n"},
		{[]string{"rollback", "e02371a"}, deployment.Result{Outcome: deployment.Deployed}, `nodeapi rollback {"version":"e02371a"}`, 0, "nodeapi: deployed\n"},
		{[]string{"rollback", "--version", "e02371a", "--app", "nodeapi"}, deployment.Result{Outcome: deployment.Deployed}, `nodeapi rollback {"version":"e02371a"}`, 0, "nodeapi: deployed\n"},
		{[]string{"rollback", "nodeapi"}, deployment.Result{Outcome: deployment.Deployed}, `nodeapi rollback {"version":"previous"}`, 0, "nodeapi: deployed\n"},
		{[]string{"rollback", "nodeapi", "e02371a"}, deployment.Result{Outcome: deployment.RolledBack}, `nodeapi rollback {"version":"e02371a"}`, 3, "nodeapi: rolled-back\n"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			f := newFakeAgent(t)
			f.add(nodeapi())
			f.result = c.result
			code, out, stderr := f.run(t, t.Context(), c.args...)
			if code != c.code || out != c.stdout || stderr != "" {
				t.Errorf("got exit code %d, stdout %q, stderr %q; want %d, %q and none", code, out, stderr, c.code, c.stdout)
			}
			if !cmp.Equal(f.asked, []string{c.want}) {
				t.Errorf("asked: got %q, want %q", f.asked, c.want)
			}
		})
	}
}

func TestCommandJSON(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	f.result = deployment.Result{Outcome: deployment.RolledBack, Reason: "500"}
	code, out, _ := f.run(t, t.Context(), "deploy", "--json")
	var got deployment.Result
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != deployment.ExitUnwell || !cmp.Equal(got, f.result) {
		t.Errorf("got exit code %d, %+v, %v; want %d, %+v", code, got, err, deployment.ExitUnwell, f.result)
	}
}

func TestWhatTheAgentRefuses(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	f.problem = &deployment.Problem{Message: "on hold: lunch", Hint: "towline resume nodeapi", Code: deployment.ExitHeld}
	code, out, stderr := f.run(t, t.Context(), "deploy")
	if code != deployment.ExitHeld || out != "" {
		t.Errorf("got exit code %d, stdout %q; want %d and none", code, out, deployment.ExitHeld)
	}
	wantText(t, stderr, "towline: cannot deploy: on hold: lunch\nhint: towline resume nodeapi\n")

	code, _, stderr = f.run(t, t.Context(), "status", "nope")
	if code != deployment.ExitUnknown || !strings.Contains(stderr, `app "nope"`) {
		t.Errorf("got exit code %d, %q; want %d naming the app", code, stderr, deployment.ExitUnknown)
	}
}

func TestSeveralAppsWantAName(t *testing.T) {
	f := newFakeAgent(t)
	code, _, stderr := f.run(t, t.Context(), "releases")
	if code != deployment.ExitUnknown || !strings.Contains(stderr, "this agent has no app") {
		t.Errorf("no app: got exit code %d, %q", code, stderr)
	}
	f.add(nodeapi())
	f.add(deployment.Detail{Key: "site"})
	code, _, stderr = f.run(t, t.Context(), "rollback")
	if code != deployment.ExitUsage || !strings.Contains(stderr, "hint: name one by its key in the agent's configuration; there are nodeapi (") || f.asked != nil {
		t.Errorf("two apps: got exit code %d, %q, asked %q; want %d and a list", code, stderr, f.asked, deployment.ExitUsage)
	}
}

// Two environments of one app on one server are told apart by their keys.
func TestRollbackTakesTheKeyOfAnApp(t *testing.T) {
	f := newFakeAgent(t)
	for _, key := range []string{"web-prod", "web-staging"} {
		d := nodeapi()
		d.Key = key
		f.add(d)
	}
	f.result = deployment.Result{Outcome: deployment.Deployed}
	if code, _, stderr := f.run(t, t.Context(), "rollback", "web-prod", "--json"); code != 0 {
		t.Fatalf("got exit code %d: %s", code, stderr)
	}
	if want := []string{`web-prod rollback {"version":"previous"}`}; !cmp.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}

func TestDeployThatHasNothingToDo(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	for outcome, want := range map[deployment.Outcome]string{
		deployment.Unchanged:  "nodeapi on web-1: unchanged\n",
		deployment.RolledBack: "nodeapi on web-1: rolled-back: that release failed here before; --force tries it again\n",
	} {
		f.events = []deployment.Event{{N: 1, App: "nodeapi", Server: "web-1", Step: deployment.End, Outcome: outcome}}
		code, out, _ := f.run(t, t.Context(), "deploy")
		if code != outcome.ExitCode() {
			t.Errorf("%s: got exit code %d, want %d", outcome, code, outcome.ExitCode())
		}
		wantText(t, out, want)
	}
}

func TestBrokenStream(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	f.events = []deployment.Event{{N: 1, Step: deployment.Activate, State: deployment.Done}}
	code, _, stderr := f.run(t, t.Context(), "rollback")
	if code != deployment.ExitError || !strings.Contains(stderr, "unexpected EOF") || !strings.Contains(stderr, "hint: the deployment goes on without us") {
		t.Errorf("got exit code %d, %q; want %d and that it goes on", code, stderr, deployment.ExitError)
	}
}

func TestLogsRunsJournalctlForTheUnit(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	f.add(deployment.Detail{Key: "site"})
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte("#!/bin/sh\nprintf '%s|' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	code, out, stderr := f.run(t, t.Context(), "logs", "nodeapi", "-n", "7", "-f")
	if want := "--unit|nodeapi.service|--lines|7|--no-pager|--follow|"; code != 0 || out != want {
		t.Errorf("got exit code %d, %q, %q; want 0, %q", code, out, stderr, want)
	}
	code, _, stderr = f.run(t, t.Context(), "logs", "site")
	if code != deployment.ExitError || !strings.Contains(stderr, "the app has no unit") {
		t.Errorf("without a unit: got exit code %d, %q", code, stderr)
	}
}
