package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// manifest is the object by which publishers find a release.
type manifest struct {
	key  string
	text []byte
}

// Carry removes what the plan says, and changes the plan into what was done. It ends at the first error: what was removed
// until then is gone, and another run goes on.
func (p *Plan) Carry(ctx context.Context) (err error) {
	todo := p.Remove
	p.Remove, p.Bytes = []Release{}, 0
	aborted := []Upload{}
	defer func() { p.Abort = aborted }()
	for _, u := range p.Abort {
		if err := p.o.Bucket.Abort(ctx, u.upload); err != nil {
			return err
		}
		aborted = append(aborted, u)
	}
	if len(todo) == 0 {
		return nil
	}
	// Nobody can find them from now on.
	var hidden []manifest
	for _, r := range todo {
		for _, key := range r.Keys {
			if !strings.HasSuffix(key, ".json") {
				continue
			}
			text, _, err := p.o.Bucket.Get(ctx, key, 1<<20)
			if errors.Is(err, fs.ErrNotExist) {
				continue // another run was faster
			}
			if err == nil {
				err = p.o.Bucket.Delete(ctx, key)
			}
			if err != nil {
				return errors.Join(err, p.restore(ctx, hidden, nil))
			}
			hidden = append(hidden, manifest{key, text})
		}
	}
	// Who found one of them just before has named it by now.
	select {
	case <-time.After(p.o.Settle):
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.restore(ctx, hidden, nil))
	}
	now, err := Look(ctx, p.o)
	if err != nil {
		return errors.Join(err, p.restore(ctx, hidden, nil))
	}
	still := map[string]bool{}
	for _, r := range now.Remove {
		still[r.Version+"-"+r.SHA12] = true
	}
	gone := map[string]bool{}
	for _, r := range todo {
		id := r.Version + "-" + r.SHA12
		if !still[id] && !p.orphan(r) {
			p.keep(now, r)
			continue
		}
		for _, key := range r.Keys {
			if strings.HasSuffix(key, ".json") {
				continue
			}
			if err := p.o.Bucket.Delete(ctx, key); err != nil {
				return errors.Join(err, p.restore(ctx, hidden, gone))
			}
		}
		for _, key := range r.Keys {
			gone[key] = true
		}
		p.Remove, p.Bytes = append(p.Remove, r), p.Bytes+r.Size
	}
	return p.restore(ctx, hidden, gone)
}

// orphan reports a release of which there was a release object and nothing else: with it gone, nothing is left to look at.
func (p *Plan) orphan(r Release) bool {
	return len(r.Keys) == 1 && strings.HasSuffix(r.Keys[0], ".json")
}

// keep says why a release stays after all.
func (p *Plan) keep(now *Plan, r Release) {
	r.Why = "it was published again meanwhile"
	for _, k := range now.Keep {
		if k.Version == r.Version && k.SHA12 == r.SHA12 {
			r.Why = "meanwhile: " + k.Why
		}
	}
	p.Keep = append(p.Keep, r)
}

// restore puts back the release objects of releases that stay, whatever becomes of us.
func (p *Plan) restore(ctx context.Context, hidden []manifest, gone map[string]bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var errs []error
	for _, m := range hidden {
		if gone[m.key] {
			continue
		}
		err := p.o.Bucket.Create(ctx, m.key, m.text, "application/vnd.towline.release.v1+json")
		if err != nil && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, fmt.Errorf("put back what was not to be removed after all: %w", err))
		}
	}
	return errors.Join(errs...)
}
