package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// programs are towline and towline-agent, compiled once for all tests.
var programs string

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "towline-docs-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir, "./cmd/towline", "./cmd/towline-agent")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		programs = dir
		return m.Run()
	}()
	os.Exit(code)
}

// command is a command line in a document.
type command struct {
	place string
	argv  []string // towline first
	prose bool     // named in a sentence, where arguments may be left out
}

var (
	asked   = regexp.MustCompile(`^(?:\$ |# )?(?:sudo )?(towline(?:-agent)? .*)$`)
	shells  = []string{"sh", "console", "bash"}
	program = regexp.MustCompile("^towline(?:-agent)? [a-z-]")
)

// commands are the lines of a document that call towline: in blocks of shell, after a $ in any block, in blocks that are
// indented, and in sentences.
func commands(d document) (out []command) {
	add := func(at int, line string, prose bool) {
		if argv := words(line); len(argv) > 1 {
			out = append(out, command{fmt.Sprintf("%s:%d", d.path, 1+strings.Count(d.text[:at], "\n")), argv, prose})
		}
	}
	for _, m := range fenced.FindAllStringSubmatchIndex(d.text, -1) {
		shell := slices.Contains(shells, d.text[m[4]:m[5]])
		for line := range strings.Lines(strings.ReplaceAll(d.text[m[6]:m[7]], "\\\n", " ")) {
			line = strings.TrimSpace(line)
			if got := asked.FindStringSubmatch(line); got != nil && (shell && line[0] != '#' || line[0] == '$') {
				add(m[0], got[1], false)
			}
		}
	}
	blank := func(s string) string {
		return strings.Repeat("\n", strings.Count(s, "\n")) + strings.Repeat(" ", len(s)-strings.Count(s, "\n"))
	}
	text := fenced.ReplaceAllStringFunc(d.text, blank)
	for _, m := range regexp.MustCompile(`(?m)^ {4,}(.*)$`).FindAllStringSubmatchIndex(text, -1) {
		if got := asked.FindStringSubmatch(strings.TrimSpace(text[m[2]:m[3]])); got != nil {
			add(m[0], got[1], false)
		}
	}
	for _, m := range inlined.FindAllStringIndex(text, -1) {
		span := strings.TrimPrefix(strings.Join(strings.Fields(strings.Trim(text[m[0]:m[1]], "`")), " "), "sudo ")
		if program.MatchString(span) {
			add(m[0], span, true)
		}
	}
	return out
}

// words splits a line as a shell does, up to the end of its first command. An ellipsis stands for what is left out.
func words(line string) (out []string) {
	var word strings.Builder
	begun, quote := false, rune(0)
	end := func() {
		switch text := word.String(); {
		case !begun, text == "…" && (len(out) == 0 || !strings.HasPrefix(out[len(out)-1], "--")):
		case text == "N":
			out = append(out, "1")
		default:
			out = append(out, text)
		}
		word.Reset()
		begun = false
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ':
			end()
		case strings.ContainsRune("|;&>", c), (c == '#' || c == '<') && !begun:
			end()
			return out
		default:
			begun = true
			word.WriteRune(c)
		}
	}
	end()
	return out
}

var (
	usageLine = regexp.MustCompile(`(?m)^Usage:\n  (towline[^\n]*)$`)
	flagLine  = regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([\w-]+)(?: (\w+))?(?:  |$)`)
)

// wrong says what of the command towline would not take; empty for nothing. What it needs and a sentence leaves out is
// not asked for.
func wrong(c command) string {
	argv := slices.Clone(c.argv[1:])
	if c.argv[0] == "towline-agent" {
		argv = []string{"--help"}
	} else if strings.HasPrefix(argv[len(argv)-1], "-") {
		argv = append(argv, "1") // what a sentence leaves out, lest the flag take --help for its value
	}
	out, err := exec.Command(filepath.Join(programs, c.argv[0]), append(argv, "--help")...).CombinedOutput()
	if c.argv[0] == "towline-agent" {
		for _, word := range c.argv[1:] {
			if strings.HasPrefix(word, "--") && word != "--help" && !strings.Contains(string(out), "\n  "+word) {
				return "unknown flag " + word
			}
		}
		return ""
	}
	if err != nil {
		return strings.TrimSpace(string(out))
	}
	help := string(out)
	usage := usageLine.FindStringSubmatch(help)
	if usage == nil {
		return "its help has no usage:\n" + help
	}
	takes := map[string]bool{} // flags with a value
	for _, f := range flagLine.FindAllStringSubmatch(help, -1) {
		takes["--"+f[2]] = f[3] != ""
		if f[1] != "" {
			takes["-"+f[1]] = f[3] != ""
		}
	}
	var positional []string
	for i := 1; i < len(c.argv); i++ {
		switch word := c.argv[i]; {
		case !strings.HasPrefix(word, "-"):
			positional = append(positional, word)
		case takes[word]:
			i++
		}
	}
	verb, most, least := 0, 0, 0
	for _, word := range strings.Fields(usage[1])[1:] {
		switch {
		case word == "[flags]" || word == "[command]":
		case strings.HasPrefix(word, "["):
			most++
		case strings.ToUpper(word) == word:
			most++
			least++
		case verb >= len(positional) || positional[verb] != word:
			return "towline takes it for `" + usage[1] + "`"
		default:
			verb++
		}
	}
	got := len(positional) - verb
	if verb == 0 && got > 0 {
		return "there is no verb " + positional[0]
	}
	if got > most || got < least && !c.prose {
		return fmt.Sprintf("got %d arguments: %s", got, usage[1])
	}
	return ""
}

func TestCommandsAreTaken(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range documents(t) {
		for _, c := range commands(d) {
			key := fmt.Sprint(c.prose, c.argv)
			if seen[key] {
				continue
			}
			seen[key] = true
			if problem := wrong(c); problem != "" {
				t.Errorf("%s: %s: %s", c.place, strings.Join(c.argv, " "), problem)
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("only %d commands were found", len(seen))
	}
}

// What the check is for is found, and what is right is not.
func TestWrongCommandsAreFound(t *testing.T) {
	const text = "Run `towline status` or `towline rollback -m WHY`.\n\n    sudo towline hold web -m 'we count'   # why\n\n```sh\ntowline publish --promote \\\n  --app web --path . | tail\n# towline nothing\n" +
		"```\n```text\ntowline 1.2.3 is installed\n$ towline app add web\n```\nNot `towline: cannot`.\n"
	var got []string
	for _, c := range commands(document{"x.md", text}) {
		got = append(got, strings.Join(c.argv, " "))
		if problem := wrong(c); problem != "" {
			t.Errorf("%s: %s: got %q, want nothing", c.place, c.argv, problem)
		}
	}
	want := []string{"towline publish --promote --app web --path .", "towline app add web", "towline hold web -m we count", "towline status", "towline rollback -m WHY"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for line, want := range map[string]string{
		"towline stauts": "no verb", "towline status --jsno": "unknown flag", "towline status a b": "got 2 arguments",
		"towline app": "", "towline app ad web": "got", "towline app add": "got 0 arguments", "towline-agent --confg x": "unknown flag",
		"towline rollback --reason x 1234567": "", "towline-agent --config FILE --once": "",
	} {
		if got := wrong(command{argv: words(line)}); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}
