package parts

import (
	"bytes"
	"image/png"
	"testing"
)

func TestBrowser(t *testing.T) {
	b := StartBrowser(t)
	p := b.Show(t, `<!doctype html><title>a page</title><style>html { background: white } @media (prefers-color-scheme: dark) { html { background: black } }
button { margin-top: 3000px }</style><button onclick="setTimeout(() => { document.title = 'clicked' }, 50)">Go</button>`, View{Width: 390, Height: 600, Dark: true})
	var got string
	p.Eval(t, "Promise.resolve(document.title)", &got)
	if got != "a page" {
		t.Errorf("title: got %q, want %q", got, "a page")
	}
	p.Click(t, "button")
	p.Wait(t, "document.title == 'clicked'")
	picture, err := png.Decode(bytes.NewReader(p.Screenshot(t)))
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size.X != 390 || size.Y < 3000 || size.Y > 3200 {
		t.Errorf("picture: got %v, want 390 wide and as long as the page", size)
	}
	if r, g, b, _ := picture.At(5, 5).RGBA(); r|g|b != 0 {
		t.Errorf("background: got %d %d %d, want the dark one", r, g, b)
	}
	var reached bool
	p.Eval(t, `fetch("http://towline.example/").then(() => true, () => false)`, &reached)
	if reached {
		t.Error("the browser reaches more than this machine")
	}
}

// What GitHub's program does that others of its kind do not, as far as our summaries lean on it.
func TestMarkdown(t *testing.T) {
	for text, want := range map[string]string{
		"| a |\n|---|\n| &#124; |":    "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>|</td>\n</tr>\n</tbody>\n</table>\n",
		"www.example.com":             "<p><a href=\"http://www.example.com\">www.example.com</a></p>\n",
		"```mermaid\ngantt\n```":      "<pre lang=\"mermaid\"><code>gantt\n</code></pre>\n",
		"~~x~~":                       "<p><del>x</del></p>\n",
		"<script>x</script>":          "&lt;script>x&lt;/script>\n",
		"<pre>a&#10;&#10;# b</pre>\n": "<pre>a&#10;&#10;# b</pre>\n",
	} {
		if got := Markdown(t, text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
