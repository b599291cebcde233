package agent

import (
	"sync"
	"time"

	"github.com/towline/towline/internal/release"
)

// bellPause is the least time between two looks that pings cause, unless the second brings what no ping brought before.
const bellPause = time.Second

// bell stands between the pings for an app and its engine. A body that was seen once can be sent again by anybody, any
// number of times; it is good for one look a second. A pointer with a seq above all before it was signed just now, and
// passes at once.
type bell struct {
	ring func(release.Verified)

	mu      sync.Mutex
	high    uint64    // seq
	last    time.Time // when it was rung
	waiting *release.Verified
}

// pull rings the bell with v, now or when the pause is over, then with the newest pointer that came meanwhile. followed is
// the seq that the app follows now.
func (b *bell) pull(v release.Verified, followed uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	fresh := false
	if v.Valid() && !v.Plain() {
		fresh = v.Pointer().Seq > max(b.high, followed)
		b.high = max(b.high, v.Pointer().Seq)
	}
	switch wait := bellPause - now.Sub(b.last); {
	case fresh, wait <= 0 && b.waiting == nil:
		b.last = now
		b.ring(v)
	case b.waiting != nil:
		if v.Valid() && (!b.waiting.Valid() || v.Plain() || v.Pointer().Seq >= b.waiting.Pointer().Seq) {
			b.waiting = &v
		}
	default:
		b.waiting = &v
		time.AfterFunc(wait, b.late)
	}
}

// late rings for those who came during the pause.
func (b *bell) late() {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := *b.waiting
	b.waiting, b.last = nil, time.Now()
	b.ring(v)
}
