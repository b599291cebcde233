// Package readme holds the README to its word: its tables are action.yml's, its configuration loads, its workflow names
// inputs that exist, its output is the demo's.
package readme

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

var update = flag.Bool("update", false, "write the tables and the demo's output into README.md")

const root = "../.."

type action struct {
	Inputs yaml.MapSlice `yaml:"inputs"`
	// Outputs keep their order, which is the order of the table.
	Outputs yaml.MapSlice `yaml:"outputs"`
}

type field struct {
	name, description, def string
	required               bool
}

func fields(t *testing.T, items yaml.MapSlice) []field {
	t.Helper()
	var out []field
	for _, item := range items {
		f := field{name: item.Key.(string)}
		for key, value := range item.Value.(map[string]any) {
			switch key {
			case "description":
				f.description = value.(string)
			case "default":
				f.def = fmt.Sprint(value)
			case "required":
				f.required = value.(bool)
			}
		}
		out = append(out, f)
	}
	return out
}

func readAction(t *testing.T) action {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var a action
	if err := yaml.UnmarshalWithOptions(data, &a, yaml.UseOrderedMap()); err != nil {
		t.Fatal(err)
	}
	// The values inside are small maps; read again without order for them.
	var plain struct{ Inputs, Outputs map[string]map[string]any }
	if err := yaml.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	for i, item := range a.Inputs {
		a.Inputs[i].Value = plain.Inputs[item.Key.(string)]
	}
	for i, item := range a.Outputs {
		a.Outputs[i].Value = plain.Outputs[item.Key.(string)]
	}
	return a
}

// section returns what stands in README.md between <!-- name --> and <!-- /name -->; under -update it is replaced by want
// first.
func section(t *testing.T, name, want string) string { return sectionOf(t, "README.md", name, want) }

func sectionOf(t *testing.T, file, name, want string) string {
	t.Helper()
	path := filepath.Join(root, file)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(data), begin)
	if !ok {
		t.Fatalf("%s has no %s", file, begin)
	}
	got, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s has no %s", file, end)
	}
	if *update && want != "" {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return want
	}
	return got
}

func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

func TestInputsTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| input | default | |\n|---|---|---|\n")
	for _, f := range fields(t, readAction(t).Inputs) {
		name, def := "`"+f.name+"`", ""
		if f.required {
			name += "\\*"
		}
		if f.def != "" && !strings.Contains(f.def, "${{") {
			def = "`" + f.def + "`"
		} else if f.def != "" {
			def = "the job's token"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, def, cell(f.description))
	}
	if got, want := section(t, "inputs", b.String()), b.String(); got != want {
		t.Errorf("README's table of inputs is not action.yml's (go test ./test/readme -update writes it): got\n%s\nwant\n%s", got, want)
	}
}

func TestOutputsTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| output | |\n|---|---|\n")
	for _, f := range fields(t, readAction(t).Outputs) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.name, cell(f.description))
	}
	if got, want := section(t, "outputs", b.String()), b.String(); got != want {
		t.Errorf("README's table of outputs is not action.yml's (go test ./test/readme -update writes it): got\n%s\nwant\n%s", got, want)
	}
}

// block returns the fenced block after the mark.
func block(t *testing.T, mark, language string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), mark)
	_, rest, ok := strings.Cut(rest, "```"+language+"\n")
	if !ok {
		t.Fatalf("README.md has no %s block after %s", language, mark)
	}
	text, _, _ := strings.Cut(rest, "```")
	return text
}

func TestConfigurationLoads(t *testing.T) {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join(root, "examples/node-api/agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"README.md": block(t, "<!-- test: config -->", "yaml"), "examples/node-api/agent.yaml": string(example)} {
		text = regexp.MustCompile(`ed25519:[A-Z ]+"`).ReplaceAllLiteralString(text, key.Public().String()+`"`)
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := config.Load(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(s.Apps) != 1 || s.Apps[0].Unit != "nodeapi.service" || s.Apps[0].Dir != "/srv/nodeapi" {
			t.Errorf("%s: got %+v", name, s.Apps)
		}
		// The README's commands put the key's files there, and its workflow may wait for this name.
		if s.Server != "web-1" || s.Credentials.AccessKeyID != "/etc/towline/access-key-id" || s.Credentials.SecretAccessKey != "/etc/towline/secret-access-key" {
			t.Errorf("%s: got server %q, credentials %+v, want web-1 and the files in /etc/towline", name, s.Server, s.Credentials)
		}
	}
}

// A called workflow that asks for more than its caller grants is refused by GitHub before it starts; one that asks for
// nothing has what its caller has.
func TestCalledWorkflowAsksForNoPermissions(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, ".github/workflows/deploy.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Permissions any
		Jobs        map[string]struct{ Permissions any }
	}
	if err := yaml.Unmarshal(data, &w); err != nil {
		t.Fatal(err)
	}
	for name, job := range w.Jobs {
		if w.Permissions != nil || job.Permissions != nil {
			t.Errorf("deploy.yml, job %s: got permissions %v and %v, want none", name, w.Permissions, job.Permissions)
		}
	}
}

