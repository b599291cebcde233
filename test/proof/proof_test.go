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
		{"as it is", []Test{{Dir: here, Name: "TestWrongTestsAreFound"}}, nil},
		{"none", nil, []string{"it has no test"}},
		{"a name that nothing has", []Test{{Dir: here, Name: "TestNothing"}}, []string{"there is no TestNothing in test/proof"}},
		{"in another directory", []Test{{Dir: "test/parts", Name: "TestWrongTestsAreFound"}}, []string{"there is no TestWrongTestsAreFound in test/parts"}},
		{"no test", []Test{{Dir: here, Name: "Wrong"}}, []string{"there is no Wrong in test/proof"}},
		{"a case", []Test{{here, "TestWrongTestsAreFound", "as it is"}}, nil},
		{"a case that is not there", []Test{{here, "TestWrongTestsAreFound", "as it " + "was"}}, []string{`there is no case "as it was" in test/proof`}},
		{"an import is no case", []Test{{here, "TestWrongTestsAreFound", "slic" + "es"}}, []string{`there is no case "slices" in test/proof`}},
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

func TestLinks(t *testing.T) {
	const file = "(../test/proof/proof_test.go)"
	got := Links(t, []Test{
		{Dir: "test/proof", Name: "TestLinks"},
		{"test/proof", "TestWrongTestsAreFound", "none"}, {"test/proof", "TestWrongTestsAreFound", "no test"},
	})
	if want := "[TestLinks]" + file + ", [TestWrongTestsAreFound: none]" + file + ", [no test]" + file; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
