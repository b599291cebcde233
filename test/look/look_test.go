package look_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/test/look"
	"github.com/towline/towline/test/parts"
)

var update = flag.Bool("update", false, "draw docs/images/*.png again, from runs that take their time")

const maxPicture = 300 << 10

// Widths that people look with: the column of a run's page on a desktop, and a phone.
var views = []struct {
	suffix string
	parts.View
}{
	{"", parts.View{Width: 1012, Height: 700}}, {"-dark", parts.View{Width: 1012, Height: 700, Dark: true}},
	{"-phone", parts.View{Width: 390, Height: 700}}, {"-phone-dark", parts.View{Width: 390, Height: 700, Dark: true}},
}

// scenes are the runs that people meet, each with its exit code.
func scenes(t *testing.T) map[string]ended {
	t.Helper()
	j := newJob(t)
	j.paced = *update
	out := map[string]ended{}
	for _, scene := range []struct {
		name string
		code int
		with []string // inputs
	}{
		{"dry-run", 0, []string{"dry-run", "true"}},
		{"deployed", 0, []string{"servers", j.servers(healthy(128, 402, 810), healthy(143, 431, 780), healthy(97, 388, 1220))}},
		{"rolled-back", deployment.ExitUnwell, []string{"servers", j.servers(healthy(128, 402, 810), unwell(answer, reason, appLog), healthy(97, 388, 1220))}},
		{"published", 0, nil},
		{"rollback", 0, []string{"command", "rollback", "version", second, "path", "", "reason", "orders in yen are wrong", "servers", j.servers(healthy(60, 300, 500))}},
		{"status", 0, []string{"command", "status", "path", ""}},
		{"wrong-input", deployment.ExitUsage, []string{"app", "../shop", "wait-timeout", "soon"}},
		{"no-bucket", deployment.ExitUsage, []string{"bucket", "file:///nowhere/at/all"}},
	} {
		if scene.name == "rolled-back" {
			j.commit(third, "Keep the stock of every shop")
		}
		e := j.with(scene.with...).run()
		if e.code != scene.code {
			t.Errorf("%s: got exit %d, want %d:\n%s", scene.name, e.code, scene.code, e.log)
		}
		out[scene.name] = e
	}
	return out
}

// Whatever we write into a summary survives GitHub, is well formed, and fits on a phone.
func TestSummariesSurviveGitHub(t *testing.T) {
	b := parts.StartBrowser(t)
	r := look.NewRenderer(t, b)
	for name, e := range scenes(t) {
		s := r.Render(t, e.summary)
		whole(t, name, s)
		for _, block := range lopsided(e.summary) {
			t.Errorf("%s: rows of a table that have not the same number of cells, which GitHub cuts or fills up:\n%s", name, block)
		}
		for _, sign := range []string{"**", "|--", "&#", "```"} {
			if strings.Contains(s.Text, sign) {
				t.Errorf("%s: %q is to be seen, Markdown that was not understood:\n%s", name, sign, s.Text)
			}
		}
		if hard := r.Render(t, e.summary, "--hardbreaks"); hard.Shape != s.Shape {
			t.Errorf("%s: it matters whether GitHub breaks lines where we do:\n%s", name, e.summary)
		}
		for _, sign := range s.Reached {
			if kind, _, _ := strings.Cut(sign, " "); kind != "link" && kind != "commit" { // those are ours, and right
				t.Errorf("%s: GitHub makes something of the text: %s", name, sign)
			}
		}
		for _, v := range views {
			p, drawn := r.Show(t, "deploy", s, v.View, true)
			if drawn.Drawn != len(s.Diagrams) || len(drawn.Complaints) > 0 {
				t.Errorf("%s%s: %d of %d diagrams drawn, %q", name, v.suffix, drawn.Drawn, len(s.Diagrams), drawn.Complaints)
			}
			if wide := look.Overflow(t, p); len(wide) > 0 {
				t.Errorf("%s%s: wider than the page: %q", name, v.suffix, wide)
			}
		}
	}
}

// whole checks that nothing of a summary is lost or lopsided.
func whole(t *testing.T, name string, s look.Rendered) {
	t.Helper()
	if len(s.Removed) > 0 || s.HTML != s.Raw {
		t.Errorf("%s: the sanitiser removes %q", name, s.Removed)
	}
	if len(s.Headings) == 0 {
		t.Errorf("%s: no heading", name)
	}
	for i, table := range s.Tables {
		if len(table) < 2 || slices.Min(table) != slices.Max(table) {
			t.Errorf("%s: table %d: columns of its rows: %d", name, i+1, table)
		}
	}
}

