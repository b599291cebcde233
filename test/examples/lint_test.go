package examples

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// GitHub has `queue` in concurrency since 2026; actionlint 1.7.12, the newest, does not know it. TestConcurrency looks at it
// instead.
const unknownQueue = `^unexpected key "queue" for "concurrency" section\. expected one of "cancel-in-progress", "group"$`

// finding is what actionlint has to say.
type finding struct {
	Filepath, Message string
	Line, Column      int
}

// lint runs actionlint, with shellcheck on scripts, over the texts in a repository that has this one's action.yml and its
// reusable workflow. Local replaces what is published of Towline by what lies there.
func lint(t *testing.T, local bool, all []source) []string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"action.yml": read(t, "action.yml"), "Dockerfile": read(t, "Dockerfile"), ".git/HEAD": "ref: refs/heads/main\n"}
	for _, path := range find(t, func(string) bool { return true }, ".github/workflows") {
		files[path] = read(t, path)
	}
	names := map[string]string{}
	args := []string{"-shellcheck", parts.Program(t, "shellcheck", "shellcheck"), "-pyflakes", "", "-ignore", unknownQueue, "-format", "{{json .}}"}
	for i, s := range all {
		path := fmt.Sprintf(".github/workflows/linted-%03d.yml", i)
		files[path], names[path] = s.text, s.name
		args = append(args, path)
	}
	for path, text := range files {
		if local && strings.HasSuffix(path, ".yml") {
			text = regexp.MustCompile(`uses: towline/towline@\S+`).ReplaceAllString(text, "uses: ./")
			text = regexp.MustCompile(`uses: towline/towline/(\S+)@\S+`).ReplaceAllString(text, "uses: ./$1")
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(parts.Tool(t, "actionlint"), args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var found []finding
	if e := json.Unmarshal(out, &found); e != nil || err == nil != (len(found) == 0) {
		t.Fatalf("actionlint: %v, %v\n%s", err, e, out)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s, line %d: %s", names[f.Filepath], f.Line, f.Message))
	}
	return lines
}

func TestWorkflowsLint(t *testing.T) {
	all := sources(t)
	for name, local := range map[string]bool{"as they are": false, "with this action": true} {
		t.Run(name, func(t *testing.T) {
			for _, line := range lint(t, local, all) {
				t.Error(line)
			}
		})
	}
	t.Logf("%d workflows and snippets", len(all))
}

// What linting is for: each of these mistakes is found.
func TestLintFindsMistakes(t *testing.T) {
	step := read(t, "examples/go-api/.github/workflows/deploy.yml")
	call := read(t, "examples/node-api/.github/workflows/deploy.yml")
	promote := read(t, "examples/patterns/staging-then-production/.github/workflows/deploy.yml")
	for _, c := range []struct{ name, text, old, new, want string }{
		{"unknown input", step, "version-file:", "verison-file:", `input "verison-file" is not defined in action`},
		{"missing input", step, "          app: goapi\n", "", `missing input "app"`},
		{"unknown input of the reusable workflow", call, "version-file:", "verison-file:", `input "verison-file" is not defined in`},
		{"missing input of the reusable workflow", call, "      app: nodeapi\n", "", `input "app" is required`},
		{"unknown secret", call, "TOWLINE_SIGNING_KEY:", "SIGNING_KEY:", `secret "SIGNING_KEY" is not defined`},
		{"unknown output", promote, "outputs.version }}\n    steps", "outputs.hash }}\n    steps", `property "hash" is not defined`},
		{"script", step, "go vet ./...", "go vet $PACKAGES", "SC2086"},
		{"unknown key", step, "timeout-minutes", "timeout-minute", `unexpected key "timeout-minute"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.ReplaceAll(c.text, c.old, c.new)
			if text == c.text {
				t.Fatalf("there is no %q in the workflow", c.old)
			}
			got := strings.Join(lint(t, true, []source{{name: "broken", text: text}}), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestConcurrency takes what GitHub does: a queue is "single" or "max", and one that keeps all cannot cancel.
func TestConcurrency(t *testing.T) {
	for _, s := range sources(t) {
		groups := []any{s.w.Concurrency}
		for _, j := range s.w.Jobs {
			groups = append(groups, j.Concurrency)
		}
		held := false
		for _, g := range groups {
			m, ok := g.(map[string]any)
			if !ok {
				held = held || g != nil
				continue
			}
			held = true
			switch queue := m["queue"]; {
			case queue != nil && queue != "single" && queue != "max":
				t.Errorf("%s: queue: %v: want single or max", s.name, queue)
			case queue == "max" && m["cancel-in-progress"] != nil && m["cancel-in-progress"] != false:
				t.Errorf("%s: queue: max does not go with cancel-in-progress", s.name)
			}
			if m["group"] == nil || m["group"] == "" {
				t.Errorf("%s: concurrency without a group", s.name)
			}
		}
		if s.example && !held {
			t.Errorf("%s: no concurrency group: two runs may overlap", s.name)
		}
	}
}
