package agent

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/agent/page"
)

const (
	maxWatchers = 16                     // streams of the page at a time, by the port and by the socket each
	beatEvery   = 15 * time.Second       // between two signs of life; then everything is looked at again
	drawEvery   = 200 * time.Millisecond // between two drawings: what happens meanwhile is in the second
	watchTime   = 15 * time.Minute       // for one stream, by default; whoever still looks asks again
	retryTime   = "2000"                 // milliseconds until then
)

// board has the page's parts for all who watch, drawn once for all of them, and when something has happened. While nobody
// watches it does nothing.
type board struct {
	look func(context.Context, *app) page.App

	mu       sync.Mutex
	watchers map[chan struct{}]bool
	stale    map[*app]bool // what something has happened to since it was looked at
	unknown  bool          // what happened while nobody watched

	drawing sync.Mutex // held while there is one: whoever comes meanwhile waits for it
	shown   map[*app]page.App
	parts   []page.Part
	whole   time.Time // when all apps were looked at last
}

// news wakes those who watch. It never blocks.
func (b *board) news(one *app) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.watchers) == 0 {
		return
	}
	b.stale[one] = true
	b.wake()
}

// another wakes those who watch, since there is another configuration. It never blocks.
func (b *board) another() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unknown = true
	b.wake()
}

// wake wakes those who watch; mu is held.
func (b *board) wake() {
	for wake := range b.watchers {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// watch returns what is woken by news, until leave is called.
func (b *board) watch() (wake chan struct{}, leave func()) {
	wake = make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.watchers) == 0 {
		b.watchers, b.stale, b.unknown = map[chan struct{}]bool{}, map[*app]bool{}, true
	}
	b.watchers[wake] = true
	return wake, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, wake)
	}
}

// draw gives the parts as they are now: apps are looked at when something has happened to them, and all of them now and then.
func (b *board) draw(ctx context.Context, server page.Server, apps []*app) []page.Part {
	ctx = context.WithoutCancel(ctx) // it is for all, also when the one who asks goes away
	b.drawing.Lock()
	defer b.drawing.Unlock()
	b.mu.Lock()
	stale, all := b.stale, b.unknown || time.Since(b.whole) >= beatEvery-time.Second
	b.stale, b.unknown = map[*app]bool{}, false
	b.mu.Unlock()
	if len(stale) == 0 && !all {
		return b.parts
	}
	if all {
		b.shown, b.whole = map[*app]page.App{}, time.Now()
	}
	for _, one := range apps {
		if _, known := b.shown[one]; !known || stale[one] {
			b.shown[one] = b.look(ctx, one)
		}
		server.Apps = append(server.Apps, b.shown[one])
	}
	b.parts = server.Parts(time.Now())
	return b.parts
}

// look is what the page shows of the app.
func (a *app) look(ctx context.Context) page.App {
	shown := page.App{Detail: a.detail(ctx), Ready: a.ready(ctx), Environment: a.Environment, Health: a.Health}
	if d := a.receipt().Deployment; d != nil && d.Outcome == "" {
		shown.Running = d
	}
	return shown
}

// live answers with the parts of the page as they change, as server-sent events: what the caller has not seen, by the ID
// that it names, then whatever is another than it was. At most maxWatchers are served at a time.
func (a *Agent) live() http.HandlerFunc {
	tokens := make(chan struct{}, maxWatchers)
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		select {
		case tokens <- struct{}{}:
			defer func() { <-tokens }()
		default:
			h.Set("Retry-After", "15")
			text(w, http.StatusServiceUnavailable, "too many watch already")
			return
		}
		h.Set("Content-Type", "text/event-stream")
		h.Set("X-Accel-Buffering", "no") // a proxy in front must not hold events back
		h.Set("Connection", "close")     // the last event's deadline stays on the connection
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return
		}
		// The server watches for the peer's hanging up by reading: no deadline may end that.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		seen := r.Header.Get("Last-Event-ID")
		if seen == "" {
			seen = r.URL.Query().Get("since")
		}
		wake, leave := a.board.watch()
		defer leave()
		s := &watcher{w: w, patience: answerTime, seen: seen}
		draw := func() []page.Part { return a.board.draw(r.Context(), a.server(), a.apps) }
		if s.begin(draw()) != nil {
			return
		}
		beat := time.NewTicker(beatEvery)
		defer beat.Stop()
		end := time.NewTimer(a.watching)
		defer end.Stop()
		for {
			var err error
			if a.now.Load() != a {
				return // another configuration counts: whoever still looks asks again, if there still is a page
			}
			select {
			case <-r.Context().Done():
				return
			case <-end.C:
				return
			case <-beat.C:
				err = s.send(draw(), true)
			case <-wake:
				err = s.send(draw(), false)
				select {
				case <-r.Context().Done():
				case <-time.After(drawEvery):
				}
			}
			if err != nil { // too slow, or gone
				return
			}
		}
	}
}

// watcher is one stream.
type watcher struct {
	w        http.ResponseWriter
	patience time.Duration // for each thing that it is sent
	seen     string        // the ID of what the peer has
	sent     []string      // digests of the parts that it has
}

// begin sends what the peer lacks.
func (s *watcher) begin(parts []page.Part) error {
	if page.ID(parts) == s.seen {
		for _, p := range parts {
			s.sent = append(s.sent, p.Digest)
		}
	}
	if err := s.write("retry: " + retryTime + "\n\n"); err != nil {
		return err
	}
	return s.send(parts, true)
}

// send sends the parts that are other than those sent before, then that these are all, and when; without any it says so
// only with beat. The ID comes last: a peer that was cut off before it is sent the parts again.
func (s *watcher) send(parts []page.Part, beat bool) error {
	for i, p := range parts {
		if i < len(s.sent) && s.sent[i] == p.Digest {
			continue
		}
		beat = true
		if err := s.write("event: part\ndata: " + strings.ReplaceAll(p.HTML, "\n", "\ndata: ") + "\n\n"); err != nil {
			return err
		}
	}
	if !beat {
		return nil
	}
	s.sent = s.sent[:0]
	for _, p := range parts {
		s.sent = append(s.sent, p.Digest)
	}
	return s.write("event: now\nid: " + page.ID(parts) + "\ndata: " + time.Now().UTC().Format(time.RFC3339) + "\n\n")
}

// write gives the peer its time to take a text, and no more.
func (s *watcher) write(text string) error {
	control := http.NewResponseController(s.w)
	_ = control.SetWriteDeadline(time.Now().Add(s.patience))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return control.Flush()
}
