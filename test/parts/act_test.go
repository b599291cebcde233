package parts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAct(t *testing.T) {
	e := Docker(t)
	app := t.TempDir()
	action, err := filepath.Abs("testdata/action")
	if err != nil {
		t.Fatal(err)
	}
	copyTree(t, "testdata/app", app)
	if err := os.WriteFile(filepath.Join(app, "mark"), []byte("from-the-app\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	commit := Commit(t, app, "acme/app", "Greet the world\n\nBody.")

	t.Run("reusable workflow", func(t *testing.T) {
		r := Act(t, e, ActOptions{
			Dir: app, Workflow: "push.yml",
			Repositories: map[string]string{"acme/greet@v1": action, "actions/setup-node@v4": SetupNode(t)},
			Env:          map[string]string{"COLOUR": "green"},
			Secrets:      map[string]string{"WORD": "sesame"},
		})
		if r.ExitCode != 0 {
			t.Fatalf("got exit code %d, want 0:\n%s", r.ExitCode, r.Log)
		}
		want := "hello, " + commit + " sesame"
		step := r.Step(t, "called")
		if got := step.Outputs["greeting"]; got != want {
			t.Errorf("output: got %q, want %q", got, want)
		}
		if got, want := step.Summary, "# Greeted\n\n"+want+"\n"; got != want {
			t.Errorf("summary: got %q, want %q", got, want)
		}
		if got, want := step.Log, "::group::greet\nhello, "+commit+" *** as process 1\n::endgroup::\n"; got != want {
			t.Errorf("log: got %q, want %q", got, want)
		}
		if got := r.Step(t, "show").Outputs["got"]; got != want {
			t.Errorf("job output: got %q, want %q", got, want)
		}
		if got := r.Step(t, "node").Outputs["node-version"]; !strings.HasPrefix(got, "v") {
			t.Errorf("setup-node: got version %q, want v…", got)
		}
		if strings.Contains(r.Log, "sesame") {
			t.Errorf("the log shows a secret:\n%s", r.Log)
		}
	})

	t.Run("action of the checkout, failing", func(t *testing.T) {
		copyTree(t, action, filepath.Join(app, ".github/greet"))
		Commit(t, app, "acme/app", "second")
		r := Act(t, e, ActOptions{
			Dir: app, Workflow: "by-hand.yml", Event: "workflow_dispatch", Inputs: map[string]string{"who": "you"},
		})
		if got, want := r.ExitCode, 1; got != want {
			t.Errorf("exit code: got %d, want %d:\n%s", got, want, r.Log)
		}
		step := r.Step(t, "greet")
		if got, want := step.Result, "failure"; got != want {
			t.Errorf("result: got %q, want %q", got, want)
		}
		if got, want := step.Outputs["greeting"], "hello, you"; got != want {
			t.Errorf("output: got %q, want %q", got, want)
		}
		if !strings.Contains(step.Log, "::error::asked to fail\n") {
			t.Errorf("log: got %q, want it to hold the error", step.Log)
		}
		for _, step := range r.Steps {
			if step.ID == "never" {
				t.Error("a step ran after the failed one")
			}
		}
	})

	t.Run("nothing stays", func(t *testing.T) {
		if got := e.CLI(t, "ps", "--all", "--quiet"); got != "" {
			t.Errorf("containers: got %q, want none", got)
		}
	})
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
