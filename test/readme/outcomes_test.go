package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

var outcomeRow = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (green|red)[^|]*\\|")

// The table of outcomes has them all, and is right about which are green.
func TestOutcomesTableIsWhole(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "| outcome | job |")
	text, _, _ = strings.Cut(text, "\n\n")
	var got []string
	for _, row := range outcomeRow.FindAllStringSubmatch(text, -1) {
		got = append(got, row[1])
		if green := deployment.Outcome(row[1]).ExitCode() == deployment.ExitOK; green != (row[2] == "green") {
			t.Errorf("%s: the table says %s", row[1], row[2])
		}
	}
	var want []string
	for _, f := range fields(t, readAction(t).Outputs) {
		if f.name == "outcome" { // "deployed, unchanged, …, published or dry-run; over …"
			list, _, _ := strings.Cut(f.description, ";")
			want = strings.Split(strings.ReplaceAll(list, " or ", ", "), ", ")
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want those of action.yml, %q", got, want)
	}
}
