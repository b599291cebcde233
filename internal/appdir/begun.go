package appdir

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// begun names the stage that can be taken up again: there is one at most, whoever has begun it.
const begun = ".stage-begun"

// notes is what follows the name of a stage in the name of the file of notes about it.
const notes = ".notes"

// Begin is Stage for a stage that Resume finds, until it is sealed or discarded: by this process, or by one that comes after it. What
// was begun before is discarded.
func (d *Dir) Begin() (stage string, root *os.Root, err error) {
	if err := d.Discard(begun); err != nil {
		return "", nil, fmt.Errorf("make stage: %w", err)
	}
	return d.stage(begun)
}

// Resume takes up the stage that Begin or Recycle has made and nobody has finished, as it is. What is in it is not to be believed. The
// caller ends as after Begin. fs.ErrNotExist when there is none.
func (d *Dir) Resume() (stage string, root *os.Root, err error) {
	path := d.ReleasePath(begun)
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return "", nil, fmt.Errorf("resume stage: %w", err)
	}
	syncer, err := os.Open(d.releases())
	if err != nil {
		return "", nil, fmt.Errorf("resume stage: %w", err)
	}
	if err = os.Chmod(path, 0o700); err == nil {
		root, err = os.OpenRoot(path)
	}
	if err != nil {
		_ = syncer.Close()
		return "", nil, fmt.Errorf("resume stage: %w", err)
	}
	d.release(begun)
	d.stages[begun] = &making{syncer: syncer, resumed: true}
	return begun, root, nil
}

// DiscardBegun deletes the stage that Begin or Recycle has made and nobody has sealed, if there is one.
func (d *Dir) DiscardBegun() error { return d.Discard(begun) }

// Leave lets go of a stage that is for Resume.
func (d *Dir) Leave(stage string) { d.release(stage) }

// Notes opens the file of notes about a stage, made if it is absent, to read and to append to. They go with the stage, and are never synced.
func (d *Dir) Notes(stage string) (*os.File, error) {
	if d.stages[stage] == nil {
		return nil, fmt.Errorf("notes of %s: not a stage of this process", stage)
	}
	f, err := os.OpenFile(d.ReleasePath(stage)+notes, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("notes of stage: %w", err)
	}
	return f, nil
}
