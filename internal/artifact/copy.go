package artifact

import (
	"crypto/sha256"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// source is a frame of an installed release.
type source struct {
	*shelf
	at int
}

// shelf is an installed release that frames are copied from.
type shelf struct {
	inventory Inventory
	site      *site // nil if it cannot be opened
}

// rebuild makes the content of a frame from the files of an installed release, into buf, which has the size that it
// must have, and reports whether it is the content that is wanted. Nothing of the release or its inventory is believed.
func (s source) rebuild(buf []byte, want [32]byte) bool {
	r := rebuilder{place: place{site: s.site}}
	defer r.close()
	return r.rebuild(s, buf, want)
}

func (r *rebuilder) rebuild(s source, buf []byte, want [32]byte) bool {
	h := s.inventory.frames[s.at]
	if !h.own() {
		return false
	}
	r.out = buf[:0:len(buf)]
	var err error
	switch {
	case h.bits&heldSlice != 0:
		err = r.slice(s.inventory.frames, s.at)
	default:
		err = h.each(func(n *node) error { return r.entry(n, 0, n.size) })
		if h.bits&heldEnd != 0 {
			r.zeros(1024)
		}
	}
	return err == nil && len(r.out) == len(buf) && sha256.Sum256(buf) == want
}

type rebuilder struct {
	place
	out []byte // never longer than it was made for

	instead  string                                // a file to read in the place of the entry's
	salvages bool                                  // the files are to stay: they have no byte more, and are read from the disk, not from memory
	met      func(n *node, from int64, out []byte) // told of every entry, and which bytes of its file are in out; nil: nobody
}

// slice makes the slice of a large file that the frame holds. The entry is in the first.
func (r *rebuilder) slice(frames []held, at int) error {
	from, first := int64(0), at
	for frames[first].bits&heldLater != 0 {
		if first--; first < 0 {
			return errInventory
		}
		from += frames[first].part
	}
	return frames[first].each(func(n *node) error { return r.entry(n, from, from+frames[at].part) })
}

// entry appends the header of an entry if its content begins here, the bytes from..to, and the padding if it ends here.
func (r *rebuilder) entry(n *node, from, to int64) error {
	if from == 0 {
		mode := n.mode
		if mode&fs.ModeSymlink != 0 {
			mode |= 0o755
		}
		head, err := header(Entry{Path: n.name, Mode: mode, Size: n.size, Link: n.link})
		if err != nil || len(head) > cap(r.out)-len(r.out) {
			return errInventory
		}
		r.out = append(r.out, head...)
	}
	if !n.mode.IsRegular() {
		r.tell(n, 0, nil)
		return nil
	}
	size := to - from
	if n.left || size < 0 || to > n.size || size > int64(cap(r.out)-len(r.out)) {
		return errInventory
	}
	name := n.name
	if r.instead != "" {
		name = r.instead
	}
	content := r.out[len(r.out):][:size]
	if err := r.read(name, content, from, to == n.size); err != nil {
		return err
	}
	r.tell(n, from, content)
	r.out = r.out[:len(r.out)+int(size)]
	if to == n.size {
		r.zeros(int(padded(n.size) - n.size))
	}
	return nil
}

func (r *rebuilder) tell(n *node, from int64, content []byte) {
	if r.met != nil {
		r.met(n, from, content)
	}
}

func (r *rebuilder) zeros(n int) {
	if n <= cap(r.out)-len(r.out) {
		clear(r.out[len(r.out):][:n])
		r.out = r.out[:len(r.out)+n]
	}
}

// read fills b from a file, to its end if that is said. A pipe that stands in its place must not hold the reader up.
func (r *rebuilder) read(name string, b []byte, from int64, end bool) error {
	dir, base := split(name)
	at, err := r.at(dir)
	if err != nil {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := openat(at, base, flags|unix.O_NOATIME, 0) // the moment of reading would be one more thing to write to the disk
	if errors.Is(err, unix.EPERM) {                      // another user's
		fd, err = openat(at, base, flags, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if end && r.salvages {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Size != from+int64(len(b)) {
			return errInventory
		}
	}
	if len(b) > 0 && r.salvages { // what is not on the disk yet stays in memory
		_ = unix.Fadvise(fd, from&^0xffff, 0, unix.FADV_DONTNEED)
	}
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, from)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n <= 0:
			return errInventory // it has become shorter
		default:
			b, from = b[n:], from+int64(n)
		}
	}
	return nil
}
