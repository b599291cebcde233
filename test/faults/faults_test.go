package faults

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/test/proof"
)

var update = flag.Bool("update", false, "write the table of faults into docs/reliability.md")

// Each fault has a row, no row stands for nothing, and each has a promise and tests that exist.
func TestEveryFaultHasATest(t *testing.T) {
	for _, what := range wrong(t, faults, rows) {
		t.Error(what)
	}
}

func wrong(t *testing.T, faults []string, rows map[string]row) (out []string) {
	t.Helper()
	known := map[string]bool{}
	for _, fault := range faults {
		if known[fault] {
			out = append(out, fault+": it is in the list twice")
		}
		known[fault] = true
		r := rows[fault]
		if r.promise == "" {
			out = append(out, fault+": nothing is promised")
		}
		for _, w := range proof.Wrong(t, r.tests) {
			out = append(out, fault+": "+w)
		}
	}
	for fault := range rows {
		if !known[fault] {
			out = append(out, fault+": the row stands for no fault of the list")
		}
	}
	return out
}

func TestWrongRowsAreFound(t *testing.T) {
	whole := row{"a promise", []proof.Test{{Dir: "test/faults", Name: "TestWrongRowsAreFound"}}}
	for want, rows := range map[string]map[string]row{
		"": {"fire": whole},
		"fire: nothing is promised; fire: it has no test": {},
		"fire: it has no test":                            {"fire": {promise: "a promise"}},
		"fire: there is no TestFire in test/faults":       {"fire": {"a promise", []proof.Test{{Dir: "test/faults", Name: "TestFire"}}}},
		"flood: the row stands for no fault of the list":  {"fire": whole, "flood": whole},
	} {
		if got := strings.Join(wrong(t, []string{"fire"}, rows), "; "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReliabilityShowsTheTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| fault | promise | proof |\n|---|---|---|\n")
	for _, fault := range faults {
		r := rows[fault]
		fmt.Fprintf(&b, "| %s | %s | %s |\n", fault, r.promise, proof.Links(t, r.tests))
	}
	proof.Shows(t, "docs/reliability.md", "faults", b.String(), *update)
}
