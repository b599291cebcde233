package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/towline/towline/internal/agent/source"
	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
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
	parts   *artifact.Inventory            // of the stage that was taken up, beside what is known of it as deploy.Begun
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
		if base == deploy.Begun && p.parts != nil {
			have = append(have, *p.parts)
		}
	}
	_, fetch = artifact.Missing(p.index, have...)
	return fetch, write
}

// maxNotes bounds what is read of the notes about a stage, in bytes.
const maxNotes = 64 << 20

// TakeUp implements deploy.Plan.
func (p *plan) TakeUp(ctx context.Context, stage *os.Root, notes *os.File, base string) (int64, error) {
	o := artifact.SalvageOptions{Skip: p.app.Shared, Mtime: p.mtime(), Before: p.inventory(base)}
	if notes != nil {
		var err error
		if o.Notes, err = io.ReadAll(io.LimitReader(notes, maxNotes)); err != nil {
			return 0, fmt.Errorf("read notes of stage: %w", err)
		}
	}
	found, err := artifact.Salvage(ctx, stage, p.index, o)
	if err != nil {
		return 0, err
	}
	p.known[deploy.Begun], p.parts = &found.Base, &found.Parts
	if notes != nil {
		if err = notes.Truncate(0); err == nil {
			_, err = notes.Write(found.Notes)
		}
		if err != nil {
			p.app.log.Warn("what is fetched now is fetched again if it breaks off", "app", p.app.Key, "error", err)
		}
	}
	return found.Bytes, nil
}

// mtime is the date of the files of the release.
func (p *plan) mtime() time.Time {
	date, err := time.Parse(time.RFC3339, p.pointer.Release.Date)
	if err != nil {
		return time.Time{}
	}
	return date
}

// Bring implements deploy.Plan.
func (p *plan) Bring(ctx context.Context, stage *os.Root, b deploy.Bringing) (deploy.Brought, error) {
	o := artifact.BringOptions{UnpackOptions: artifact.UnpackOptions{
		Want: p.pointer.Artifact, Skip: p.app.Shared, Warn: b.Warn, Progress: b.Progress, Mtime: p.mtime(),
	}}
	if b.Notes != nil {
		o.Notes = b.Notes
	}
	if b.Base == deploy.Begun && p.parts != nil {
		o.Others = append(o.Others, artifact.Installed{Root: stage, Inventory: *p.parts})
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
		switch {
		case errors.Is(err, artifact.ErrBase):
			err = markedError{err, deploy.ErrBase}
		case errors.Is(err, release.ErrVerify):
		case errors.Is(err, bucket.ErrUnreachable), errors.Is(err, io.ErrUnexpectedEOF):
			err = markedError{err, deploy.ErrBrokenOff}
		}
		return deploy.Brought{}, err
	}
	p.tree, p.parts = tree, nil
	clear(p.known) // they take memory, and are not needed any more
	return deploy.Brought{Digest: tree.Digest, Files: tree.Files, Written: tree.Written}, nil
}

// markedError is an error of the engine's as well, without its words.
type markedError struct {
	error
	as error
}

func (e markedError) Is(target error) bool { return target == e.as }
func (e markedError) Unwrap() error        { return e.error }

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
