package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/agent/page"
	"github.com/towline/towline/internal/deployment"
)

const watched = "listen: 127.0.0.1:0\nstatus_page: true\ntls: off"

// told is one server-sent event.
type told struct{ event, id, data string }

// viewer reads a stream of the page.
type viewer struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
}

// watch opens a stream by the port, as a browser does whose last ID is known.
func (r *running) watch(known string) *viewer {
	r.w.t.Helper()
	req, err := http.NewRequestWithContext(r.w.t.Context(), http.MethodGet, "http://"+r.Addr()+"/events?since="+known, nil)
	r.w.must(err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	r.w.must(err)
	r.w.t.Cleanup(func() { resp.Body.Close() })
	return &viewer{r.w.t, resp, bufio.NewReader(resp.Body)}
}

// next is the next event.
func (v *viewer) next() (told, error) {
	var e told
	var data []string
	for {
		line, err := v.in.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ": ")
		switch field {
		case "event":
			e.event = value
		case "id":
			e.id = value
		case "data":
			data = append(data, value)
		case "":
			if e.event == "" {
				continue // only how soon to come again
			}
			e.data = strings.Join(data, "\n")
			return e, nil
		}
	}
}

// until reads to the end of a burst that has the text in one of its parts.
func (v *viewer) until(text string) (parts []string, id string) {
	v.t.Helper()
	end := time.AfterFunc(20*time.Second, func() { v.resp.Body.Close() })
	defer end.Stop()
	found := text == ""
	for {
		e, err := v.next()
		if err != nil {
			v.t.Fatalf("waiting for %q: %v", text, err)
		}
		if e.event == "part" {
			parts = append(parts, e.data)
			found = found || strings.Contains(e.data, text)
		}
		if e.event == "now" && found {
			return parts, e.id
		}
	}
}

func TestWatching(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(watched, oneApp+"  blog:\n    dir: $srv/blog\n"))
	w.publish("web", hash("1"), "one")
	if got := r.call("/v1/apps/web/deploy", map[string]any{}, nil); got != http.StatusOK {
		t.Fatalf("deploy: got %d", got)
	}
	r.settled("web", hash("1"))

	v := r.watch("")
	if got := v.resp.Header.Get("Content-Type"); got != "text/event-stream" || v.resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s, %s", v.resp.Status, got)
	}
	parts, id := v.until("Change one")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], `<header id="head"`) || !strings.HasPrefix(parts[1], `<section id="app-blog"`) || !strings.HasPrefix(parts[2], `<section id="app-web"`) {
		t.Errorf("got %d parts, want the head and two apps: %.40q", len(parts), parts)
	}
	var whole string
	r.call("/", nil, &whole)
	for _, part := range parts[1:] {
		if !strings.Contains(whole, part) {
			t.Errorf("the page has not the part %.60s…", part)
		}
	}

	// Who has it all is told only that it is so; then of what happens, and of nothing else.
	again := r.watch(id)
	if parts, same := again.until(""); len(parts) > 0 || same != id {
		t.Errorf("with everything known: got %d parts and ID %s, want none and %s", len(parts), same, id)
	}
	if code := r.call("/v1/apps/blog/hold", map[string]any{"reason": "lunch"}, nil); code != http.StatusOK {
		t.Fatalf("hold: got %d", code)
	}
	for _, one := range []*viewer{v, again} {
		parts, _ := one.until("lunch")
		for _, part := range parts {
			if strings.HasPrefix(part, `<section id="app-web"`) {
				t.Error("an app that nothing happened to was sent")
			}
		}
	}
	w.publish("web", hash("2"), "two")
	r.call("/v1/apps/web/deploy", map[string]any{}, nil)
	for _, one := range []*viewer{v, again} {
		one.until("deployed " + hash("2")[:12])
	}

	// By the socket, whatever the port shows.
	resp, err := r.client.Get("http://agent/events?since=" + id)
	w.must(err)
	bySocket := &viewer{t, resp, bufio.NewReader(resp.Body)}
	bySocket.until("deployed " + hash("2")[:12])
	resp.Body.Close()

	// The agent's end is the stream's end.
	w.must(r.stop())
	if _, err := v.next(); err == nil {
		t.Error("the stream goes on without the agent")
	}
}

