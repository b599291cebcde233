package appdir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/durable"
	"golang.org/x/sys/unix"
)

// Stage makes an empty directory for a release and returns its name and a handle that cannot leave it. The caller ends
// with Seal or Discard.
func (d *Dir) Stage() (name string, root *os.Root, err error) {
	name = ".stage-" + rand.Text()
	path := d.ReleasePath(name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", nil, fmt.Errorf("make stage: %w", err)
	}
	syncer, err := os.Open(d.releases())
	if err != nil {
		return "", nil, fmt.Errorf("make stage: %w", err)
	}
	root, err = os.OpenRoot(path)
	if err != nil {
		_ = syncer.Close()
		return "", nil, fmt.Errorf("make stage: %w", err)
	}
	d.syncers[name] = syncer
	return name, root, nil
}

// Seal links the shared paths into the stage, makes every byte of it durable and gives it its final name. After an error
// the stage is still there and must be discarded: a failed sync cannot be tried again on the same files.
func (d *Dir) Seal(stage, name string, shared []string) error {
	syncer := d.syncers[stage]
	if syncer == nil {
		return fmt.Errorf("seal %s: not a stage of this process", stage)
	}
	if !releaseName.MatchString(name) {
		return fmt.Errorf("seal stage as %q: not the name of a release", name)
	}
	path := d.ReleasePath(stage)
	for _, s := range shared {
		if err := d.linkShared(path, s); err != nil {
			return fmt.Errorf("link shared path %s: %w", s, err)
		}
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return fmt.Errorf("seal release %s: %w", name, err)
	}
	// One syncfs instead of an fsync for each file; since Linux 5.8 it reports failed writes, as fsync does.
	if err := unix.Syncfs(int(syncer.Fd())); err != nil {
		return fmt.Errorf("sync release %s: %w", name, err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, d.ReleasePath(name), unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("name release %s: %w", name, err)
	}
	d.release(stage)
	return durable.SyncDir(d.releases())
}

// Discard deletes a stage.
func (d *Dir) Discard(stage string) error {
	d.release(stage)
	if !strings.HasPrefix(stage, ".stage-") {
		return fmt.Errorf("discard %s: not a stage", stage)
	}
	if err := os.RemoveAll(d.ReleasePath(stage)); err != nil {
		return fmt.Errorf("discard stage: %w", err)
	}
	return nil
}

func (d *Dir) release(stage string) {
	if f := d.syncers[stage]; f != nil {
		_ = f.Close()
		delete(d.syncers, stage)
	}
}

// linkShared puts a relative link to shared/<path> into the release. A path that ends in a slash is a directory, any other
// a file.
func (d *Dir) linkShared(release, shared string) error {
	rel := strings.TrimSuffix(shared, "/")
	if !filepath.IsLocal(rel) || rel == "." {
		return errors.New("want a path inside the release")
	}
	if err := d.ensureShared(rel, strings.HasSuffix(shared, "/")); err != nil {
		return err
	}
	root, err := os.OpenRoot(release)
	if err != nil {
		return err
	}
	defer root.Close()
	if dir := filepath.Dir(rel); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if _, err := root.Lstat(rel); err == nil {
		return errors.New("the release has something there already")
	}
	up := strings.Repeat("../", strings.Count(rel, "/")+2)
	return root.Symlink(up+"shared/"+rel, rel)
}

// ensureShared makes an absent shared path if the agent is root and can give it to the app's user; otherwise its absence
// is an error, since a file made here would be one that the app cannot write.
func (d *Dir) ensureShared(rel string, isDir bool) error {
	path := filepath.Join(d.shared(), rel)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir() != isDir:
		if isDir {
			return fmt.Errorf("%s is not a directory; drop the slash at the end if it is meant to be a file", path)
		}
		return fmt.Errorf("%s is a directory; write %s/ if it is meant to be one", path, rel)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case os.Geteuid() != 0:
		return fmt.Errorf("%s does not exist: %w; make it, and give it to the user that the app runs as", path, fs.ErrNotExist)
	}
	parts := strings.Split(rel, "/")
	for i := range parts[:len(parts)-1] {
		if err := d.makeShared(filepath.Join(d.shared(), filepath.Join(parts[:i+1]...)), true); err != nil {
			return err
		}
	}
	if err := d.makeShared(path, isDir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func (d *Dir) makeShared(path string, isDir bool) error {
	if isDir {
		if err := os.Mkdir(path, 0o755); errors.Is(err, fs.ErrExist) {
			return nil
		} else if err != nil {
			return err
		}
	} else {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o640)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return os.Lchown(path, d.uid, d.gid)
}
