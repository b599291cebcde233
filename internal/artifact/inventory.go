package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// Inventory says which frame of its artifact brought which entries of an installed release: for each frame the digest of
// its content, and for each entry path, kind, size and sum. The zero Inventory has no frames.
//
// It is what the agent itself wrote down, and as a Base it is believed: that no file is looked at is the point. What bounds a
// wrong one: its own checksum, against accidents; Digest, against the inventory of another release; every frame's size must
// be the one in the signed index, and the entries and bytes of all must add up to what was signed; every path is held to the
// rules before it is used. Beyond that, whoever can write it can write the releases. For Others nothing is believed.
//
// As a file it is, integers little-endian, n standing for a uvarint:
//
//	"TLIV", 4 bytes of version: 1
//	32 bytes of the tree's digest
//	n shared paths, each n bytes
//	n frames, each:
//	   32 bytes SHA-256 of its content, n size of its content, one byte of heldBits, n bytes of a file in a slice,
//	   n bytes of entries, each: one byte of its kind, the path as n bytes shared with the path before and n bytes of its own;
//	   of a file n size, and 32 bytes SHA-256 unless it is left out; of a symlink n bytes of target
//	32 bytes SHA-256 of all that
type Inventory struct {
	tree   [32]byte
	skips  []string
	frames []held
}

// held is a frame of an installed release.
type held struct {
	content [32]byte
	size    int64 // of its content
	bits    byte  // heldBits
	part    int64 // of a slice: bytes of the file
	entries []byte
}

// heldBits.
const (
	heldSlice = 1 << iota // a slice of a file: the first, which has the entry, or one that follows
	heldLater             // a slice that follows
	heldLoose             // not on its own: what its content makes depends on the frames before
	heldEnd               // the end of the archive
	heldDot               // has an entry for the tree itself
)

// Kinds of entries.
const (
	kindDir = iota
	kindFile
	kindProgram // a file with mode 0755
	kindLink
	kindLeft // a file that is left out, since its path is shared
	kindLeftProgram
)

const (
	inventoryMagic   = "TLIV\x01\x00\x00\x00"
	maxInventory     = 64 << 20
	digestName       = "t1:"
	inventoryMinimum = len(inventoryMagic) + 32 + 2 + 32
)

// Digest is the Tree.Digest of the release that the inventory describes. A caller compares it with what it has on record for
// the release, so that an inventory of another release, or of another state of it, is not believed.
func (v Inventory) Digest() string { return digestName + hex.EncodeToString(v.tree[:]) }

// Fits reports whether a release with this inventory can be the Base of one that is brought with the same shared paths.
func (v Inventory) Fits(skip []string) bool {
	a, b := cleanSkips(skip), slices.Clone(v.skips)
	slices.Sort(a)
	slices.Sort(b)
	return len(v.frames) > 0 && slices.Equal(slices.Compact(a), slices.Compact(b))
}

// own reports whether the content of the frame alone says what it brings, as a whole or as a slice.
func (h held) own() bool { return h.bits&(heldLoose|heldDot) == 0 }

// WriteTo writes the inventory for ReadInventory.
func (v Inventory) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v.encode())
	return int64(n), err
}

func (v Inventory) encode() []byte {
	size := inventoryMinimum + 20
	for _, f := range v.frames {
		size += len(f.entries) + 72
	}
	b := append(make([]byte, 0, size), inventoryMagic...)
	b = append(b, v.tree[:]...)
	b = binary.AppendUvarint(b, uint64(len(v.skips)))
	for _, s := range v.skips {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(v.frames)))
	for _, f := range v.frames {
		b = append(b, f.content[:]...)
		b = appendSize(b, f.size)
		b = append(b, f.bits)
		b = appendSize(b, f.part)
		b = appendText(b, string(f.entries))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendSize(b []byte, n int64) []byte {
	return binary.AppendUvarint(b, uint64(n)) // #nosec G115 -- sizes are not negative
}

var errInventory = errors.New("not an inventory, or not a whole one")

// ReadInventory reads what WriteTo has written. What is cut, changed, or of another version is an error.
func ReadInventory(r io.Reader) (Inventory, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInventory+1))
	if err != nil {
		return Inventory{}, fmt.Errorf("read inventory: %w", err)
	}
	v, err := decodeInventory(data)
	if err != nil {
		return Inventory{}, fmt.Errorf("read inventory: %w", err)
	}
	return v, nil
}

