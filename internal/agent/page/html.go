package page

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// markup is HTML being written. It stands in for html/template, which would make the agent half as large again: package
// text/template calls methods by name, so that the linker must keep every method of every package.
type markup struct{ strings.Builder }

// put writes a piece of HTML in which each %s stands for text: every value is escaped, so that the result
// is safe between tags and inside of quoted attributes, and there only.
func (m *markup) put(format string, values ...string) {
	escaped := make([]any, len(values))
	for i, v := range values {
		escaped[i] = html.EscapeString(v)
	}
	fmt.Fprintf(m, format, escaped...)
}

// html is the page.
func (v view) html() string {
	m := &markup{}
	m.put(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<meta name="robots" content="noindex" />
<meta http-equiv="refresh" content="%s" />
<title>%s · %s</title>
<style>`, strconv.Itoa(v.Refresh), v.Headline, v.Server)
	m.WriteString(style) // escaped it would be another style than the one that the policy's digest allows
	m.put(`</style>
</head>
<body>
<header>
<p class="server">%s</p>
<h1 class="%s">%s</h1>
</header>
<main>
`, v.Server, v.Tone, v.Headline)
	for _, a := range v.Apps {
		a.html(m)
	}
	m.put(`</main>
<footer>
<p>towline-agent %s, up %s. This page of %s asks again every %s s.</p>
`, v.Version, v.Up, v.Now.RFC, strconv.Itoa(v.Refresh))
	if v.Pin != "" {
		m.put("<p>TLS pin <code>sha256=%s</code></p>\n", v.Pin)
	}
	m.put("</footer>\n</body>\n</html>\n")
	return m.String()
}

func (a appView) html(m *markup) {
	m.put(`<section aria-labelledby="app-%s">
<div class="top"><h2 id="app-%s">%s</h2><span class="badge %s">%s</span></div>
`, a.Key, a.Key, a.Key, a.Tone, a.State)
	if a.Note != "" {
		m.put("<p class=\"note %s\">%s</p>\n", a.Tone, a.Note)
	}
	if len(a.Steps) > 0 {
		m.put("<ol class=\"steps\">\n")
		for _, s := range a.Steps {
			m.put(`<li class="%s"><span class="mark" aria-hidden="true">%s</span><b>%s</b> <span class="quiet">%s</span></li>`+"\n", s.Tone, s.Mark, s.Name, s.Message)
		}
		m.put("</ol>\n")
	}
	if a.Live != "" {
		m.put("<p class=\"live\"><code title=\"%s\">%s</code> %s</p>\n", a.LiveFull, a.Live, a.Message)
	}
	m.put("<dl>\n")
	row := func(name, value, title string) {
		if title != "" {
			m.put("<div><dt>%s</dt><dd title=\"%s\">%s</dd></div>\n", name, title, value)
			return
		}
		m.put("<div><dt>%s</dt><dd>%s</dd></div>\n", name, value)
	}
	if a.Since.Ago != "" {
		row("live", a.Since.Ago, a.Since.RFC)
	}
	row("environment", a.Environment, "")
	if a.Seq > 0 {
		row("seq", strconv.FormatUint(a.Seq, 10), "")
	}
	if a.Unit != "" {
		row("unit", a.Unit, "")
	}
	row("health check", a.Health, "")
	if a.Seen.Ago != "" {
		row("pointer read", a.Seen.Ago, a.Seen.RFC)
	} else {
		row("pointer read", "not yet", "")
	}
	m.put("</dl>\n")
	if len(a.History) > 0 {
		m.put("<h3>Deployments</h3>\n<ol class=\"history\">\n")
		for _, h := range a.History {
			h.html(m)
		}
		m.put("</ol>\n")
	}
	m.put("</section>\n")
}

func (h historyView) html(m *markup) {
	m.put(`<li><span class="mark %s" aria-hidden="true">%s</span><code title="%s">%s</code><span class="outcome">%s</span>`,
		h.Tone, h.Mark, h.Full, h.Hash, h.Outcome)
	took := ""
	if h.Took != "" {
		took = h.Took + " · "
	}
	m.put("<span class=\"quiet\" title=\"%s\">%s%s</span>\n", h.When.RFC, took, h.When.Ago)
	switch {
	case len(h.Log) > 0:
		m.put("<details><summary>%s</summary><pre tabindex=\"0\">%s</pre></details>", h.Reason, strings.Join(h.Log, "\n"))
	case h.Reason != "":
		m.put("<p class=\"reason\">%s</p>", h.Reason)
	}
	m.put("</li>\n")
}
