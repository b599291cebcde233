package look_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/look"
	"github.com/towline/towline/test/parts"
)

// hostile are texts that Markdown, HTML, the runner, or GitHub's later passes may take for more than text.
//
// GitHub's passes come after Markdown, and see what a person would see: a backslash, or a character reference such as
// &#64;, leaves a mention a mention (github/cmark-gfm#181, github/markup#1168), and an emoji an emoji
// (github/markup#1153). They leave alone what is in <code>, <pre> or a link, and an empty comment or an invisible space
// after the sign breaks it up. What they would still find is Rendered.Reached.
var hostile = []string{
	"# heading", "## heading ##", "- item", "1. item", "> quote", "    indented", "\ttab", "---", "===", "***", "***bold*** __bold__ *a* _b_ ~~gone~~",
	"a | b | c", "|---|---|", "\\| \\", "\\\\", "trailing \\", "`", "``", "```", "````", "`a` ``b`` ```c```", "a ` b", "```mermaid", "~~~", "~~~mermaid", "``` ``` ```",
	"</pre>", "</code></pre></details># out", "</summary></details>", "<details open><summary>x", "</td></tr></table>", "<table><tr><td>x", "<script>alert(1)</script>",
	"<img src=x onerror=alert(1)>", "<img src=https://evil.example/x.png>", "<a href=javascript:alert(1)>x</a>", "<!-- comment", "<!-- a --> b", "<![CDATA[ x ]]>", "<?php ?>", "<!DOCTYPE x>",
	"<style>*{display:none}</style>", "<plaintext>", "<textarea>", "<title>", "<h1>x", "<b>x", "<", "< a", "&lt;b&gt; &amp; &copy; &#42;a&#42;", "&", "&#10;# x", "&#x3c;b>",
	"[link](https://evil.example)", "![picture](https://evil.example/x.png)", "[a]: https://evil.example", "[a][b] [a] []", "<https://evil.example>", "https://evil.example/x", "www.evil.example",
	"mail a@evil.example now", "xmpp:a@evil.example", "mailto:a@evil.example", "ftp://evil.example", "@octocat", "hello @octocat and @acme/team", "fixes #1", "acme/shop#1", "GH-1", "#1",
	first, "4be1c0e", "acme/shop@4be1c0e", ":boom:", "a:boom:b :+1:", "[^1]", "[^1]: note", "$x$ and $$y$$", "$`x`$", "- [ ] task", "[x] task", "==mark==", "x^2^ H~2~O",
	"%%{init: {\"theme\": \"forest\"}}%%", "click web-1 href \"https://evil.example\"", "section x", "a :crit, b, 0, 1", "gantt; title x", "; # : ,", "end", "\u202etxt.exe", "\u2066a\u2069", "a\u200bb", "\u2028# x",
	"first line\n# second", "a\n\n# b\n\n```\nc\n```\n", "a\r\n\r\n# b", "\n", "::error::boom", "##[error]boom", "##[group]boom", "::add-mask::web", "::endgroup::", "::stop-commands::x", "::set-output name=x::y",
	"\x1b[31mred\x1b[0m", "\x1b[2J\x1b[1;1H", "\x1b]8;;https://evil.example\x07link\x1b]8;;\x07", "\x00\x07\b", "\xff\xfe", "🚢 über “quoted” – ß", strings.Repeat("|`<a href=x>*_@#:", 300), strings.Repeat("word ", 400),
	// Runs of backticks around the longest that the Markdown program takes for a sign.
	strings.Repeat("`", 79) + "a <b>x</b> @octocat", strings.Repeat("`", 80) + "a <b>x</b> @octocat", strings.Repeat("`", 81) + "a <b>x</b> @octocat",
	strings.Repeat("`", 140) + " *a* [b](https://evil.example) `", "`` " + strings.Repeat("` ", 60), "\\`", "`\\`", "\\|`|\\", "` | `", "``|``|``",
}

// harmless is the same text of letters only: as long, with its spaces, and with no sign.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return r
		}
		return 'x'
	}, text)
}

