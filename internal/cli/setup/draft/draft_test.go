package draft

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

var top = filepath.Join("..", "..", "..", "..")

// tree is a checkout with these files.
func tree(files ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for _, file := range files {
		name, text, _ := strings.Cut(file, "=")
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func TestDetect(t *testing.T) {
	for want, files := range map[string][]string{
		Node: {"package.json"}, Go: {"go.mod", "package.json"}, PHP: {"composer.json", "package.json"}, Python: {"pyproject.toml"},
		Static: {"public/index.html"}, "": {"Makefile"},
	} {
		if got := Detect(tree(files...)); got != want {
			t.Errorf("%q: got %q, want %q", files, got, want)
		}
	}
	for example, want := range map[string]string{"node-api": Node, "go-api": Go, "python-app": Python, "php-app": PHP} {
		if got := Detect(os.DirFS(filepath.Join(top, "examples", example))); got != want {
			t.Errorf("examples/%s: got %q, want %q", example, got, want)
		}
	}
}

// workflows are one of every shape, by name.
func workflows(t *testing.T) map[string]string {
	t.Helper()
	facts := Facts{App: "web", Environment: "production", Server: "web-1", Branch: "main",
		Bucket: "s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com"}
	out := map[string]string{}
	add := func(name, kind string, files []string, change func(*Facts)) {
		f := facts
		if files == nil {
			f.Project = Inspect(nil, kind, f.App)
		} else {
			f.Project = Inspect(tree(files...), kind, f.App)
		}
		if change != nil {
			change(&f)
		}
		out[name] = Workflow(f)
	}
	for _, kind := range Kinds {
		add(kind, kind, nil, nil)
	}
	add("node, ES modules, no lock", Node, []string{`package.json={"type":"module"}`}, nil)
	add("go, below cmd, no sums", Go, []string{"go.mod", "cmd/web/main.go=package main", "cmd/tool/main.go=package main"}, nil)
	add("python, project, tests", Python, []string{"pyproject.toml", "test_web.py"}, nil)
	add("static, made", Static, []string{"build.sh", "dist/index.html"}, nil)
	add("static, at the top", Static, []string{"index.html"}, nil)
	add("pinged, staging, prefix, directory", Node, nil, func(f *Facts) {
		f.Servers, f.Environment, f.Prefix, f.Branch, f.Bucket = "web-1=https://[2001:db8::7]:8422#sha256="+strings.Repeat("ab", 32), "staging",
			"shop/web", "release/1.x", "file:///srv/bucket"
	})
	add("names that YAML takes for something else", Go, nil, func(f *Facts) { f.App, f.Server, f.Branch = "on", "123", "1.10" })
	return out
}

func TestWorkflowsSayWhatWasFound(t *testing.T) {
	all := workflows(t)
	for name, want := range map[string][]string{
		Node:                        {"- run: npm ci\n", "version-file: version.js "},
		"node, ES modules, no lock": {"- run: npm install ", "version-file: version.json "},
		Go:                          {"-o dist/web .\n", "path: dist "},
		"go, below cmd, no sums":    {"-o dist/web ./cmd/web\n", "cache: false"},
		"python, project, tests":    {"--target vendor . ", "python3 -m unittest"},
		Python:                      {"--requirement requirements.txt"},
		"static, made":              {"- run: sh build.sh\n", "path: dist\n"},
		"static, at the top":        {"path: .\n", "exclude: .github/**\n"},
		Other:                       {"# Here, what tests and makes the app.", "expect-servers: web-1\n"},
		"pinged, staging, prefix, directory": {"group: deploy-staging,", "environment: staging\n", "prefix: shop/web\n", "branches: [release/1.x]",
			"servers: \"web-1=https://[2001:db8::7]:8422#sha256=abab"},
		"names that YAML takes for something else": {`app: "on"`, `expect-servers: "123"`, `branches: ["1.10"]`},
	} {
		for _, text := range want {
			if !strings.Contains(all[name], text) {
				t.Errorf("%s: there is no %q in\n%s", name, text, all[name])
			}
		}
	}
	if strings.Contains(all["pinged, staging, prefix, directory"], "AWS_") {
		t.Error("a directory needs no key")
	}
}

type step struct {
	Uses, Run string
	With      map[string]any
}

func steps(t *testing.T, name, text string) []step {
	t.Helper()
	var w struct {
		Jobs map[string]struct{ Steps []step }
	}
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return w.Jobs["deploy"].Steps
}

// The action takes the inputs as they stand there.
func TestInputsAreTaken(t *testing.T) {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range workflows(t) {
		all := steps(t, name, text)
		last := all[len(all)-1]
		if last.Uses != useTowline {
			t.Fatalf("%s: the last step uses %q", name, last.Uses)
		}
		inputs := map[string]string{}
		for input, value := range last.With {
			inputs[input] = strings.Replace(fmt.Sprint(value), "${{ secrets.TOWLINE_SIGNING_KEY }}", key.Reveal(), 1)
		}
		if err := publish.CheckUnknown(slices.Sorted(maps.Keys(inputs))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := publish.Parse(func(input string) string { return inputs[input] }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var usesLine = regexp.MustCompile(`(?m)^[^#\n]*\buses:\s*(\S+ # \S+)$`)

// Every action is pinned as in the examples, so that an update of these is one of those too.
func TestActionsAreThoseOfTheExamples(t *testing.T) {
	known := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(top, "examples", "*", ".github", "workflows", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, filepath.Join(top, ".github", "workflows", "deploy.yml")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range usesLine.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
	}
	if len(known) < 5 {
		t.Fatalf("the examples use only %d actions", len(known))
	}
	seen := map[string]bool{}
	for name, text := range workflows(t) {
		for _, m := range usesLine.FindAllStringSubmatch(text, -1) {
			seen[m[1]] = true
			if !known[m[1]] {
				t.Errorf("%s: no example has %s", name, m[1])
			}
		}
	}
	if len(seen) != 5 {
		t.Errorf("got %d actions, want 5: %v", len(seen), seen)
	}
}

// lint runs actionlint over the texts, beside this repository's action.
func lint(t *testing.T, all map[string]string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	put := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"action.yml", "Dockerfile"} {
		text, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			t.Fatal(err)
		}
		put(file, string(text))
	}
	put(".git/HEAD", "ref: refs/heads/main\n")
	// GitHub has `queue` since 2026; the newest actionlint does not know it.
	args := []string{"-shellcheck", parts.Program(t, "shellcheck", "shellcheck"), "-pyflakes", "", "-ignore", `^unexpected key "queue" for "concurrency"`,
		"-format", "{{json .}}"}
	names := slices.Sorted(maps.Keys(all))
	for i, name := range names {
		file := fmt.Sprintf(".github/workflows/%03d.yml", i)
		put(file, strings.Replace(all[name], "uses: "+useTowline, "uses: ./", 1))
		args = append(args, file)
	}
	cmd := exec.Command(parts.Tool(t, "actionlint"), args...)
	cmd.Dir = dir
	out, _ := cmd.Output()
	var found []struct{ Filepath, Message string }
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("actionlint: %v\n%s", err, out)
	}
	faults := map[string]string{}
	for _, f := range found {
		var i int
		if _, err := fmt.Sscanf(filepath.Base(f.Filepath), "%03d.yml", &i); err != nil {
			t.Fatal(err)
		}
		faults[names[i]] += f.Message + "\n"
	}
	return faults
}

func TestWorkflowsLint(t *testing.T) {
	all := workflows(t)
	all["broken"] = strings.Replace(all[Node], "version-file:", "verison-file:", 1)
	faults := lint(t, all)
	if want := `input "verison-file" is not defined`; !strings.Contains(faults["broken"], want) {
		t.Errorf("got %q for a broken one, want %q", faults["broken"], want)
	}
	delete(faults, "broken")
	for name, text := range faults {
		t.Errorf("%s: %s", name, text)
	}
}

// Whatever a name looks like to YAML, the agent reads that very name; and where nothing is said, what is commented out is
// right once the # is taken away.
func TestAgentIsReadAsMeant(t *testing.T) {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "on", "null", "123", "1e3", "0x10", "1.10", "y", "0"} {
		f := Facts{App: name, Environment: name, Prefix: name, Server: name, Bucket: "s3://my-deploys?region=x1", PublicKey: key.Public().String(),
			Credentials: true, Listen: ":8422", Unit: name + ".service", HTTP: "http://127.0.0.1:3000/a?b=c#d"}
		s, err := config.Parse("agent.yaml", []byte(Agent(f)), "host")
		if err != nil {
			t.Fatalf("%v\n%s", err, Agent(f))
		}
		a := s.Apps[0]
		for _, got := range []string{s.Server, a.Key, a.App, a.Environment, a.Prefix, strings.TrimSuffix(a.Unit, ".service")} {
			if got != name {
				t.Errorf("got %q, want %q", got, name)
			}
		}
		if a.Health.HTTP != f.HTTP || s.Listen != f.Listen || s.Bucket != f.Bucket || s.Credentials.AccessKeyID != IDFile {
			t.Errorf("got %+v of %+v", s, f)
		}
	}
	bare := Facts{App: "web", Environment: "production", Server: "web-1", Bucket: "s3://my-deploys?region=x1", PublicKey: key.Public().String(), Unit: "web.service"}
	full := regexp.MustCompile(`(?m)^( *)#(\w+:|  \w+:)`).ReplaceAllString(Agent(bare), "$1$2")
	s, err := config.Parse("agent.yaml", []byte(full), "host")
	if err != nil {
		t.Fatalf("%v\n%s", err, full)
	}
	a := s.Apps[0]
	if s.Listen == "" || s.Credentials.AccessKeyID == "" || a.Health.HTTP == "" || len(a.Shared) == 0 || a.Hooks.BeforeActivate == nil {
		t.Errorf("got %s, want all that is commented out", s.Effective())
	}
}
