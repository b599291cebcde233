package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/towline/towline/internal/release"
)

// pause is how long to wait for the next look: the interval give or take a fifth, after errors a random time up to a
// ceiling that doubles to five minutes.
func (e *Engine) pause(err error) time.Duration {
	if e.state.Seen.Looks > 0 {
		return min(e.Poll, staleAfter/(staleLooks-1))
	}
	if err != nil && !errors.Is(err, release.ErrVerify) && !absent(err) {
		e.errs++
		ceiling := min(e.Poll<<min(e.errs, 10), 5*time.Minute)
		return e.Poll/10 + rand.N(max(ceiling, 1)) // #nosec G404 -- jitter
	}
	e.errs = 0
	d := e.Poll - e.Poll/5 + rand.N(2*e.Poll/5+1)      // #nosec G404 -- jitter
	if at := e.retry(); time.Since(at) < time.Second { // what was due before that has been had, or waits for a hold to end
		d = min(d, max(time.Until(at), 100*time.Millisecond))
	}
	return d
}

// hurryAfter is the least time between two tries of a deployment that pings cause. Anybody can send a ping again.
const hurryAfter = 5 * time.Second

// retryLater sets when a deployment that failed through no fault of the release is tried again. A ping brings that forward
// only where nothing was restarted: the app is not to be restarted at a stranger's pace.
func (e *Engine) retryLater(touched bool) {
	e.retries++
	now := time.Now()
	e.retryAt = now.Add(min(30*time.Second<<min(e.retries-1, 4), 5*time.Minute))
	e.hurryAt = now.Add(hurryAfter)
	if touched {
		e.hurryAt = e.retryAt
	}
	e.mu.Lock()
	e.hurry = false // a ping that came before has had its try
	e.mu.Unlock()
}

// retry is when the deployment that failed may be tried again.
func (e *Engine) retry() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hurry && e.hurryAt.Before(e.retryAt) {
		return e.hurryAt
	}
	return e.retryAt
}

// clearRetry lets a failed deployment be tried again at once.
func (e *Engine) clearRetry() { e.retryAt, e.retries = time.Time{}, 0 }

// unread says why the pointer cannot be followed, and since when it cannot be read. The line stays the same while the reason
// does, and is logged once.
func (e *Engine) unread(err error, now time.Time) {
	known := errors.Is(err, fs.ErrNotExist) || errors.Is(err, release.ErrVerify)
	switch {
	case known:
		e.away = time.Time{}
	case e.away.IsZero():
		e.away = now
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.say("nothing is published yet: " + err.Error())
	case known:
		e.say("refused: " + err.Error())
	default:
		e.say(fmt.Sprintf("cannot read the pointer: %v (since %s)", err, e.away.UTC().Format(time.RFC3339)))
	}
}

// absent reports errors that are normal states of a bucket: no pointer yet, or none that may be read.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// look reads the pointer, or takes the newest one that came by ping if that is ahead.
func (e *Engine) look(ctx context.Context) (release.Verified, time.Time, error) {
	l, err := e.Source.Look(ctx, e.etag)
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		e.etag, e.last, e.lastMod = l.ETag, l.Pointer, l.Modified
		e.looked = now
	case errors.Is(err, ErrNotModified):
		e.looked = now
	}
	if o := e.offered; o.Valid() {
		switch {
		case o.Pointer().Seq <= e.state.HighSeq:
			e.offered = release.Verified{}
		case !e.last.Valid() || o.Pointer().Seq > e.last.Pointer().Seq:
			return o, time.Time{}, nil
		}
	}
	if err != nil && !errors.Is(err, ErrNotModified) {
		return release.Verified{}, time.Time{}, err
	}
	if !e.last.Valid() {
		return release.Verified{}, time.Time{}, errors.New("the store says not modified of a pointer that was never read")
	}
	return e.last, e.lastMod, nil
}
