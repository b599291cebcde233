package artifact

import (
	"context"
	"math/bits"
	"sync"
)

// buffers lends buffers for frames, up to a number of bytes in all. Frames are served in their order, since they are used
// up in that order: a frame that has to wait lets none behind it pass. A frame that is due now is served whatever is lent, so
// that what was lent to frames behind it cannot hold it up.
type buffers struct {
	mu     sync.Mutex
	cond   sync.Cond
	limit  int64
	lent   int64
	kept   int64 // in free
	free   [24][][]byte
	due    int              // frames before this one are due
	queued map[int]struct{} // frames that wait
}

func newBuffers(limit int64) *buffers {
	b := &buffers{limit: limit, queued: map[int]struct{}{}}
	b.cond.L = &b.mu
	return b
}

// class is the power of two that a buffer of n bytes is made as.
func class(n int64) int { return max(bits.Len64(uint64(max(n-1, 0))), 16) } // #nosec G115 -- not negative

// get lends a buffer of n bytes to a frame; nil when ctx has ended.
func (b *buffers) get(ctx context.Context, frame int, n int64) []byte {
	k := class(n)
	size := int64(1) << k
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queued[frame] = struct{}{}
	defer delete(b.queued, frame)
	for !(b.lent == 0 || frame < b.due || b.lent+size <= b.limit && b.first(frame)) {
		if ctx.Err() != nil {
			return nil
		}
		b.cond.Wait()
	}
	b.lent += size
	b.cond.Broadcast() // there is another first
	if last := len(b.free[k]) - 1; last >= 0 {
		buf := b.free[k][last]
		b.free[k] = b.free[k][:last]
		b.kept -= size
		return buf[:n]
	}
	for i := range b.free { // others must go for it
		for b.kept > 0 && b.lent+b.kept > b.limit && len(b.free[i]) > 0 {
			b.free[i] = b.free[i][:len(b.free[i])-1]
			b.kept -= 1 << i
		}
	}
	return make([]byte, n, size)
}

func (b *buffers) first(frame int) bool {
	for other := range b.queued {
		if other < frame {
			return false
		}
	}
	return true
}

// put takes a buffer back.
func (b *buffers) put(buf []byte) {
	if buf == nil {
		return
	}
	k := class(int64(cap(buf)))
	b.mu.Lock()
	b.lent -= 1 << k
	if b.lent+b.kept+1<<k <= b.limit {
		b.free[k] = append(b.free[k], buf)
		b.kept += 1 << k
	}
	b.cond.Broadcast()
	b.mu.Unlock()
}

// hasten says that frames before this one are due.
func (b *buffers) hasten(due int) {
	b.mu.Lock()
	b.due = max(b.due, due)
	b.cond.Broadcast()
	b.mu.Unlock()
}

// wake lets all who wait look at their context.
func (b *buffers) wake() {
	b.mu.Lock()
	b.cond.Broadcast()
	b.mu.Unlock()
}