// run is one where everything that others may write is text.
func (j *job) hostile(text string) ended {
	j.t.Helper()
	j.commit(second, text)
	lines := append(strings.Split(text, "\n"), "between", text)
	servers := j.servers(healthy(1, 1, 1), unwell(text, text, lines), []deployment.Event{
		{Step: deployment.Activate, State: deployment.StepFail, Message: text, Log: lines},
		{Step: deployment.End, State: deployment.Done, Outcome: deployment.Failed, Reason: text + " again", Log: lines},
	})
	return j.with("servers", servers).run()
}

// Text of others is text, wherever it stands. The summary has the shape that it has with harmless text, all of the text is
// seen, and GitHub's later passes find nothing in it; the runner and the log's page do nothing that they do not do with
// harmless text.
func TestHostileTextIsText(t *testing.T) {
	r := look.NewRenderer(t, parts.StartBrowser(t))
	j := newJob(t)
	j.hostile("x")
	for _, text := range hostile {
		bad, good := j.hostile(text), j.hostile(harmless(text))
		t.Run(fmt.Sprintf("%.40q", text), func(t *testing.T) {
			sameSummary(t, text, r.Render(t, bad.summary), r.Render(t, good.summary))
			sameLog(t, text, bad.log, good.log)
			if t.Failed() {
				t.Logf("the summary:\n%s", bad.summary)
			}
		})
	}
}

func sameSummary(t *testing.T, text string, got, want look.Rendered) {
	whole(t, "summary", got)
	if a, b := timeless(got.Shape), timeless(want.Shape); a != b {
		t.Errorf("the summary has another shape: %s", difference(a, b))
	}
	if len(got.Headings) != len(want.Headings) || !slices.Equal(got.Folds, want.Folds) {
		t.Errorf("headings %q, folds %q; want %q, %q", got.Headings, got.Folds, want.Headings, want.Folds)
	}
	slices.Sort(got.Reached)
	for _, sign := range slices.Compact(got.Reached) {
		if !slices.Contains(want.Reached, sign) {
			t.Errorf("GitHub makes something of the text: %s", sign)
		}
	}
	if len(got.Diagrams) != len(want.Diagrams) {
		t.Errorf("got %d diagrams, want %d", len(got.Diagrams), len(want.Diagrams))
		return
	}
	for i, diagram := range got.Diagrams {
		if strings.Count(diagram, "\n") != strings.Count(want.Diagrams[i], "\n") {
			t.Errorf("the diagram has other lines: got\n%s\nwant\n%s", diagram, want.Diagrams[i])
		}
	}
	if seen := squash(release.CleanText(text, 150)); !strings.Contains(squash(got.Text), seen) {
		t.Errorf("the text is not to be seen as it is in the summary:\n%s", got.Text)
	}
}

func sameLog(t *testing.T, text, got, want string) {
	read := func(log string) (kinds []string, shown string) {
		lines, obeyed := look.Lines(log, true)
		for _, line := range lines {
			kinds = append(kinds, fmt.Sprint(line.Kind, " ", line.Inside))
			shown += plain.ReplaceAllString(line.Text, "") + "\n"
		}
		return append(kinds, obeyed...), shown
	}
	kinds, shown := read(got)
	wanted, _ := read(want)
	if !slices.Equal(kinds, wanted) {
		t.Errorf("the log's page has lines %q, want %q:\n%s", kinds, wanted, shown)
	}
	if seen := squash(release.CleanText(text, 150)); !strings.Contains(squash(shown), seen) {
		t.Errorf("the text is not to be seen as it is in the log:\n%s", shown)
	}
	if strings.ContainsAny(shown, "\x1b\x00\x07\b\u2028\u202e\u2066") {
		t.Errorf("a control character is on the log's page: %q", shown)
	}
}

// plain takes away our own colours.
var plain = regexp.MustCompile("\x1b\\[[0-9;]*m")

// squash takes away what may be put between characters to keep them apart, and white space.
func squash(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || strings.ContainsRune("\u200b\u200c\u200d\u2060\ufeff", r) {
			return -1
		}
		return r
	}, s)
}

var digests = regexp.MustCompile(`\b[0-9a-f]{40}\b`)

// timeless is a shape without what differs from run to run by itself.
func timeless(shape string) string { return digests.ReplaceAllString(shape, "HASH") }

// difference is where two texts part.
func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(a), len(b))
}
