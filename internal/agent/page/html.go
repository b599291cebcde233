package page

import (
	"fmt"
	"html"
	"net/url"
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

// time writes a time, nothing when there is none.
func (m *markup) time(t moment) {
	if t.RFC != "" {
		m.put(`<time datetime="%s">%s</time>`, t.RFC, t.Text)
	}
}

// shapes are drawn into the icon, so that it is not told by its colour alone.
var shapes = map[string]struct{ colour, path string }{
	"good": {"#16703c", "M4.5 8.5l2.5 2.5 4.5-5.5"},
	"busy": {"#1d5fa8", "M8 4v5l3 2"},
	"warn": {"#8a5a00", "M8 4v5M8 11.5v.5"},
	"bad":  {"#b3261e", "M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6"},
	"idle": {"#63676b", "M5 8h6"},
}

// icon is the page's icon: one for each tone.
func icon(tone string) string {
	s := shapes[tone]
	return "data:image/svg+xml," + url.PathEscape(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="8" fill="`+
		s.colour+`"/><path d="`+s.path+`" fill="none" stroke="#fff" stroke-width="2" stroke-linecap="round"/></svg>`)
}

func (v view) title() string { return v.Headline + " · " + v.Server }

// parts are the head and the apps. There is no white space between elements: the script compares them one by one.
func (v view) parts() []Part {
	out := []Part{newPart(v.head)}
	for _, a := range v.Apps {
		out = append(out, newPart(a.html))
	}
	return out
}

func newPart(write func(*markup)) Part {
	m := &markup{}
	write(m)
	return Part{m.String(), digest(m.String())}
}

// html is the page.
func (v view) html() string {
	parts := v.parts()
	m := &markup{}
	m.put(`<!doctype html>
<html lang="en" data-now="%s" data-id="%s">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<meta name="robots" content="noindex" />
<noscript><meta http-equiv="refresh" content="%s" /></noscript>
<title>%s</title>
<link rel="icon" href="%s" />
<style>`, v.Now.RFC, ID(parts), strconv.Itoa(v.Refresh), v.title(), icon(v.Tone))
	m.WriteString(style) // escaped it would be another style than the one that the policy's digest allows
	m.put("</style>\n</head>\n<body>\n")
	m.WriteString(parts[0].HTML)
	m.put("\n<main>\n")
	for _, p := range parts[1:] {
		m.WriteString(p.HTML + "\n")
	}
	m.put(`</main>
<div id="said" role="status" aria-live="polite"></div>
<footer>
<p id="line" class="idle"><noscript>This page asks again every %s s. </noscript><span>As of </span>`, strconv.Itoa(v.Refresh))
	m.time(v.Now)
	m.put(`</p><p>towline-agent %s, up since `, v.Version)
	m.time(v.Started)
	m.put("</p>\n")
	if v.Pin != "" {
		m.put("<p>TLS pin <code>sha256=%s</code></p>\n", v.Pin)
	}
	m.put("</footer>\n<script>")
	m.WriteString(script)
	m.put("</script>\n</body>\n</html>\n")
	return m.String()
}

// head is the headline, with the way to the apps that it is about.
func (v view) head(m *markup) {
	var keys []string
	for _, a := range v.Apps {
		keys = append(keys, a.Key)
	}
	m.put(`<header id="head" data-title="%s" data-icon="%s" data-apps="%s"><p class="server">%s</p><h1 class="%s">%s</h1>`,
		v.title(), icon(v.Tone), strings.Join(keys, " "), v.Server, v.Tone, v.Headline)
	if len(v.Apps) > 1 {
		m.put(`<nav aria-label="Apps"><ul>`)
		for _, a := range v.Apps {
			m.put(`<li><a href="#app-%s"><span class="dot %s" aria-hidden="true"></span>%s <span class="quiet">%s</span></a></li>`, a.Key, a.Tone, a.Key, a.State)
		}
		m.put("</ul></nav>")
	}
	m.put("</header>")
}

func (a appView) html(m *markup) {
	m.put(`<section id="app-%s" class="app" aria-labelledby="name-%s" data-done="%s" data-say="%s">`, a.Key, a.Key, a.Done, a.Say)
	m.put(`<div class="top"><h2 id="name-%s">%s</h2>`, a.Key, a.Key)
	if a.Environment != "" {
		m.put(`<span class="env">%s</span>`, a.Environment)
	}
	m.put(`<span class="badge %s">%s</span></div>`, a.Tone, a.State)
	for _, n := range a.Notes {
		m.put(`<p class="note %s">`, n.Tone)
		if n.Word != "" {
			m.put(`<b>%s</b> `, n.Word)
		}
		m.put(`<bdi>%s</bdi></p>`, n.Text)
	}
	if a.Run != nil {
		a.Run.html(m)
	}
	if a.Live != "" {
		m.put(`<p class="live"><code title="%s">%s</code> <bdi>%s</bdi></p><p class="quiet">`, a.LiveFull, a.Live, a.Message)
		if a.Since.RFC != "" {
			m.put(`live since `)
			m.time(a.Since)
		} else {
			m.put(`live, though not proven healthy`)
		}
		a.From.html(m)
		m.put("</p>")
	}
	m.put(`<dl><div><dt>Health check</dt><dd>`)
	if a.Verdict != "" {
		tone := "good"
		if a.Unwell {
			tone = "bad"
		}
		m.put(`<b class="%s">%s</b> `, tone, a.Verdict)
		m.time(a.Checked)
		m.put(`<br />`)
	}
	m.put(`<span class="quiet">%s</span></dd></div><div><dt>Pointer</dt><dd>`, a.Health)
	if a.Seq > 0 {
		m.put(`seq %s<br />`, strconv.FormatUint(a.Seq, 10))
	}
	if a.Seen.RFC != "" {
		m.put(`<span class="quiet">read `)
		m.time(a.Seen)
		m.put(`</span>`)
	} else {
		m.put(`not read yet`)
	}
	m.put(`</dd></div>`)
	if a.Unit != "" {
		m.put(`<div><dt>Unit</dt><dd>%s</dd></div>`, a.Unit)
	}
	m.put(`</dl>`)
	a.history(m)
	m.put("</section>")
}

// html writes who, which run, what changed and why, after what it is about.
func (o origin) html(m *markup) {
	if o.Who != "" {
		m.put(` · by <bdi>%s</bdi>`, o.Who)
	}
	if o.Run != "" {
		m.put(` · <a href="%s">%s</a>`, o.Run, o.RunText)
	}
	if o.Compare != "" {
		m.put(` · <a href="%s">changes<span class="sr"> since %s</span></a>`, o.Compare, o.CompareOf)
	}
	if o.Why != "" {
		m.put(` · <bdi>%s</bdi>`, o.Why)
	}
}

func (r *runView) html(m *markup) {
	m.put(`<div class="run"><h3>Deploying <code title="%s">%s</code> <bdi>%s</bdi></h3><p class="quiet">since `, r.Full, r.Hash, r.Message)
	m.time(r.Began)
	r.From.html(m)
	m.put(`</p>`)
	writeSteps(m, r.Steps)
	m.put(`</div>`)
}

func writeSteps(m *markup, steps []stepView) {
	m.put(`<ol class="steps">`)
	for _, s := range steps {
		m.put(`<li class="%s"><b>%s</b><span class="sr"> %s</span> `, s.Tone, s.Name, s.Word)
		if s.Message != "" {
			m.put(`<bdi class="said">%s</bdi> `, s.Message)
		}
		m.put(`<span class="took">`)
		if s.Bytes != "" {
			m.put(`%s · `, s.Bytes)
		}
		if s.Since > 0 {
			m.put(`<span data-ms="%s">%s</span>`, strconv.FormatInt(s.Since, 10), s.Took)
		} else {
			m.put(`%s`, s.Took)
		}
		m.put(`</span>`)
		m.put(`</li>`)
	}
	m.put(`</ol>`)
}

func (a appView) history(m *markup) {
	if len(a.History) == 0 {
		return
	}
	m.put(`<details class="history"`)
	if a.Alone {
		m.put(` open=""`)
	}
	m.put(`><summary><h3>Deployments</h3><span class="strip" aria-hidden="true">`)
	for i := len(a.History) - 1; i >= 0; i-- {
		m.put(`<i class="%s"></i>`, a.History[i].Tone)
	}
	m.put(`</span></summary><ol class="timeline">`)
	for _, h := range a.History {
		h.html(m, a.Key)
	}
	m.put("</ol></details>")
}

func (h historyView) html(m *markup, key string) {
	m.put(`<li id="d-%s-%s"><span class="mark %s" aria-hidden="true">%s</span><p class="what"><b class="%s">%s</b> <code title="%s">%s</code> <bdi>%s</bdi></p><p class="quiet">`,
		key, h.ID, h.Tone, h.Mark, h.Tone, h.Outcome, h.Full, h.Hash, h.Message)
	m.time(h.When)
	if h.Took != "" {
		m.put(` · took %s`, h.Took)
	}
	h.From.html(m)
	m.put(`</p>`)
	if h.Reason != "" {
		m.put(`<p class="reason"><bdi>%s</bdi></p>`, h.Reason)
	}
	if h.Went != "" {
		m.put(`<details><summary>Steps<span class="sr"> of %s</span></summary><p class="went">%s</p></details>`, h.Hash, h.Went)
	}
	if len(h.Steps) > 0 || len(h.Log) > 0 {
		m.put(`<details><summary>Steps`)
		if len(h.Log) > 0 {
			m.put(` and log`)
		}
		m.put(`<span class="sr"> of %s</span></summary>`, h.Hash)
		writeSteps(m, h.Steps)
		if len(h.Log) > 0 {
			m.put(`<pre tabindex="0" role="group" aria-label="Last lines of the app's log">%s</pre>`, strings.Join(h.Log, "\n"))
		}
		m.put(`</details>`)
	}
	m.put(`</li>`)
}
