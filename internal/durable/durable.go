// Package durable writes files, renames and symlinks that survive a power cut.
//
// The order is always the same: write under a temporary name, fsync the file, rename it over the final name, fsync the
// directory. A reader sees the old thing or the new one, never a mixture; once a call has returned nil the new one
// stays. After an error the final name holds the old thing, or the new one whose durability is unknown; a caller must
// not retry on the same temporary file, since after a failed fsync the kernel may have dropped the dirty pages.
package durable

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces path with data, durably and atomically. The mode is perm whatever the umask.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// Rename moves oldpath to newpath, which must be on the same filesystem, and makes both directories durable.
func Rename(oldpath, newpath string) error {
	if err := os.Rename(oldpath, newpath); err != nil {
		return err
	}
	from, to := filepath.Dir(oldpath), filepath.Dir(newpath)
	if err := SyncDir(to); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	return SyncDir(from)
}

// Symlink makes path a symbolic link to target, durably; what path was before, a link or a file, is replaced in one
// step. A directory at path is an error.
func Symlink(target, path string) error {
	dir := filepath.Dir(path)
	// One fixed temporary name: a leftover of a crash is replaced, not collected.
	tmp := filepath.Join(dir, "."+filepath.Base(path)+".tmp")
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("link %s: %w", path, err)
	}
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("link %s: %w", path, err)
	}
	return SyncDir(dir)
}

// Remove deletes a file or link, durably. An absent path is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the entries of the directory durable: what was created, renamed or removed in it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
