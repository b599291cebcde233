package threats

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of threats into SECURITY.md")

const (
	root     = "../.."
	security = ".github/SECURITY.md"
	begin    = "<!-- threats -->\n"
	end      = "<!-- /threats -->"
)

// declared is the file of each test function in a directory.
func declared(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				out[f.Name.Name] = dir + "/" + filepath.Base(file)
			}
		}
	}
	return out
}

// Each threat has a row, each row tests, and each test exists where the row says.
func TestEveryThreatHasATest(t *testing.T) {
	known := map[string]bool{}
	for _, threat := range threats {
		known[threat] = true
		r, ok := defences[threat]
		if !ok || r.attack == "" || r.defence == "" || len(r.tests) == 0 {
			t.Errorf("%s: it has no row, or one without attack, defence or tests", threat)
		}
		for _, test := range r.tests {
			if declared(t, test.dir)[test.name] == "" {
				t.Errorf("%s: there is no %s in %s", threat, test.name, test.dir)
			}
		}
	}
	for threat := range defences {
		if !known[threat] {
			t.Errorf("%s: the row stands for no threat of the list", threat)
		}
	}
}

// table is what SECURITY.md shows.
func table(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| threat | attack | defence | proof |\n|---|---|---|---|\n")
	for _, threat := range threats {
		var links []string
		for _, test := range defences[threat].tests {
			links = append(links, fmt.Sprintf("[%s](../%s)", test.name, declared(t, test.dir)[test.name]))
		}
		r := defences[threat]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", threat, r.attack, r.defence, strings.Join(links, ", "))
	}
	return b.String()
}

func TestSecurityShowsTheTable(t *testing.T) {
	path := filepath.Join(root, security)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no %s … %s", security, strings.TrimSpace(begin), end)
	}
	want := table(t)
	if *update && got != want {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s does not show the table (go test ./test/threats -update writes it): got\n%s\nwant\n%s", security, got, want)
	}
}
