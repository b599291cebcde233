package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

var errMeanwhile = errors.New("it changed meanwhile")

// tidy makes the directory hold what is kept, and nothing else.
func (s *salvage) tidy() error {
	dirs := map[string]bool{}
	var names []string
	for name := range s.keep {
		names = append(names, name)
		for dir := path.Dir(name); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	if err := s.clear(".", dirs); err != nil {
		return err
	}
	slices.SortFunc(names, comparePaths)
	for _, name := range names {
		n, err := s.keep[name], error(nil)
		switch {
		case n.seen:
		case n.mode.IsDir():
			if err = s.root.MkdirAll(name, 0o755); err == nil {
				err = s.root.Chmod(name, 0o755)
			}
		case n.mode&fs.ModeSymlink != 0:
			if err = s.root.MkdirAll(path.Dir(name), 0o755); err == nil {
				err = s.root.Symlink(n.link, name)
			}
		default:
			err = fmt.Errorf("%q: %w", name, errMeanwhile)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clear removes from a directory, and those below it, what is not kept; dirs are those that something that is kept lies in.
func (s *salvage) clear(dir string, dirs map[string]bool) error {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		n := s.keep[name]
		if n == nil && dirs[name] { // no entry lists it
			n = &kept{node: &node{name: name, mode: dirMode}}
		}
		stays := n != nil && n.mode.Type() == e.Type()
		if stays {
			if stays, err = s.right(n, e); err != nil {
				return err
			}
		}
		if !stays {
			err = s.root.RemoveAll(name)
		} else if e.IsDir() {
			err = s.clear(name, dirs)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// right sets right what is to be known of an entry beside its content. What cannot be is not as it should be.
func (s *salvage) right(n *kept, e fs.DirEntry) (ok bool, err error) {
	n.seen = true
	if n.mode&fs.ModeSymlink != 0 {
		link, err := s.root.Readlink(n.name)
		n.seen = err == nil && link == n.link
		return n.seen, nil
	}
	info, err := e.Info()
	if err != nil {
		return false, err
	}
	if want := n.mode.Perm(); info.Mode() != n.mode.Type()|want {
		if err := s.root.Chmod(n.name, want); err != nil {
			return false, err
		}
	}
	if n.mode.IsRegular() && n.noted && !s.o.Mtime.IsZero() && !info.ModTime().Equal(s.o.Mtime) {
		err = s.root.Chtimes(n.name, s.o.Mtime, s.o.Mtime)
	}
	return err == nil, err
}