// lopsided gives the tables in a Markdown text whose rows have different numbers of cells. A bar in a cell has a backslash
// before it, in a code span too.
func lopsided(markdown string) (out []string) {
	block, cells, bad := "", 0, false
	for line := range strings.Lines(markdown + "\n") {
		if !strings.HasPrefix(line, "|") {
			if bad {
				out = append(out, block)
			}
			block, cells, bad = "", 0, false
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, "\\|", ""), "|")
		bad = bad || cells != 0 && n != cells
		block, cells = block+line, n
	}
	return out
}

// What a person looks for is there, where it is looked for.
func TestSummaryTellsTheStory(t *testing.T) {
	r := look.NewRenderer(t, parts.StartBrowser(t))
	all := scenes(t)
	for name, want := range map[string][]string{
		"deployed":    {"deployed", "shop", "production", "e02371ab6db3", "Take orders in two currencies", "4be1c0e55d0a", "what changed", "web-1", "web-2", "web-3", "https://shop.example"},
		"rolled-back": {"rolled-back", "web-2", "SQLITE_BUSY", "503", "Error: SQLITE_BUSY: database is locked\n    at Database.exec"},
		"rollback":    {"e02371ab6db3", "91d70fa2c8e4"},
		"wrong-input": {"failed"},
	} {
		s := r.Render(t, all[name].summary)
		for _, text := range want {
			if !strings.Contains(s.Text, text) {
				t.Errorf("%s does not say %q:\n%s", name, text, s.Text)
			}
		}
	}
	s := r.Render(t, all["rolled-back"].summary)
	if len(s.Folds) == 0 {
		t.Errorf("rolled-back: the app's log is not in a fold:\n%s", s.Shape)
	}
	if servers := s.Tables[0]; len(servers) != 4 {
		t.Errorf("rolled-back: the table of servers has %d rows, want a head and 3", len(servers))
	}
}

// TestPictures draws the pictures that docs/ shows, or checks that each is there and small.
func TestPictures(t *testing.T) {
	pictures := map[string]func(*testing.T) []byte{}
	var names []string
	draw := func(name string, f func(*testing.T) []byte) {
		names = append(names, name)
		pictures[name] = f
	}
	var b *parts.Browser
	var r *look.Renderer
	var all map[string]ended
	for _, scene := range []string{"deployed", "rolled-back"} {
		for _, v := range views {
			draw("summary-"+scene+v.suffix, func(t *testing.T) []byte {
				p, _ := r.Show(t, "deploy", r.Render(t, all[scene].summary), v.View, false)
				return p.Screenshot(t)
			})
			if v.Dark { // a log is dark in both themes
				continue
			}
			draw("log-"+scene+v.suffix, func(t *testing.T) []byte {
				e := all[scene]
				lines, _ := look.Lines(e.log, false)
				return b.Show(t, look.LogPage("Ship the shop", publish.Took(e.took), e.code != 0, lines), v.View).Screenshot(t)
			})
		}
	}
	dir := filepath.Join(parts.Root(t), "docs", "images")
	if *update {
		b = parts.StartBrowser(t)
		r = look.NewRenderer(t, b)
		all = scenes(t)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name+".png"), pictures[name](t), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name+".png"))
		switch {
		case err != nil:
			t.Errorf("no picture: %v (go test ./test/look -run TestPictures -update draws it)", err)
		case !bytes.HasPrefix(data, []byte("\x89PNG")) || len(data) > maxPicture:
			t.Errorf("%s: got %d bytes, want a PNG of at most %d", name, len(data), maxPicture)
		}
	}
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// The log's page has what the runner shows, and fits on a phone.
func TestLogPages(t *testing.T) {
	b := parts.StartBrowser(t)
	for name, e := range scenes(t) {
		lines, obeyed := look.Lines(e.log, false)
		for _, o := range obeyed {
			if !strings.HasPrefix(o, "add-mask towline-secret-") {
				t.Errorf("%s: the runner obeyed %q", name, o)
			}
		}
		kinds := map[string]int{}
		for _, line := range lines {
			kinds[line.Kind]++
			if _, last, ok := cutLast(line.Text, "\x1b["); ok && !strings.HasPrefix(last, "0m") {
				t.Errorf("%s: a colour that does not end with its line: %q", name, line.Text)
			}
		}
		if (kinds["error"] > 0) != (e.code != 0) {
			t.Errorf("%s: exit %d with %d errors in the log", name, e.code, kinds["error"])
		}
		for _, v := range views {
			p := b.Show(t, look.LogPage("Ship the shop", publish.Took(e.took), e.code != 0, lines), v.View)
			if wide := look.Overflow(t, p); len(wide) > 0 {
				t.Errorf("%s%s: wider than the page: %q", name, v.suffix, wide)
			}
			var shown int
			if p.Eval(t, "document.querySelectorAll('li').length", &shown); shown != len(lines) {
				t.Errorf("%s: got %d lines on the page, want %d", name, shown, len(lines))
			}
		}
	}
}

