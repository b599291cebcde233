package deploy

import (
	"context"
	"errors"
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
	d := e.Poll - e.Poll/5 + rand.N(2*e.Poll/5+1) // #nosec G404 -- jitter
	if !e.retryAt.IsZero() {
		d = min(d, max(time.Until(e.retryAt), 100*time.Millisecond))
	}
	return d
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
