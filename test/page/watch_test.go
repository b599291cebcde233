package page

import (
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

const (
	shopText = "document.getElementById('app-shop').innerText"
	lineGood = "document.getElementById('line').className == 'good'"
)

// A person keeps the page open while a real agent deploys, fails, goes back and is started anew. Nothing is loaded again,
// nothing that they opened closes, and what ends is announced once.
func TestWatchingADeployment(t *testing.T) {
	w := newWorld(t)
	w.publish(2)
	p := parts.StartBrowser(t).Open(t, w.address(), parts.View{Width: 1280, Height: 900})
	p.Wait(t, lineGood)
	p.Wait(t, shopText+`.includes("4be1c0e55d0a") && `+shopText+`.includes("live since")`)
	p.Eval(t, `window.unloaded = 'not'; window.heard = []; new MutationObserver(() => heard.push(document.getElementById('said').innerText)).observe(document.getElementById('said'), {childList: true})`, nil)

	// The history is a fold, and in it are folds.
	p.Click(t, "#app-shop details.history > summary")
	p.Wait(t, "document.querySelector('#app-shop .timeline').checkVisibility()")
	p.Click(t, "#app-shop .timeline li details summary")
	p.Wait(t, `document.querySelector('#app-shop .timeline .went').innerText.startsWith('fetch')`)
	p.Eval(t, "document.querySelector('#app-shop .timeline li details summary').focus(); window.focused = document.activeElement", nil)

	// A deployment is under way: its steps are seen as they happen, and how long this one takes.
	w.health.Store(http.StatusServiceUnavailable)
	w.publish(1)
	p.Wait(t, `document.querySelector('#app-shop .run')?.innerText.includes('91d70fa2c8e4')`)
	p.Wait(t, `[...document.querySelectorAll('#app-shop .run li')].some(li => li.className == 'busy' && li.innerText.includes('check') && li.innerText.includes('503'))`)
	p.Wait(t, `document.title.startsWith('Deploying')`)
	p.Eval(t, "window.before = document.querySelector('#app-shop .run [data-ms]').innerText", nil)
	p.Wait(t, `document.querySelector('#app-shop .run [data-ms]')?.innerText != before`)
	for _, li := range []string{"fetch", "unpack", "activate"} {
		p.Wait(t, `[...document.querySelectorAll('#app-shop .run li.good')].some(li => li.innerText.includes(`+js(li)+`))`)
	}
	var heard []string
	if p.Eval(t, "heard", &heard); len(heard) > 0 {
		t.Errorf("announced while it is under way: %q", heard)
	}

	// It becomes well.
	w.health.Store(http.StatusOK)
	p.Wait(t, `document.querySelectorAll('#app-shop .timeline > li').length == 2 && !document.querySelector('#app-shop .run')`)
	p.Wait(t, shopText+`.startsWith('shop') && document.querySelector('#app-shop .live').innerText.includes('Keep the stock of every shop')`)
	kept := func(when string) {
		t.Helper()
		var got struct {
			Unloaded string
			Focus    bool
			Open     []bool
			Label    string
		}
		p.Eval(t, `({Unloaded: window.unloaded, Focus: document.activeElement === window.focused && document.activeElement.isConnected,
			Open: [document.querySelector('#app-shop details.history').open, document.querySelector('#app-shop .timeline > li:last-child details').open],
			Label: document.activeElement.closest('li')?.innerText})`, &got)
		if got.Unloaded != "not" || !got.Focus || !got.Open[0] || !got.Open[1] || !strings.Contains(got.Label, "4be1c0e55d0a") {
			t.Errorf("%s: got %+v, want the same page, with its focus and its folds", when, got)
		}
	}
	kept("after it was deployed")
	for _, want := range []string{"by grace", "run 9714227733", "changes", "took"} {
		p.Wait(t, `document.querySelector('#app-shop .timeline > li').innerText.includes(`+js(want)+`)`)
	}

	// The next one does not become well, and the server goes back.
	w.health.Store(http.StatusInternalServerError)
	w.publish(0)
	p.Wait(t, `document.querySelector('#app-shop .run')?.innerText.includes('e02371ab6db3')`)
	p.Wait(t, `[...document.querySelectorAll('#app-shop .run li')].some(li => li.innerText.includes('roll back'))`)
	w.health.Store(http.StatusOK)
	p.Wait(t, `document.querySelector('#app-shop .badge').innerText == 'rolled back'`)
	p.Wait(t, `document.title.startsWith('1 app needs a look') && document.querySelector('link[rel=icon]').href.includes('8a5a00')`)
	kept("after it was rolled back")
	p.Click(t, "#app-shop .timeline > li:first-child details summary")
	p.Wait(t, `[...document.querySelectorAll('#app-shop .timeline > li:first-child .steps li')].map(li => li.className).join() == 'good,good,good,warn,good'`)
	p.Eval(t, "heard", &heard)
	want := []string{"shop on production: deployed 91d70fa2c8e4", "shop on production: rolled back e02371ab6db3"}
	if len(heard) != 2 || heard[0] != want[0] || heard[1] != want[1] {
		t.Errorf("announced: got %q, want %q", heard, want)
	}

	// The agent goes away and comes again.
	w.stop()
	p.Wait(t, `document.title.startsWith('Not connected') && document.getElementById('line').innerText.includes('trying again')`)
	w.start()
	p.Wait(t, lineGood+` && !document.title.startsWith('Not connected')`)
	w.publish(3)
	p.Wait(t, `document.querySelector('#app-shop .timeline > li').innerText.includes('7c0a5e19f3d2') && document.title.startsWith('All is well')`)
	if p.Eval(t, "window.unloaded", &want[0]); want[0] != "not" {
		t.Error("the page was loaded again")
	}
}

// Times are said in the reader's zone, and exactly in the title.
func TestTimesInTheReadersZone(t *testing.T) {
	w := newWorld(t)
	w.publish(2)
	p := parts.StartBrowser(t).Open(t, w.address(), parts.View{Width: 1280, Height: 900})
	p.Wait(t, shopText+`.includes("live since")`)
	p.Call(t, "Emulation.setTimezoneOverride", map[string]any{"timezoneId": "Asia/Kathmandu"})
	p.Eval(t, "location.reload()", nil)
	p.Wait(t, `document.querySelector('#app-shop .quiet time')?.title.includes('GMT+5:45')`)
	p.Wait(t, `/^just now|^\d+\ss\sago/.test(document.querySelector('#app-shop .quiet time').innerText)`)
}

// Without script the page asks again by itself, and says times in UTC; folds are HTML's own.
func TestWithoutScript(t *testing.T) {
	w := newWorld(t)
	w.publish(2)
	p := parts.StartBrowser(t).Open(t, w.address(), parts.View{Width: 390, Height: 800})
	p.Wait(t, shopText+`.includes("live since")`)
	w.until("live since") // what is kept for a second may be older than what the stream told
	p.Call(t, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	p.Call(t, "Page.reload", nil)
	p.Wait(t, `document.readyState == 'complete' && document.getElementById('line')?.innerText.includes('asks again every 30 s')`)
	p.Wait(t, `/^\d{4}-\d\d-\d\d \d\d:\d\d UTC$/.test(document.querySelector('#app-shop .quiet time').innerText)`)
	p.Click(t, "#app-shop details.history > summary")
	p.Wait(t, `document.querySelector('#app-shop details.history').open && document.querySelector('meta[http-equiv=refresh]').content == '30'`)

	// While something happens it asks every other second.
	w.health.Store(http.StatusServiceUnavailable)
	w.publish(1)
	w.until(`class="run"`)
	p.Call(t, "Page.reload", nil)
	p.Wait(t, `document.querySelector('meta[http-equiv=refresh]')?.content == '2'`)
	p.Wait(t, `document.querySelector('#app-shop .run .busy')?.innerText.includes('check')`)
	w.health.Store(http.StatusOK)
	p.Wait(t, `document.querySelector('#app-shop .live')?.innerText.includes('91d70fa2c8e4')`)
}
