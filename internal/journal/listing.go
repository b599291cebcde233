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
	"strings"
)

// maxListing bounds the listing of a tree, in bytes.
const maxListing = 256 << 20

var treeDigest = regexp.MustCompile(`^t1:([0-9a-f]{64})$`)

// inventory is what follows the hex digits in the name of the file of an inventory.
const inventory = ".inventory"

// KeepListing keeps the listing of an unpacked tree under the tree's digest, "t1:" and 64 hex digits. It is not synced:
// its own SHA-256 is the digest, so that a torn one is found out, and without one only the names of changed paths are lost.
func (j *Journal) KeepListing(digest string, listing io.WriterTo) error {
	return j.keep(digest, "", "listing", listing)
}

// KeepInventory keeps what brought an unpacked tree, under the tree's digest. It is not synced either: it says by itself
// whether it is whole, and without one the tree's directory is not recycled.
func (j *Journal) KeepInventory(digest string, from io.WriterTo) error {
	return j.keep(digest, inventory, "inventory", from)
}

// keep writes a file about a tree.
func (j *Journal) keep(digest, suffix, what string, from io.WriterTo) (err error) {
	path, err := j.about(digest, suffix)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep %s: %w", what, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+what+"-")
	if err != nil {
		return fmt.Errorf("keep %s: %w", what, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("keep %s: %w", what, err)
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	if _, err := from.WriteTo(buffered); err != nil {
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
	path, err := j.about(digest, "")
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

// Inventory opens what was kept under the digest, fs.ErrNotExist when nothing was. The caller checks that it is of that tree.
func (j *Journal) Inventory(digest string) (io.ReadCloser, error) {
	path, err := j.about(digest, inventory)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	return f, nil
}

// DropListings deletes the listings and inventories of all trees but those with these digests.
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
		if slices.Contains(keep, "t1:"+strings.TrimSuffix(e.Name(), inventory)) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop listings: %w", err)
		}
	}
	return nil
}

// about is the file that keeps something about a tree.
func (j *Journal) about(digest, suffix string) (string, error) {
	m := treeDigest.FindStringSubmatch(digest)
	if m == nil {
		return "", fmt.Errorf("%.80q is not the digest of a tree", digest)
	}
	return filepath.Join(j.dir, "trees", m[1]+suffix), nil
}
