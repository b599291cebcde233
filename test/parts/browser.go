package parts

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Fonts that pages are drawn with, and the Debian packages that have them.
var fonts = []string{
	"/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf", "fonts-liberation",
	"/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf", "fonts-dejavu-core",
	"/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", "fonts-noto-color-emoji",
}

// patience bounds every word with the browser, and every wait for a page.
const patience = 60 * time.Second

// Browser is a headless Chromium that ends with the test. It reaches this machine's loopback and nothing else. It is
// spoken to through a pair of pipes, by its DevTools protocol, so that it listens nowhere and dies when we do.
type Browser struct {
	process *process
	to      *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan answer
}

// answer is what the browser says to one call.
type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// StartBrowser starts Chromium with a profile of its own.
func StartBrowser(t testing.TB) *Browser {
	t.Helper()
	need(t, append([]string{"chromium", "chromium"}, fonts...)...)
	chromium, err := lookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "towline-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("chromium left something running: %v", err)
		}
	})
	hears, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(chromium, "--headless", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(dir, "profile"),
		"--no-sandbox", // as root there is none
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-default-apps", "--hide-scrollbars", "--force-color-profile=srgb",
		"--font-render-hinting=none", "--lang=en-US", "--no-proxy-server",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE [::1], EXCLUDE localhost", "about:blank")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8", "TZ=UTC"} // what it leaves goes with dir
	cmd.ExtraFiles = []*os.File{hears, says}                                                                  // 3 and 4, as --remote-debugging-pipe has them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                                                     // its helpers outlive it for a moment, and write files
	b := &Browser{to: to, waiting: map[int]chan answer{}}
	b.process, err = start(cmd, filepath.Join(dir, "log"))
	hears.Close()
	says.Close()
	if err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	go b.listen(from)
	t.Cleanup(func() {
		_, _ = b.try("", "Browser.close", nil)
		to.Close()
		if err := b.process.stop(syscall.SIGTERM, 10*time.Second); err != nil {
			t.Logf("chromium: %v", err)
		}
		for range 100 { // 5 s
			if syscall.Kill(-b.process.pid(), syscall.SIGKILL) == syscall.ESRCH {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error("chromium: its helpers do not end")
	})
	return b
}

// listen hands each answer to the call that waits for it. What the browser tells unasked is not needed.
func (b *Browser) listen(from *os.File) {
	defer from.Close()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for id, c := range b.waiting {
			delete(b.waiting, id)
			close(c)
		}
	}()
	messages := bufio.NewReaderSize(from, 1<<20)
	for {
		message, err := messages.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(bytes.TrimSuffix(message, []byte{0}), &a) != nil || a.ID == 0 {
			continue
		}
		b.mu.Lock()
		c := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if c != nil {
			c <- a
		}
	}
}

