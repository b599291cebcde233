package store

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// well is a store that does as it should.
func well(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) { p.pass(rw, r, nil, whole) }

// first misbehaves in the first times calls only.
func first(times int, f fault) fault {
	return func(p *proxy, n int, rw http.ResponseWriter, r *http.Request) {
		if n > times {
			well(p, n, rw, r)
			return
		}
		f(p, n, rw, r)
	}
}

func reset(_ *proxy, _ int, rw http.ResponseWriter, _ *http.Request) { drop(rw) }

// lost does what it is asked, and nobody hears of it.
func lost(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	if resp, err := p.forward(r, nil); err == nil {
		_ = resp.Body.Close()
	}
	drop(rw)
}

// stall never answers.
func stall(_ *proxy, _ int, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// half sends half of what is left of the body, and then does end. An answer that has none, as "not modified", is let be: its
// client is done with it, and what this one would wait for does not come.
func half(end func(http.ResponseWriter, *http.Request)) fault {
	return func(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
		p.pass(rw, r, nil, func(w io.Writer, resp *http.Response) {
			if resp.ContentLength <= 0 {
				return
			}
			_, _ = io.CopyN(w, resp.Body, resp.ContentLength/2)
			flush(w)
			end(rw, r)
		})
	}
}

// truncated ends in the middle, resetting in the middle with a reset, standing in the middle with nothing.
var (
	truncated = half(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	resetting = half(func(rw http.ResponseWriter, _ *http.Request) { drop(rw) })
	standing  = half(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
)

// drip sends the body in thirty pieces over three seconds.
func drip(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	p.pass(rw, r, nil, func(w io.Writer, resp *http.Response) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for piece := resp.ContentLength/30 + 1; ; {
			if _, err := io.CopyN(w, resp.Body, piece); err != nil {
				return
			}
			flush(w)
			<-tick.C
		}
	})
}

// dribble begins to send the body, some bytes a second, and never comes to the end.
func dribble(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	p.pass(rw, r, nil, func(w io.Writer, resp *http.Response) {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.CopyN(w, resp.Body, 10); err != nil {
				return
			}
			flush(w)
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
}

func status(code int, word string) fault {
	return func(_ *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(rw, code, word)
	}
}

var (
	busy   = status(http.StatusServiceUnavailable, "SlowDown")
	tooFew = status(http.StatusTooManyRequests, "TooManyRequests")
	denied = status(http.StatusForbidden, "AccessDenied")
	absent = status(http.StatusNotFound, "NoSuchKey")
)

// page is what a proxy, a portal or a broken balancer puts in a store's place.
func page(code int) fault {
	return func(_ *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		rw.WriteHeader(code)
		_, _ = io.WriteString(rw, "<html><body>Please sign in</body></html>")
	}
}

// empty is an object without a byte.
func empty(_ *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	rw.Header().Set("ETag", `"empty"`)
	rw.WriteHeader(http.StatusOK)
}

// blank is success, and nothing more.
func blank(_ *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	rw.WriteHeader(http.StatusOK)
}

const tenGiB = 10 << 30

// huge is an object of 10 GiB; endless does not say how long it is.
func huge(p *proxy, n int, rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Length", strconv.Itoa(tenGiB))
	endless(p, n, rw, r)
}

func endless(_ *proxy, _ int, rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("ETag", `"huge"`)
	rw.WriteHeader(http.StatusOK)
	piece := []byte(strings.Repeat("x", 1<<20))
	for sent := 0; sent < tenGiB; sent += len(piece) {
		if _, err := rw.Write(piece); err != nil {
			return
		}
	}
}

// deaf ignores conditions: what is conditional happens, and reads are whole.
func deaf(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	p.pass(rw, r, func(h http.Header) {
		for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
			h.Del(name)
		}
	}, whole)
}

// bare takes ETags in conditions without quotes only.
func bare(p *proxy, n int, rw http.ResponseWriter, r *http.Request) {
	tag := r.Header.Get("If-Match")
	if strings.HasPrefix(tag, `"`) {
		status(http.StatusPreconditionFailed, "PreconditionFailed")(p, n, rw, r)
		return
	}
	p.pass(rw, r, func(h http.Header) {
		if tag != "" {
			h.Set("If-Match", `"`+tag+`"`)
		}
	}, whole)
}

// object is one as the store showed it.
type object struct {
	header http.Header
	body   []byte
}

// stale shows the object as it was at the first call of keep, half of the time.
type stale struct {
	mu  sync.Mutex
	old object
	rng *rand.Rand
	n   [2]int // answers that were fresh, and stale
}

// keep takes a picture of the object, and shows it.
func (s *stale) keep(p *proxy, _ int, rw http.ResponseWriter, r *http.Request) {
	resp, err := p.forward(r, func(h http.Header) { h.Del("If-None-Match") })
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	s.mu.Lock()
	s.old = object{header: resp.Header, body: body}
	s.mu.Unlock()
	s.show(rw, r)
}

func (s *stale) show(rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, values := range s.old.header {
		rw.Header()[key] = values
	}
	if r.Header.Get("If-None-Match") == s.old.header.Get("ETag") {
		rw.Header().Del("Content-Length")
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	rw.WriteHeader(http.StatusOK)
	_, _ = rw.Write(s.old.body)
}

func (s *stale) ask(p *proxy, n int, rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	old := s.rng.IntN(2)
	s.n[old]++
	s.mu.Unlock()
	if old == 1 {
		s.show(rw, r)
		return
	}
	well(p, n, rw, r)
}

func (s *stale) shown() (fresh, old int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n[0], s.n[1]
}
