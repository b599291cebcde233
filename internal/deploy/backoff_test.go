package deploy

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counting is a source that counts the looks.
type counting struct {
	Source
	looks *atomic.Int64
}

func (c counting) Look(ctx context.Context, etag string) (Look, error) {
	c.looks.Add(1)
	return c.Source.Look(ctx, etag)
}

// A store that is down for hours is asked ever more rarely, at random, and at once when somebody rings; the app runs on, and
// the status says why and since when nothing was read.
func TestStoreDownForHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		r := newRig(t, func(o *Options) { o.Source = counting{o.Source, &looks} })
		r.publish(1, "aaaaaaa")
		r.once("deployed")
		seen := r.engine.Receipt().Seen
		r.mu.Lock()
		r.gone = errors.New("get object: connection refused")
		r.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()

		gaps, longest, last := map[time.Duration]bool{}, time.Duration(0), time.Now()
		for end := time.Now().Add(6 * time.Hour); time.Now().Before(end); {
			before := looks.Load()
			time.Sleep(time.Second)
			synctest.Wait()
			if looks.Load() == before {
				continue
			}
			gap := time.Since(last)
			gaps[gap], longest, last = true, max(longest, gap), time.Now()
		}
		got := looks.Load()
		// Half of five minutes on the average, from the fifth look on: 150 s and the tenth of the interval.
		if got < 100 || got > 220 {
			t.Errorf("in six hours: got %d looks, want 100 to 220", got)
		}
		if longest < 4*time.Minute || longest > 5*time.Minute+5*time.Second || len(gaps) < 50 {
			t.Errorf("got %d different gaps, the longest %v, want at least 50 and five minutes at most", len(gaps), longest)
		}
		t.Logf("%d looks in six hours, the longest gap %v", got, longest)
		now := r.engine.Receipt()
		if !strings.HasPrefix(now.Status, "cannot read the pointer: ") || now.Seen != seen {
			t.Errorf("got status %q, read last %q, want why, and %q", now.Status, now.Seen, seen)
		}
		r.live("aaaaaaa")
		if len(r.restarts) != 1 {
			t.Errorf("got restarts %v, want the first alone", r.restarts)
		}
		r.publish(2, "bbbbbbb")
		begun := time.Now()
		r.engine.Wake()
		synctest.Wait()
		r.live("bbbbbbb")
		if took := time.Since(begun); took != 0 {
			t.Errorf("pinged: live after %v, want at once", took)
		}
		cancel()
		<-done
	})
}
