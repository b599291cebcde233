package parts

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ActOptions says which workflow to run and with what.
type ActOptions struct {
	Dir   string // git checkout (see Commit) whose .github/workflows are run; the current commit is what was pushed
	Event string // "push" when empty; or "workflow_dispatch", …

	Workflow string // file name below .github/workflows; all of them when empty
	Job      string // job id; all jobs of the event when empty

	// Repositories maps what a workflow uses, "owner/name@ref", to a directory that stands for it: a repository of
	// actions ("uses: owner/name@ref", "owner/name/sub@ref") and of reusable workflows
	// ("uses: owner/name/.github/workflows/x.yml@ref") alike. The directory's files are taken as they are now, committed
	// or not, .git too (.dockerignore is honoured). actions/checkout is built in: it copies Dir into the job.
	Repositories map[string]string

	Env     map[string]string // environment of every step; GITHUB_API_URL, GITHUB_SERVER_URL can be set, other GITHUB_* not
	Secrets map[string]string // secrets.NAME; GITHUB_TOKEN is a dummy unless given
	Vars    map[string]string // vars.NAME
	Inputs  map[string]string // inputs of workflow_dispatch
	Payload map[string]any    // fields of the event's payload, beside or instead of those of Dir's commit
	Actor   string            // github.actor; "octocat" when empty
	Timeout time.Duration     // 10 minutes when zero
}

// ActResult is what a run left.
type ActResult struct {
	ExitCode int       // 0: every job succeeded
	Log      string    // what the run's log showed, secrets and masks replaced by ***
	Steps    []ActStep // in the order in which they began
}

// ActStep is one step of a job. Outputs and summary are what the runner took from the step's GITHUB_OUTPUT and
// GITHUB_STEP_SUMMARY files, unmasked.
type ActStep struct {
	Job     string // job id; of a reusable workflow, the id within it
	ID      string // the step's id, or its position as text, from "0"
	Name    string // the step's name, or what it uses or runs
	Result  string // "success" or "failure"; "" when it did not end
	Outputs map[string]string
	Summary string
	Log     string       // the step's own output, workflow commands ("::group::…", "::error::…") as they were written
	Obeyed  []ActCommand // the commands in it that the runner took for such; not those while commands were stopped
}

// ActCommand is a workflow command that the runner obeyed: of "::error file=a::text", name error and argument text.
type ActCommand struct{ Name, Arg string }

// Step returns the step with this id, of the first job that has one; the test fails when none began.
func (r ActResult) Step(t testing.TB, id string) ActStep {
	t.Helper()
	for _, step := range r.Steps {
		if step.ID == id {
			return step
		}
	}
	t.Fatalf("no step %q was run:\n%s", id, r.Log)
	return ActStep{}
}

// Act runs a workflow with act, whose runner has no service behind it, in containers of the engine on the machine's
// network. What to know: runs-on must be ubuntu-latest; a job's first step must be actions/checkout; the workspace has
// the path of Dir, not /github/workspace, and is a copy in a volume; files that .gitignore names are not in it;
// RUNNER_TEMP is /tmp; an action's Dockerfile is built by the classic builder before its step. There is no OIDC issuer
// and no API: point the action at fakes by Env. Job outputs are seen only by the jobs that need them.
func Act(t testing.TB, e *Engine, o ActOptions) ActResult {
	t.Helper()
	home := t.TempDir()
	event := filepath.Join(home, "event.json")
	if err := os.WriteFile(event, payload(t, o), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{cmp.Or(o.Event, "push"), "--directory=" + o.Dir, "--json", "--platform=ubuntu-latest=" + JobImage,
		"--pull=false", "--rm", "--no-cache-server", "--container-daemon-socket=-", "--eventpath=" + event,
		// Files of these names in the checkout are the app's, not act's.
		"--env-file=/dev/null", "--secret-file=/dev/null", "--var-file=/dev/null", "--input-file=/dev/null",
		"--actor=" + cmp.Or(o.Actor, "octocat"), "--workflows=" + filepath.Join(o.Dir, ".github/workflows", o.Workflow)}
	if o.Job != "" {
		args = append(args, "--job="+o.Job)
	}
	secrets := map[string]string{"GITHUB_TOKEN": "dummy-github-token"}
	maps.Copy(secrets, o.Secrets)
	flags := func(flag string, values map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			args = append(args, "--"+flag, name+"="+values[name])
		}
	}
	flags("local-repository", o.Repositories)
	env := map[string]string{}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "NPM_CONFIG_REGISTRY"} {
		if value := os.Getenv(name); value != "" {
			env[name] = value
		}
	}
	maps.Copy(env, o.Env)
	flags("env", env)
	flags("var", o.Vars)
	flags("secret", secrets)
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(o.Timeout, 10*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, Tool(t, "act"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // it then removes its containers
	cmd.WaitDelay = time.Minute
	cmd.Dir = home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CACHE_HOME=" + home, "XDG_CONFIG_HOME=" + home,
		"DOCKER_HOST=" + e.Host, "DOCKER_CONFIG=" + home, "ACT_DISABLE_VERSION_CHECK=1"}
	out, err := cmd.CombinedOutput()
	r := readActLog(out)
	if ctx.Err() != nil {
		t.Fatalf("act did not end in time:\n%s", r.Log)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.ExitCode = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("act: %v", err)
	}
	return r
}

