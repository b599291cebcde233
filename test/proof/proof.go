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
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// Test is a test function and the directory of its package, from the root of the repository.
type Test struct{ Dir, Name string }

// file is where the test is declared, from the root; empty where it is not.
func (p Test) file(t testing.TB) string {
	t.Helper()
	root := parts.Root(t)
	files, err := filepath.Glob(filepath.Join(root, p.Dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == p.Name && strings.HasPrefix(p.Name, "Test") {
				return p.Dir + "/" + filepath.Base(file)
			}
		}
	}
	return ""
}

// Wrong is what a row's tests lack: all of them, or those that are not where the row says.
func Wrong(t testing.TB, tests []Test) (out []string) {
	t.Helper()
	if len(tests) == 0 {
		return []string{"it has no test"}
	}
	for _, one := range tests {
		if one.file(t) == "" {
			out = append(out, fmt.Sprintf("there is no %s in %s", one.Name, one.Dir))
		}
	}
	return out
}

// Links lead from a document one directory below the root to the tests.
func Links(t testing.TB, tests []Test) string {
	t.Helper()
	var links []string
	for _, one := range tests {
		links = append(links, fmt.Sprintf("[%s](../%s)", one.Name, one.file(t)))
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
