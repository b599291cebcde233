package artifact

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
)

// tarEnd is the bytes of the two zero blocks that end a tar stream.
const tarEnd = 1024

// appendHeader appends the tar header of e, PAX header included.
func appendHeader(b []byte, e Entry) ([]byte, error) {
	if plain(e) {
		return appendPlain(b, e), nil
	}
	h, err := header(e)
	return append(b, h...), err
}

// plain reports whether ustar has room for all of e in the header's own fields, as for nearly every entry.
func plain(e Entry) bool {
	return len(e.Path) < 100 && len(e.Link) <= 100 && e.Size < 1<<33 && ascii(e.Path) && ascii(e.Link)
}

// appendPlain appends what header makes of an entry that is plain, in a fraction of its time and without garbage.
func appendPlain(b []byte, e Entry) []byte {
	n := len(b)
	b = append(b, make([]byte, 512)...)
	h := b[n:]
	octal := func(field []byte, v int64) {
		for i := len(field) - 1; i >= 0; i, v = i-1, v>>3 {
			field[i] = byte('0' + v&7)
		}
	}
	kind := byte(tar.TypeReg)
	copy(h, e.Path)
	switch e.Mode.Type() {
	case fs.ModeDir:
		kind, h[len(e.Path)] = tar.TypeDir, '/'
	case fs.ModeSymlink:
		kind = tar.TypeSymlink
		copy(h[157:257], e.Link)
	}
	octal(h[100:107], int64(e.Mode.Perm()))
	octal(h[108:115], 0) // uid
	octal(h[116:123], 0) // gid
	octal(h[124:135], e.Size)
	octal(h[136:147], epoch.Unix())
	copy(h[148:156], "        ")
	h[156] = kind
	copy(h[257:265], "ustar\x0000")
	octal(h[329:336], 0) // device, major
	octal(h[337:344], 0) // and minor
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	octal(h[148:154], sum)
	h[154] = 0
	return b
}

// header is the tar header of e, PAX header included.
func header(e Entry) ([]byte, error) {
	h := tar.Header{Typeflag: tar.TypeReg, Name: e.Path, Size: e.Size, Mode: int64(e.Mode.Perm()), ModTime: epoch}
	switch e.Mode.Type() {
	case fs.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		return nil, fmt.Errorf("pack %q: %w", e.Path, err)
	}
	// The writer leaves out of the header what is not ASCII, since a PAX record says it whole. Some readers take a link
	// whose header has no target at all for one without.
	if own := b.Len() - 512; e.Link != "" && b.Bytes()[own+157] == 0 {
		return withTarget(b.Bytes(), own), nil
	}
	return b.Bytes(), nil
}

// withTarget puts a stand-in for a link's target into the header at offset own, and its checksum right.
func withTarget(b []byte, own int) []byte {
	b[own+157] = '-'
	sum := 0
	for i, c := range b[own : own+512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(b[own+148:own+156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
