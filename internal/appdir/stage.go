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

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/durable"
	"golang.org/x/sys/unix"
)

// Stage makes an empty directory for a release and returns its name and a handle that cannot leave it. The caller ends
// with Seal or Discard.
func (d *Dir) Stage() (name string, root *os.Root, err error) {
	return d.stage(".stage-" + rand.Text())
}

func (d *Dir) stage(name string) (_ string, root *os.Root, err error) {
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
	d.stages[name] = &making{syncer: syncer}
	return name, root, nil
}

// Seal links the shared paths into the stage, looks at every entry of it, makes every byte durable and gives it its final
// name. A stage that was recycled is not walked: there Window says when the agent worked on it, for Untouched. After an error
// the stage is still there and must be discarded: a failed sync cannot be tried again on the same files.
func (d *Dir) Seal(stage, name string, shared []string) (sealed deployment.Sealed, err error) {
	none := deployment.Sealed{}
	made := d.stages[stage]
	if made == nil {
		return none, fmt.Errorf("seal %s: not a stage of this process", stage)
	}
	if !releaseName.MatchString(name) {
		return none, fmt.Errorf("seal stage as %q: not the name of a release", name)
	}
	path := d.ReleasePath(stage)
	for _, s := range shared {
		if err := d.linkShared(path, s, made.recycled || made.resumed); err != nil {
			return none, fmt.Errorf("link shared path %s: %w", s, err)
		}
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return none, fmt.Errorf("seal release %s: %w", name, err)
	}
	if made.recycled {
		sealed.Window = made.begun + " " + d.Moment()
	} else {
		sealed.Looked = d.Moment()
		if sealed.Print, err = inspect(path); err != nil {
			return none, fmt.Errorf("seal release %s: %w", name, err)
		}
	}
	if !syncfsTells() {
		if err := syncEach(path); err != nil {
			return none, fmt.Errorf("sync release %s: %w", name, err)
		}
	}
	// One syncfs instead of an fsync for each file, where it tells of writes that failed.
	if err := unix.Syncfs(int(made.syncer.Fd())); err != nil {
		return none, fmt.Errorf("sync release %s: %w", name, err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, d.ReleasePath(name), unix.RENAME_NOREPLACE); err != nil {
		return none, fmt.Errorf("name release %s: %w", name, err)
	}
	d.release(stage)
	_ = os.Remove(path + notes) // what is left of them is swept at the next start
	if err := durable.SyncDir(d.releases()); err != nil {
		return none, err
	}
	return sealed, nil
}

// Discard deletes a stage, and the notes about it.
func (d *Dir) Discard(stage string) error {
	d.release(stage)
	if !strings.HasPrefix(stage, ".stage-") {
		return fmt.Errorf("discard %s: not a stage", stage)
	}
	if err := os.RemoveAll(d.ReleasePath(stage)); err != nil {
		return fmt.Errorf("discard stage: %w", err)
	}
	if err := os.Remove(d.ReleasePath(stage) + notes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard stage: %w", err)
	}
	return nil
}

func (d *Dir) release(stage string) {
	if m := d.stages[stage]; m != nil {
		_ = m.syncer.Close()
		delete(d.stages, stage)
	}
}

// linkShared puts a relative link to shared/<path> into the release. A path that ends in a slash is a directory, any other
// a file. A release that was recycled has the link already.
func (d *Dir) linkShared(release, shared string, recycled bool) error {
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
	if err := makeParents(root, filepath.Dir(rel)); err != nil {
		return err
	}
	target := strings.Repeat("../", strings.Count(rel, "/")+2) + "shared/" + rel
	if info, err := root.Lstat(rel); err == nil {
		if recycled && info.Mode().Type() == fs.ModeSymlink {
			if to, err := root.Readlink(rel); err == nil && to == target {
				return nil
			}
		}
		return errors.New("the release has something there already")
	}
	return root.Symlink(target, rel)
}

// makeParents makes dir and what is missing above it, with mode 0755 whatever the umask.
func makeParents(root *os.Root, dir string) error {
	if _, err := root.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeParents(root, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return root.Chmod(dir, 0o755)
}

// ensureShared makes an absent shared path if the agent is root and can give it to the app's user; otherwise its absence
// is an error, since a file made here would be one that the app cannot write. What is there already is left as it is, a
// link that the administrator made to another disk too.
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
	// The app's user writes under shared/ and may put a link anywhere in it: nothing is made or given away through one.
	at, err := os.OpenRoot(d.shared())
	if err != nil {
		return err
	}
	defer func() { _ = at.Close() }()
	parents := strings.Split(filepath.Dir(rel), "/")
	for i, name := range parents {
		if name == "." {
			break
		}
		below, err := d.enterShared(at, name)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(d.shared(), filepath.Join(parents[:i+1]...)), err)
		}
		_ = at.Close()
		at = below
	}
	if err := d.makeShared(at, filepath.Base(rel), isDir); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return syncRoot(at)
}

// enterShared opens the directory of that name in at, made if it is absent.
func (d *Dir) enterShared(at *os.Root, name string) (*os.Root, error) {
	switch info, err := at.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		if err := d.makeShared(at, name, true); err != nil {
			return nil, err
		}
		if err := syncRoot(at); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSymlink:
		return nil, errLinked
	}
	below, err := at.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if err := sameEntry(at, name, func() (fs.FileInfo, error) { return below.Stat(".") }); err != nil {
		_ = below.Close()
		return nil, err
	}
	return below, nil
}

// errLinked says that what is to be made lies behind a symbolic link.
var errLinked = errors.New("it is a symbolic link, and the agent makes nothing through one; make what is missing behind it yourself, " +
	"and give it to the user that the app runs as")

// makeShared makes one directory or file in at and gives it to the app's user, by its descriptor: whoever may write in at
// could put something else under the name.
func (d *Dir) makeShared(at *os.Root, name string, isDir bool) (err error) {
	flag := os.O_CREATE | os.O_EXCL | os.O_WRONLY
	if isDir {
		if err := at.Mkdir(name, 0o755); err != nil {
			return made(at, name, err)
		}
		flag = os.O_RDONLY | syscall.O_DIRECTORY
	}
	f, err := at.OpenFile(name, flag|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return made(at, name, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := sameEntry(at, name, f.Stat); err != nil {
		return err
	}
	return f.Chown(d.uid, d.gid)
}

// made turns the error of making name in at into a clear one where a link is in the way.
func made(at *os.Root, name string, err error) error {
	if info, lerr := at.Lstat(name); lerr == nil && info.Mode().Type() == fs.ModeSymlink {
		return errLinked
	}
	return err
}

// sameEntry is an error if what was opened as name in at is not the entry of that name itself.
func sameEntry(at *os.Root, name string, opened func() (fs.FileInfo, error)) error {
	got, err := opened()
	if err != nil {
		return err
	}
	entry, err := at.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(got, entry) {
		return errLinked
	}
	return nil
}

// syncRoot makes the entries of a directory durable.
func syncRoot(at *os.Root) error {
	f, err := at.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
