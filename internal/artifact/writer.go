package artifact

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// writer makes files. It is one goroutine's.
type writer struct {
	place
	buf []byte
	sum hash.Hash
}

func newWriter(s *site) *writer {
	return &writer{place: place{site: s}, sum: sha256.New()}
}

// item is a file to write, or a slice of a large one.
type item struct {
	*node
	content []byte
	old     *node // what the directory that is brought forward has at this path: a file or a symlink; nil for nothing

	// of a slice
	large       *large
	last        bool
	after, done chan struct{} // closed when the slice before is written, and this one
}

// large is a file that comes in slices, each of which is one item. They are written in order: each waits for the one
// before.
type large struct {
	name string // while it is written
	fd   int
	open bool
	sum  hash.Hash
}

// abandon closes the file that was not finished.
func (l *large) abandon() {
	if l.open {
		l.open = false
		_ = unix.Close(l.fd)
	}
}

func (w *writer) failed(n *node, err error) error {
	return diskError{fmt.Errorf("unpack %q: %w", n.name, err)}
}

// write writes a file whose content is at hand, or the next slice of it.
func (w *writer) write(i item) error {
	if i.large != nil {
		return w.slice(i)
	}
	return w.file(i)
}

// file writes a whole file, unless the old one is the same.
func (w *writer) file(i item) error {
	i.sum = sha256.Sum256(i.content)
	if i.old != nil {
		if i.old.mode == i.mode && i.old.size == i.size && i.old.sum == i.sum {
			return nil
		}
		if err := w.remove(i.name, 0); err != nil {
			return w.failed(i.node, err)
		}
	}
	fd, err := w.create(i.name, i.mode)
	if err != nil {
		return w.failed(i.node, err)
	}
	if err := write(fd, i.content); err != nil {
		_ = unix.Close(fd)
		return w.failed(i.node, err)
	}
	if err := w.done(fd, i.name, i.mode); err != nil {
		return w.failed(i.node, err)
	}
	return nil
}

// stream writes a whole file whose content is read along.
func (w *writer) stream(n *node, content io.Reader) error {
	fd, err := w.create(n.name, n.mode)
	if err != nil {
		return w.failed(n, err)
	}
	if w.buf == nil {
		w.buf = make([]byte, 128<<10)
	}
	w.sum.Reset()
	for left := n.size; left > 0; {
		buf := w.buf[:min(left, int64(len(w.buf)))]
		if _, err := io.ReadFull(content, buf); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("entry %q: %w", n.name, err)
		}
		_, _ = w.sum.Write(buf)
		if err := write(fd, buf); err != nil {
			_ = unix.Close(fd)
			return w.failed(n, err)
		}
		left -= int64(len(buf))
	}
	w.sum.Sum(n.sum[:0])
	if err := w.done(fd, n.name, n.mode); err != nil {
		return w.failed(n, err)
	}
	return nil
}

// slice writes the next slice of a large file. Where the directory has a file already, the new one takes its place when
// it is whole: slices that stay the same are read from the old one meanwhile.
func (w *writer) slice(i item) error {
	l := i.large
	if !l.open {
		fd, err := w.create(l.name, i.mode)
		if err != nil {
			return w.failed(i.node, err)
		}
		l.fd, l.open = fd, true
		// Its blocks lie together although it grows among others, and a full disk is noticed now. Not every filesystem can.
		if err := unix.Fallocate(fd, 0, 0, i.size); err == unix.ENOSPC || err == unix.EDQUOT {
			return w.failed(i.node, os.NewSyscallError("fallocate", err))
		}
	}
	_, _ = l.sum.Write(i.content)
	if err := write(l.fd, i.content); err != nil {
		return w.failed(i.node, err)
	}
	if !i.last {
		return nil
	}
	l.sum.Sum(i.sum[:0])
	l.open = false
	if err := w.done(l.fd, l.name, i.mode); err != nil {
		return w.failed(i.node, err)
	}
	if l.name == i.name {
		return nil
	}
	dir, base := split(i.name)
	at, err := w.at(dir)
	if err == nil { // a slice's file lies at the top until it is whole
		err = os.NewSyscallError("renameat", unix.Renameat(w.fd, l.name, at, base))
	}
	if err != nil {
		return w.failed(i.node, err)
	}
	return nil
}
