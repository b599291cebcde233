package packaging

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// The images are those of the engine's tests; the machine's architecture is the only one that runs here.
func TestPublishedImage(t *testing.T) {
	e := parts.Docker(t)
	arch := strings.TrimSpace(run(t, nil, "go", "env", "GOHOSTARCH"))
	const image = "towline-test/published"
	e.CLI(t, "build", "--quiet", "--build-arg", "TARGETARCH="+arch, "--tag", image, "--file", root+"/packaging/Dockerfile", filepath.Join(theRelease(t), "image"))
	defer e.CLI(t, "rmi", "--force", image)
	if got, want := e.CLI(t, "inspect", "--format", "{{json .Config.Entrypoint}} {{json .Config.User}} {{json .Config.WorkingDir}}", image),
		`["/towline-action"] "" ""`; strings.TrimSpace(got) != want {
		t.Errorf("got entry point, user, directory %s, want %s", got, want)
	}
	out, err := e.TryCLI("run", "--rm", image)
	if err == nil || !strings.Contains(fmt.Sprint(out, err), "::error::input app: required") {
		t.Errorf("run without inputs: got %v\n%s", err, out)
	}

	const container = "towline-test-published"
	e.CLI(t, "create", "--name", container, image)
	defer e.CLI(t, "rm", container)
	program := filepath.Join(t.TempDir(), "towline-action")
	e.CLI(t, "cp", container+":/towline-action", program)
	if digest(t, program) != digest(t, filepath.Join(theRelease(t), "image", arch, "towline-action")) {
		t.Error("got another program in the image than in the release")
	}
}

// The job that ci.yml runs on GitHub's machines, under a runner that has one label only and another workspace.
func TestActionJob(t *testing.T) {
	e := parts.Docker(t)
	repository := checkout(t)
	if err := os.RemoveAll(filepath.Join(repository, ".git")); err != nil { // Commit makes one of its own
		t.Fatal(err)
	}
	path := filepath.Join(repository, ".github/workflows/ci.yml")
	text := read(t, path)
	for old, new := range map[string]string{
		"runner: [ubuntu-24.04, ubuntu-24.04-arm]": "runner: [ubuntu-latest]",
		"file:///github/workspace/":                "file://" + repository + "/",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("ci.yml: got no %q", old)
		}
		text = strings.ReplaceAll(text, old, new)
	}
	write(t, path, []byte(text), 0o644)
	hash := parts.Commit(t, repository, "towline/towline", "CI of this commit")
	r := parts.Act(t, e, parts.ActOptions{Dir: repository, Workflow: "ci.yml", Job: "action"})
	if r.ExitCode != 0 {
		t.Fatalf("got exit code %d:\n%s", r.ExitCode, r.Log)
	}
	publish, again := r.Step(t, "publish").Outputs, r.Step(t, "again").Outputs
	if publish["outcome"] != "published" || publish["version"] != hash || again["seq"] != "2" {
		t.Errorf("got outputs %v, then %v; want %s published", publish, again, hash)
	}
	if log := r.Log; !strings.Contains(log, "outcomes published published, seqs 1 2, uploaded again 0") {
		t.Errorf("got\n%s\nwant the last step to have looked at the outputs", log)
	}
}
