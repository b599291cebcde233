package summary

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"time"

	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// fold is something to look at for whoever wants to. The title is in the type of a title, where names are links to nobody.
func fold(title, body string, open bool) string {
	attribute := ""
	if open {
		attribute = " open"
	}
	return fmt.Sprintf("<details%s><summary>%s</summary>\n<pre>%s</pre>\n</details>\n\n", attribute, html.EscapeString(title), body)
}

// preformatted is text for inside <pre>: no tag can end it, and no empty line ends the block of HTML that it is in.
func preformatted(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(html.EscapeString(release.CleanLine(line, 400)))
		b.WriteString("&#10;")
	}
	return b.String()
}

// quoted is a text that a person, a commit or a server wrote, in the type of code: there alone neither Markdown nor what
// GitHub does afterwards with mentions, references, addresses and emoji takes anything in it for a sign. The fence is the
// shortest run of backticks that is not in the text; in a table a bar needs a backslash.
func quoted(s string, inTable bool) string {
	if s = release.CleanText(s, maxText); s == "" {
		return ""
	}
	runs := map[int]bool{}
	for _, rest, found := strings.Cut(s, "`"); found; {
		after := strings.TrimLeft(rest, "`")
		runs[1+len(rest)-len(after)] = true
		_, rest, found = strings.Cut(after, "`")
	}
	n := 1
	for runs[n] {
		n++
	}
	if inTable {
		s = strings.ReplaceAll(s, "|", `\|`)
	}
	fence, space := strings.Repeat("`", n), ""
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		space = " " // is taken off again
	}
	return fence + space + s + space + fence
}

// commit names a version, with a link where it is a commit of this repository.
func (p Page) commit(version string) string {
	if version == "" {
		return ""
	}
	text := quoted(release.ShortHash(version), true)
	if !release.IsCommit(version) || p.Repository == "" {
		return text
	}
	return fmt.Sprintf("[%s](%s/commit/%s)", text, p.Repository, version)
}

// compare links to what lies between the release and the one before. GitHub shows what the second of two commits has and the
// first has not, so that after going back they change places.
func (p Page) compare(r *publish.Result) string {
	from, to := r.Previous, r.Version
	if r.Command == publish.Rollback {
		from, to = to, from
	}
	link := p.commit(r.Previous)
	if p.Repository != "" && from != to && release.IsCommit(from) && release.IsCommit(to) {
		link += fmt.Sprintf(" ([what changed](%s/compare/%s...%s))", p.Repository, from, to)
	}
	return link
}

// address is the app's, as a link where it is one that holds no sign of Markdown's.
func address(url string) string {
	if !plainURL.MatchString(url) {
		return quoted(url, true)
	}
	return fmt.Sprintf("[%s](%s)", quoted(url, true), url)
}

var plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9./?=&%_~+:-]{1,300}$`)

// name is how a server is called. One without a name is its address.
func name(s publish.ServerResult) string {
	if s.Name != "" {
		return s.Name
	}
	return strings.TrimPrefix(strings.TrimPrefix(s.URL, "https://"), "http://")
}

var plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// called is a name as text, where it holds nothing that anybody takes for a sign.
func called(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return quoted(name, true)
}

const nbsp = "\u00a0"

// unbroken keeps a number beside its unit.
func unbroken(s string) string { return strings.ReplaceAll(s, " ", nbsp) }

func millis(ms int64) string { return publish.Took(time.Duration(ms) * time.Millisecond) }

func upper(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
