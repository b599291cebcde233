package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/towline/towline/internal/release"
)

// position is where an environment stands.
type position struct {
	etag    string           // of the pointer; empty when there is none
	pointer release.Verified // not Valid when there is none
	top     release.Verified // the highest of pointer and history; not Valid when there is neither
}

// look reads the pointer and the newest entry of the history, and verifies both.
func (r *run) look(ctx context.Context) (position, error) {
	var at position
	key := release.PointerKey(r.Options.Prefix, r.Options.Environment)
	var err error
	at.pointer, _, at.etag, err = r.read(ctx, key)
	denied := errors.Is(err, fs.ErrPermission)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !denied {
		return at, err
	}
	seq, listed, listErr := r.highest(ctx, at.pointer.Pointer().Seq)
	if listErr != nil {
		return at, listErr
	}
	if denied && (listed || seq > 0) {
		return at, err // not the look of what is absent without leave to list: it is kept from us
	}
	if seq == 0 {
		return at, nil
	}
	// The entry is read even where the pointer has the same seq: the next one names the entry's digest.
	at.top, _, err = r.history(ctx, seq)
	if at.pointer.Pointer().Seq == seq && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		at.top, err = at.pointer, nil // a person removed it
	}
	return at, err
}

// read gets and verifies one pointer.
func (r *run) read(ctx context.Context, key string) (v release.Verified, file []byte, etag string, err error) {
	file, etag, err = r.Bucket.Get(ctx, key, maxObject)
	if err != nil {
		return v, nil, "", err
	}
	if v, err = r.Options.Trust.Pointer(file, r.want); err != nil {
		return v, nil, "", fmt.Errorf("%s: %w", key, err)
	}
	return v, file, etag, nil
}

// history reads and verifies one entry of the history.
func (r *run) history(ctx context.Context, seq uint64) (v release.Verified, file []byte, err error) {
	key := release.HistoryKey(r.Options.Prefix, r.Options.Environment, seq)
	v, file, _, err = r.read(ctx, key)
	if err == nil && v.Pointer().Seq != seq {
		return release.Verified{}, nil, fmt.Errorf("%s: %w: it holds seq %d", key, release.ErrVerify, v.Pointer().Seq)
	}
	return v, file, err
}

// highest is the highest seq in the history, at least from; listed is false where it had to be probed for.
func (r *run) highest(ctx context.Context, from uint64) (seq uint64, listed bool, err error) {
	keys, err := r.Bucket.List(ctx, release.HistoryPrefix(r.Options.Prefix, r.Options.Environment))
	if errors.Is(err, fs.ErrPermission) {
		r.Log.Debug("listing is denied: probing the history")
		seq, err = r.climb(ctx, from)
		return seq, false, err
	}
	for _, key := range keys {
		if seq, ok := release.ParseHistoryKey(r.Options.Prefix, r.Options.Environment, key); ok {
			from = max(from, seq)
		}
	}
	return from, true, err
}

// climb is highest without a listing: strides that double until nothing is there, or no number, then halves between.
func (r *run) climb(ctx context.Context, from uint64) (uint64, error) {
	low, stride := from, uint64(1)
	for ; stride <= (math.MaxUint64-low)/2; stride *= 2 {
		there, err := r.exists(ctx, low+stride)
		if err != nil {
			return 0, err
		}
		if !there {
			break
		}
		low += stride
	}
	for high := low + stride; high-low > 1; {
		middle := low + (high-low)/2
		there, err := r.exists(ctx, middle)
		if err != nil {
			return 0, err
		}
		if there {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

func (r *run) exists(ctx context.Context, seq uint64) (bool, error) {
	_, err := r.Size(ctx, release.HistoryKey(r.Options.Prefix, r.Options.Environment, seq))
	// Without leave to list, what is absent looks forbidden.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	return err == nil, err
}

// settled is look, for a deployment that must not follow a release that its commit is behind. An entry above the pointer may be
// of a publisher that is about to move the pointer, or of one that died, or a person has restored an older pointer: nothing in
// the bucket tells these apart but time.
func (r *run) settled(ctx context.Context) (position, error) {
	var waitedFor uint64
	for began := time.Now(); ; {
		at, err := r.look(ctx)
		if err != nil {
			return at, err
		}
		top := at.top.Pointer()
		if r.Options.Command != Deploy || top.Seq <= max(at.pointer.Pointer().Seq, r.gone) || r.relation(ctx, at.top, r.Release.Hash) != "behind" {
			return at, nil
		}
		if top.Seq != waitedFor {
			waitedFor, began = top.Seq, time.Now()
			r.Log.Line(Plain, fmt.Sprintf("the history has seq %d, release %s, which is newer than ours: waiting for its publisher to move the pointer", top.Seq, short(top.Release.Hash)))
		}
		if time.Since(began) >= patience {
			r.gone = top.Seq
			return at, nil
		}
		if err := wait(ctx, glance); err != nil {
			return at, err
		}
	}
}

// above gives the highest verified entry of the history above seq, not Valid when there is none.
func (r *run) above(ctx context.Context, seq uint64) (v release.Verified, file []byte, err error) {
	var none release.Verified
	top, err := r.climb(ctx, seq)
	// Publishers leave no gaps. What lies far above was put there to be searched for, and nobody would look at it.
	for try := 0; err == nil && top > seq && try < maxAttempts; top, try = top-1, try+1 {
		v, data, err := r.history(ctx, top)
		switch {
		case err == nil:
			return v, data, nil
		case errors.Is(err, release.ErrVerify):
			r.warn(release.CleanText(err.Error(), 300))
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
			return none, nil, err
		}
	}
	return none, nil, err
}
