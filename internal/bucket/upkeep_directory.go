package bucket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func (d *directory) Objects(ctx context.Context, prefix string) ([]Info, error) {
	keys, err := d.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	root, err := d.root("list objects", prefix)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	found := make([]Info, 0, len(keys))
	for _, key := range keys {
		fi, err := root.Lstat(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone while we looked
		}
		if err != nil {
			return nil, d.fault("stat object", key, err)
		}
		found = append(found, Info{Key: key, Size: fi.Size(), Modified: fi.ModTime()}) // an ETag would be a read of all of it
	}
	return found, nil
}

func (d *directory) Delete(ctx context.Context, key string) error {
	const op = "delete object"
	root, err := d.enter(ctx, op, key)
	if err != nil {
		return err
	}
	defer root.Close()
	unlock, err := lock(ctx, root)
	if err != nil {
		return d.fault(op, key, err)
	}
	defer unlock()
	switch fi, err := root.Lstat(key); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return d.fault(op, key, err)
	case !fi.Mode().IsRegular():
		return d.fault(op, key, errors.New("it is not a regular file"))
	}
	err = root.Remove(key)
	if err == nil {
		err = syncDir(root, path.Dir(key))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.fault(op, key, err)
}

// Unfinished are the files that a writer was still filling.
func (d *directory) Unfinished(ctx context.Context, _ string) ([]Upload, error) {
	const op = "list unfinished uploads"
	if err := ctx.Err(); err != nil {
		return nil, d.fault(op, "", err)
	}
	root, err := d.root(op, "")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), own)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, d.fault(op, "", err)
	}
	var found []Upload
	for _, entry := range entries {
		fi, err := entry.Info()
		if err != nil || !fi.Mode().IsRegular() || entry.Name() == "lock" {
			continue
		}
		found = append(found, Upload{Key: own + "/" + entry.Name(), ID: entry.Name(), Size: fi.Size(), Begun: fi.ModTime()})
	}
	return found, nil
}

func (d *directory) Abort(ctx context.Context, u Upload) error {
	const op = "abort upload of"
	if err := ctx.Err(); err != nil {
		return d.fault(op, u.Key, err)
	}
	if u.ID == "" || u.ID == "lock" || u.Key != own+"/"+u.ID || path.Base(u.Key) != u.ID {
		return d.fault(op, u.Key, errors.New("it is no upload"))
	}
	root, err := d.root(op, u.Key)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(u.Key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.fault(op, u.Key, err)
	}
	return nil
}

// Clock is this machine's own: whoever else has the directory is asked by nobody.
func (d *directory) Clock(context.Context) (time.Time, error) { return time.Now(), nil }

func (d *directory) Kept(_ context.Context, key string) (bool, error) {
	return false, d.unversioned("keep versions of", key)
}

// Try asks the file system: an object is linked or renamed into its folder, out of the hidden one.
func (d *directory) Try(ctx context.Context, key string, _ []byte, _ Condition) (Leave, error) {
	root, err := d.enter(ctx, "try to write", key)
	if err != nil {
		return "", err
	}
	root.Close()
	for _, folder := range []string{path.Dir(key), own} {
		switch err := unix.Faccessat(unix.AT_FDCWD, nearest(filepath.Join(d.path, folder)), unix.W_OK|unix.X_OK, unix.AT_EACCESS); {
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS):
			return Denied, nil
		case err != nil:
			return "", d.fault("try to write", key, err)
		}
	}
	return Granted, nil
}

// nearest is the folder itself, or the one above it that is there already, in which it would be made.
func nearest(folder string) string {
	for {
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || folder == filepath.Dir(folder) {
			return folder
		}
		folder = filepath.Dir(folder)
	}
}

func (d *directory) TryUpload(ctx context.Context, key string) (Leave, error) {
	return d.Try(ctx, key, nil, IfAbsent)
}
