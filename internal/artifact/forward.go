package artifact

import (
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Bringing a directory forward. What stands on the disk is in two parts, both known from the inventory alone: nodes has
// what the reused frames brought, old the rest. A path of old stays if something of the same kind is added at it,
// is cleared if something else is, and is cleared at the end if nothing was.

// stands notes what the directory has that no reused frame brought.
func (s *stage) stands(n *node) {
	if _, shared := s.shared(n.name); shared {
		return
	}
	if s.old == nil {
		s.old = map[string]*node{}
	}
	s.old[n.name] = n
	for dir := path.Dir(n.name); dir != "." && s.nodes[dir] == nil && s.old[dir] == nil; dir = path.Dir(dir) {
		s.old[dir] = &node{name: dir, mode: dirMode}
	}
}

// clear removes what stands at a path, for something else to take it.
func (s *stage) clear(old *node) error {
	var err error
	if old.mode.IsDir() {
		err = s.root.RemoveAll(old.name)
	} else {
		err = s.hand.remove(old.name, 0)
	}
	if err != nil {
		return diskError{fmt.Errorf("unpack: clear %q: %w", old.name, err)}
	}
	return nil
}

// clearGone removes what nothing was added at, what lies in a directory before the directory. Those above a shared path stay.
func (s *stage) clearGone() error {
	var gone []*node
	for name, n := range s.old {
		if s.nodes[name] == nil && !s.cleared(name) && (!n.mode.IsDir() || s.aboveShared(name) == nil) {
			gone = append(gone, n)
		}
	}
	slices.SortFunc(gone, func(a, b *node) int { return comparePaths(b.name, a.name) })
	for _, n := range gone {
		flags := 0
		if n.mode.IsDir() {
			flags = unix.AT_REMOVEDIR
		}
		if err := s.hand.remove(n.name, flags); err != nil {
			return diskError{fmt.Errorf("unpack: remove %q: %w", n.name, err)}
		}
	}
	return nil
}

// cleared reports whether a directory above name is none any more.
func (s *stage) cleared(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if n := s.nodes[dir]; n != nil {
			return !n.mode.IsDir()
		}
	}
	return false
}
