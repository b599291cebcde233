// Package appdir is an app's tree on a server:
//
//	<dir>/releases/<seq>-<hash12>/   complete releases; nothing in them changes after they got their name
//	<dir>/releases/.stage-…          a release being made, of nothing or of one that is not wanted any more; never trusted,
//	                                 always discarded or finished
//	<dir>/releases/.stage-begun      one that may be taken up again where it broke off; there is one at most
//	<dir>/releases/.stage-begun.notes  what its maker says is in it
//	<dir>/current -> releases/…      what is live: replaced in one rename, so it names the old release or the new one
//	<dir>/next -> releases/…         where a hook or probe of the app runs, only while it does
//	<dir>/shared/                    what outlives releases; linked into each
//	<dir>/incoming/                  downloads under way
//	<dir>/lock                       held by the one agent that works here
//
// All of it lies on one filesystem, or renames would not be atomic. A directory under releases/ without a leading dot is
// complete and durable: it was synced before it got its name.
package appdir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/durable"
	"golang.org/x/sys/unix"
)

// ErrLocked says that another agent works in the directory.
var ErrLocked = errors.New("another agent holds the lock")

var releaseName = regexp.MustCompile(`^(p?[0-9]+)-[A-Za-z0-9][A-Za-z0-9._-]{0,11}$`)

// Options say where the tree is and whom its shared files belong to.
type Options struct {
	Path string // absolute
	// UID and GID own what is made under shared/; 0, 0 leaves that to the agent's own. Only root can give files away.
	UID, GID int
}

// Dir is the tree of one app.
type Dir struct {
	path     string
	uid, gid int
	lock     *os.File
	stages   map[string]*making
}

// Open makes what is missing of the tree, takes its lock and returns it. ErrLocked when another agent works there.
func Open(o Options) (*Dir, error) {
	if !filepath.IsAbs(o.Path) {
		return nil, fmt.Errorf("app directory %q: want an absolute path", o.Path)
	}
	d := &Dir{path: filepath.Clean(o.Path), uid: o.UID, gid: o.GID, stages: map[string]*making{}}
	for _, p := range []struct {
		path string
		mode fs.FileMode
	}{{d.path, 0o755}, {d.releases(), 0o755}, {d.incoming(), 0o750}, {d.shared(), 0o755}} {
		err := d.private(filepath.Dir(p.path))
		if err == nil {
			err = makeDir(p.path, p.mode)
		}
		if err == nil && p.path != d.shared() {
			err = d.private(p.path)
		}
		if err != nil {
			return nil, fmt.Errorf("app directory %s: %w", d.path, err)
		}
	}
	if err := d.oneFilesystem(); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(d.path, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock app directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock app directory %s: %w", d.path, ErrLocked)
		}
		return nil, fmt.Errorf("lock app directory %s: %w", d.path, err)
	}
	d.lock = lock
	return d, nil
}

// Close gives the lock back.
func (d *Dir) Close() error {
	for _, m := range d.stages {
		_ = m.syncer.Close()
	}
	return d.lock.Close()
}

// Path is where the app lies.
func (d *Dir) Path() string { return d.path }

// ReleasePath is the directory of a release, whether or not it exists.
func (d *Dir) ReleasePath(name string) string { return filepath.Join(d.releases(), name) }

// Current names the release that is live, "" when none is. A link that leads anywhere but to a release is an error: it
// was not made here, and is not to be followed.
func (d *Dir) Current() (string, error) {
	link := d.current()
	to, err := os.Readlink(link)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read %s: it is not a symbolic link; move it away, or make the app's first release out of it", link)
	}
	name, ok := strings.CutPrefix(to, "releases/")
	if !ok || !releaseName.MatchString(name) {
		return "", fmt.Errorf("read %s: it leads to %q, which is not a release here", link, to)
	}
	if !d.Has(name) {
		return "", fmt.Errorf("read %s: it leads to release %s, which is gone", link, name)
	}
	return name, nil
}

// Has reports whether the release is on disk.
func (d *Dir) Has(name string) bool {
	info, err := os.Lstat(d.ReleasePath(name))
	return err == nil && info.IsDir()
}

// Switch makes the release live: current is replaced durably, in one step.
func (d *Dir) Switch(name string) error {
	if !d.Has(name) {
		return fmt.Errorf("switch to release %s: %w", name, fs.ErrNotExist)
	}
	return durable.Symlink("releases/"+name, d.current())
}

// Clear removes current: nothing is live.
func (d *Dir) Clear() error { return durable.Remove(d.current()) }

