package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/test/parts"
)

// shellcheck gives what is wrong with a script.
func shellcheck(t *testing.T, text string) string {
	t.Helper()
	cmd := exec.Command(parts.Program(t, "shellcheck", "shellcheck"), "--shell=sh", "--format=gcc", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("shellcheck: %v", err)
	}
	return string(out)
}

func TestScriptsAreSound(t *testing.T) {
	scripts := find(t, func(file string) bool { return path.Ext(file) == ".sh" }, "examples")
	if len(scripts) < 2 {
		t.Fatalf("only %q were found", scripts)
	}
	for _, file := range scripts {
		text := read(t, file)
		if !strings.HasPrefix(text, "#!/bin/sh\n") || !strings.Contains(text, "\nset -eu\n") {
			t.Errorf("%s: want #!/bin/sh and set -eu", file)
		}
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s: is not executable, %v", file, err)
		}
		if wrong := shellcheck(t, text); wrong != "" {
			t.Errorf("%s:\n%s", file, wrong)
		}
	}
	if wrong := shellcheck(t, "rm -r $1/x\n"); !strings.Contains(wrong, "SC2086") {
		t.Errorf("a variable without quotes: got %q, want SC2086", wrong)
	}
}

// project is a repository with what npm run build would have left, and a bucket of a real store.
type project struct {
	dir, hash string
	env       []string
}

func newProject(t *testing.T) project {
	t.Helper()
	s3 := parts.S3(t)
	p := project{dir: t.TempDir()}
	for name, text := range map[string]string{"dist/index.html": "<h1>hello</h1>\n", "test/x": "x\n", ".gitlab-ci.yml": "x: y\n"} {
		file := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.hash = parts.Commit(t, p.dir, "acme/web", "say hello")
	p.env = append(s3.Env(), "PATH="+programs.dir+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "TOWLINE_SIGNING_KEY="+newKey(t).Reveal(),
		"TOWLINE_BUCKET="+s3.URL(s3.Bucket(t, "my-deploys")))
	return p
}

// run runs a command in the repository and gives its output and its exit code.
func (p project) run(t *testing.T, argv ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

var published = regexp.MustCompile(`(?m)^published: web ([0-9a-f]+) on production, seq 1, in `)

func (p project) wantPublished(t *testing.T, out string, code int) {
	t.Helper()
	if m := published.FindStringSubmatch(out); code != 0 || m == nil || !strings.HasPrefix(p.hash, m[1]) {
		t.Errorf("got code %d, want 0 and published: web %s on production\n%s", code, p.hash, out)
	}
}

func TestShellScriptPublishes(t *testing.T) {
	p := newProject(t)
	script, err := filepath.Abs(filepath.Join(root, "examples/patterns/shell/deploy.sh"))
	if err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(p.dir, "dist/index.html")
	if err := os.WriteFile(index, []byte("<h1>by hand</h1>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := p.run(t, "sh", script); code != 2 || !strings.Contains(out, "not committed") {
		t.Errorf("with a change that is not committed: got code %d, want 2\n%s", code, out)
	}
	if err := os.WriteFile(index, []byte("<h1>hello</h1>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, code := p.run(t, "sh", script, "dist")
	p.wantPublished(t, out, code)
	if !strings.Contains(out, "2 entries") { // index.html, and version.json
		t.Errorf("want 2 entries packed, got\n%s", out)
	}
	keyless := p
	keyless.env = append(keyless.env, "TOWLINE_SIGNING_KEY=")
	if out, code := keyless.run(t, "sh", script); code == 0 || !strings.Contains(out, "TOWLINE_SIGNING_KEY") {
		t.Errorf("without a key: got code %d, want an error that names it\n%s", code, out)
	}
}

// The scripts of GitLab's jobs are sound; the one that deploys is run. GitLab itself, and what gets the programs, is not.
func TestGitLabScriptPublishes(t *testing.T) {
	var ci map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "examples/patterns/gitlab-ci/.gitlab-ci.yml")), &ci); err != nil {
		t.Fatal(err)
	}
	stages := fmt.Sprint(ci["stages"])
	var deploy string
	jobs := 0
	for name, value := range ci {
		j, ok := value.(map[string]any)
		if !ok {
			continue
		}
		jobs++
		if stage, _ := j["stage"].(string); !strings.Contains(stages, stage) || stage == "" {
			t.Errorf("job %s: stage %q is not one of %s", name, stage, stages)
		}
		script := lines(t, name, j["before_script"]) + lines(t, name, j["script"])
		if wrong := shellcheck(t, script); wrong != "" {
			t.Errorf("job %s:\n%s%s", name, script, wrong)
		}
		if strings.Contains(script, "towline publish") {
			deploy = lines(t, name, j["script"])
			if j["resource_group"] == nil || j["rules"] == nil {
				t.Errorf("job %s: got resource_group %v, rules %v, want both", name, j["resource_group"], j["rules"])
			}
		}
	}
	if jobs != 2 || deploy == "" {
		t.Fatalf("got %d jobs, and the script that deploys is %q", jobs, deploy)
	}
	p := newProject(t)
	out, code := p.run(t, "sh", "-eu", "-c", deploy)
	p.wantPublished(t, out, code)
	if !strings.Contains(out, "3 entries") { // dist, its index.html, and version.json: neither test/ nor the CI's own file
		t.Errorf("want 3 entries packed, got\n%s", out)
	}
}

// lines joins the commands of a job.
func lines(t *testing.T, job string, list any) string {
	t.Helper()
	if list == nil {
		return ""
	}
	commands, ok := list.([]any)
	if !ok {
		t.Fatalf("job %s: got %v, want a list of commands", job, list)
	}
	var b strings.Builder
	for _, command := range commands {
		text, ok := command.(string) // a colon and a space make a map of it
		if !ok {
			t.Fatalf("job %s: %v is no text", job, command)
		}
		b.WriteString(strings.TrimSuffix(text, "\n") + "\n")
	}
	return b.String()
}
