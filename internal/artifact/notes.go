package artifact

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Notes say of a stage which frames are written in it, in the order in which they were. They are appended as it grows and never synced:
// each has a checksum, and what follows one that is torn is not read. They are hints: Salvage reads what they lead it to.
//
// A note is, integers little-endian, n standing for a uvarint:
//
//	 0  4  length of what follows the checksum
//	 4  8  begin of the SHA-256 of noteMagic and of that
//	12     n number of the frame in its artifact; then as in an inventory 32 bytes SHA-256 of its content, n size of its content, one
//	       byte of heldBits, n bytes of a file in a slice, n bytes of entries, whose files are without sums
const (
	noteMagic = "TLNT\x01"
	noteHead  = 12
	maxNotes  = 64 << 20 // bytes of all that are read
)

// note is that of a frame that was parsed; nil for one whose content cannot be made again of its files, and if nobody wants notes.
func (b *bring) note(i int) []byte {
	h := b.brought[i]
	if b.o.Notes == nil || !h.own() {
		return nil
	}
	before := ""
	for _, n := range b.nodes[i] {
		h.entries = appendEntry(h.entries, unsummed(n), before)
		before = n.name
	}
	return appendNote(nil, i, h)
}

// unsummed is the entry without the sum of its file, which a writer may be about to set.
func unsummed(n *node) *node {
	return &node{name: n.name, mode: n.mode, size: n.size, link: n.link, left: true}
}

func appendNote(b []byte, frame int, h held) []byte {
	begin := len(b)
	b = append(b, make([]byte, noteHead)...)
	b = binary.AppendUvarint(b, uint64(frame)) // #nosec G115 -- not negative
	b = appendSize(append(b, h.content[:]...), h.size)
	b = appendSize(append(b, h.bits), h.part)
	b = appendText(b, string(h.entries))
	body := b[begin+noteHead:]
	binary.LittleEndian.PutUint32(b[begin:], uint32(len(body))) // #nosec G115 -- the entries of a frame have a few MiB at most
	copy(b[begin+4:begin+noteHead], noteSum(body))
	return b
}

func noteSum(body []byte) []byte {
	sum := sha256.New()
	_, _ = sum.Write([]byte(noteMagic))
	_, _ = sum.Write(body)
	return sum.Sum(nil)[:noteHead-4]
}

// readNotes gives the frames that are noted, by their numbers, as an inventory has them, but for the sums. A slice without the one before
// it is of no use.
func readNotes(data []byte) (frames []held, numbers []int) {
	noted := map[int]held{}
	for len(data) >= noteHead {
		size := int64(binary.LittleEndian.Uint32(data))
		if size > int64(len(data)-noteHead) {
			break
		}
		body := data[noteHead:][:size]
		if string(noteSum(body)) != string(data[4:noteHead]) {
			break
		}
		data = data[noteHead+size:]
		in := packed{b: body}
		number := in.size()
		h := held{content: [32]byte(in.take(32)), size: in.size(), bits: in.take(1)[0], part: in.size()}
		entries, before := held{entries: in.text()}, ""
		err := entries.each(func(n *node) error {
			n.left = false
			h.entries = appendEntry(h.entries, n, before)
			before = n.name
			return nil
		})
		if in.bad || len(in.b) > 0 || err != nil || number > 1<<30 || !h.own() {
			break
		}
		noted[int(number)] = h
	}
	for number := range noted {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	kept := numbers[:0]
	for _, number := range numbers {
		h := noted[number]
		if last := len(kept) - 1; h.bits&heldLater != 0 && (last < 0 || kept[last] != number-1 || frames[last].bits&heldSlice == 0) {
			continue
		}
		kept, frames = append(kept, number), append(frames, h)
	}
	return frames, kept
}
