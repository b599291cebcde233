package agent

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/journal"
)

// integrity compares the releases of one app with the listings that were kept when they were unpacked.
type integrity struct {
	dir    *appdir.Dir
	memory *journal.Journal
	log    *slog.Logger
	turn   chan struct{} // holds one token while a release is read: a listing of each at once would be too much memory
}

// Compare implements deploy.Integrity.
func (i integrity) Compare(ctx context.Context, name, digest string, shared []string) (bool, []deployment.Difference, error) {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return false, nil, fmt.Errorf("release %s: another one is still read: %w", name, ctx.Err())
	}
	if !i.dir.Has(name) { // a link in its place is not it, wherever it leads
		return false, nil, fmt.Errorf("release %s: %w", name, fs.ErrNotExist)
	}
	root, err := os.OpenRoot(i.dir.ReleasePath(name))
	if err != nil {
		return false, nil, fmt.Errorf("release %s: %w", name, err)
	}
	defer root.Close()
	now, err := artifact.ListTree(ctx, root, shared)
	if err != nil {
		return false, nil, fmt.Errorf("release %s: %w", name, err)
	}
	if now.Digest() == digest {
		return true, nil, nil
	}
	data, err := i.memory.Listing(digest)
	if err == nil {
		var was artifact.Listing
		if was, err = artifact.ReadListing(data, digest); err == nil {
			return false, artifact.Differences(was, now), nil
		}
	}
	i.log.Warn("what was unpacked cannot be told path by path", "release", name, "error", err)
	return false, nil, nil
}

// Fingerprint implements deploy.Integrity.
func (i integrity) Fingerprint(name string) (string, error) { return i.dir.Fingerprint(name) }

// Untouched implements deploy.Integrity.
func (i integrity) Untouched(name, window, clean string) (string, bool, error) {
	return i.dir.Untouched(name, window, clean)
}

// Keep implements deploy.Integrity.
func (i integrity) Keep(digests []string) error { return i.memory.DropListings(digests) }
