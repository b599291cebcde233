package artifact

import (
	"context"
	"sync"
)

// ring lends pieces of one block of memory in order. It makes no garbage, and no more is ever used.
type ring struct {
	mu    sync.Mutex
	cond  sync.Cond
	mem   []byte
	loans []*loan // in order; the first is still in use
}

// loan is a piece of a ring.
type loan struct {
	b          []byte
	begin, end int
	over       bool // given back, but one before it is not
}

// newRing makes a ring that has room for pieces of at most so many bytes.
func newRing(size int64) *ring {
	r := &ring{mem: make([]byte, size)}
	r.cond.L = &r.mu
	return r
}

// get lends n bytes, for which it waits; nil when ctx has ended.
func (r *ring) get(ctx context.Context, n int64) *loan {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ctx.Err() == nil {
		if begin := r.room(int(n)); begin >= 0 {
			l := &loan{begin: begin, end: begin + int(n)}
			l.b = r.mem[begin:l.end:l.end]
			r.loans = append(r.loans, l)
			return l
		}
		r.cond.Wait()
	}
	return nil
}

// room is where n bytes are free behind the last loan, or at the begin of the block if there are none; -1 if nowhere.
func (r *ring) room(n int) int {
	if len(r.loans) == 0 {
		return 0
	}
	first, last := r.loans[0], r.loans[len(r.loans)-1]
	switch {
	case last.begin < first.begin: // it has come round
		if n <= first.begin-last.end {
			return last.end
		}
	case n <= len(r.mem)-last.end:
		return last.end
	case n <= first.begin:
		return 0
	}
	return -1
}

// put takes a loan back.
func (r *ring) put(l *loan) {
	if l == nil {
		return
	}
	r.mu.Lock()
	l.over, l.b = true, nil
	for len(r.loans) > 0 && r.loans[0].over {
		r.loans[0] = nil
		r.loans = r.loans[1:]
	}
	r.cond.Broadcast()
	r.mu.Unlock()
}

// wake lets who waits look at the context.
func (r *ring) wake() {
	r.mu.Lock()
	r.cond.Broadcast()
	r.mu.Unlock()
}
