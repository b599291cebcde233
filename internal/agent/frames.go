package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/towline/towline/internal/agent/source"
	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
)

// frames brings the releases of one app frame by frame. Of each it keeps the inventory, out of which the next one is made.
type frames struct {
	app    *app
	source *source.Source
	dir    *appdir.Dir
	memory *journal.Journal
}

// Plan implements deploy.Frames.
func (f frames) Plan(ctx context.Context, p release.Pointer) (deploy.Plan, error) {
	ranges, index, err := f.source.Index(ctx, p)
	if err != nil {
		switch {
		case errors.Is(err, artifact.ErrNewer):
			f.app.log.Warn("what the artifact is made of is said in a way that came after this agent: the whole artifact is fetched", "app", f.app.Key, "error", err)
		case errors.Is(err, errors.ErrUnsupported) && p.Artifact.Index != nil:
			f.app.log.Warn("the store gives no parts of an object: the whole artifact is fetched", "app", f.app.Key, "error", err)
		}
		return nil, err
	}
	return &plan{frames: f, pointer: p, ranges: ranges, index: index, known: map[string]*artifact.Inventory{}}, nil
}

// plan is one artifact, and what this server has of it.
type plan struct {
	frames
	pointer release.Pointer
	ranges  *source.Ranges
	index   artifact.Index
	known   map[string]*artifact.Inventory // by digest; nil for one that cannot be read
	tree    artifact.Tree                  // that was brought
}

// inventory is what was kept of a tree, nil where that is nothing, or not what was kept.
func (p *plan) inventory(digest string) *artifact.Inventory {
	if v, asked := p.known[digest]; asked || digest == "" {
		return v
	}
	p.known[digest] = nil
	in, err := p.memory.Inventory(digest)
	if err != nil {
		return nil
	}
	defer in.Close()
	v, err := artifact.ReadInventory(in)
	if err != nil || v.Digest() != digest {
		p.app.log.Warn("what is kept of a release directory cannot be read", "app", p.app.Key, "tree", digest, "error", err)
		return nil
	}
	p.known[digest] = &v
	return &v
}

// Fits implements deploy.Plan.
func (p *plan) Fits(digest string) bool {
	v := p.inventory(digest)
	return v != nil && v.Fits(p.app.Shared)
}

// Lacks implements deploy.Plan.
func (p *plan) Lacks(base string, others []string) (fetch, write int64) {
	var have []artifact.Inventory
	if v := p.inventory(base); v != nil {
		have = append(have, *v)
	}
	unpacked := artifact.Index{Frames: make([]artifact.Frame, len(p.index.Frames))}
	for i, f := range p.index.Frames {
		f.Size = f.UnpackedSize
		unpacked.Frames[i] = f
	}
	_, write = artifact.Missing(unpacked, have...)
	if write > 0 {
		for _, digest := range others {
			if v := p.inventory(digest); v != nil {
				have = append(have, *v)
			}
		}
	}
	_, fetch = artifact.Missing(p.index, have...)
	return fetch, write
}

// Bring implements deploy.Plan.
func (p *plan) Bring(ctx context.Context, stage *os.Root, b deploy.Bringing) (deploy.Brought, error) {
	o := artifact.BringOptions{UnpackOptions: artifact.UnpackOptions{
		Want: p.pointer.Artifact, Skip: p.app.Shared, Warn: b.Warn, Progress: b.Progress,
	}}
	if date, err := time.Parse(time.RFC3339, p.pointer.Release.Date); err == nil {
		o.Mtime = date
	}
	if b.Base != "" {
		v := p.inventory(b.Base)
		if v == nil {
			return deploy.Brought{}, fmt.Errorf("%w: what is kept of it is gone", deploy.ErrBase)
		}
		o.Base = &artifact.Installed{Root: stage, Inventory: *v}
	}
	for _, other := range b.Others {
		v := p.known[other.Digest] // Lacks has read it if anything is to be had there
		if v == nil {
			continue
		}
		root, err := os.OpenRoot(p.dir.ReleasePath(other.Name))
		if err != nil {
			continue // what it has is fetched
		}
		defer root.Close()
		o.Others = append(o.Others, artifact.Installed{Root: root, Inventory: *v})
	}
	tree, err := artifact.Bring(ctx, stage, p.index, p.ranges.Open, o)
	if err != nil {
		if errors.Is(err, artifact.ErrBase) {
			err = baseError{err}
		}
		return deploy.Brought{}, err
	}
	p.tree = tree
	clear(p.known) // they take memory, and are not needed any more
	return deploy.Brought{Digest: tree.Digest, Files: tree.Files, Written: tree.Written}, nil
}

// baseError is a deploy.ErrBase.
type baseError struct{ error }

func (e baseError) Is(target error) bool { return target == deploy.ErrBase }
func (e baseError) Unwrap() error        { return e.error }

// Keep implements deploy.Plan.
func (p *plan) Keep() error {
	defer func() { p.tree = artifact.Tree{} }()
	if err := p.memory.KeepListing(p.tree.Digest, p.tree.Listing); err != nil {
		p.app.log.Warn("changed paths of this release will not be named", "app", p.app.Key, "error", err)
	}
	return p.memory.KeepInventory(p.tree.Digest, p.tree.Inventory)
}

// Pulled implements deploy.Plan.
func (p *plan) Pulled() int64 { return p.ranges.Pulled() }
