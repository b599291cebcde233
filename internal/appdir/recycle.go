package appdir

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// making is a stage of this process.
type making struct {
	// syncer is a descriptor of the stage's filesystem, opened before the first write: syncfs reports the write errors since
	// then, and only to descriptors that were open when they happened.
	syncer   *os.File
	recycled bool   // it was a release, and most of it is as it was
	resumed  bool   // an earlier attempt has left it
	begun    string // when it stopped being one; empty where the filesystem has a clock of its own
}

// Recycle takes the directory of a release that is not live for a stage: away from its name, since it is whole no more as soon
// as something in it changes, and closed to everybody else. The caller has forgotten the release, durably, and ends as after
// Begin. fs.ErrNotExist when the release is not there.
//
// The renaming is not synced: until it is on the disk, what is found under the old name after a power cut is a directory that
// nobody names any more, as a stage is.
func (d *Dir) Recycle(name string) (stage string, root *os.Root, err error) {
	if !releaseName.MatchString(name) {
		return "", nil, fmt.Errorf("recycle release %q: not the name of one", name)
	}
	if to, err := os.Readlink(d.current()); err == nil && to == "releases/"+name {
		return "", nil, fmt.Errorf("recycle release %s: it is live", name)
	}
	if !d.Has(name) { // a link in its place is not it, wherever it leads
		return "", nil, fmt.Errorf("recycle release %s: %w", name, fs.ErrNotExist)
	}
	if err := d.Discard(begun); err != nil {
		return "", nil, fmt.Errorf("recycle release %s: %w", name, err)
	}
	syncer, err := os.Open(d.releases())
	if err != nil {
		return "", nil, fmt.Errorf("recycle release %s: %w", name, err)
	}
	stage = begun
	path := d.ReleasePath(stage)
	if err := unix.Renameat2(unix.AT_FDCWD, d.ReleasePath(name), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		_ = syncer.Close()
		return "", nil, fmt.Errorf("recycle release %s: %w", name, err)
	}
	before := d.Moment()
	err = os.Chmod(path, 0o700)
	if err == nil {
		root, err = os.OpenRoot(path)
	}
	if err != nil {
		_ = syncer.Close()
		_ = os.RemoveAll(path)
		return "", nil, fmt.Errorf("recycle release %s: %w", name, err)
	}
	d.stages[stage] = &making{syncer: syncer, recycled: true, begun: dated(path, before)}
	return stage, root, nil
}

// dated is the moment, unless the filesystem dates what was just changed at path by a clock that is not this machine's.
func dated(path, before string) string {
	var st unix.Stat_t
	from, ok := readMoment(before)
	if err := unix.Lstat(path, &st); err != nil || !ok {
		return ""
	}
	at := st.Ctim.Nano()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil || at < from.coarse || at > now.Nano() {
		return ""
	}
	return before
}