func TestWatchersAreLimited(t *testing.T) {
	w := newWorld(t)
	w.tune = func(a *Agent) { a.watching, a.patience = time.Second, 200*time.Millisecond }
	r := w.start(w.settings(watched, oneApp))
	var all []*viewer
	begun := time.Now()
	for range maxWatchers - 1 { // one connection is left of a peer's share, to ask with
		v := r.watch("")
		v.until("")
		all = append(all, v)
	}
	other := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).DialContext}}
	get := func() *http.Response {
		resp, err := other.Get("http://" + r.Addr() + "/events")
		w.must(err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	if last := get(); last.StatusCode != http.StatusOK {
		t.Errorf("the last one that there is room for: got %s", last.Status)
	}
	if more := get(); more.StatusCode != http.StatusServiceUnavailable || more.Header.Get("Retry-After") == "" {
		t.Errorf("one more: got %s, want 503", more.Status)
	}
	if code := r.call("/healthz", nil, nil); code != http.StatusOK {
		t.Errorf("beside them: got %d", code)
	}
	for _, v := range all { // and each comes to its end
		for err := error(nil); err == nil; {
			_, err = v.next()
		}
		if lasted := time.Since(begun); lasted < time.Second {
			t.Errorf("got a stream cut after %v, as a slow request is, want 1 s", lasted)
		}
	}
	if fresh := get(); fresh.StatusCode != http.StatusOK {
		t.Errorf("once they have ended: got %s", fresh.Status)
	}
}

// A page that somebody visits cannot command the agent whose socket they have led to a port of their own.
func TestNoCommandsFromBrowsers(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings("", oneApp))
	for _, header := range []string{"Origin", "Sec-Fetch-Site"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1/apps/web/hold", strings.NewReader("{}"))
		w.must(err)
		req.Header.Set(header, "null")
		resp, err := r.client.Do(req)
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("with %s: got %s, want 403", header, resp.Status)
		}
	}
}

// Nothing is looked at for the page while nobody looks at it, and once for all who do.
func TestNobodyWatches(t *testing.T) {
	var looks atomic.Int32
	one := &app{}
	b := &board{look: func(context.Context, *app) page.App { looks.Add(1); return page.App{} }}
	draw := func() { b.draw(t.Context(), page.Server{}, []*app{one}) }
	for range 100 {
		b.news(one)
	}
	if got := looks.Load(); got != 0 || b.stale != nil {
		t.Errorf("nobody watches: got %d looks", got)
	}
	var leaves []func()
	for range 5 {
		wake, leave := b.watch()
		leaves = append(leaves, leave)
		draw()
		b.news(one)
		select {
		case <-wake:
		default:
			t.Error("news does not wake who watches")
		}
		draw()
		draw()
	}
	if got := looks.Load(); got != 6 { // at first, and for each news
		t.Errorf("five watch and hear five times: got %d looks, want 6", got)
	}
	for _, leave := range leaves {
		leave()
	}
	b.news(one)
	if _, leave := b.watch(); leave != nil {
		draw()
		leave()
	}
	if got := looks.Load(); got != 7 {
		t.Errorf("somebody comes again: got %d looks, want 7", got)
	}
}

// recorded is an answer that is not sent anywhere.
type recorded struct {
	mu     sync.Mutex
	header http.Header
	text   strings.Builder
}

func (r *recorded) Header() http.Header { return r.header }
func (r *recorded) WriteHeader(int)     {}
func (r *recorded) Flush()              {}
func (r *recorded) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// counts is how often each event was sent.
func (r *recorded) counts() (parts, now int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), "event: part\n"), strings.Count(r.text.String(), "event: now\n")
}

// A stream gives a sign of life every 15 seconds, notices then what nobody told of, and ends after a quarter of an hour.
func TestSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{life: newLife(slog.New(slog.DiscardHandler)), apps: []*app{{}}}
		a.now.Store(a)
		var seen atomic.Value // of string
		seen.Store("2026-11-23T13:00:00Z")
		a.board.look = func(context.Context, *app) page.App {
			return page.App{Detail: deployment.Detail{Key: "web", Receipt: deployment.Receipt{Seen: seen.Load().(string)}}}
		}
		w, ended := &recorded{header: http.Header{}}, make(chan time.Time, 1)
		begun := time.Now()
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
			a.live()(w, req)
			ended <- time.Now()
		}()
		want := func(after time.Duration, parts, now int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if p, n := w.counts(); p != parts || n != now {
				t.Errorf("after %v: got %d parts and %d signs of life, want %d and %d", time.Since(begun), p, n, parts, now)
			}
		}
		want(0, 2, 1)
		want(14*time.Second, 2, 1)
		want(time.Second, 2, 2)
		seen.Store("2026-11-23T13:00:30Z")
		want(15*time.Second, 3, 3)
		for range 100 { // what is told all at once is drawn five times a second
			a.board.news(a.apps[0])
		}
		want(time.Second, 3, 3)
		if got := (<-ended).Sub(begun); got != watchTime {
			t.Errorf("ended after %v, want %v", got, watchTime)
		}
	})
}

// A peer that does not take what it is sent is dropped; nobody else waits for it.
func TestSlowWatcherIsDropped(t *testing.T) {
	here, there := net.Pipe() // it has no room of its own
	defer there.Close()
	served := make(chan error, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s := &watcher{w: w, patience: 50 * time.Millisecond}
		parts := []page.Part{{HTML: strings.Repeat("x", 1<<20), Digest: "1"}}
		served <- s.begin(parts)
	})}
	l := &oneConn{conn: here, done: make(chan struct{})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	_, err := fmt.Fprint(there, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-served:
		if err == nil {
			t.Error("got no error of a peer that takes nothing")
		}
	case <-time.After(10 * time.Second):
		t.Error("a peer that takes nothing is waited for")
	}
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, io.EOF
}
func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
