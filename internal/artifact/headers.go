package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/towline/towline/internal/release"
)

// headers watches the header blocks of a tar stream as the tar parser reads them. What the parser makes of several extended
// headers before one entry is not what other readers make of them, and it does not say how many there were. So an entry
// may have one PAX header, or GNU's long name and long target, once each; all readers agree about those.
//
// The parser is what decides where an entry's content ends: headers is told by skip, and guesses nothing.
type headers struct {
	at    int64  // offset of the next header, -1 while it is not known
	block []byte // as much of it as was read, and for GNU's long texts the byte after it
	seen  []byte // kinds of the extended headers before the entry: x, L, K
	found bool   // the entry's own header was read:
	entry [512]byte
	err   error
}

// observe is shown the bytes at offset of the stream.
func (w *headers) observe(p []byte, offset int64) {
	for w.at >= 0 && w.err == nil {
		begin := w.at + int64(len(w.block)) - offset
		if begin < 0 || begin >= int64(len(p)) {
			return
		}
		want := 512 - len(w.block)
		if len(w.block) >= 512 {
			want = 513 - len(w.block)
		}
		w.block = append(w.block, p[begin:min(begin+int64(want), int64(len(p)))]...)
		if len(w.block) >= 512 {
			w.header()
		}
	}
}

// header judges a whole block.
func (w *headers) header() {
	b := w.block
	if [512]byte(b) == ([512]byte{}) { // the end, or what the parser refuses
		w.at, w.block = -1, w.block[:0]
		return
	}
	switch kind := b[156]; kind {
	case 'x', 'L', 'K':
		if kind != 'x' && len(b) < 513 {
			return
		}
		size, err := strconv.ParseInt(string(bytes.Trim(b[124:136], " \x00")), 8, 64)
		switch {
		case err != nil || size < 0:
			w.err = errors.New("the size of an extended header is no octal number")
		case kind != 'x' && (size < 2 || b[512] == 0):
			w.err = errors.New("a GNU long name is empty")
		case bytes.IndexByte(w.seen, kind) >= 0 || len(w.seen) > 0 && (kind == 'x' || w.seen[0] == 'x'):
			w.err = errors.New("one entry has several extended headers that say the same or mix formats")
		}
		w.seen = append(w.seen, kind)
		w.at += 512 + padded(size)
	default:
		w.found, w.entry = true, [512]byte(b)
		w.at = -1
	}
	w.block = w.block[:0]
}

// next is asked after the parser has returned an entry whose content begins at offset and has size bytes: it says what
// about the entry's headers is not accepted, and goes on behind the content.
func (w *headers) next(offset, size int64) error {
	entry, found, err := &w.entry, w.found, w.err
	w.seen, w.found, w.block, w.at = w.seen[:0], false, w.block[:0], offset+padded(size)
	switch {
	case err != nil:
		return err
	case !found:
		return errors.New("its header was not found where it should be")
	case (entry[156] == '1' || entry[156] == '2') && entry[157] == 0: // some readers then ignore an extended header's too
		return errors.New("the link's own header has no target")
	case string(entry[257:265]) == "ustar  \x00" && !(timeField(entry[345:357]) && timeField(entry[357:369])):
		return errors.New("the header is in GNU's format and has a prefix, which that has not")
	}
	return nil
}

// end is asked when the parser has seen the end of the archive.
func (w *headers) end() error {
	if w.err == nil && len(w.seen) > 0 {
		w.err = errors.New("an extended header stands before no entry")
	}
	if w.err != nil {
		return fmt.Errorf("%w: artifact: %w", release.ErrVerify, w.err)
	}
	return nil
}

// timeField reports whether a field of a GNU header holds a time: nothing, octal digits, or a binary number.
func timeField(b []byte) bool {
	return b[0] == 0 || b[0]&0x80 != 0 || len(bytes.Trim(b, " 01234567\x00")) == 0
}

// padded is how many bytes of the stream size bytes of content take.
func padded(size int64) int64 { return (size + 511) &^ 511 }
