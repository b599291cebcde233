package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// tellGap says that the pointer is behind the history: what an earlier run left that ended between the two, what another
// run is about to make good, and what a person leaves who restores an older version. Either way the next seq follows the highest.
func (r *run) tellGap(at position) {
	if there, top := at.pointer.Pointer(), at.top.Pointer(); top.Seq > there.Seq {
		r.Log.Line(Careful, fmt.Sprintf("the history has seq %d, release %s, and the pointer is at seq %d: an earlier run ended before it moved the pointer, another is about to, or somebody restored an older one",
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
		if there.Pointer().Seq == seq { // two with one seq, who would replace each other's for ever: the history decides
			if err := r.keeps(ctx, seq, file); err != nil {
				return none, nil, err
			}
		}
		if etag = tag; try > 0 {
			if err := pause(ctx, try); err != nil {
				return none, nil, err
			}
		}
	}
	if err := r.keeps(ctx, seq, file); err != nil {
		return none, nil, err
	}
	return r.above(ctx, seq)
}

// keeps is errOverwritten unless the history has our file at seq.
func (r *run) keeps(ctx context.Context, seq uint64, file []byte) error {
	_, data, err := r.history(ctx, seq)
	if err == nil && !bytes.Equal(data, file) {
		err = errOverwritten
	}
	return err
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
