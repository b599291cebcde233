// Package place puts several files where they belong: all of them or none, each whole, and none over another.
//
// A file that is there with another text is only replaced with force, and then keeps its bytes under a new name.
package place

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/durable"
)

// File is one that is to be there.
type File struct {
	Path     string // as people see it
	Root     string // before it on this disk
	Text     string
	Mode     fs.FileMode
	UID, GID int    // -1: whoever writes it
	Owner    string // both in words
	Secret   bool   // the text is not to be shown
}

// ThereError says that something else is there already.
type ThereError struct{ Path string }

func (e *ThereError) Error() string { return e.Path + " is there already" }

// Change is what becomes of a file: Create, Replace, or Keep what has the very text already. What is replaced has the name
// Backup afterwards.
type Change struct {
	File
	What, Backup string

	kept string // Backup, on this disk
}

// What becomes of a file.
const (
	Create  = "create"
	Replace = "replace"
	Keep    = "keep"
)

// Plan compares the files with what is there. Without force another text there is a *ThereError.
func Plan(files []File, force bool) ([]Change, error) {
	var changes []Change
	for _, f := range files {
		c := Change{File: f, What: Create}
		have, err := os.ReadFile(c.at())
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case string(have) == f.Text:
			c.What = Keep
		case !force:
			return nil, &ThereError{f.Path}
		default:
			c.What, c.kept = Replace, backup(c.at())
			c.Backup = strings.TrimPrefix(c.kept, f.Root)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// at is where the file lies on this disk.
func (f File) at() string { return f.Root + f.Path }

// staged is where it lies until all of them do.
func (f File) staged() string {
	return filepath.Join(filepath.Dir(f.at()), "."+filepath.Base(f.at())+".towline-init")
}

// backup is a name that nothing has yet.
func backup(path string) string {
	name := path + ".bak"
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = path + ".bak" + strconv.Itoa(i)
	}
}

// Write makes all changes, or none: everything is on the disk under another name before the first file appears, and what
// has appeared is taken back when a later one fails.
func Write(changes []Change) (err error) {
	var undo []func()
	var staged []string
	defer func() {
		for _, name := range staged {
			_ = os.Remove(name)
		}
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	for _, c := range changes {
		if c.What == Keep {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(c.at()), 0o755); err != nil {
			return err
		}
		name := c.staged()
		staged = append(staged, name)
		if err := durable.WriteFile(name, []byte(c.Text), c.Mode); err != nil {
			return err
		}
		if c.UID < 0 {
			continue
		}
		if err := os.Chown(name, c.UID, c.GID); err != nil {
			return err
		}
	}
	for _, c := range changes {
		switch c.What {
		case Create: // a link, not a rename: what has come there meanwhile is not overwritten
			if err := os.Link(c.staged(), c.at()); err != nil {
				return err
			}
			undo = append(undo, func() { _ = os.Remove(c.at()) })
		case Replace:
			if err := os.Link(c.at(), c.kept); err != nil {
				return err
			}
			undo = append(undo, func() { _ = os.Rename(c.kept, c.at()) })
			if err := os.Rename(c.staged(), c.at()); err != nil {
				return err
			}
		default:
			continue
		}
		if err := durable.SyncDir(filepath.Dir(c.at())); err != nil {
			return err
		}
	}
	return nil
}
