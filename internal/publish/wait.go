package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	heartbeatEvery = 30 * time.Second
	ringWithin     = 10 * time.Second // to deliver a ping that nobody waits for
	pollFrom       = time.Second      // receipts
	pollTo         = 3 * time.Second
	heldAfter      = 90 * time.Second // a receipt that says held for so long is believed
)

// watch is one server that was rung or is awaited. Its fields belong to the goroutine of follow.
type watch struct {
	Server
	label   string
	result  *ServerResult // nil until the last word
	last    string        // what was seen of it last
	told    time.Time     // of the last progress line
	held    string        // its receipt says so
	events  []deployment.Event
	heard   time.Time      // when the last of them came
	ping    string         // why its stream ended without a last word
	log     []string       // printed last
	printed map[string]int // deployment -> highest n printed
}

// word is what a server's goroutine has to tell.
type word struct {
	w      *watch
	event  *deployment.Event
	note   string        // a line for the log
	ping   string        // why its stream ended without a last word
	seen   string        // what it does now
	held   string        // why it is held
	result *ServerResult // the last word
	broken error         // why its stream ended without one; it was the only way to know
}

// follow rings the servers with the pointer's file and waits for all that are to be awaited.
func (r *run) follow(ctx context.Context, file []byte) error {
	watches := r.watches()
	switch {
	case len(watches) == 0:
		r.result.Outcome, r.result.Reason = deployment.Published, "no servers were named, so nothing was awaited"
		r.warn("promoted, and nobody is awaited: name the servers in servers or expect-servers to make green mean live")
		return nil
	case !r.Options.Wait:
		return r.ring(ctx, watches, file)
	}
	moved := time.Now()
	limited, cancel := context.WithTimeout(ctx, r.Options.WaitTimeout)
	defer cancel()
	align(watches)
	words := make(chan word)
	for _, w := range watches {
		go r.watch(limited, w, file, func(x word) {
			x.w = w
			select {
			case words <- x:
			case <-limited.Done():
			}
		})
	}
	r.phase("Ping and wait")
	r.hear(limited, watches, words, moved)
	r.conclude(watches, moved)
	if ctx.Err() != nil {
		return fmt.Errorf("wait for the servers: %w", context.Cause(ctx))
	}
	return nil
}

// watches are the servers to ring and those only to be awaited, each once.
func (r *run) watches() []*watch {
	var out []*watch
	named := map[string]bool{}
	for _, s := range r.Options.Servers {
		out = append(out, &watch{Server: s, label: s.label(), printed: map[string]int{}})
		named[s.Name] = true
		if strings.HasPrefix(s.URL, "http://") {
			r.warn(fmt.Sprintf("%s is pinged over http://: it sends no events that way", s.label()))
		}
	}
	for _, name := range r.Options.ExpectServers {
		if !named[name] {
			out = append(out, &watch{Server: Server{Name: name}, label: name, printed: map[string]int{}})
		}
	}
	return out
}

// align makes the labels equally wide, so that what the servers say stands in one column.
func align(watches []*watch) {
	width := 0
	for _, w := range watches {
		width = max(width, len([]rune(w.label)))
	}
	for _, w := range watches {
		w.label = fmt.Sprintf("%-*s", min(width, 40), w.label)
	}
}

// ring delivers the pings and leaves it at that.
func (r *run) ring(ctx context.Context, watches []*watch, file []byte) error {
	r.phase("Ping")
	type answer struct {
		w   *watch
		err error
	}
	answers := make(chan answer)
	n := 0
	for _, w := range watches {
		if w.URL == "" {
			continue
		}
		n++
		go func() {
			limited, cancel := context.WithTimeout(ctx, ringWithin)
			defer cancel()
			heard := false
			err := r.Ping.Ping(limited, w.URL, w.Pin, file, r.Options.PingToken, func(deployment.Event) { heard = true; cancel() })
			if heard {
				err = nil
			}
			answers <- answer{w, err}
		}()
	}
	for range n {
		a := <-answers
		if a.err != nil && !errors.Is(a.err, errors.ErrUnsupported) {
			r.Log.Quote(Careful, a.w.label, "not reached: "+release.CleanText(a.err.Error(), 300))
		} else {
			r.Log.Quote(Plain, a.w.label, "pinged")
		}
		r.result.Servers = append(r.result.Servers, ServerResult{Name: a.w.Name, URL: a.w.URL, Outcome: deployment.Published})
	}
	r.result.Outcome, r.result.Reason = deployment.Published, "wait: false, so no server was awaited"
	r.warn("promoted, and nobody was awaited (wait: false): green does not mean live")
	return ctx.Err()
}

