package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// maxCandidates bounds the release objects that Releases reads.
const maxCandidates = 2000

// Releases lists the newest releases of the environment, at most limit: those whose pointer was moved to them, by
// falling seq, and between them, by the time they were made, those that only lie in the bucket, with seq 0.
// Options.Trust decides what is shown; what it does not vouch for is left out, with one warning.
func Releases(ctx context.Context, p Parts, limit int) ([]deployment.Release, error) {
	o := p.Options
	r := &run{Parts: p, want: release.Want{App: o.App, Environment: o.Environment, Prefix: o.Prefix}, result: &Result{}}
	if err := p.Bucket.Check(ctx); err != nil {
		return nil, err
	}
	at, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	refused := 0
	moved, seen, err := r.moved(ctx, at, limit, &refused)
	if err != nil {
		return nil, err
	}
	waiting, err := r.waiting(ctx, seen, &refused)
	if err != nil && !errors.Is(err, fs.ErrPermission) { // without leave to list, the history has to do
		return nil, err
	}
	if refused > 0 {
		r.warn(fmt.Sprintf("left out %d that could not be verified: signed by keys that are not trusted here", refused))
	}
	var out []deployment.Release
	for len(out) < limit && len(moved)+len(waiting) > 0 {
		from := &moved
		if len(moved) == 0 || len(waiting) > 0 && waiting[0].created > moved[0].created {
			from = &waiting
		}
		out = append(out, (*from)[0].Release)
		*from = (*from)[1:]
	}
	return out, nil
}

// made is a release with the time of its pointer, or of its release object.
type made struct {
	deployment.Release
	created string
}

// moved are the releases that history names, at most limit, and the keys of their release objects.
func (r *run) moved(ctx context.Context, at position, limit int, refused *int) (out []made, seen map[string]bool, err error) {
	live := at.pointer.Pointer()
	seen = map[string]bool{}
	for e, err := range r.entries(ctx, at.top.Pointer().Seq) {
		if len(out) == limit {
			break
		}
		if errors.Is(err, release.ErrVerify) {
			*refused++
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		seen[release.ManifestKey(r.Options.Prefix, e.Release.Hash, e.Artifact.SHA256)] = true
		out = append(out, made{deployment.Release{Seq: e.Seq, Hash: e.Release.Hash, Msg: e.Release.Msg, Date: e.Release.Date,
			SHA256: e.Artifact.SHA256, Live: e.Seq == live.Seq}, e.Created})
	}
	return out, seen, nil
}

// waiting are the releases in the bucket that seen does not have, the newest first.
func (r *run) waiting(ctx context.Context, seen map[string]bool, refused *int) ([]made, error) {
	keys, err := r.Bucket.List(ctx, release.ReleasesPrefix(r.Options.Prefix))
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool {
		_, _, ok := release.ParseManifestKey(r.Options.Prefix, key)
		return !ok || seen[key]
	})
	if n := len(keys); n > maxCandidates {
		r.warn(fmt.Sprintf("%d releases lie in the bucket, %d of them were looked at", n, maxCandidates))
		keys = keys[:maxCandidates]
	}
	manifests, errs := make([]release.Manifest, len(keys)), make([]error, len(keys))
	atOnce(len(keys), func(i int) { manifests[i], errs[i] = r.manifest(ctx, keys[i]) })
	var out []made
	for i, m := range manifests {
		switch err := errs[i]; {
		case errors.Is(err, release.ErrVerify):
			*refused++
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		case err != nil:
			return nil, err
		default:
			out = append(out, made{deployment.Release{Hash: m.Release.Hash, Msg: m.Release.Msg, Date: m.Release.Date, SHA256: m.Artifact.SHA256}, m.Created})
		}
	}
	slices.SortStableFunc(out, func(a, b made) int {
		return cmp.Or(cmp.Compare(b.created, a.created), cmp.Compare(b.Date, a.Date))
	})
	return out, nil
}
