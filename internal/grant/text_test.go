package grant

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the examples in packaging/")

// example is the app of which packaging/ shows the grant.
var example = App{
	Key: "APP", Dir: "/srv/APP", Unit: "APP.service", Agent: Owner{User: "towline", Group: "towline"},
	User:           Owner{User: "APPUSER", Group: "APPUSER"},
	BeforeActivate: []string{"./bin/migrate"}, AfterHealthy: []string{"./bin/warm"}, Probe: []string{"./bin/probe"},
}

// What packaging/ shows is what is written.
func TestPackagedExamples(t *testing.T) {
	for name, text := range map[string]string{"towline.rules": Rule(example), "towline-app@.service": Programs(example)} {
		path := filepath.Join("../../packaging", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != text {
			t.Errorf("%s: got\n%s\nwant\n%s\nhint: go test ./internal/grant -run %s -update", path, got, text, t.Name())
		}
	}
}

func TestDropIn(t *testing.T) {
	for dir, want := range map[string]string{
		"/srv/shop":           "ReadWritePaths=-/srv/shop\n",
		`/srv/my "shop" 100%`: `ReadWritePaths="-/srv/my \"shop\" 100%%"` + "\n",
	} {
		if got := DropIn(App{Key: "shop", Dir: dir}); !strings.HasSuffix(got, "[Service]\n"+want) {
			t.Errorf("got\n%s\nwant %q at its end", got, want)
		}
	}
}

// words reads an Exec line as systemd does: continued lines are one, quotes are taken off, C's escapes and doubled % and $
// are read, and %i is the instance.
func words(t interface{ Fatalf(string, ...any) }, unit, instance string) []string {
	_, line, ok := strings.Cut(strings.ReplaceAll(unit, "\\\n", " "), "\nExecStart=")
	if !ok {
		t.Fatalf("no ExecStart in:\n%s", unit)
	}
	line, _, _ = strings.Cut(line, "\n")
	var out []string
	var word []byte
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				out = append(out, string(word))
			}
			word, begun = nil, false
		case c == '\\' && line[i+1] == 'x':
			b, err := strconv.ParseUint(line[i+2:i+4], 16, 8)
			if err != nil || b == 0 {
				t.Fatalf("bad escape at %q", line[i:])
			}
			word, i = append(word, byte(b)), i+3
		case c == '\\':
			i++
			if line[i] != '\\' && line[i] != '"' {
				t.Fatalf("bad escape at %q", line[i-1:])
			}
			word = append(word, line[i])
		case c == '%' && line[i+1] == 'i':
			word, begun, i = append(word, instance...), true, i+1
		case c == '%' || c == '$':
			if line[i+1] != c {
				t.Fatalf("%q is expanded", line[i:])
			}
			word, i = append(word, c), i+1
		default:
			word, begun = append(word, c), true
		}
	}
	if quoted {
		t.Fatalf("the quotes are open at the end of %q", line)
	}
	if begun {
		out = append(out, string(word))
	}
	return out
}

// run is what the instance's shell would run, as words: the program is one that prints them.
func run(t interface{ Fatalf(string, ...any) }, app App, instance string) []string {
	argv := words(t, Programs(app), instance)
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	list := strings.Split(string(out), "\x00")
	return list[:len(list)-1]
}

func TestEveryArgvArrivesAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.OneOf(rapid.SampledFrom([]rune(" %$'\"\\`;#!*?[]{}()<>&|~=\n\t\x01-i")), rapid.Rune())
		word := rapid.StringOf(letters.Filter(func(r rune) bool { return r != 0 }))
		want := rapid.SliceOfN(word, 1, 4).Draw(t, "argv")
		argv := append([]string{"printf", `%s\0`}, want...)
		got := run(t, App{Key: "shop", Dir: "/srv/shop", AfterHealthy: argv, Probe: []string{"false"}}, "after-healthy")
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestInstanceWithoutAProgram(t *testing.T) {
	argv := words(t, Programs(App{Key: "shop", Dir: "/srv/shop", Probe: []string{"true"}}), "before-activate")
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	exit, _ := err.(*exec.ExitError)
	if exit == nil || exit.ExitCode() != 64 || !bytes.Contains(out, []byte("no program for before-activate in towline-app-shop@.service")) {
		t.Errorf("got %q, %v, want status 64 and what is missing", out, err)
	}
}

func TestTellsUnitsApart(t *testing.T) {
	for version, want := range map[string]bool{"0.105": false, "0.106": true, "0.120": true, "121": true, "122": true, "126": true, "0.96": false} {
		if got, err := tellsUnitsApart(version); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", version, got, err, want)
		}
	}
	if _, err := tellsUnitsApart("unknown"); err == nil {
		t.Error("got nil for a version that is none")
	}
}