// watch follows one server until its last word: by its stream, else by its receipt.
func (r *run) watch(ctx context.Context, w *watch, file []byte, tell func(word)) {
	seq, hash := r.result.Seq, r.result.Version
	if w.URL != "" {
		var last *deployment.Event
		err := r.Ping.Ping(ctx, w.URL, w.Pin, file, r.Options.PingToken, func(e deployment.Event) {
			e = cleanEvent(e)
			if e.Terminal() {
				last = &e
			}
			tell(word{event: &e})
		})
		switch {
		case err != nil:
		case last == nil:
			err = errors.New("its stream ended without a last word")
		default:
			s, ok := judgeEvent(*last, seq, hash)
			if ok {
				s = r.checked(ctx, s, seq)
				tell(word{result: &s})
				return
			}
			err = fmt.Errorf("its stream spoke of seq %d", last.Seq)
		}
		if w.Name == "" {
			tell(word{broken: err})
			return
		}
		failed := release.CleanText(err.Error(), 300)
		tell(word{note: failed + "; its receipt is awaited instead", seen: "its receipt is awaited", ping: failed})
	}
	r.poll(ctx, w.Name, seq, hash, tell)
}

// poll reads a server's receipt until it holds the last word.
func (r *run) poll(ctx context.Context, name string, seq uint64, hash string, tell func(word)) {
	var complaint, seen string
	var heldSince time.Time
	for wait := pollFrom; ; wait = min(wait+wait/4, pollTo) {
		c, err := r.receipt(ctx, name)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			s, ok := judgeReceipt(c, seq, hash)
			if c.Held == "" {
				heldSince = time.Time{}
			} else if heldSince.IsZero() {
				heldSince = time.Now()
			}
			if !ok && c.Held != "" && time.Since(heldSince) >= heldAfter {
				s.Outcome, s.Reason, ok = deployment.Held, c.Held, true
			}
			if d := c.Deployment; d != nil && d.Seq == seq {
				for i := range d.Events {
					tell(word{event: &d.Events[i]})
				}
			}
			if ok {
				s = r.checked(ctx, s, seq)
				tell(word{result: &s})
				return
			}
			if now := nowText(c); now != seen {
				seen = now
				if c.Status != "" {
					now += "; " + c.Status
				}
				tell(word{note: now, seen: now, held: c.Held})
			}
		case errors.Is(err, fs.ErrNotExist):
			// None yet, which is how a new server begins.
		case errors.Is(err, fs.ErrPermission):
			// Without leave to list the whole bucket, what is absent looks forbidden.
			if note := "no receipt yet, or no leave to read it"; complaint != note {
				complaint = note
				tell(word{note: note, seen: note})
			}
		case err.Error() != complaint:
			complaint = err.Error()
			tell(word{note: "receipt: " + release.CleanText(complaint, 300)})
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// hear prints what the servers tell until all have had their last word or ctx ends.
func (r *run) hear(ctx context.Context, watches []*watch, words <-chan word, moved time.Time) {
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	heard := false
	for open := len(watches); open > 0; {
		select {
		case x := <-words:
			w := x.w
			switch {
			case x.event != nil:
				if !heard && r.Heard != nil && x.event.Seq == r.result.Seq {
					r.Heard(ctx, strings.TrimSpace(w.label))
				}
				heard = heard || x.event.Seq == r.result.Seq
				r.tell(w, *x.event)
			case x.result != nil:
				x.result.TookMS = time.Since(moved).Milliseconds()
				w.result = x.result
				open--
				r.Log.Quote(ToneOf(w.result.Outcome), w.label, verdict(*w.result))
			case x.broken != nil:
				w.result = &ServerResult{Outcome: deployment.Failed, Unknown: true, Reason: release.CleanText(x.broken.Error(), 300), TookMS: time.Since(moved).Milliseconds()}
				if strings.HasPrefix(w.URL, "http://") && errors.Is(x.broken, errors.ErrUnsupported) {
					// Over http:// there is nothing to hear; with a name its receipt would be awaited.
					w.result.Outcome, w.result.Reason = deployment.Published, "pinged; without a name its receipt cannot be awaited"
				}
				open--
				r.Log.Quote(ToneOf(w.result.Outcome), w.label, verdict(*w.result))
			default:
				w.last, w.held, w.ping = x.seen, x.held, cmp.Or(x.ping, w.ping)
				r.Log.Quote(Faint, w.label, x.note)
			}
		case <-heartbeat.C:
			r.Log.Line(Faint, fmt.Sprintf("waiting, %s of %s: %s", Took(time.Since(moved)), Took(r.Options.WaitTimeout), pending(watches)))
		case <-ctx.Done():
			for _, w := range watches {
				if w.result != nil {
					continue
				}
				s := ServerResult{Outcome: deployment.TimedOut, TookMS: time.Since(moved).Milliseconds(),
					Reason: fmt.Sprintf("no last word within %s; last seen: %s", Took(r.Options.WaitTimeout), w.state())}
				if errors.Is(ctx.Err(), context.Canceled) { // by whoever called, not by our own limit
					s.Reason = "interrupted; last seen: " + w.state()
				}
				if w.ping != "" {
					s.Reason += "; ping: " + w.ping
				}
				if w.held != "" {
					s.Outcome, s.Reason = deployment.Held, w.held
				}
				w.result = &s
				r.Log.Quote(ToneOf(s.Outcome), w.label, verdict(s))
			}
			return
		}
	}
}

// conclude books the servers' results and makes one outcome of them.
func (r *run) conclude(watches []*watch, moved time.Time) {
	var outcomes []deployment.Outcome
	unproven := false
	for _, w := range watches {
		s := *w.result
		s.Name, s.URL = w.Name, w.URL
		s.Steps, s.Pulled = steps(w.events, moved.Sub(r.start).Milliseconds(), w.heard.Sub(moved).Milliseconds()), pulled(w.events)
		r.result.Servers = append(r.result.Servers, s)
		outcomes = append(outcomes, s.Outcome)
		unproven = unproven || s.Outcome == deployment.Published
	}
	worst := deployment.Worst(outcomes...)
	if unproven && (worst == "" || healthy(worst)) {
		worst = deployment.Published
		r.warn("a server pinged over http:// without a name cannot be awaited: green does not mean live there; write name=http://…")
	}
	if worst == deployment.Unchanged && (r.Options.Command == Promote || r.Options.Command == Rollback) {
		// Whoever goes to a release asks whether it is live, not whether anything was switched for it.
		worst, r.result.Reason = deployment.Deployed, "it was live already on every server"
	}
	r.result.Outcome = worst
	r.blame()
}

// blame takes the reason of the run from the first server that ended as the run did, where that is nothing good.
func (r *run) blame() {
	for _, s := range r.result.Servers {
		if s.Outcome == r.result.Outcome && !healthy(s.Outcome) {
			r.result.Reason = strings.TrimPrefix(s.Name+": "+s.Reason, ": ")
			return
		}
	}
}

// nowText is what a receipt says of the moment.
func nowText(r deployment.Receipt) string {
	if r.Live.Hash == "" {
		return fmt.Sprintf("nothing live, follows seq %d", r.Pointer.Seq)
	}
	return fmt.Sprintf("live %s (seq %d), follows seq %d", short(r.Live.Hash), r.Live.Seq, r.Pointer.Seq)
}
