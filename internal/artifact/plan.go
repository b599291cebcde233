package artifact

import (
	"hash/fnv"
	"path"
)

// Sizes that steer where frames are cut, in bytes of tar stream. They may change from one version to the next: a
// reader knows frames from the index alone. A change costs every server one full download.
const (
	cutTarget = 1 << 20 // aim
	cutLimit  = 4 << 20 // most that the planner puts into one frame, and the size of a slice
)

// frame is a piece of the tar stream: whole entries, or the bytes from..to of the one file that is sliced. Without
// entries it is the end of the archive.
type frame struct {
	entries  []Entry
	sliced   bool
	from, to int64
}

// plan cuts the entries into frames. A frame ends
//   - at a change of directory, once it has the target size, or half of it and one in four directories, by hash;
//   - within a directory, once it has the target size and one in eight paths, by hash, or at the limit;
//   - around a file of the target size or more, which is alone.
//
// All of this is a function of paths and sizes near the cut, so that after a difference between two trees the cuts
// soon agree again.
func plan(entries []Entry) []frame {
	var frames []frame
	start, size := 0, int64(0)
	cut := func(end int) {
		if end > start {
			frames = append(frames, frame{entries: entries[start:end]})
		}
		start, size = end, 0
	}
	last := ""
	for i, e := range entries {
		dir := e.Path
		if !e.Mode.IsDir() {
			dir = path.Dir(e.Path)
		}
		n := tarSize(e)
		switch {
		case n >= cutTarget, size+n > cutLimit:
			cut(i)
		case size < cutTarget/2:
		case dir != last:
			if size >= cutTarget || oneIn(4, dir) {
				cut(i)
			}
		case size >= cutTarget && oneIn(8, e.Path):
			cut(i)
		}
		last, size = dir, size+n
		switch {
		case n > cutLimit:
			frames = append(frames, sliced(entries[i:i+1])...)
			start, size = i+1, 0
		case n >= cutTarget:
			cut(i + 1)
		}
	}
	cut(len(entries))
	return append(frames, frame{})
}

// sliced cuts one large file.
func sliced(file []Entry) []frame {
	var frames []frame
	for from := int64(0); from < file[0].Size; from += cutLimit {
		frames = append(frames, frame{entries: file, sliced: true, from: from, to: min(from+cutLimit, file[0].Size)})
	}
	return frames
}

// tarSize is an upper bound of the bytes that e takes in the tar stream, and exact where ustar has room for it.
func tarSize(e Entry) int64 {
	n := 512 + roundUp(e.Size)
	if len(e.Path) >= 100 || len(e.Link) > 100 || !ascii(e.Path) || !ascii(e.Link) {
		n += 512 + roundUp(int64(len(e.Path)+len(e.Link))+64)
	}
	return n
}

func roundUp(n int64) int64 { return (n + 511) &^ 511 }

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func oneIn(n uint64, s string) bool {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()>>32%n == 0
}
