package threats

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/test/proof"
)

const root = "../.."

var update = flag.Bool("update", false, "write the table of threats into SECURITY.md")

// Each threat has a row, each row tests, and each test exists where the row says.
func TestEveryThreatHasATest(t *testing.T) {
	known := map[string]bool{}
	for _, threat := range threats {
		known[threat] = true
		r := defences[threat]
		if r.attack == "" || r.defence == "" {
			t.Errorf("%s: it has no row, or one without attack or defence", threat)
		}
		for _, wrong := range proof.Wrong(t, r.tests) {
			t.Errorf("%s: %s", threat, wrong)
		}
	}
	for threat := range defences {
		if !known[threat] {
			t.Errorf("%s: the row stands for no threat of the list", threat)
		}
	}
}

func TestSecurityShowsTheTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| threat | attack | defence | proof |\n|---|---|---|---|\n")
	for _, threat := range threats {
		r := defences[threat]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", threat, r.attack, r.defence, proof.Links(t, r.tests))
	}
	proof.Shows(t, ".github/SECURITY.md", "threats", b.String(), *update)
}