// Next leads the link next to the release, durably and in one step: it is the working directory of the units that run
// the app's hooks and probes, for a release that may not be live yet. ClearNext ends it.
func (d *Dir) Next(name string) error {
	if !releaseName.MatchString(name) || !d.Has(name) {
		return fmt.Errorf("lead next to release %q: %w", name, fs.ErrNotExist)
	}
	return durable.Symlink("releases/"+name, filepath.Join(d.path, "next"))
}

// ClearNext removes next. An absent one is no error.
func (d *Dir) ClearNext() error { return durable.Remove(filepath.Join(d.path, "next")) }

// Names lists the releases on disk, in no order that means anything.
func (d *Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(d.releases())
	if err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && releaseName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Remove deletes a release that is not live. An absent one is no error.
func (d *Dir) Remove(name string) error {
	if !releaseName.MatchString(name) {
		return fmt.Errorf("remove release %q: not the name of one", name)
	}
	if to, err := os.Readlink(d.current()); err == nil && to == "releases/"+name {
		return fmt.Errorf("remove release %s: it is live", name)
	}
	if !d.Has(name) {
		return nil
	}
	// Away from its name first: a crash in the middle must not leave half a release under a name that promises a
	// whole one.
	grave := filepath.Join(d.releases(), ".stage-gone-"+rand.Text())
	if err := durable.Rename(d.ReleasePath(name), grave); err != nil {
		return fmt.Errorf("remove release: %w", err)
	}
	if err := os.RemoveAll(grave); err != nil {
		return fmt.Errorf("remove release: %w", err)
	}
	return nil
}

// Sweep discards every stage, next, and every release that keep does not want, except the live one, and except the stage that
// was begun if resume says so. It is for start-up, when nothing is under way.
func (d *Dir) Sweep(keep func(name string) bool, resume bool) error {
	if err := d.ClearNext(); err != nil {
		return fmt.Errorf("sweep releases: %w", err)
	}
	entries, err := os.ReadDir(d.releases())
	if err != nil {
		return fmt.Errorf("sweep releases: %w", err)
	}
	live, err := d.Current()
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case resume && (name == begun || name == begun+notes):
		case strings.HasPrefix(name, ".stage-"):
			err = os.RemoveAll(filepath.Join(d.releases(), name))
		case releaseName.MatchString(name) && name != live && !keep(name):
			err = d.Remove(name)
		}
		if err != nil {
			return fmt.Errorf("sweep releases: %w", err)
		}
	}
	return nil
}

// Incoming opens the file that a download goes to, made if it is absent, and says how much of it is there already.
func (d *Dir) Incoming(name string) (f *os.File, have int64, err error) {
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return nil, 0, fmt.Errorf("open incoming file %q: want a plain name", name)
	}
	f, err = os.OpenFile(filepath.Join(d.incoming(), name), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open incoming file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("open incoming file: %w", err)
	}
	return f, info.Size(), nil
}

// ClearIncoming deletes every download.
func (d *Dir) ClearIncoming() error {
	entries, err := os.ReadDir(d.incoming())
	if err != nil {
		return fmt.Errorf("clear incoming: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(d.incoming(), e.Name())); err != nil {
			return fmt.Errorf("clear incoming: %w", err)
		}
	}
	return nil
}

// Space returns the bytes and inodes that the agent may still use. inodes is 0 where the filesystem does not count them.
func (d *Dir) Space() (bytes, inodes int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", d.path, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Ffree), nil // #nosec G115 -- no disk has 2^63 bytes
}

func (d *Dir) current() string  { return filepath.Join(d.path, "current") }
func (d *Dir) releases() string { return filepath.Join(d.path, "releases") }
func (d *Dir) incoming() string { return filepath.Join(d.path, "incoming") }
func (d *Dir) shared() string   { return filepath.Join(d.path, "shared") }

func (d *Dir) oneFilesystem() error {
	var first unix.Stat_t
	if err := unix.Stat(d.path, &first); err != nil {
		return fmt.Errorf("app directory %s: %w", d.path, err)
	}
	for _, p := range []string{d.releases(), d.incoming()} {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return fmt.Errorf("app directory %s: %w", d.path, err)
		}
		if st.Dev != first.Dev {
			return fmt.Errorf("app directory %s: %s is on another filesystem, and renames between two are not atomic", d.path, p)
		}
	}
	return nil
}

// makeDir makes a directory with exactly this mode, whatever the umask. One that is there keeps its mode.
func makeDir(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		return nil
	}
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
