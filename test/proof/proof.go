// Package proof keeps tables that promise something to their word: each row names the tests that prove it, the tests exist
// where the row says, and the document shows the table as it is.
package proof

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/test/parts"
)

// Test is a test function and the directory of its package, from the root of the repository. Where the function has many
// cases, Case is the name of the one that is meant.
type Test struct{ Dir, Name, Case string }

// names are what the tests of one directory declare and name, each with its file from the root.
type names struct{ functions, cases map[string]string }

// read holds the directories that have been read: a table asks the same ones again and again.
var read sync.Map

// in reads the tests of a directory. A case is named by a literal: as the name of a subtest, or in the table that the names
// come from.
func in(t testing.TB, dir string) names {
	t.Helper()
	if known, ok := read.Load(dir); ok {
		return known.(names)
	}
	files, err := filepath.Glob(filepath.Join(parts.Root(t), dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := names{map[string]string{}, map[string]string{}}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		here := dir + "/" + filepath.Base(file)
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.FuncDecl:
				if n.Recv == nil && strings.HasPrefix(n.Name.Name, "Test") {
					out.functions[n.Name.Name] = here
				}
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				if _, known := out.cases[text]; err == nil && n.Kind == token.STRING && !known {
					out.cases[text] = here
				}
			}
			return true
		})
	}
	read.Store(dir, out)
	return out
}

// files are where the function is declared and where the case is named, from the root; empty where they are not.
func (p Test) files(t testing.TB) (function, named string) {
	t.Helper()
	n := in(t, p.Dir)
	if function = n.functions[p.Name]; p.Case == "" {
		return function, function
	}
	return function, n.cases[p.Case]
}

// Wrong is what a row's tests lack: all of them, or those that are not where the row says.
func Wrong(t testing.TB, tests []Test) (out []string) {
	t.Helper()
	if len(tests) == 0 {
		return []string{"it has no test"}
	}
	for _, one := range tests {
		switch function, named := one.files(t); {
		case function == "":
			out = append(out, fmt.Sprintf("there is no %s in %s", one.Name, one.Dir))
		case named == "":
			out = append(out, fmt.Sprintf("there is no case %q in %s", one.Case, one.Dir))
		}
	}
	return out
}

// Links lead from a document one directory below the root to the tests; cases of one function follow it.
func Links(t testing.TB, tests []Test) string {
	t.Helper()
	var links []string
	for i, one := range tests {
		text := one.Name
		if one.Case != "" {
			text = one.Case
			if i == 0 || tests[i-1].Dir != one.Dir || tests[i-1].Name != one.Name {
				text = one.Name + ": " + text
			}
		}
		_, named := one.files(t)
		links = append(links, fmt.Sprintf("[%s](../%s)", text, named))
	}
	return strings.Join(links, ", ")
}

// Shows demands that the document has the table between <!-- mark --> and <!-- /mark -->, or, with update, writes it there.
func Shows(t testing.TB, document, mark, table string, update bool) {
	t.Helper()
	path := filepath.Join(parts.Root(t), document)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written, err := Put(string(data), mark, table)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", document, err)
	case written == string(data):
	case !update:
		t.Errorf("%s does not show the table (this test with -update writes it): want between the marks %q\n%s", document, mark, table)
	default:
		if err := os.WriteFile(path, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Put is the text with the table between the marks.
func Put(text, mark, table string) (string, error) {
	begin, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->"
	before, rest, opened := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !opened || !closed {
		return "", fmt.Errorf("no %s … %s", strings.TrimSpace(begin), end)
	}
	return before + begin + table + end + after, nil
}
