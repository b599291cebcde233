package proof

import (
	"slices"
	"testing"
)

func TestWrongTestsAreFound(t *testing.T) {
	here := "test/proof"
	for _, test := range []struct {
		name  string
		tests []Test
		want  []string
	}{
		{"as it is", []Test{{here, "TestWrongTestsAreFound"}}, nil},
		{"none", nil, []string{"it has no test"}},
		{"a name that nothing has", []Test{{here, "TestNothing"}}, []string{"there is no TestNothing in test/proof"}},
		{"in another directory", []Test{{"test/parts", "TestWrongTestsAreFound"}}, []string{"there is no TestWrongTestsAreFound in test/parts"}},
		{"no test", []Test{{here, "Wrong"}}, []string{"there is no Wrong in test/proof"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Wrong(t, test.tests); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPut(t *testing.T) {
	const text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
	if got, err := Put(text, "x", "new\n"); err != nil || got != "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"", "<!-- x -->\n", "<!-- /x -->", "<!-- /x --><!-- x -->\n"} {
		if got, err := Put(text, "x", "new\n"); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}
