package outcomes

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// ends is how long a run may take from the signal until its container is gone; the runner kills after ten seconds.
const ends = 5 * time.Second

// seat is a place like the runner makes for the container of an action: its directories, mounted where it mounts them.
type seat struct {
	*testing.T
	w   *world
	dir string // with work, temp, home, workflow, commands
}

func (w *world) newSeat(t *testing.T) *seat {
	t.Helper()
	s := &seat{T: t, w: w, dir: t.TempDir()}
	for _, name := range []string{"work/dist", "temp", "home", "workflow", "commands"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.write("work/dist/before", "#!/bin/sh\nexit 0\n")
	s.write("work/dist/says", "starting\n")
	s.write("work/dist/index.html", "<h1>Shop</h1>\n")
	if err := os.Chmod(filepath.Join(s.dir, "work/dist/before"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *seat) write(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
}

// job is a container under way.
type job struct {
	*seat
	name string
	cmd  *exec.Cmd
	log  parts.Buffer
	sha  string
}

// start runs the image as the runner does, for a push of a commit.
func (s *seat) start(sha, runID string, inputs map[string]string) *job {
	s.Helper()
	j := &job{seat: s, name: fmt.Sprintf("towline-%s", runID), sha: sha}
	for _, name := range []string{"output", "summary", "env", "path", "state"} {
		s.write("commands/"+name, "")
	}
	s.write("workflow/event.json", "{}")
	env := map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "HOME": "/github/home", "GITHUB_WORKSPACE": "/github/workspace", "RUNNER_TEMP": "/github/runner_temp",
		"RUNNER_OS": "Linux", "GITHUB_EVENT_PATH": "/github/workflow/event.json", "GITHUB_EVENT_NAME": "push", "GITHUB_SHA": sha,
		"GITHUB_REF": "refs/heads/main", "GITHUB_REPOSITORY": repository, "GITHUB_ACTOR": "octocat", "GITHUB_RUN_ID": runID,
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_API_URL": s.w.github.URL, "GITHUB_OUTPUT": "/github/file_commands/output",
		"GITHUB_STEP_SUMMARY": "/github/file_commands/summary", "GITHUB_ENV": "/github/file_commands/env", "GITHUB_PATH": "/github/file_commands/path",
		"GITHUB_STATE": "/github/file_commands/state", "AWS_ACCESS_KEY_ID": s.w.s3.AccessKey, "AWS_SECRET_ACCESS_KEY": s.w.s3.SecretKey,
	}
	usual := s.w.usual("cut")
	usual["signing-key"], usual["github-token"], usual["wait-timeout"] = s.w.key.Reveal(), jobToken, "10m"
	for name, value := range over(usual, inputs) {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	args := []string{"run", "--rm", "--network=host", "--name=" + j.name, "--workdir=/github/workspace"}
	for from, to := range map[string]string{"work": "workspace", "temp": "runner_temp", "home": "home", "workflow": "workflow", "commands": "file_commands"} {
		args = append(args, "--volume="+filepath.Join(s.dir, from)+":/github/"+to)
	}
	for name, value := range env {
		args = append(args, "--env="+name+"="+value)
	}
	j.cmd = s.w.engine.Command(append(args, image)...)
	j.cmd.Stdout, j.cmd.Stderr = &j.log, &j.log
	if err := j.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	return j
}

// wait waits for the end of the client.
func (j *job) wait() (code int) {
	j.Helper()
	done := make(chan struct{})
	go func() {
		_ = j.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		_, _ = j.w.engine.TryCLI("rm", "--force", j.name)
		<-done
		j.Errorf("the run did not end:\n%s", j.log.String())
	}
	return j.cmd.ProcessState.ExitCode()
}

// files is everything in a directory of the seat, with owner, mode and size.
func (s *seat) files(name string) (found []string) {
	s.Helper()
	dir := filepath.Join(s.dir, name)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err == nil {
			owner := info.Sys().(*syscall.Stat_t)
			found = append(found, fmt.Sprint(strings.TrimPrefix(path, dir), info.Mode(), owner.Uid, owner.Gid, info.Size(), info.ModTime().UnixNano()))
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return found
}

// seq is that of the pointer of the app, which must verify; 0 when there is none.
func (s *seat) pointer() (seq uint64, version string) {
	s.Helper()
	trust, err := release.NewTrust([]release.PublicKey{s.w.key.Public()}, 1)
	if err != nil {
		s.Fatal(err)
	}
	file, _, err := s.w.store.Get(s.Context(), release.PointerKey("cut", "production"), 1<<20)
	if err != nil {
		return 0, ""
	}
	v, err := trust.Pointer(file, release.Want{App: "cut", Environment: "production", Prefix: "cut"})
	if err != nil {
		s.Fatalf("the pointer does not verify: %v", err)
	}
	return v.Pointer().Seq, v.Pointer().Release.Hash
}

// moment is when a run is cancelled.
type moment struct {
	name   string
	large  bool // the tree is larger than one part of an upload
	inputs map[string]string
	at     func(reached func(), ended <-chan struct{}) rule // calls reached when the run is where it is to be cancelled
	line   string                                           // or the log holds this
	signal func(w *world, j *job)                           // what is done then
	moved  bool                                             // the pointer is the new one
	told   bool                                             // GitHub had a deployment by then
}

func interrupt(w *world, j *job) {
	if err := j.cmd.Process.Signal(syscall.SIGINT); err != nil {
		j.Error(err)
	}
}

func stop(w *world, j *job) { w.engine.CLI(j.T, "stop", j.name) }

func isPointer(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/cut/production/version.json")
}

func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

// cancel is a person who presses "Cancel workflow", at moments of all kinds.
func (w *world) cancel() {
	moments := []moment{
		{name: "uploading", large: true, signal: interrupt, at: func(reached func(), ended <-chan struct{}) rule {
			return rule{slow: func(r *http.Request) int {
				if isPart(r) {
					reached()
					return 64 << 10
				}
				return 0
			}}
		}},
		{name: "before-the-pointer", signal: interrupt, told: true, at: func(reached func(), ended <-chan struct{}) rule {
			return rule{refuse: func(r *http.Request) int {
				if isPointer(r) {
					reached()
					<-ended
					return http.StatusServiceUnavailable
				}
				return 0
			}}
		}},
		{name: "after-the-pointer", signal: interrupt, told: true, moved: true, at: func(reached func(), ended <-chan struct{}) rule {
			return rule{answer: func(r *http.Request) {
				if isPointer(r) {
					reached()
					<-ended
				}
			}}
		}},
		{name: "waiting", signal: interrupt, told: true, moved: true, inputs: map[string]string{"expect-servers": "ghost"}, line: "web-1  deployed"},
		{name: "stopped", signal: stop, told: true, moved: true, inputs: map[string]string{"expect-servers": "ghost"}, line: "web-1  deployed"},
	}
	for i, m := range moments {
		commits := w.history("Cut "+m.name, "Go on after "+m.name)
		w.t.Run(m.name, func(t *testing.T) { w.cancelAt(t, m, fmt.Sprint(600+2*i), commits[0], commits[1]) })
	}
}

func (w *world) cancelAt(t *testing.T, m moment, runID, sha, next string) {
	s := w.newSeat(t)
	if m.large {
		data := make([]byte, 40<<20)
		_, _ = rand.Read(data)
		s.write("work/dist/film", string(data))
	}
	seq, _ := s.pointer()
	before, work := w.look(), s.files("work")
	reached, ended := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	if m.at != nil {
		w.gate.with(m.at(once, ended))
	}
	j := s.start(sha, runID, m.inputs)
	if m.line != "" {
		eventually(t, "the log says "+m.line, 20*time.Second, func() bool { return strings.Contains(colours.ReplaceAllString(j.log.String(), ""), m.line) })
		once()
	}
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		t.Errorf("the run was never where it is to be cancelled:\n%s", j.log.String())
	}
	began := time.Now()
	m.signal(w, j)
	code := j.wait()
	took := time.Since(began)
	w.gate.rule.Store(nil)
	close(ended)
	t.Logf("gone %.2f s after the signal, exit code %d", took.Seconds(), code)
	if took > ends || code == 0 {
		t.Errorf("got exit code %d after %v, want another one than 0 within %v", code, took, ends)
	}
	if left := w.engine.CLI(t, "ps", "--all", "--quiet", "--filter=name="+j.name); left != "" {
		t.Errorf("the container is still there: %s", left)
	}
	if got := s.files("temp"); len(got) > 0 {
		t.Errorf("left in RUNNER_TEMP: %q", got)
	}
	if got := s.files("work"); !slices.Equal(got, work) {
		t.Errorf("workspace: got %q, want it as it was: %q", got, work)
	}
	if !strings.Contains(j.log.String(), "::error::") || !strings.Contains(s.output(), "outcome<<") {
		t.Error("the run ended without a word")
	}
	got, version := s.pointer()
	if want := seq + map[bool]uint64{true: 1}[m.moved]; got < want || got > seq+1 || m.moved != (version == sha) {
		t.Errorf("pointer: got seq %d, version %s; was %d", got, version, seq)
	}
	if m.large {
		s.noUploads()
	}
	after := w.look()
	ids, statuses := told(before, after)
	if (len(ids) > 0) != m.told {
		t.Errorf("GitHub was told of deployments %d", ids)
	}
	for _, id := range ids {
		if last := statuses[id][len(statuses[id])-1]; last.State != "error" || !strings.Contains(last.Description, "cancelled") {
			t.Errorf("deployment %d ends as %+v, want error: cancelled", id, last)
		}
	}
	if t.Failed() {
		t.Logf("the log:\n%s", j.log.String())
	}

	j = s.start(next, runID+"1", nil)
	if code := j.wait(); code != 0 || w.live("cut") != next {
		t.Errorf("the next run: got exit code %d, live %s:\n%s", code, w.live("cut"), j.log.String())
	}
	if now, follows := s.pointer(); follows != next || now <= got {
		t.Errorf("the next run: pointer at seq %d, %s", now, follows)
	}
	// It builds upon what the one before had left, whatever that is.
	if found := regexp.MustCompile(`(?m)^previous-version<<.*\n(.*)$`).FindStringSubmatch(s.output()); found == nil || found[1] != version {
		t.Errorf("the next run found %q, want %s, in\n%s", found, version, s.output())
	}
}

// output is what the last run wrote into GITHUB_OUTPUT.
func (s *seat) output() string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "commands/output"))
	if err != nil {
		s.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// noUploads makes sure that the store keeps no parts of an upload that was given up.
func (s *seat) noUploads() {
	s.Helper()
	status, body := s.w.s3.Do(s.T, http.MethodGet, "/"+bucketName+"?uploads=", nil)
	if status != http.StatusOK || strings.Contains(string(body), "<Upload>") {
		s.Errorf("uploads that were begun: got %d %s", status, body)
	}
}
