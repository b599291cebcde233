package deploy

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// roomless reports errors of a disk, or of a quota, that has no room left.
func roomless(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// noSpace adds to such an error what is left where: the same words stand for bytes and for inodes, and for any filesystem. It
// must be asked before what was made is deleted again.
func (e *Engine) noSpace(err error) error {
	if !roomless(err) {
		return err
	}
	bytes, inodes, serr := e.Tree.Space()
	if serr != nil {
		return err
	}
	return fmt.Errorf("%w (%d MiB and %d inodes free in %s)", err, bytes>>20, inodes, e.Tree.Path())
}

// emptied is an error if everything that this agent had made in the app's directory is gone: then it is more likely that a disk
// is not mounted than that somebody wants a release put into what is left in its place. Who wants that forces it.
func (e *Engine) emptied() error {
	s := &e.state
	if s.Live == "" || e.force {
		return nil
	}
	live, err := e.Tree.Current()
	if err != nil || live != "" {
		return err
	}
	if slices.ContainsFunc(s.Trees, func(t tree) bool { return e.Tree.Has(t.Name) }) {
		return nil
	}
	return fmt.Errorf("current and every release is gone from %s: is its disk mounted? If all is meant to be new, "+
		"towline deploy %s --force installs there", e.Tree.Path(), e.Key)
}
