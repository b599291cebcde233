// Package look shows what the action leaves on GitHub's pages as a person sees it: a run's summary and a step's log.
//
// Parties: the action writes Markdown into GITHUB_STEP_SUMMARY and lines with workflow commands to its output. GitHub
// renders the one with its Markdown program, its sanitiser and a few later passes, and the runner with the page of the
// run render the other. Neither is to be had, so both are played here, after what is published about them: Render and
// Page for summaries, Lines and LogPage for logs. The pages are drawn by a real browser.
//
// Invariants: what is not known to survive GitHub does not survive here; nothing is loaded from the network.
package look

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html"
	"testing"

	"github.com/towline/towline/test/parts"
)

//go:embed github.js
var script string

//go:embed frame.css
var frame string

// Rendered is a summary after GitHub's sanitiser.
type Rendered struct {
	HTML     string   // what is shown
	Raw      string   // the same before the sanitiser, as a browser reads it
	Removed  []string // what the sanitiser took away
	Shape    string   // the tree of elements with their attributes, without text
	Text     string   // all text, in its order
	Headings []string // "h3 text"
	Folds    []string // what is read on each fold
	Tables   [][]int  // of each table, how many columns each row fills
	Diagrams []string // sources of the mermaid diagrams
	Reached  []string // signs in the text that GitHub's later passes make links, pictures or formulas of
}

// Renderer renders summaries.
type Renderer struct {
	browser *parts.Browser
	blank   *parts.Page
}

// NewRenderer returns a renderer that works in b.
func NewRenderer(t testing.TB, b *parts.Browser) *Renderer {
	t.Helper()
	return &Renderer{b, b.Show(t, "<!doctype html><script>"+script+"</script>", parts.View{Width: 800, Height: 600})}
}

// Render renders a summary; options are the Markdown program's.
func (r *Renderer) Render(t testing.TB, markdown string, options ...string) Rendered {
	t.Helper()
	return r.Sanitise(t, parts.Markdown(t, markdown, options...))
}

// Sanitise is what GitHub shows of this HTML.
func (r *Renderer) Sanitise(t testing.TB, html string) Rendered {
	t.Helper()
	source, err := json.Marshal(html)
	if err != nil {
		t.Fatal(err)
	}
	var out Rendered
	r.blank.Eval(t, "github("+string(source)+")", &out)
	return out
}

// Diagrams of a summary's page that could not be drawn are complaints.
type Diagrams struct {
	Drawn      int
	Complaints []string
}

// Show opens the page of a run with this summary, diagrams drawn. Folds are as the summary has them, or all open.
func (r *Renderer) Show(t testing.TB, job string, s Rendered, v parts.View, open bool) (*parts.Page, Diagrams) {
	t.Helper()
	drawer := ""
	if len(s.Diagrams) > 0 {
		drawer = fmt.Sprintf("<script src=%q></script><script>%s</script>", parts.FileURL(parts.NPM(t, "mermaid")), script)
	}
	page := fmt.Sprintf(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Summary</title>
<link rel="stylesheet" href="%s"><style>%s</style>%s
<main><header>%s summary</header><article class="markdown-body">%s</article><footer>Job summary generated at run-time</footer></main></html>`,
		parts.FileURL(parts.NPM(t, "github-markdown-css")), frame, drawer, html.EscapeString(job), s.HTML)
	p := r.browser.Show(t, page, v)
	if open {
		p.Eval(t, "document.querySelectorAll('details').forEach(d => { d.open = true })", nil)
	}
	var d Diagrams
	if drawer == "" {
		return p, d
	}
	p.Eval(t, fmt.Sprintf("draw(%v)", v.Dark), &d.Complaints)
	p.Eval(t, "document.querySelectorAll('.diagram svg').length", &d.Drawn)
	return p, d
}

// Overflow names what on the page is wider than the page and does not scroll by itself.
func Overflow(t testing.TB, p *parts.Page) []string {
	t.Helper()
	var out []string
	p.Eval(t, `(() => {
		const wide = document.documentElement.clientWidth, out = [];
		for (const e of document.body.querySelectorAll("*")) {
			const holder = e.parentElement.closest("table, pre, svg");
			if (!holder && e.getBoundingClientRect().right > wide + 0.5) out.push(e.localName + " " + Math.ceil(e.getBoundingClientRect().right));
		}
		if (document.documentElement.scrollWidth > wide) out.push("the page " + document.documentElement.scrollWidth);
		return out;
	})()`, &out)
	return out
}