// try calls a method of the protocol, of a page when session is not empty.
func (b *Browser) try(session, method string, params any) (json.RawMessage, error) {
	c := make(chan answer, 1)
	b.mu.Lock()
	b.last++
	call := map[string]any{"id": b.last, "method": method}
	b.waiting[b.last] = c
	if session != "" {
		call["sessionId"] = session
	}
	if params != nil {
		call["params"] = params
	}
	message, err := json.Marshal(call)
	if err == nil {
		_, err = b.to.Write(append(message, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a, ok := <-c:
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: the browser ended", method)
		case a.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		return a.Result, nil
	case <-b.process.done:
		return nil, fmt.Errorf("%s: the browser ended", method)
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer in %v", method, patience)
	}
}

// View is what a page is looked at with.
type View struct {
	Width, Height int // in CSS pixels
	Dark          bool
}

// Page is one tab. Its methods fail the test when something is not as it must be.
type Page struct {
	browser *Browser
	session string
	view    View
}

// Open opens an address, and returns when the page and all that it names are loaded.
func (b *Browser) Open(t testing.TB, address string, v View) *Page {
	t.Helper()
	p := &Page{browser: b, view: v}
	var target struct{ TargetID string }
	p.call(t, "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	p.call(t, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	t.Cleanup(func() { _, _ = b.try("", "Target.closeTarget", map[string]any{"targetId": target.TargetID}) })
	p.session = attached.SessionID
	p.resize(t, v)
	var went struct{ ErrorText string }
	p.call(t, "Page.navigate", map[string]any{"url": address}, &went)
	if went.ErrorText != "" {
		t.Fatalf("open %s: %s", address, went.ErrorText)
	}
	p.Wait(t, "location.href != 'about:blank' && document.readyState == 'complete'")
	return p
}

// Show opens a page of this HTML, which may name local files.
func (b *Browser) Show(t testing.TB, html string, v View) *Page {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
	return b.Open(t, FileURL(path), v)
}

// FileURL is the address of a local file.
func FileURL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// resize makes the page look as v says.
func (p *Page) resize(t testing.TB, v View) {
	t.Helper()
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	p.call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": v.Width, "height": v.Height, "deviceScaleFactor": 1, "mobile": false}, nil)
	p.call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

func (p *Page) call(t testing.TB, method string, params, into any) {
	t.Helper()
	result, err := p.browser.try(p.session, method, params)
	if err == nil && into != nil {
		err = json.Unmarshal(result, into)
	}
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, p.browser.process.tail())
	}
}

// Call calls a method of the DevTools protocol that has no method here.
func (p *Page) Call(t testing.TB, method string, params map[string]any) {
	t.Helper()
	p.call(t, method, params, nil)
}

// Eval gives the value of a JavaScript expression, awaited when it is a promise, to into, unless that is nil.
func (p *Page) Eval(t testing.TB, expression string, into any) {
	t.Helper()
	value, err := p.eval(expression)
	if err == nil && into != nil {
		err = json.Unmarshal(value, into)
	}
	if err != nil {
		t.Fatalf("chromium: %.200s: %v\n%s", expression, err, p.browser.process.tail())
	}
}

func (p *Page) eval(expression string) (json.RawMessage, error) {
	result, err := p.browser.try(p.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true})
	if err != nil {
		return nil, err
	}
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return nil, err
	}
	if e := r.ExceptionDetails; e != nil {
		return nil, fmt.Errorf("%s %s", e.Text, e.Exception.Description)
	}
	return r.Result.Value, nil
}

// Wait polls a condition until it holds. While the page is being loaded it holds not.
func (p *Page) Wait(t testing.TB, condition string) {
	t.Helper()
	var last error
	holds := func() bool {
		var value json.RawMessage
		value, last = p.eval("Boolean(" + condition + ")")
		return last == nil && string(value) == "true"
	}
	if !p.browser.process.poll(patience, holds) {
		t.Fatalf("chromium: not in %v: %s (%v)\n%s", patience, condition, last, p.browser.process.tail())
	}
}

// Click clicks into the middle of the one element that the selector matches, as a person does.
func (p *Page) Click(t testing.TB, selector string) {
	t.Helper()
	quoted, _ := json.Marshal(selector)
	var at struct {
		Count int
		X, Y  float64
		Hit   bool
	}
	p.Eval(t, `(() => {
		const found = document.querySelectorAll(`+string(quoted)+`);
		if (found.length != 1) return {Count: found.length};
		found[0].scrollIntoView({block: "center", inline: "center", behavior: "instant"});
		const box = found[0].getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
		return {Count: 1, X: x, Y: y, Hit: found[0].contains(document.elementFromPoint(x, y))};
	})()`, &at)
	if at.Count != 1 || !at.Hit {
		t.Fatalf("chromium: click %s: %d elements, want one that nothing hides (%v)", selector, at.Count, at.Hit)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.call(t, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// Screenshot is the whole page as PNG, however long it is.
func (p *Page) Screenshot(t testing.TB) []byte {
	t.Helper()
	var height int
	p.Eval(t, "Math.ceil(document.documentElement.getBoundingClientRect().height)", &height)
	whole := p.view
	whole.Height = max(height, 1)
	p.resize(t, whole)
	defer p.resize(t, p.view)
	// Two frames later what the new size changed is drawn.
	p.Eval(t, "document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))", nil)
	var shot struct{ Data string }
	p.call(t, "Page.captureScreenshot", map[string]any{"format": "png", "optimizeForSpeed": false}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	return png
}