// readActLog reads the log that act writes with --json. Lines that are no JSON are kept in the log as they are.
func readActLog(out []byte) ActResult {
	var r ActResult
	var log strings.Builder
	index := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line struct {
			Msg, JobID, Step, Stage, StepResult, Command, Name, Arg, Content, Raw string
			StepID                                                                []string
			RawOutput                                                             bool `json:"raw_output"`
		}
		// Lines of a job's own steps have "stepID"; set-up and completion have "stepid", and no stage.
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			fmt.Fprintln(&log, lines.Text())
			continue
		}
		msg := strings.TrimSuffix(line.Msg, "\n")
		if line.JobID != "" {
			msg = "[" + line.JobID + "] " + msg
		}
		fmt.Fprintln(&log, msg)
		if line.Stage != "Main" || len(line.StepID) == 0 {
			continue
		}
		key := line.JobID + "/" + line.StepID[0]
		i, seen := index[key]
		if !seen {
			i = len(r.Steps)
			index[key] = i
			r.Steps = append(r.Steps, ActStep{Job: line.JobID, ID: line.StepID[0], Name: line.Step, Outputs: map[string]string{}})
		}
		step := &r.Steps[i]
		switch {
		case line.RawOutput:
			step.Log += strings.TrimSuffix(line.Msg, "\n") + "\n"
		case line.Raw != "":
			step.Log += strings.TrimSuffix(line.Raw, "\n") + "\n"
			if line.Command != "ignored" {
				step.Obeyed = append(step.Obeyed, readCommand(strings.TrimRight(line.Raw, "\r\n"), line.Command, line.Arg))
			}
		case line.Command == "set-output" && len(line.StepID) == 1: // deeper: a step within a composite action
			step.Outputs[line.Name] = line.Arg
		case line.Command == "summary":
			step.Summary += line.Content
		case line.StepResult != "" && len(line.StepID) == 1:
			step.Result = line.StepResult
		}
	}
	r.Log = log.String()
	return r
}

// readCommand splits a command where GitHub's runner does, at the first "::" that follows; act takes the last one. A command
// of the older form, "##[error]text", is left as act has it.
func readCommand(raw, name, arg string) ActCommand {
	rest, ok := strings.CutPrefix(raw, "::")
	head, data, found := strings.Cut(rest, "::")
	if !ok || !found {
		return ActCommand{name, arg}
	}
	name, _, _ = strings.Cut(head, " ")
	return ActCommand{name, strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(data)}
}

// SetupNode returns a directory that stands for actions/setup-node where no network is to be used: it checks that node
// is there and sets the output node-version.
func SetupNode(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	const action = `name: setup-node
description: stands for actions/setup-node; node is in the image
inputs:
  node-version: {description: ignored, default: ""}
  node-version-file: {description: ignored, default: ""}
  cache: {description: ignored, default: ""}
  cache-dependency-path: {description: ignored, default: ""}
  registry-url: {description: ignored, default: ""}
outputs:
  node-version: {description: the version in the image, value: "${{ steps.node.outputs.version }}"}
runs:
  using: composite
  steps:
    - id: node
      shell: bash
      run: echo "version=$(node --version)" >> "$GITHUB_OUTPUT"
`
	if err := os.WriteFile(filepath.Join(dir, "action.yml"), []byte(action), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// payload returns the event as GitHub words it, as far as actions commonly look, for the checkout's commit.
func payload(t testing.TB, o ActOptions) []byte {
	t.Helper()
	line := strings.Split(git(t, o.Dir, "log", "-1", "--format=%H%x00%cI%x00%an%x00%ae%x00%B"), "\x00")
	name := strings.TrimPrefix(git(t, o.Dir, "remote", "get-url", "origin"), "https://github.com/")
	branch := git(t, o.Dir, "symbolic-ref", "--short", "HEAD")
	sender := map[string]any{"login": cmp.Or(o.Actor, "octocat"), "type": "User"}
	event := map[string]any{
		"ref": "refs/heads/" + branch, "sender": sender,
		"repository": map[string]any{"full_name": name, "default_branch": "main", "html_url": "https://github.com/" + name},
	}
	if cmp.Or(o.Event, "push") == "push" {
		event["after"] = line[0]
		event["pusher"] = map[string]any{"name": sender["login"]}
		event["head_commit"] = map[string]any{
			"id": line[0], "timestamp": line[1], "message": strings.TrimSpace(line[4]),
			"author": map[string]any{"name": line[2], "email": line[3]},
		}
	}
	if o.Inputs != nil {
		event["inputs"] = o.Inputs
	}
	maps.Copy(event, o.Payload)
	data, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Commit commits everything in dir as a repository "owner/name" and returns the commit's hash, as a push to main
// would have it; the first call makes dir a repository.
func Commit(t testing.TB, dir, repository, message string) (hash string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, ".git")); err != nil {
		git(t, dir, "init", "--quiet", "--initial-branch=main")
		git(t, dir, "remote", "add", "origin", "https://github.com/"+repository)
	}
	git(t, dir, "add", "--all")
	git(t, dir, "commit", "--quiet", "--allow-empty", "--message="+message)
	return git(t, dir, "rev-parse", "HEAD")
}

// git runs git in dir, whatever the person's own settings.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	need(t, "git", "git")
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Octo Cat", "-c", "user.email=octocat@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	return strings.TrimSpace(run(t, cmd))
}
