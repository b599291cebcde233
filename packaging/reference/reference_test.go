package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/cli"
	"github.com/towline/towline/test/parts"
)

// root is the checkout, seen from this directory.
const root = "../.."

var update = flag.Bool("update", false, "write docs/commands.md")

func TestCommandsAreCurrent(t *testing.T) {
	if *update {
		if err := run(root, []string{"commands"}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(root, "docs/commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := commands(); string(got) != want {
		t.Errorf("docs/commands.md is not what the commands say: run go run ./packaging/reference commands\n%s", firstDifference(string(got), want))
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return "got  " + a[i] + "\nwant " + strings.Join(b[min(i, len(b)):min(i+1, len(b))], "")
		}
	}
	return "got its end, want " + b[len(a)]
}

// made returns all files by their path, with a date.
func made(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	if err := run(root, []string{"files", dir}); err != nil {
		t.Fatal(err)
	}
	return parts.Files(t, dir)
}

// Every verb has a page and a section, with each of its flags.
func TestEveryVerbIsTold(t *testing.T) {
	files, doc := made(t), commands()
	seen := 0
	every(cli.Tree(), func(c *cobra.Command) {
		page, ok := files["man/man1/"+dashed(c)+".1"]
		if !ok {
			t.Errorf("%s: got no page", c.CommandPath())
		}
		if !strings.Contains(page, `"2026-09-21"`) {
			t.Errorf("%s: got no date 2026-09-21", c.CommandPath())
		}
		if _, section, ok := strings.Cut(doc, " "+c.CommandPath()+"\n\n```text\n"); !ok && c.HasParent() {
			t.Errorf("%s: got no section", c.CommandPath())
		} else if section, _, _ = strings.Cut(section, "\n##"); c.HasParent() {
			for _, o := range options(c) {
				seen++
				if !strings.Contains(section, "--"+o.long) {
					t.Errorf("%s: got no --%s in its section", c.CommandPath(), o.long)
				}
				if !strings.Contains(page, bold("--"+o.long)) {
					t.Errorf("%s: got no --%s in its page", c.CommandPath(), o.long)
				}
			}
		}
	})
	if seen < 50 {
		t.Errorf("got %d flags, want at least 50", seen)
	}
	for _, name := range []string{"man/man8/towline-agent.8", "man/man5/agent.yaml.5"} {
		if len(files[name]) < 1000 {
			t.Errorf("%s: got %d bytes, want a page", name, len(files[name]))
		}
	}
	if page := files["man/man8/towline-agent.8"]; !strings.Contains(page, bold("--once")) || !strings.Contains(page, ".SH EXIT STATUS") {
		t.Errorf("towline-agent(8): got\n%s\nwant --once and the exit codes", page)
	}
	// What looks like markup is told as it is.
	if page := files["man/man1/towline-publish.1"]; !strings.Contains(page, "[#sha256=<pin>]") {
		t.Error("towline-publish(1): got no [#sha256=<pin>]")
	}
}

// The pages are set without a word of complaint, and fit into a terminal but for examples.
func TestPagesAreWellSet(t *testing.T) {
	for _, program := range []string{"man", "groff"} {
		if _, err := exec.LookPath(program); err != nil {
			parts.Skip(t, program)
		}
	}
	dir := t.TempDir()
	for name, text := range made(t) {
		if !strings.HasPrefix(name, "man/") {
			continue
		}
		path := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("man", "--warnings", "--local-file", path)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANPAGER=cat", "MAN_KEEP_FORMATTING=")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil || complaints.Len() > 0 {
			t.Errorf("%s: got %v %s", name, err, complaints.String())
		}
		title := strings.ToUpper(strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)))
		if !strings.HasPrefix(string(out), title+"(") {
			t.Errorf("%s: got %.40q, want it to begin with %s", name, out, title)
		}
		for line := range strings.Lines(string(out)) {
			if len([]rune(line)) > 82 && !strings.HasPrefix(line, "           ") {
				t.Errorf("%s: got a line of %d characters: %s", name, len([]rune(line)), line)
			}
		}
	}
}

func TestCompletionsAreThoseOfTheCommand(t *testing.T) {
	files := made(t)
	for shell, name := range map[string]string{"bash": "towline.bash", "zsh": "_towline", "fish": "towline.fish"} {
		var out, wrong strings.Builder
		code := cli.Main(t.Context(), cli.Env{
			Args: []string{"completion", shell}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &wrong, Getenv: os.Getenv,
		})
		if code != 0 || out.String() != files["completions/"+name] || out.Len() < 1000 {
			t.Errorf("%s: got %d bytes, want the %d of towline completion %s (code %d, %s)",
				name, len(files["completions/"+name]), out.Len(), shell, code, wrong.String())
		}
	}
	if _, err := exec.LookPath("bash"); err != nil {
		parts.Skip(t, "bash")
	}
	path := filepath.Join(t.TempDir(), "towline")
	if err := os.WriteFile(path, []byte(files["completions/towline.bash"]), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("bash", "--norc", "-euc", `. "$0"; complete -p towline`, path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "__start_towline towline") {
		t.Errorf("bash: got %v\n%s", err, out)
	}
}

// Every variable of ours that the command reads is told.
func TestEnvironmentIsTold(t *testing.T) {
	sources, err := filepath.Glob(root + "/internal/cli/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(TOWLINE_[A-Z_]+)"`).FindAllStringSubmatch(string(data), -1) {
			found[m[1]] = true
		}
	}
	for name := range found {
		if !slices.ContainsFunc(environment, func(v variable) bool { return v.name == name }) {
			t.Errorf("%s: it is read, but not among the variables that are told", name)
		}
	}
	if len(found) < 4 {
		t.Errorf("got %v, want at least four", found)
	}
}

func TestRefusals(t *testing.T) {
	for _, args := range [][]string{{}, {"pages"}, {"files"}, {"commands", "x"}} {
		if err := run(root, args); err == nil || !strings.Contains(err.Error(), "usage: reference") {
			t.Errorf("%q: got %v, want the usage", args, err)
		}
	}
	if dated, err := date("yesterday"); err == nil {
		t.Errorf("got date %q, want an error", dated)
	}
	if dated, err := date(""); dated != "" || err != nil {
		t.Errorf("got %q, %v; want no date", dated, err)
	}
}

// Nothing of this is in the programs that are shipped.
func TestNotLinked(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if strings.Contains(dep, "/packaging/") || strings.Contains(dep, "cobra/doc") || strings.Contains(dep, "md2man") {
			t.Errorf("the programs need %s", dep)
		}
	}
	if !strings.Contains(string(out), "github.com/spf13/cobra\n") {
		t.Error("got no cobra; is go list looking at the programs?")
	}
}
