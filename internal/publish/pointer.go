package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"time"

	"github.com/towline/towline/internal/release"
)

const (
	maxObject   = 1 << 20 // bytes read of any object; package release has tighter caps, and better words for them
	maxAgain    = 5       // new seqs for a commit that descends from the one that won
	maxAttempts = 64      // lost races for a seq or a pointer

	settle = 2 * time.Second // until what others wrote at the same moment is seen, in stores without conditions

	patience = 10 * time.Second // for a publisher between its entry in the history and the pointer; then it counts as gone
	glance   = 250 * time.Millisecond
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

// relation is how our commit stands to another's: ahead, behind, identical, diverged; empty when that is unknown.
func (r *run) relation(ctx context.Context, other release.Verified, ours string) string {
	base := other.Pointer().Release.Hash
	if r.Compare == nil || !release.IsCommit(base) || !release.IsCommit(ours) {
		return ""
	}
	if status, known := r.compared[base+ours]; known { // commits never change
		return status
	}
	status, err := r.Compare(ctx, base, ours)
	if err != nil {
		r.Log.Debug("compare: " + release.CleanText(err.Error(), 300))
		return ""
	}
	r.compared[base+ours] = status
	return status
}

// behind reports whether a deployment of our commit would go back behind the pointer's.
func (r *run) behind(ctx context.Context, at position) bool {
	return r.Options.Command == Deploy && r.relation(ctx, at.pointer, r.Release.Hash) == "behind"
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

// promote gives draft a seq and makes it the pointer. When a newer one won instead, beaten is that one.
func (r *run) promote(ctx context.Context, draft release.Pointer) (file []byte, beaten release.Verified, err error) {
	var none release.Verified
	again := 0
	probed := false
	for try := range maxAttempts {
		at, err := r.settled(ctx)
		if err != nil {
			return nil, none, err
		}
		if try == 0 {
			r.tellGap(at)
		}
		if r.behind(ctx, at) {
			return nil, at.pointer, nil
		}
		p, file, err := r.seal(draft, at)
		if err != nil {
			return nil, none, err
		}
		err = r.Bucket.Create(ctx, release.HistoryKey(r.Options.Prefix, r.Options.Environment, p.Seq), file, jsonType)
		if errors.Is(err, fs.ErrExist) {
			r.Log.Debug(fmt.Sprintf("seq %d was taken by another publisher", p.Seq))
			if err := pause(ctx, try); err != nil {
				return nil, none, err
			}
			continue
		}
		if err != nil {
			return nil, none, err
		}
		r.Log.Line(Plain, fmt.Sprintf("history: seq %d", p.Seq))
		if !probed {
			probed = true
			r.probe(ctx, p.Seq, file)
		}
		if again == 0 {
			r.result.Previous = at.pointer.Pointer().Release.Hash
		}
		r.result.Seq = p.Seq
		winner, winnerFile, err := r.point(ctx, p.Seq, file, at.etag)
		switch {
		case errors.Is(err, errOverwritten):
			r.warn(fmt.Sprintf("another publisher took seq %d at the same moment and the store let it", p.Seq))
			continue
		case err != nil:
			return nil, none, err
		case !winner.Valid():
			r.Log.Line(Plain, fmt.Sprintf("%s now points to %s", release.PointerKey(r.Options.Prefix, r.Options.Environment), short(p.Release.Hash)))
			return file, none, nil
		}
		if again < maxAgain && r.relation(ctx, winner, p.Release.Hash) == "ahead" {
			again++
			continue
		}
		return nil, winner, r.restore(ctx, winner, winnerFile)
	}
	return nil, none, fmt.Errorf("promote: other publishers were faster %d times: is something writing pointers in a loop?", maxAttempts)
}

// tellGap says that the pointer is behind the history: what an earlier run left that ended between the two, and what a person
// leaves who restores an older version. Either way the next seq follows the highest.
func (r *run) tellGap(at position) {
	if there, top := at.pointer.Pointer(), at.top.Pointer(); top.Seq > there.Seq {
		r.Log.Line(Careful, fmt.Sprintf("the history has seq %d, release %s, and the pointer is at seq %d: an earlier run ended before it moved the pointer, or somebody restored an older one",
			top.Seq, short(top.Release.Hash), there.Seq))
	}
}

// probe learns whether the store minds that an object is there already: it creates our entry of the history once more,
// with the same bytes.
func (r *run) probe(ctx context.Context, seq uint64, file []byte) {
	err := r.Bucket.Create(ctx, release.HistoryKey(r.Options.Prefix, r.Options.Environment, seq), file, jsonType)
	switch {
	case err == nil:
		r.loose = true
		r.warn("this store lets an object be created twice, so that two publishers at once may overwrite each other: let only one run at a time, by a concurrency: group of the workflow")
	case !errors.Is(err, fs.ErrExist):
		r.Log.Debug("probe for create-only: " + release.CleanText(err.Error(), 300))
	}
}

// seal makes the signed file of the pointer that follows at.
func (r *run) seal(p release.Pointer, at position) (release.Pointer, []byte, error) {
	now := time.Now()
	p.Type, p.MinAgent = release.PointerType, release.MinAgent
	p.App, p.Environment = r.Options.App, r.Options.Environment
	p.Seq = at.top.Pointer().Seq + 1
	if p.Seq > 1 {
		p.Prev = at.top.Digest()
	}
	p.Reason, p.Run = r.Options.Reason, r.Run
	p.Created, p.Expires = stamp(now), stamp(now.Add(r.Options.ExpiresIn))
	file, err := release.SignPointer(p, r.Options.Keys...)
	return p, file, err
}

// errOverwritten says that our entry of the history is not ours any more: the store does not honour create-only.
var errOverwritten = errors.New("history was overwritten")

// point writes the pointer over the one with etag and reads everything back. When a newer one is there, it is the
// winner; a lower one there is a person's restore, or a slower publisher, and is replaced.
func (r *run) point(ctx context.Context, seq uint64, file []byte, etag string) (winner release.Verified, winnerFile []byte, err error) {
	var none release.Verified
	key := release.PointerKey(r.Options.Prefix, r.Options.Environment)
	for try := 0; ; try++ {
		if try == maxAttempts {
			return none, nil, fmt.Errorf("replace %s: it changed %d times meanwhile", key, try)
		}
		if _, err := r.Bucket.Replace(ctx, key, file, etag); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return none, nil, err
		}
		if r.loose {
			if err := wait(ctx, settle); err != nil {
				return none, nil, err
			}
		}
		there, data, tag, err := r.read(ctx, key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return none, nil, err
		}
		if bytes.Equal(data, file) {
			break
		}
		if there.Pointer().Seq > seq {
			return there, data, nil
		}
		if etag = tag; try > 0 {
			if err := pause(ctx, try); err != nil {
				return none, nil, err
			}
		}
	}
	_, data, err := r.history(ctx, seq)
	if err != nil {
		return none, nil, err
	}
	if !bytes.Equal(data, file) {
		return none, nil, errOverwritten
	}
	return r.above(ctx, seq)
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

// restore makes the winner the pointer, unless it or a newer one is that already. A store may mind no ETag, and so let this be
// written over what came meanwhile: whoever wrote the pointer looks for a newer entry afterwards, and puts that there.
func (r *run) restore(ctx context.Context, winner release.Verified, file []byte) error {
	key := release.PointerKey(r.Options.Prefix, r.Options.Environment)
	for try := range maxAttempts {
		there, _, etag, err := r.read(ctx, key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if there.Pointer().Seq >= winner.Pointer().Seq {
			return nil
		}
		_, err = r.Bucket.Replace(ctx, key, file, etag)
		switch {
		case err == nil:
			newer, newerFile, err := r.above(ctx, winner.Pointer().Seq)
			if err != nil || !newer.Valid() {
				return err
			}
			winner, file = newer, newerFile
		case !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
	return nil // somebody else is moving it all the time: the newest of them wins
}

// pause lets another publisher get ahead: a random time that grows with the attempts, at most a second.
func pause(ctx context.Context, try int) error {
	return wait(ctx, rand.N(min(time.Second, time.Duration(try+1)*20*time.Millisecond))) // #nosec G404 -- jitter
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
