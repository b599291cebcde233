package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const trouble = "docs/troubleshooting.md"

// piece is a constant part of a text in the sources: what stands between the places that are filled in.
type piece struct {
	place, text string
}

var verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]|%%`)

// filled stands for what is filled in where texts are joined.
const filled = "%s"

// joined is the text of a literal, or of several with a plus between them.
func joined(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, isLeft := joined(e.X)
		right, isRight := joined(e.Y)
		if !isLeft {
			left = filled
		}
		if !isRight {
			right = filled
		}
		return left + right, e.Op == token.ADD && (isLeft || isRight)
	}
	return "", false
}

// literals are the constant parts of the texts in an expression.
func literals(n ast.Node) (out []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := joined(e)
		if ok {
			out = append(out, verb.Split(text, -1)...)
		}
		return !ok
	})
	return out
}

// sources parses the Go files of the programs, without their tests.
func sources(t *testing.T, each func(files *token.FileSet, f *ast.File)) {
	t.Helper()
	files := token.NewFileSet()
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f, err := parser.ParseFile(files, path, text, parser.SkipObjectResolution)
			if err == nil {
				each(files, f)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// messages are the headings of the errors: those that are code.
func messages(text string) (out []string) {
	for _, m := range regexp.MustCompile("(?m)^### (`.*)$").FindAllStringSubmatch(prose(text), -1) {
		for _, span := range inlined.FindAllString(m[1], -1) {
			out = append(out, strings.Trim(span, "`"))
		}
	}
	return out
}

// segments are the parts of a message that the sources must have: between what varies (…), and between what one error says and the
// one that it wraps.
func segments(message string) (out []string) {
	for _, part := range strings.Split(message, "…") {
		for _, s := range strings.Split(part, ": ") {
			if s = strings.Trim(s, " :,;()\""); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// systems are messages of the operating system and of the library.
var systems = []string{"connection refused", "no such file or directory", "read-only file system", "flag provided but not defined"}

func TestMessagesAreThoseOfTheSources(t *testing.T) {
	var all []string
	sources(t, func(_ *token.FileSet, f *ast.File) { all = append(all, literals(f)...) })
	said := strings.Join(append(all, systems...), "\n")
	found := messages(read(t, trouble))
	if len(found) < 60 {
		t.Errorf("only %d messages were found", len(found))
	}
	for _, message := range found {
		parts := segments(message)
		for _, s := range parts {
			if !strings.Contains(said, s) {
				t.Errorf("%s: `%s`: no source says %q", trouble, message, s)
			}
		}
		if !slices.ContainsFunc(parts, func(s string) bool { return len(s) > 6 }) {
			t.Errorf("%s: `%s`: nothing to search for", trouble, message)
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(found)))); n != len(found) {
		t.Errorf("%s: %d messages, %d of them different", trouble, len(found), n)
	}
}

// hints are the constant parts of all likely fixes that the programs print: what the functions named for them return, and what is
// given to an error as its hint.
func hints(t *testing.T) (out []piece) {
	t.Helper()
	named := []string{"hint", "Hint", "likelyFix"}
	sources(t, func(files *token.FileSet, f *ast.File) {
		add := func(n ast.Node) {
			for _, text := range literals(n) {
				if text = plain(text); len(strings.Fields(text)) > 2 {
					out = append(out, piece{files.Position(n.Pos()).String(), text})
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if slices.Contains(named, n.Name.Name) {
					ast.Inspect(n, func(n ast.Node) bool {
						if r, ok := n.(*ast.ReturnStmt); ok {
							add(r)
						}
						return true
					})
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "hint" || key.Name == "Hint") {
					add(n.Value)
				}
			case *ast.AssignStmt:
				if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok && (to.Sel.Name == "hint" || to.Sel.Name == "Fix") {
					add(n)
				}
			case *ast.CallExpr:
				if to, ok := n.Fun.(*ast.Ident); ok && to.Name == "hinted" {
					for _, arg := range n.Args[1:] {
						add(arg)
					}
				}
			}
			return true
		})
	})
	return out
}

// plain is text in one line, without marks of code.
func plain(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "`", "")), " ") }

// explained are hints that say all that there is to say.
var explained = []string{
	"did you mean", "--help lists them", "--help lists the flags", "write more of the version",
}

func TestHintsAreCovered(t *testing.T) {
	text := plain(read(t, trouble))
	all := hints(t)
	if len(all) < 40 {
		t.Errorf("only %d hints were found", len(all))
	}
	for _, h := range all {
		known := slices.ContainsFunc(explained, func(s string) bool { return strings.Contains(h.text, s) })
		if !known && !strings.Contains(text, h.text) {
			t.Errorf("%s: %s does not have the hint %q; describe it there, or name it in explained", h.place, trouble, h.text)
		}
	}
	for _, s := range explained {
		if !slices.ContainsFunc(all, func(h piece) bool { return strings.Contains(h.text, s) }) {
			t.Errorf("explained: no hint has %q", s)
		}
	}
}
