// Package examples holds what people copy to its word: the examples, the reusable workflow, and the snippets of the documents.
//
// All workflows are linted, twice: as they are, and with towline/towline replaced by this repository's action, since
// actionlint knows no action that lies elsewhere. What the examples make is made with the commands of their own workflows, and
// packed by the action with the inputs that stand there; what came out is unpacked as an agent does, and started as the
// unit says.
//
// Not run here: the jobs as such (test/system does that for node-api), setup actions, nginx, Caddy, php-fpm, the stores of
// spaces, r2 and aws-oidc, and GitLab.
package examples

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const root = "../.."

var update = flag.Bool("update", false, "write the policies of examples/patterns/aws-oidc")

// source is a workflow, or a snippet of one in a document.
type source struct {
	name    string // path from the top of the repository, of a snippet with the line where it begins
	text    string
	example bool // a whole workflow that is there to be copied
	w       workflow
}

type workflow struct {
	Permissions any
	Concurrency any
	Jobs        map[string]job
}

type job struct {
	Permissions any
	Concurrency any
	Uses        string
	With        map[string]any
	Steps       []step
}

type step struct {
	ID, Uses, Run string
	With          map[string]any
	Env           map[string]any
	Dir           string `yaml:"working-directory"`
}

// named is a step, or a call, that uses Towline.
type named struct {
	source
	job  string
	with map[string]any
	call bool // of the reusable workflow
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// find lists the files below the directories, by their paths from the top of the repository.
func find(t *testing.T, match func(path string) bool, dirs ...string) []string {
	t.Helper()
	var found []string
	for _, dir := range dirs {
		err := fs.WalkDir(os.DirFS(root), dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{"node_modules", "vendor", "testdata"}, d.Name()):
				return fs.SkipDir
			case !d.IsDir() && match(path):
				found = append(found, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// sources are all workflows and all snippets of workflows.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, path := range find(t, func(path string) bool {
		return strings.Contains(path, ".github/workflows/") && (strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".yaml"))
	}, ".github", "examples") {
		all = append(all, source{name: path, text: read(t, path), example: strings.HasPrefix(path, "examples/")})
	}
	documents := find(t, func(path string) bool { return strings.HasSuffix(path, ".md") }, ".github", "docs", "examples")
	for _, path := range append(documents, "README.md") {
		all = append(all, snippets(path, read(t, path))...)
	}
	for i := range all {
		if err := yaml.Unmarshal([]byte(all[i].text), &all[i].w); err != nil {
			t.Fatalf("%s: %v", all[i].name, err)
		}
	}
	return all
}

var fence = regexp.MustCompile("(?ms)^( *)```ya?ml\n(.*?)^ *```$")

// snippets are the blocks of a document that are workflows; steps alone are put into one. Other YAML is none of ours.
func snippets(path, text string) []source {
	var out []source
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		block := strings.ReplaceAll("\n"+text[at[4]:at[5]], "\n"+text[at[2]:at[3]], "\n")[1:] // it may stand in a list
		name := fmt.Sprintf("%s:%d", path, 1+strings.Count(text[:at[4]], "\n"))
		var whole struct {
			Jobs  map[string]any
			Steps []map[string]any
		}
		var steps []map[string]any
		const frame = "on: push\njobs:\n  snippet:\n    runs-on: ubuntu-latest\n"
		switch {
		case yaml.Unmarshal([]byte(block), &whole) == nil && whole.Jobs != nil:
		case whole.Steps != nil:
			block = frame + indent(block, 4)
		case yaml.Unmarshal([]byte(block), &steps) == nil && slices.ContainsFunc(steps, isStep):
			block = frame + "    steps:\n" + indent(block, 6)
		default:
			continue
		}
		out = append(out, source{name: name, text: block})
	}
	return out
}

func isStep(s map[string]any) bool { return s["uses"] != nil || s["run"] != nil }

func indent(text string, by int) string {
	return strings.Repeat(" ", by) + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+strings.Repeat(" ", by)) + "\n"
}

// uses lists every step and every call that uses Towline.
func uses(t *testing.T) []named {
	t.Helper()
	var out []named
	for _, s := range sources(t) {
		for name, j := range s.w.Jobs {
			if strings.HasPrefix(j.Uses, "towline/towline/") {
				out = append(out, named{s, name, j.With, true})
			}
			for _, st := range j.Steps {
				if strings.HasPrefix(st.Uses, "towline/towline@") {
					out = append(out, named{s, name, st.With, false})
				}
			}
		}
	}
	if len(out) < 15 {
		t.Fatalf("only %d uses of Towline were found", len(out))
	}
	return out
}

// A document's steps are found whether they stand in a workflow or alone, and other YAML is left out.
func TestSnippets(t *testing.T) {
	const document = "text\n```yaml\nserver: web-1\napps: {}\n```\n```yaml\non: push\njobs: {a: {}}\n```\n" +
		"```yaml\n- uses: a/b@v1\n  with: {c: d}\n```\n1. text\n\n   ```yaml\n   - uses: e/f@v1\n     with: {c: d}\n   ```\n```yml\nsteps:\n  - run: true\n```\n"
	got := snippets("x.md", document)
	want := []source{
		{name: "x.md:7", text: "on: push\njobs: {a: {}}\n"},
		{name: "x.md:11", text: "on: push\njobs:\n  snippet:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: a/b@v1\n        with: {c: d}\n"},
		{name: "x.md:17", text: "on: push\njobs:\n  snippet:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: e/f@v1\n        with: {c: d}\n"},
		{name: "x.md:21", text: "on: push\njobs:\n  snippet:\n    runs-on: ubuntu-latest\n    steps:\n      - run: true\n"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %d snippets, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if got[i].name != want[i].name || got[i].text != want[i].text {
			t.Errorf("got %s\n%s\nwant %s\n%s", got[i].name, got[i].text, want[i].name, want[i].text)
		}
	}
}
