package blocks

import (
	"maps"
	"math/rand/v2"
)

// History is what was written to a disk since Record, and what was on it then.
type History struct {
	start pages
	log   []op
}

// Ops is the number of writes and flushes.
func (h *History) Ops() int { return len(h.log) }

// Flushes is the number of flushes.
func (h *History) Flushes() (n int) {
	for _, o := range h.log {
		if o.data == nil {
			n++
		}
	}
	return n
}

// Image is a disk as a power cut may have left it.
type Image struct {
	pages pages
	At    int    // how many writes and flushes there were
	Lost  int    // how many writes since the last flush are not there
	Kind  string // "all", "none", "some" or "torn"
}

// Images calls see with images of every moment: all that was written, nothing of what was written since the last flush, the
// last write torn, and several with some of the writes since the last flush. It stops when see says so.
func (h *History) Images(several int, random *rand.Rand, see func(Image) bool) {
	durable := maps.Clone(h.start) // as of the last flush
	var since []op                 // writes after it
	for at := 0; at <= len(h.log); at++ {
		if at > 0 {
			last := h.log[at-1]
			if last.data == nil {
				durable = maps.Clone(durable)
				for _, o := range since {
					put(durable, nil, o.data, o.off)
				}
				since = nil
			} else {
				since = append(since, last)
			}
		}
		if !see(Image{image(durable, since), at, 0, "all"}) {
			return
		}
		if len(since) == 0 {
			continue
		}
		if !see(Image{durable, at, len(since), "none"}) {
			return
		}
		// Filesystems rely on it that a disk writes a page whole or not at all: their own first block is one.
		if last := since[len(since)-1]; len(last.data) > pageSize {
			torn := op{last.off, last.data[:pageSize*(1+random.IntN((len(last.data)-1)/pageSize))]}
			if !see(Image{image(durable, append(since[:len(since)-1:len(since)-1], torn)), at, 0, "torn"}) {
				return
			}
		}
		for range several {
			var kept []op
			for _, o := range since {
				if random.IntN(2) == 0 {
					kept = append(kept, o)
				}
			}
			if !see(Image{image(durable, kept), at, len(since) - len(kept), "some"}) {
				return
			}
		}
	}
}

// image lays writes over a disk.
func image(below pages, writes []op) pages {
	out := maps.Clone(below)
	for _, o := range writes {
		put(out, nil, o.data, o.off)
	}
	return out
}
