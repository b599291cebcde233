package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// promises are the numbers that the project holds itself to and that this package measures, in the order of the one table that has
// them all. Tests hold the others: no request fails during a switch, no torn state after any death.
var promises = []string{
	"bytes pulled for B-code, index and requests included, of the archive",
	"bytes pulled for B",
	"bytes pulled for B-big",
	"the same content from a fresh checkout: bytes to the store",
	"bring B, `syncfs` included, warm",
	"bring B, cold caches",
	"bring B, one processor and 192 MiB, cold caches",
	"publish the whole",
	"publish the whole, beside the original recipe",
	"size of the archive",
	"fetch and unpack the whole, `syncfs` included, warm",
	"fetch and unpack the whole, cold caches",
	"fetch and unpack the whole, one processor and 192 MiB, cold caches",
	"pointer to live with ping, B",
	"rollback to the release before",
	"agent idle with 10 apps: RSS",
	"agent idle with 10 apps: processor, of one core",
	"size of the agent's program",
	"agent at work in a control group of 64 MiB",
	"publisher's peak memory",
	"agent's peak memory, the most files of Growth",
	"agent's peak memory, the largest tree of Growth",
	"publisher's peak memory, the most files of Growth",
	"publisher's peak memory, the largest tree of Growth",
	"a poll with nothing new: requests, an app and interval",
	"a poll with nothing new: bytes, both ways",
	"a poll with nothing new: processor time",
}

// held are the lines of this run's one table, without what they are about.
var held = map[string]string{}

// hold takes those rows of a part that are promises into the one table, unless the part has failed.
func (t *table) hold(b testing.TB, part string) {
	if b.Failed() {
		return
	}
	for _, r := range t.rows {
		if r.promise != "" {
			held[r.promise] = strings.Join(append(r.cells(), part+", load "+t.load), " | ") + " |"
		}
	}
}

// took notes how long a part took.
func (t *table) took(part string, began time.Time) {
	text := time.Since(began).Round(time.Second).String()
	fmt.Fprintf(os.Stderr, "%s took %s\n", part, text)
	t.note("It took %s.", text)
}

// summary is the one table. A line that this run did not measure is taken from the table before.
func summary(before string) string {
	var out strings.Builder
	out.WriteString("\n| what | Towline | peer | the peer | ratio | goal | | measured in |\n|---|---|---|---|---|---|---|---|\n")
	for _, what := range promises {
		begin := "| " + what + " | "
		rest, ok := held[what]
		if _, old, found := strings.Cut(before, "\n"+begin); !ok && found {
			rest, _, _ = strings.Cut(old, "\n")
		} else if !ok {
			rest = "not measured | | | | | | |"
		}
		out.WriteString(begin + rest + "\n")
	}
	return out.String() + "\n"
}

// TestMain prints the one table when all parts of a run are through, and puts it into the document if told to.
func TestMain(m *testing.M) {
	code := m.Run()
	if len(held) > 0 {
		path := filepath.Join(root(), "docs/performance.md")
		document, err := os.ReadFile(path)
		_, kept, _ := strings.Cut(string(document), "<!-- figures: goals -->")
		kept, _, _ = strings.Cut(kept, "<!-- end -->")
		text := summary(kept)
		fmt.Print(text)
		if *write && err == nil { // parts that failed are not among what is held
			var out string
			if out, err = between(string(document), "goals", text); err == nil {
				err = os.WriteFile(path, []byte(out), 0o644)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// The document has a place for every table, so that no long run ends without one.
func TestMarks(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(root(), "docs/performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	marks := []string{"goals", "idle", "growth-files", "growth-bytes", "growth-share"}
	for _, p := range plans {
		marks = append(marks, "peers-"+p.name)
	}
	for _, mark := range marks {
		once, err := between(string(document), mark, "text\n")
		if err != nil {
			t.Error(err)
		}
		if twice, err := between(once, mark, "text\n"); twice != once || err != nil {
			t.Errorf("%s: written twice, the document is another: %v", mark, err)
		}
	}
}

// root is the project's directory; a package's tests run in the package's.
func root() string { return filepath.Join("..", "..") }

func TestSummary(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root(), "go.mod")); err != nil || filepath.Base(parts.Root(t)) == "bench" {
		t.Fatalf("not the project's directory: %v", err)
	}
	kept := held
	t.Cleanup(func() { held = kept })
	held = map[string]string{}
	one := &table{load: "0.10", rows: []row{
		{what: "x", have: sample{3}, format: number, goal: 2, promise: promises[1]},
		{what: "y", have: sample{1}, format: number, passes: "passes", promise: promises[2]},
		{what: "z", have: sample{4}, format: number},
	}}
	one.hold(t, "Peers/a")
	first := summary("")
	for _, want := range []string{
		"| " + promises[0] + " | not measured |",
		"| " + promises[1] + " | 3 |  |  |  | ≤ 2 | **missed** | Peers/a, load 0.10 |\n",
		"| " + promises[2] + " | 1 |  |  |  | passes | met | Peers/a, load 0.10 |\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("got\n%s\nwant %s", first, want)
		}
	}
	// What another run measured stays, and a table that is written twice is the same.
	held = map[string]string{promises[0]: "9 | | | | | | Peers/b, load 0.20 |"}
	second := summary("text\n" + first)
	if !strings.Contains(second, "| "+promises[0]+" | 9 |") || !strings.Contains(second, "**missed** | Peers/a, load 0.10 |\n") {
		t.Errorf("after another run:\n%s", second)
	}
	held = map[string]string{}
	if again := summary(second); again != second {
		t.Errorf("once more:\n%s\nwant\n%s", again, second)
	}
	if got, want := strings.Count(second, "\n"), len(promises)+4; got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
}
