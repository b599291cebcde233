package artifact

import (
	"crypto/sha256"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// source is a frame of an installed release.
type source struct {
	Installed
	at int
}

// rebuild makes the content of a frame from the files of an installed release, into buf, which has the size that it
// must have, and reports whether it is the content that is wanted. Nothing of the release or its inventory is believed.
func (s source) rebuild(buf []byte, want [32]byte) bool {
	h := s.Inventory.frames[s.at]
	if !h.own() {
		return false
	}
	r := rebuilder{dirs: dirs{root: s.Root}, out: buf[:0:len(buf)]}
	defer r.dirs.close()
	var err error
	switch {
	case h.bits&heldSlice != 0:
		err = r.slice(s.Inventory.frames, s.at)
	default:
		err = h.each(func(n *node) error { return r.entry(n, 0, n.size) })
		if h.bits&heldEnd != 0 {
			r.zeros(1024)
		}
	}
	return err == nil && len(r.out) == len(buf) && sha256.Sum256(buf) == want
}

type rebuilder struct {
	dirs dirs
	out  []byte // never longer than it was made for
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
		return nil
	}
	size := to - from
	if n.left || size < 0 || to > n.size || size > int64(cap(r.out)-len(r.out)) {
		return errInventory
	}
	if err := r.read(n.name, r.out[len(r.out):][:size], from); err != nil {
		return err
	}
	r.out = r.out[:len(r.out)+int(size)]
	if to == n.size {
		r.zeros(int(padded(n.size) - n.size))
	}
	return nil
}

func (r *rebuilder) zeros(n int) {
	if n <= cap(r.out)-len(r.out) {
		clear(r.out[len(r.out):][:n])
		r.out = r.out[:len(r.out)+n]
	}
}

// read fills b from a file. A pipe that stands in its place must not hold the reader up.
func (r *rebuilder) read(name string, b []byte, from int64) error {
	dir, base := split(name)
	d, err := r.dirs.at(dir)
	if err != nil {
		return err
	}
	f, err := d.OpenFile(base, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if len(b) == 0 {
		return nil
	}
	_, err = io.ReadFull(io.NewSectionReader(f, from, int64(len(b))), b)
	return err
}
