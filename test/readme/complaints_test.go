package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// complaints is how many the field's users had when the table was made.
const complaints = 23

var declaration = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)

// tests are the names of all tests of the tree.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range []string{"internal", "test", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, m := range declaration.FindAllSubmatch(data, -1) {
				names[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// Each complaint names where it was made, and tests that exist or words that the README has.
func TestEveryComplaintIsAnswered(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(string(readme)), " ")
	names := tests(t)
	rows := strings.Split(strings.TrimSpace(sectionOf(t, "docs/design-notes.md", "complaints", "")), "\n")[2:]
	if len(rows) != complaints {
		t.Errorf("got %d complaints, want %d", len(rows), complaints)
	}
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) != 4 {
			t.Errorf("got %d columns, want 4: %s", len(cells), row)
			continue
		}
		if !strings.Contains(cells[1], "](https://github.com/") {
			t.Errorf("%s: it is not said where", cells[0])
		}
		for _, proof := range strings.Split(cells[3], ", ") {
			if text, ok := strings.CutPrefix(proof, "README: "); ok {
				if text = strings.Trim(text, "`"); !strings.Contains(strings.ToLower(words), strings.ToLower(text)) {
					t.Errorf("%s: the README does not say %q", cells[0], text)
				}
			} else if !names[proof] {
				t.Errorf("%s: there is no test %q", cells[0], proof)
			}
		}
	}
}