func decodeInventory(data []byte) (Inventory, error) {
	if len(data) < inventoryMinimum || len(data) > maxInventory || string(data[:len(inventoryMagic)]) != inventoryMagic {
		return Inventory{}, errInventory
	}
	all := len(data) - 32
	if sha256.Sum256(data[:all]) != [32]byte(data[all:]) {
		return Inventory{}, errInventory
	}
	in := packed{b: data[len(inventoryMagic):all]}
	v := Inventory{tree: [32]byte(in.take(32))}
	for range in.count(1) {
		v.skips = append(v.skips, string(in.text()))
	}
	for range in.count(36) {
		f := held{content: [32]byte(in.take(32)), size: in.size(), bits: in.take(1)[0], part: in.size(), entries: in.text()}
		v.frames = append(v.frames, f)
	}
	// One encoding for one inventory.
	if in.bad || len(in.b) > 0 || !bytes.Equal(v.encode(), data) {
		return Inventory{}, errInventory
	}
	return v, nil
}

// packed is what is left to decode. What is not there reads as zeros, and is remembered.
type packed struct {
	b   []byte
	bad bool
}

func (p *packed) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.b, p.bad = nil, true
		return make([]byte, min(max(n, 0), 32))
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *packed) size() int64 {
	n, used := binary.Uvarint(p.b)
	if used <= 0 || n > 1<<50 {
		p.b, p.bad = nil, true
		return 0
	}
	p.b = p.b[used:]
	return int64(n) // #nosec G115 -- see above
}

func (p *packed) text() []byte {
	n := p.size()
	if n > int64(len(p.b)) {
		p.b, p.bad = nil, true
		return nil
	}
	return p.take(int(n))
}

// count is a number of things that have at least so many bytes each.
func (p *packed) count(each int64) int {
	n := p.size()
	if n > int64(len(p.b))/each {
		p.b, p.bad = nil, true
		return 0
	}
	return int(n)
}

// appendEntry appends an entry behind one with the path before.
func appendEntry(b []byte, n *node, before string) []byte {
	kind := byte(kindFile)
	switch {
	case n.mode.IsDir():
		kind = kindDir
	case n.mode&fs.ModeSymlink != 0:
		kind = kindLink
	case n.left && n.mode&0o100 != 0:
		kind = kindLeftProgram
	case n.left:
		kind = kindLeft
	case n.mode&0o100 != 0:
		kind = kindProgram
	}
	same := 0
	for same < len(before) && same < len(n.name) && before[same] == n.name[same] {
		same++
	}
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(same)) // #nosec G115 -- not negative
	b = appendText(b, n.name[same:])
	switch kind {
	case kindLink:
		b = appendText(b, n.link)
	case kindFile, kindProgram:
		b = append(appendSize(b, n.size), n.sum[:]...)
	case kindLeft, kindLeftProgram:
		b = appendSize(b, n.size)
	}
	return b
}

// each gives the entries of the frame to f. A path that no entry can have is an error.
func (h held) each(f func(*node) error) error {
	in := packed{b: h.entries}
	var name []byte
	for len(in.b) > 0 {
		kind := in.take(1)[0]
		same := in.size()
		rest := in.text()
		if in.bad || same > int64(len(name)) || same+int64(len(rest)) > maxPath {
			return errInventory
		}
		name = append(name[:same], rest...)
		n := &node{name: string(name)}
		switch kind {
		case kindDir:
			n.mode = dirMode
		case kindLink:
			n.mode, n.link = fs.ModeSymlink, string(in.text())
		case kindFile, kindProgram:
			n.size, n.sum = in.size(), [32]byte(in.take(32))
		case kindLeft, kindLeftProgram:
			n.size, n.left = in.size(), true
		default:
			return errInventory
		}
		switch kind {
		case kindFile, kindLeft:
			n.mode = 0o644
		case kindProgram, kindLeftProgram:
			n.mode = 0o755
		}
		if in.bad || checkPath(n.name) != nil {
			return errInventory
		}
		if err := f(n); err != nil {
			return err
		}
	}
	return nil
}

// positions finds frames by their content: the first with it.
func (v Inventory) positions() map[[32]byte]int {
	at := make(map[[32]byte]int, len(v.frames))
	for i, f := range slices.Backward(v.frames) {
		if f.own() {
			at[f.content] = i
		}
	}
	return at
}

// Missing counts the frames of x that none of the inventories has, and their bytes in the artifact: what Bring has to
// fetch, if all that is installed is sound.
func Missing(x Index, have ...Inventory) (frames int, bytes int64) {
	held := map[[32]byte]bool{}
	for _, v := range have {
		for _, f := range v.frames {
			if f.own() {
				held[f.content] = true
			}
		}
	}
	for _, f := range x.Frames {
		if !held[f.Content] {
			frames, bytes = frames+1, bytes+f.Size
		}
	}
	return frames, bytes
}

// treeSum is the digest of a tree without its name.
func treeSum(digest string) (sum [32]byte) {
	b, _ := hex.DecodeString(strings.TrimPrefix(digest, digestName))
	copy(sum[:], b)
	return sum
}
