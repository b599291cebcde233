package parts

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// Markdown renders text with GitHub's own program and the extensions that GitHub has on. What comes out is what GitHub
// gives to its sanitiser, not yet what it shows: raw HTML is in it.
func Markdown(t testing.TB, text string, options ...string) (html string) {
	t.Helper()
	need(t, "cmark-gfm", "cmark-gfm")
	args := []string{"--to", "html", "--unsafe", "--github-pre-lang", "--validate-utf8"}
	for _, extension := range []string{"table", "strikethrough", "autolink", "tagfilter", "tasklist", "footnotes"} {
		args = append(args, "--extension", extension)
	}
	cmd := exec.Command("cmark-gfm", append(args, options...)...)
	cmd.Stdin = strings.NewReader(text)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("cmark-gfm: %v\n%s", err, tail(complaints.Bytes()))
	}
	return out.String()
}
