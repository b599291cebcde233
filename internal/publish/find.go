package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/towline/towline/internal/release"
)

// minPrefix is the length from which the beginning of a version stands for the whole.
const minPrefix = 7

// find gives the release that the version of promote or rollback names, verified.
func (r *run) find(ctx context.Context, at position) (release.Manifest, error) {
	wanted := r.Options.Version
	if wanted == "previous" {
		p, err := r.previous(ctx, at)
		if err != nil {
			return release.Manifest{}, err
		}
		return r.vouched(ctx, at, release.ManifestKey(r.Options.Prefix, p.Release.Hash, p.Artifact.SHA256))
	}
	keys, err := r.Bucket.List(ctx, release.ReleasesPrefix(r.Options.Prefix)+wanted)
	if err != nil {
		return release.Manifest{}, err
	}
	byVersion := map[string][]string{}
	for _, key := range keys {
		if version, _, ok := release.ParseManifestKey(r.Options.Prefix, key); ok && strings.HasPrefix(version, wanted) {
			byVersion[version] = append(byVersion[version], key)
		}
	}
	found := byVersion[wanted]
	if found == nil && len(wanted) >= minPrefix {
		var versions []string
		for version := range byVersion {
			versions = append(versions, version)
		}
		slices.Sort(versions)
		if n := len(versions); n > 1 {
			return release.Manifest{}, fmt.Errorf("%w: %q begins %d of them: %s", ErrAmbiguous, wanted, n, strings.Join(versions[:min(n, 20)], ", "))
		}
		if len(versions) == 1 {
			found = byVersion[versions[0]]
		}
	}
	if found == nil {
		text := fmt.Sprintf("version %q in %s", wanted, release.ReleasesPrefix(r.Options.Prefix))
		if len(byVersion) > 0 {
			text += fmt.Sprintf(" (a prefix needs %d characters)", minPrefix)
		}
		return release.Manifest{}, fmt.Errorf("%w: %s", ErrUnknownRelease, text)
	}
	// One version packed several times: the newest is meant, of those that were signed by keys that we trust.
	var newest release.Manifest
	var refused error
	for _, key := range found {
		m, err := r.vouched(ctx, at, key)
		if errors.Is(err, release.ErrVerify) {
			refused = err
			continue
		}
		if err != nil {
			return release.Manifest{}, err
		}
		if m.Created > newest.Created {
			newest = m
		}
	}
	if newest.Created == "" {
		return newest, refused
	}
	return newest, nil
}

// vouched reads one release object. Release objects are shared by all environments and signed by whoever made the
// first: where the key is not one of ours, the newest entry of our own history that names the same release stands for it.
func (r *run) vouched(ctx context.Context, at position, key string) (release.Manifest, error) {
	m, err := r.manifest(ctx, key)
	if !errors.Is(err, release.ErrVerify) {
		return m, err
	}
	for p, readErr := range r.entries(ctx, at.top.Pointer().Seq) {
		if readErr != nil {
			break
		}
		if release.ManifestKey(r.Options.Prefix, p.Release.Hash, p.Artifact.SHA256) == key && r.vouchedAt(ctx, p.Seq) {
			r.Log.Debug(release.CleanText(err.Error(), 300) + "; history names the same release")
			return release.Manifest{Type: release.ManifestType, App: p.App, Release: p.Release, Artifact: p.Artifact, Run: p.Run, Created: p.Created}, nil
		}
	}
	return m, err
}

// vouchedAt reports whether as many keys as for a release object have signed the entry of the history.
func (r *run) vouchedAt(ctx context.Context, seq uint64) bool {
	_, file, err := r.history(ctx, seq)
	if err != nil {
		return false
	}
	v, err := r.Options.Vouch.Pointer(file, r.want)
	return err == nil && v.Pointer().Seq == seq
}

// previous is the release that was the pointer before the current release first became it. So going back twice goes
// back two releases, and never forth again to the one that was left.
func (r *run) previous(ctx context.Context, at position) (release.Pointer, error) {
	now := at.pointer.Pointer()
	if now.Seq == 0 {
		return release.Pointer{}, fmt.Errorf("%w: %s has no pointer with a history, so there is nothing before it", ErrUnknownRelease, r.Options.Environment)
	}
	var before release.Pointer
	var others []string // the newest versions that the pointer has named, but for the present one
	inside := true      // the entry above this one names the current release
	for p, err := range r.entries(ctx, now.Seq) {
		if errors.Is(err, release.ErrVerify) && before.Seq > 0 {
			break // written before the keys were replaced; what it says does not count
		}
		if err != nil {
			return before, err
		}
		if v := short(p.Release.Hash); p.Release.Hash != now.Release.Hash && len(others) < 5 && !slices.Contains(others, v) {
			others = append(others, v)
		}
		switch {
		case p.Release.Hash == now.Release.Hash && p.Artifact.SHA256 == now.Artifact.SHA256:
			inside, before = true, release.Pointer{}
		case inside:
			inside, before = false, p
		}
	}
	if before.Seq == 0 {
		text := fmt.Sprintf("%s was the first release of %s, so there is nothing before it", short(now.Release.Hash), r.Options.Environment)
		if len(others) > 0 {
			text += "; name the version to go to: " + strings.Join(others, ", ")
		}
		return before, fmt.Errorf("%w: %s", ErrUnknownRelease, text)
	}
	return before, nil
}

const (
	readers = 32   // objects that are read at once where many are wanted
	maxGap  = 1000 // entries of the history in a row that a person may have deleted
)

// entries are the pointers of the history from seq down, those that are there, to the first gap of more than maxGap. An
// entry that cannot be verified, or read, is an error in its place.
func (r *run) entries(ctx context.Context, seq uint64) iter.Seq2[release.Pointer, error] {
	type entry struct {
		pointer release.Pointer
		err     error
	}
	return func(yield func(release.Pointer, error) bool) {
		// The first alone: who looks for what is new needs no more. Then more at a time.
		gap := 0
		for n := uint64(1); seq > 0 && gap <= maxGap; n = min(2*n, readers) {
			n = min(n, seq)
			batch := make([]entry, n)
			atOnce(len(batch), func(i int) {
				v, _, err := r.history(ctx, seq-uint64(i)) // #nosec G115 -- an index
				batch[i] = entry{v.Pointer(), err}
			})
			seq -= n
			for _, e := range batch {
				if errors.Is(e.err, fs.ErrNotExist) {
					gap++
					continue
				}
				if gap = 0; !yield(e.pointer, e.err) {
					return
				}
			}
		}
	}
}

// atOnce calls f with 0 to n-1, at most readers of them at a time, and returns when all have.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	free := make(chan struct{}, readers)
	for i := range n {
		free <- struct{}{}
		wg.Go(func() {
			f(i)
			<-free
		})
	}
	wg.Wait()
}
