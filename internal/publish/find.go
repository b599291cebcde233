package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
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
		return r.manifest(ctx, release.ManifestKey(r.Options.Prefix, p.Release.Hash, p.Artifact.SHA256))
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
	// One version packed several times: the newest is meant.
	var newest release.Manifest
	for _, key := range found {
		m, err := r.manifest(ctx, key)
		if err != nil {
			return release.Manifest{}, err
		}
		if m.Created > newest.Created {
			newest = m
		}
	}
	return newest, nil
}

// previous is the release that was the pointer before the current release first became it. So going back twice goes
// back two releases, and never forth again to the one that was left.
func (r *run) previous(ctx context.Context, at position) (release.Pointer, error) {
	now := at.pointer.Pointer()
	if now.Seq == 0 {
		return release.Pointer{}, fmt.Errorf("%w: %s has no pointer with a history, so there is nothing before it", ErrUnknownRelease, r.Options.Environment)
	}
	// No entry can name the current release that is older than its release object; an hour is left for clocks.
	var made time.Time
	if m, err := r.manifest(ctx, release.ManifestKey(r.Options.Prefix, now.Release.Hash, now.Artifact.SHA256)); err == nil {
		created, _ := time.Parse(time.RFC3339, m.Created)
		made = created.Add(-time.Hour)
	}
	var before release.Pointer
	inside := true // the entry above this one names the current release
	for seq := now.Seq; seq > 0; seq-- {
		v, _, err := r.history(ctx, seq)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return before, err
		}
		p := v.Pointer()
		if p.Artifact.SHA256 == now.Artifact.SHA256 {
			inside, before = true, release.Pointer{}
			continue
		}
		if inside {
			inside, before = false, p
		}
		if written, _ := time.Parse(time.RFC3339, p.Created); written.Before(made) {
			break
		}
	}
	if before.Seq == 0 {
		return before, fmt.Errorf("%w: %s is the first release of %s", ErrUnknownRelease, short(now.Release.Hash), r.Options.Environment)
	}
	return before, nil
}

// Releases lists the newest releases of the environment, at most limit: those whose pointer was moved to them, by
// falling seq, and before them those that only lie in the bucket, with seq 0. Options.Trust decides what is shown.
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
	live := at.pointer.Pointer()
	var out []deployment.Release
	seen := map[string]bool{}
	for seq := at.top.Pointer().Seq; seq > 0 && len(out) < limit; seq-- {
		v, _, err := r.history(ctx, seq)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e := v.Pointer()
		seen[release.ManifestKey(o.Prefix, e.Release.Hash, e.Artifact.SHA256)] = true
		out = append(out, deployment.Release{Seq: seq, Hash: e.Release.Hash, Msg: e.Release.Msg, Date: e.Release.Date,
			SHA256: e.Artifact.SHA256, Live: seq == live.Seq})
	}
	keys, err := p.Bucket.List(ctx, release.ReleasesPrefix(o.Prefix))
	if errors.Is(err, fs.ErrPermission) {
		return out, nil
	}
	var waiting []deployment.Release
	for _, key := range keys {
		if _, _, ok := release.ParseManifestKey(o.Prefix, key); !ok || seen[key] || len(waiting)+len(out) >= limit {
			continue
		}
		m, merr := r.manifest(ctx, key)
		if merr != nil {
			return nil, merr
		}
		waiting = append(waiting, deployment.Release{Hash: m.Release.Hash, Msg: m.Release.Msg, Date: m.Release.Date, SHA256: m.Artifact.SHA256})
	}
	slices.SortFunc(waiting, func(a, b deployment.Release) int { return cmp.Compare(b.Date, a.Date) })
	return append(waiting, out...), err
}
