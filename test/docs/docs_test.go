// Package docs holds the documents to their word, as far as a program can: links and anchors lead somewhere, every document is
// in the index, command lines are ones that towline takes, configurations load, errors that are quoted are printed by the
// sources, diagrams draw. Workflows in documents are linted by test/examples; the quick start is run by test/system.
package docs

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// document is a Markdown file; path is from the top of the repository.
type document struct {
	path, text string
}

// documents are all that people read: README.md, docs/, examples/ and .github/.
func documents(t *testing.T) []document {
	t.Helper()
	paths := []string{"README.md"}
	for _, dir := range []string{"docs", "examples", ".github"} {
		err := fs.WalkDir(os.DirFS(root), dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{"node_modules", "vendor"}, d.Name()):
				return fs.SkipDir
			case !d.IsDir() && strings.HasSuffix(path, ".md"):
				paths = append(paths, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var out []document
	for _, path := range paths {
		out = append(out, document{path, read(t, path)})
	}
	if len(out) < 20 {
		t.Fatalf("only %d documents were found", len(out))
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var (
	fenced  = regexp.MustCompile("(?ms)^( *)```([a-z]*)[^\n]*\n(.*?)^ *```$")
	inlined = regexp.MustCompile("`[^`\n]+(?:\n[^`\n]+)?`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	marked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	named   = regexp.MustCompile("`((?:docs|examples|packaging|test|\\.github)/[A-Za-z0-9_./-]+)`")
)

// prose is a document without its blocks of code, which hold neither links nor headings.
func prose(text string) string { return fenced.ReplaceAllString(text, "") }

// anchors are the names by which GitHub links to a document's headings.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	seen := map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
		title := strings.ToLower(marked.ReplaceAllString(m[1], "$1"))
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-':
				return '-'
			case r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127 && r != '…' && r != '’':
				return r
			}
			return -1
		}, title)
		name := slug
		if n := seen[slug]; n > 0 {
			name = fmt.Sprintf("%s-%d", slug, n)
		}
		seen[slug]++
		out[name] = true
	}
	return out
}

// broken lists the links of a document that lead nowhere. exists tells whether a path from the top is there, text reads
// a document.
func broken(d document, exists func(string) bool, text func(string) string) (out []string) {
	bare := inlined.ReplaceAllString(prose(d.text), "")
	for _, m := range link.FindAllStringSubmatch(bare, -1) {
		u, err := url.Parse(m[1])
		if err != nil {
			out = append(out, m[1]+": "+err.Error())
			continue
		}
		if u.Scheme != "" || u.Host != "" {
			continue
		}
		to := d.path
		if u.Path != "" {
			to = path.Join(path.Dir(d.path), u.Path)
		}
		switch {
		case !exists(to):
			out = append(out, m[1]+": there is no "+to)
		case u.Fragment != "" && !anchors(text(to))[u.Fragment]:
			out = append(out, m[1]+": "+to+" has no such heading")
		}
	}
	for _, m := range named.FindAllStringSubmatch(prose(d.text), -1) {
		if !exists(m[1]) && !exists(path.Join(path.Dir(d.path), m[1])) {
			out = append(out, m[1]+": there is no such file")
		}
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	links := 0
	for _, d := range documents(t) {
		links += len(link.FindAllString(prose(d.text), -1))
		for _, wrong := range broken(d, exists, func(path string) string { return read(t, path) }) {
			t.Errorf("%s: %s", d.path, wrong)
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// What the check is for is found, and what is right is not.
func TestBrokenLinksAreFound(t *testing.T) {
	files := map[string]string{
		"docs/a.md": "# Two `words`, [one](x) thing\n\n## What?\n\n## What?\n```\n# no heading\n```\n", "docs/b.md": "", "examples/x/README.md": "",
	}
	exists := func(path string) bool { return files[path] != "" || path == "docs" || path == "docs/b.md" }
	text := "[a](a.md) [b](a.md#two-words-one-thing) [c](#what-1) [d](https://example.com/x) [e](../docs) `[f](no.md)` `docs/a.md`\n```\n[g](no.md)\n```\n"
	bad := "[a](no.md) [b](a.md#nothing) [c](#what-2) [d](a.md#no-heading) `docs/no.md`"
	read := func(path string) string { return files[path] }
	files["docs/b.md"] = "## What?\n## What?\n" + text
	if got := broken(document{"docs/b.md", files["docs/b.md"]}, exists, read); len(got) > 0 {
		t.Errorf("got %q, want none", got)
	}
	files["docs/b.md"] = "## What?\n## What?\n" + bad
	if got := broken(document{"docs/b.md", files["docs/b.md"]}, exists, read); len(got) != 5 {
		t.Errorf("got %q, want 5", got)
	}
}

// docs/README.md has a line for every document beside it, and links to each once.
func TestIndexIsWhole(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	index := read(t, "docs/README.md")
	for _, file := range files {
		name := filepath.Base(file)
		if n := strings.Count(index, "]("+name+")"); name != "README.md" && n != 1 {
			t.Errorf("docs/README.md links to %s %d times, want once", name, n)
		}
	}
}