// What the block of commands relies on: programs that are written to the current directory, and an agent that starts
// though the directory of one app is missing.
func TestServerCommands(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if build := "`CGO_ENABLED=0 go build -o . ./cmd/towline ./cmd/towline-agent`"; !bytes.Contains(readme, []byte(build)) {
		t.Errorf("README.md does not say %s", build)
	}
	commands := block(t, "<!-- test: server -->", "sh")
	for _, path := range regexp.MustCompile(`ReadWritePaths=(\S)`).FindAllStringSubmatch(commands, -1) {
		if path[1] != "-" {
			t.Errorf("ReadWritePaths without a dash before the path in\n%s", commands)
		}
	}
}

func TestWorkflowNamesInputsThatExist(t *testing.T) {
	inputs := map[string]bool{}
	required := map[string]bool{}
	for _, f := range fields(t, readAction(t).Inputs) {
		inputs[f.name] = true
		required[f.name] = f.required
	}
	files := map[string]string{"README.md": block(t, "<!-- test: workflow -->", "yaml")}
	data, err := os.ReadFile(filepath.Join(root, ".github/workflows/deploy.yml"))
	if err != nil {
		t.Fatal(err)
	}
	files[".github/workflows/deploy.yml"] = string(data)
	for name, text := range files {
		var w struct {
			Jobs map[string]struct {
				Steps []struct {
					Uses string
					With map[string]any
				}
			}
		}
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seen := false
		for _, job := range w.Jobs {
			for _, step := range job.Steps {
				if !strings.HasPrefix(step.Uses, "towline/towline@") {
					continue
				}
				seen = true
				for input := range step.With {
					if !inputs[input] {
						t.Errorf("%s: the action has no input %q", name, input)
					}
				}
				for input, must := range required {
					if _, given := step.With[input]; must && !given {
						t.Errorf("%s: the required input %q is not given", name, input)
					}
				}
			}
		}
		if !seen {
			t.Errorf("%s: no step uses towline/towline", name)
		}
	}
}

// Numbers, hashes and paths differ from run to run; the rest of the output is held to.
var varies = []struct{ find, with string }{
	{`[0-9a-f]{40,64}`, "HASH"},
	{`[0-9a-f]{12}\b`, "HASH"},
	{`[0-9a-f]{7}\b`, "HASH"},
	{`\b\d+(\.\d+)?\s?(ms|µs|s|kB|MB|KiB|MiB|B)\b`, "N"},
	{`127\.0\.0\.1:\d+`, "ADDR"},
	{`/tmp/[^\s]+`, "DIR"},
	{`20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^\s]*`, "TIME"},
	{` +`, " "},
}

func steady(s string) string {
	for _, v := range varies {
		s = regexp.MustCompile(v.find).ReplaceAllString(s, v.with)
	}
	return strings.TrimSpace(s)
}

func TestDemoOutputIsReal(t *testing.T) {
	cmd := exec.Command("go", "run", "./cmd/towline", "demo")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("towline demo: %v\n%s\n%s", err, out, stderr.Bytes())
	}
	whole := "```\n" + string(out) + "```\n"
	if got := sectionOf(t, "docs/demo.md", "demo", whole); steady(got) != steady(whole) {
		t.Errorf("docs/demo.md does not show what the demo prints (go test ./test/readme -update writes it): got\n%s\nwant\n%s", got, whole)
	}
	_, part, _ := strings.Cut(string(out), "\n3. ")
	part, _, ok := strings.Cut(part, "\n4. ")
	if !ok {
		t.Fatalf("the demo's output has no third and fourth act:\n%s", out)
	}
	want := "```\n3. " + part + "```\n"
	if got := section(t, "demo", want); steady(got) != steady(want) {
		t.Errorf("README does not show what the demo prints (go test ./test/readme -update writes it): got\n%s\nwant\n%s", got, want)
	}
}
