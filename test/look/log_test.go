package look_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/test/look"
)

// The runner and the page are played by their rules: each by an example.
func TestLines(t *testing.T) {
	for _, test := range []struct {
		output string
		want   []look.Line
		obeyed []string
	}{
		{"a\n::group::b\nc\n::endgroup::\nd\n", []look.Line{{"", "a", false}, {"group", "b", false}, {"", "c", true}, {"", "d", false}}, nil},
		{"::group::a\n::group::b\nc\n", []look.Line{{"group", "a", false}, {"group", "b", false}, {"", "c", true}}, nil},
		{"  ::error file=x,line=1::a%0Ab%25\n::NOTICE::c\nx ##[warning]d\n", []look.Line{{"error", "a", false}, {"", "b%", false}, {"notice", "c", false}, {"warning", "d", false}}, nil},
		{"::add-mask::cat\nconcatenate\n::set-output name=x::y\n::debug::z\n::other::w\n", []look.Line{{"", "con***enate", false}, {"", "::other::w", false}}, []string{"add-mask cat", "set-output y"}},
		{"::stop-commands::tok\n::error::a\n ::error::b\n##[group]c\nx ##[error]d\n::TOK::\n::error::e\n", []look.Line{{"", "::stop-commands::tok", false}, {"", "::error::a", false},
			{"", " ::error::b", false}, {"group", "c", false}, {"", "x ##[error]d", true}, {"", "::TOK::", true}, {"error", "e", true}}, nil},
		{"a\rb\r\nc", []look.Line{{"", "a", false}, {"", "b", false}, {"", "c", false}}, nil},
	} {
		got, obeyed := look.Lines(test.output, false)
		if !slices.Equal(got, test.want) || !slices.Equal(obeyed, test.obeyed) {
			t.Errorf("%q: got %+v, obeyed %q; want %+v, %q", test.output, got, obeyed, test.want, test.obeyed)
		}
	}
	if lines, _ := look.Lines("::debug::z\n", true); len(lines) != 1 || lines[0].Kind != "debug" {
		t.Errorf("with debug lines: got %+v", lines)
	}
}

func TestLogPageColours(t *testing.T) {
	for text, want := range map[string]string{
		"a \x1b[31mb\x1b[0m c":                     `a <span style="color:#ff7b72">b</span> c`,
		"\x1b[1;92mok\x1b[22m x\x1b[39m y":         `<span style="color:#56d364;font-weight:600">ok</span><span style="color:#56d364"> x</span> y`,
		"\x1b[38;5;196;4ma\x1b[m\x1b[48;2;1;2;3m":  `<span style="color:#ff0000;text-decoration:underline">a</span>`,
		"\x1b[2mfaint\x1b[0m \x1b[2J\x1b]0;t\x07<": `<span style="opacity:.7">faint</span> &lt;`,
	} {
		page := look.LogPage("s", "1 s", false, []look.Line{{Text: text}})
		if _, got, _ := strings.Cut(page, "<i>1</i><span>"); !strings.HasPrefix(got, want+"</span></li>") {
			t.Errorf("%q: got %.120s, want %s", text, got, want)
		}
	}
}
