package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// maxListing bounds the listing of a tree, in bytes.
const maxListing = 256 << 20

var treeDigest = regexp.MustCompile(`^t1:([0-9a-f]{64})$`)

// KeepListing keeps the listing of an unpacked tree under the tree's digest, "t1:" and 64 hex digits. It is not synced:
// its own SHA-256 is the digest, so that a torn one is found out, and without one only the names of changed paths are lost.
func (j *Journal) KeepListing(digest string, listing io.WriterTo) (err error) {
	path, err := j.listing(digest)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep listing: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".listing-")
	if err != nil {
		return fmt.Errorf("keep listing: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("keep listing: %w", err)
		}
	}()
	buffered := bufio.NewWriterSize(f, 64<<10)
	if _, err := listing.WriteTo(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Listing returns what was kept under the digest, fs.ErrNotExist when nothing was. The caller checks that it has the digest.
func (j *Journal) Listing(digest string) ([]byte, error) {
	path, err := j.listing(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read listing: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxListing+1))
	if err == nil && len(data) > maxListing {
		err = fmt.Errorf("more than %d bytes", maxListing)
	}
	if err != nil {
		return nil, fmt.Errorf("read listing %s: %w", path, err)
	}
	return data, nil
}

// DropListings deletes every listing but those of these digests.
func (j *Journal) DropListings(keep []string) error {
	dir := filepath.Join(j.dir, "trees")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop listings: %w", err)
	}
	for _, e := range entries {
		if slices.Contains(keep, "t1:"+e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop listings: %w", err)
		}
	}
	return nil
}

func (j *Journal) listing(digest string) (string, error) {
	m := treeDigest.FindStringSubmatch(digest)
	if m == nil {
		return "", fmt.Errorf("listing of %.80q: not the digest of a tree", digest)
	}
	return filepath.Join(j.dir, "trees", m[1]), nil
}
