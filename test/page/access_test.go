package page

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// overflow names what is wider than the page and does not scroll by itself.
const overflow = `(() => {
	const wide = document.documentElement.clientWidth, out = [];
	for (const e of document.body.querySelectorAll("*")) {
		if (!e.closest(".sr, #said, pre") && e.getBoundingClientRect().right > wide + 0.5) out.push(e.localName + "." + e.className + " " + Math.ceil(e.getBoundingClientRect().right));
	}
	if (document.documentElement.scrollWidth > wide) out.push("the page " + document.documentElement.scrollWidth);
	return out;
})()`

// Every state, light at a desk and dark on a phone, folds open: nothing keeps anyone out, nothing is cut off, and
// what others wrote is only text.
func TestEverybodyCanReadIt(t *testing.T) {
	script, err := os.ReadFile(parts.NPM(t, "axe-core"))
	if err != nil {
		t.Fatal(err)
	}
	b, now := parts.StartBrowser(t), time.Now()
	bad := b.Show(t, `<!doctype html><html lang="en"><title>x</title><main><h1>x</h1><p style="color: #aaa">grey</p></main>`, views[0].View)
	if found := violations(t, bad, string(script)); len(found) != 1 || !strings.HasPrefix(found[0], "color-contrast: ") {
		t.Fatalf("of a page with grey text on white axe says %q", found)
	}
	for name, scene := range scenes(now) {
		address := serve(t, scene, now)
		for _, v := range views {
			if v.Dark != (v.Width < 600) { // light at a desk, dark on a phone
				continue
			}
			p := b.Open(t, address, v.View)
			p.Wait(t, lineGood)
			var wide []string
			if p.Eval(t, overflow, &wide); len(wide) > 0 {
				t.Errorf("%s%s: wider than the page: %q", name, v.suffix, wide)
			}
			p.Eval(t, "document.querySelectorAll('details').forEach(d => { d.open = true })", nil)
			if p.Eval(t, overflow, &wide); len(wide) > 0 {
				t.Errorf("%s%s, folds open: wider than the page: %q", name, v.suffix, wide)
			}
			for _, f := range violations(t, p, string(script)) {
				t.Errorf("%s%s: %s", name, v.suffix, f)
			}
			var strange []string
			p.Eval(t, `[...document.querySelectorAll("body *")].map(e => e.localName).filter(n => !["header","p","h1","h2","h3","nav","ul","ol","li","a","span","main","section","div","b","i","bdi",
				"code","dl","dt","dd","br","details","summary","time","pre","footer","noscript","script"].includes(n))`, &strange)
			if len(strange) > 0 {
				t.Errorf("%s%s: got elements %q", name, v.suffix, strange)
			}
		}
	}
}

// violations are what axe finds.
func violations(t *testing.T, p *parts.Page, axe string) (found []string) {
	t.Helper()
	p.Eval(t, axe+";true", nil)
	p.Eval(t, `axe.run().then(r => r.violations.map(v => v.id + ": " + v.nodes.slice(0, 3).map(n => n.html + " " + n.failureSummary).join("; ")))`, &found)
	return found
}

// With the keyboard alone one gets to every link, every fold and every log, in the order in which they are seen, and sees
// where one is.
func TestKeyboard(t *testing.T) {
	b, now := parts.StartBrowser(t), time.Now()
	p := b.Open(t, serve(t, scenes(now)["ten"], now), parts.View{Width: 1280, Height: 900})
	p.Wait(t, lineGood)
	press := func(key string, code int) {
		for _, kind := range []string{"rawKeyDown", "char", "keyUp"} {
			event := map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
			if kind == "char" {
				if key != "Enter" {
					continue
				}
				event["text"] = "\r"
			}
			p.Call(t, "Input.dispatchKeyEvent", event)
		}
	}
	var reached []string
	for range 40 {
		press("Tab", 9)
		var at struct {
			Name    string
			Outline bool
		}
		p.Eval(t, `({Name: document.activeElement.localName + " " + document.activeElement.innerText.replace(/\s+/g, " ").trim(), Outline: parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2})`, &at)
		if strings.HasPrefix(at.Name, "body") {
			break
		}
		if !at.Outline {
			t.Errorf("%s has the focus and does not show it", at.Name)
		}
		reached = append(reached, at.Name)
	}
	if i, j := slices.Index(reached, "a admin held"), slices.Index(reached, "a web live"); i != 0 || j != 9 {
		t.Errorf("got the links to the apps at %d to %d of %q", i, j, reached)
	}
	if n := slices.IndexFunc(reached, func(s string) bool { return strings.HasPrefix(s, "summary Deployments") }); n < 10 {
		t.Errorf("got no fold in %q", reached)
	}
	p.Eval(t, "document.querySelector('details.history > summary').focus()", nil)
	press("Enter", 13)
	p.Wait(t, "document.querySelector('details.history').open")
}