// The renderer is right about what it is given: each rule by an example.
func TestSanitiser(t *testing.T) {
	r := look.NewRenderer(t, parts.StartBrowser(t))
	for _, test := range []struct{ html, want, removed string }{
		{`<p align="right" class="x" style="color:red" onclick="x">a</p>`, `<p align="right">a</p>`, "class of <p>, style of <p>, onclick of <p>"},
		{`<a href="javascript:x">a</a><a href=" JAVA&#10;script:x">b</a><a href="/c">c</a>`, `<a>a</a><a>b</a><a href="/c">c</a>`, "href of <a>, href of <a>"},
		{`<script>x</script><iframe></iframe><svg><p>a</p></svg>`, `<p>a</p>`, "<svg> and what is in it, <iframe>, <script> and what is in it"},
		{`<li>a</li><ul><li>b</li></ul>`, `a<ul><li>b</li></ul>`, "<li>"},
		{`<img src="data:x" alt="a"><!-- b --><section>c</section>`, `<img alt="a">c`, "comment, <section>, src of <img>"},
		{`<details open><summary>a</summary><pre lang="mermaid"><code>gantt</code></pre></details>`, `<details open=""><summary>a</summary><pre lang="mermaid"><code>gantt</code></pre></details>`, ""},
	} {
		s := r.Sanitise(t, test.html)
		if got := strings.Join(s.Removed, ", "); s.HTML != test.want || got != test.removed {
			t.Errorf("%s: got %s, removed %s; want %s, removed %s", test.html, s.HTML, got, test.want, test.removed)
		}
	}
	s := r.Sanitise(t, `<p>&#64;ada \@ada <code>@ada</code> @<!-- -->ada &#35;12 x#1 &#58;boom&#58; $x$ www.example.com <a href="/">@ada</a> e02371ab6db3</p>`)
	if got, want := fmt.Sprint(s.Reached), "[mention @ada mention @ada reference #12 emoji :boom: mathematics $x$ link www.example.com commit e02371ab6db3]"; got != want {
		t.Errorf("reached: got %s, want %s", got, want)
	}
}

// A diagram that GitHub cannot draw is seen here too, and one that it can is drawn as wide as there is room.
func TestDiagrams(t *testing.T) {
	r := look.NewRenderer(t, parts.StartBrowser(t))
	const gantt = "```mermaid\ngantt\n    dateFormat x\n    axisFormat %S s\n    section run\n    Pack :0, 400\n    Upload :400, 900\n    section web-1\n    fetch :crit, 1000, 1500\n```\n"
	for _, test := range []struct {
		markdown string
		drawn    int
	}{
		{gantt, 1},
		{"<pre lang=\"mermaid\"><code>pie\n  \"a\" : 1\n</code></pre>\n\n" + gantt, 2},
		{strings.Replace(gantt, "    fetch", "    fetch\n    fetch", 1), 0},
	} {
		s := r.Render(t, test.markdown)
		for _, v := range views {
			p, got := r.Show(t, "deploy", s, v.View, false)
			if got.Drawn != test.drawn || len(got.Complaints) != len(s.Diagrams)-test.drawn {
				t.Errorf("%s: got %d drawn, complaints %q, want %d", test.markdown, got.Drawn, got.Complaints, test.drawn)
			}
			if wide := look.Overflow(t, p); len(wide) > 0 {
				t.Errorf("%s%s: wider than the page: %q", test.markdown, v.suffix, wide)
			}
		}
	}
}

func TestOverflow(t *testing.T) {
	b := parts.StartBrowser(t)
	for html, want := range map[string]int{
		`<p>a</p><pre style="overflow: auto"><code style="display: block; width: 900px">a</code></pre>`: 0,
		`<p style="width: 900px">a</p>`: 2,
	} {
		if got := look.Overflow(t, b.Show(t, "<!doctype html><body style='margin: 0'>"+html, parts.View{Width: 390, Height: 600})); len(got) != want {
			t.Errorf("%s: got %q, want %d words", html, got, want)
		}
	}
	if got := lopsided("| a | b |\n|---|---|\n| c |\n\n| a |\n|---|\n| \\| |\n"); len(got) != 1 {
		t.Errorf("lopsided: got %q, want the first table", got)
	}
}
