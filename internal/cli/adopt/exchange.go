package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// exchange puts a link to current in the place of the directory, in one step.
func (a *Adoption) exchange() error {
	parent, err := openDir(unix.AT_FDCWD, path.Dir(a.From), 0)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(a.From)
	to, err := readlinkAt(parent, name+before)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := unix.Symlinkat(a.current(), parent, name+before); err != nil {
			return fmt.Errorf("link %s: %w", a.From+before, err)
		}
	case err != nil || to != a.current():
		return inTheWay("%s is there already: move it away", a.From+before)
	}
	if err := unix.Fsync(parent); err != nil {
		return err
	}
	if _, err := os.Stat(a.current() + "/."); err != nil { // or there would be nothing at the path afterwards
		return err
	}
	if err := swap(parent, name, parent, name+before); err != nil {
		return fmt.Errorf("exchange %s: %w", a.From, err)
	}
	return unix.Fsync(parent)
}

// swap exchanges two names, of which the first must be a directory or file and the second a link.
func swap(dir int, name string, linkDir int, link string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return errors.New("it is a link already")
	}
	err := unix.Renameat2(dir, name, linkDir, link, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("it is the root of a filesystem of its own: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this filesystem cannot exchange two names in one step: %w", err)
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("the two lie on different filesystems: %w", err)
	}
	return err
}

func (a *Adoption) shared(rel string) string { return path.Join(a.Dir, "shared", rel) }

// sharing tells whether there is anything to share under a path, and whether it is still to be moved.
func (a *Adoption) sharing(shared string) (todo, there bool) {
	rel := strings.TrimSuffix(shared, "/")
	at := path.Join(a.From, rel)
	if a.done {
		at = path.Join(a.From+before, rel)
	}
	info, err := os.Lstat(at)
	if err != nil {
		return false, false
	}
	return info.Mode().Type() != fs.ModeSymlink, true
}

// lookAtShared sees that every shared path can be moved.
func (a *Adoption) lookAtShared() error {
	device := func(file string) (uint64, error) {
		var st unix.Stat_t
		for {
			err := unix.Stat(file, &st)
			if err == nil || !errors.Is(err, fs.ErrNotExist) || file == "/" {
				return st.Dev, err
			}
			file = path.Dir(file)
		}
	}
	for _, s := range a.Shared {
		rel, isDir := strings.TrimSuffix(s, "/"), strings.HasSuffix(s, "/")
		from := path.Join(a.From, rel)
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode().Type() == fs.ModeSymlink {
			if to, err := os.Readlink(from); err != nil || to != a.shared(rel) {
				return inTheWay("%s is a link to %s: put what it leads to there, or lead %s to it yourself and remove the link", from, to, a.shared(rel))
			}
			continue
		}
		if info.IsDir() != isDir {
			return inTheWay("%s: write shared: [%s/] if it is a directory, and [%s] if it is a file", from, rel, rel)
		}
		one, err := device(from)
		if err != nil {
			return err
		}
		two, err := device(path.Dir(a.shared(rel)))
		if err != nil {
			return err
		}
		if one != two {
			return inTheWay("%s and %s lie on different filesystems, between which nothing moves in one step: name a directory beside it with --dir",
				from, a.shared(rel))
		}
		if held, err := holds(a.shared(rel)); err != nil {
			return err
		} else if held {
			return inTheWay("both %s and %s hold something: move one of them away", from, a.shared(rel))
		}
	}
	return nil
}

// holds reports whether there is something at a shared path that is not to be lost: anything but an empty directory, an empty
// file, and the link to itself that an interrupted run may have left.
func holds(file string) (bool, error) {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Mode().Type() == fs.ModeSymlink:
		to, err := os.Readlink(file)
		return to != file, err
	case info.IsDir():
		names, err := os.ReadDir(file)
		return len(names) > 0, err
	}
	return !info.Mode().IsRegular() || info.Size() > 0, nil
}

// share moves one path to shared/ and leaves a link to it in its place, in one step: the link lies where the data goes to
// before, and the two change places. Whoever has a file open has it open still.
func (a *Adoption) share(rel string) error {
	from, err := beneath(a.From, path.Dir(rel))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := a.sharedParent(path.Dir(rel))
	if err != nil {
		return err
	}
	defer unix.Close(to)
	name := path.Base(rel)
	if held, err := holds(a.shared(rel)); err != nil || held {
		return errors.Join(err, inTheWay("%s holds something", a.shared(rel)))
	}
	for _, flag := range []int{0, unix.AT_REMOVEDIR} {
		if err := unix.Unlinkat(to, name, flag); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EISDIR) &&
			!errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("make room at %s: %w", a.shared(rel), err)
		}
	}
	if err := unix.Symlinkat(a.shared(rel), to, name); err != nil {
		return fmt.Errorf("link %s: %w", a.shared(rel), err)
	}
	if err := swap(from, name, to, name); err != nil {
		_ = unix.Unlinkat(to, name, 0)
		return fmt.Errorf("move %s: %w", path.Join(a.From, rel), err)
	}
	return errors.Join(unix.Fsync(to), unix.Fsync(from))
}

// sharedParent opens the directory below shared/ that a path lies in, made if it is not there.
func (a *Adoption) sharedParent(rel string) (int, error) {
	fd, err := openDir(unix.AT_FDCWD, path.Join(a.Dir, "shared"), unix.O_NOFOLLOW)
	if err != nil || rel == "." {
		return fd, err
	}
	for _, name := range strings.Split(rel, "/") {
		if err := unix.Mkdirat(fd, name, 0o755); err == nil {
			err = unix.Fchownat(fd, name, a.User.UID, a.User.GID, unix.AT_SYMLINK_NOFOLLOW)
			if err != nil {
				_ = unix.Close(fd)
				return -1, err
			}
		}
		next, err := openDir(fd, name, unix.O_NOFOLLOW)
		_ = unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// beneath opens a directory below another one, following no link on the way.
func beneath(dir, rel string) (int, error) {
	fd, err := openDir(unix.AT_FDCWD, dir, unix.O_NOFOLLOW)
	if err != nil || rel == "." {
		return fd, err
	}
	for _, name := range strings.Split(filepath.ToSlash(rel), "/") {
		next, err := openDir(fd, name, unix.O_NOFOLLOW)
		_ = unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func openDir(at int, name string, flags int) (int, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

func readlinkAt(at int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
