package release

import (
	"strings"
	"testing"
)

// Text of others is shown in logs, on pages and in terminals: it must not reorder what stands beside it there. Letters
// that read from the right, and what joins them and emoji, stay.
func TestCleanTextKeepsItsPlace(t *testing.T) {
	for in, want := range map[string]string{
		"fix\u202e)evil(":                      "fix )evil(",
		"a\u202ab\u202bc\u202cd\u202de":        "a b c d e",
		"a\u2066b\u2067c\u2068d\u2069e":        "a b c d e",
		"שלום עולם, مرحبا":                     "שלום עולם, مرحبا",
		"👩\u200d💻 می\u200cخواهم\u200f!\u200e.": "👩\u200d💻 می\u200cخواهم\u200f!\u200e.",
		"a\x1b[31mb\u2028c\u2029d\u0085e\x00f": "a [31mb c d e f",
	} {
		if got := CleanText(in, 100); got != want {
			t.Errorf("CleanText(%q): got %q, want %q", in, got, want)
		}
		if got := FirstLine(in + "\nmore"); got != want {
			t.Errorf("FirstLine(%q): got %q, want %q", in, got, want)
		}
	}
}

// The text of a wrong key says what may be wrong, and nothing of the key.
func TestSeveralKeysInOneLine(t *testing.T) {
	a, b := PrivateKey{strings.Repeat("a", 32)}.Reveal(), PrivateKey{strings.Repeat("b", 32)}.Reveal()
	for _, between := range []string{" ", ",", ", ", ";", ""} {
		_, err := ParsePrivateKey(a + between + b)
		if err == nil || !strings.Contains(err.Error(), "one key a line") || strings.Contains(err.Error(), "YWFh") || strings.Contains(err.Error(), "YmJi") {
			t.Errorf("%q between: got error %v, want one that asks for lines and shows no key", between, err)
		}
	}
}
