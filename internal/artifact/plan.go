package artifact

import (
	"cmp"
	"hash/fnv"
	"maps"
	"path"
	"slices"
	"strings"
)

// cutLimit is the most that the planner puts into one frame, in bytes of tar stream, and the size of a slice.
const cutLimit = 4 << 20

// cuts is the rule by which frames are cut, of which docs/performance.md has the table. It may change from one version to
// the next: a reader knows frames from the index alone. A change costs every server one full download.
var cuts = cutRule{target: 3 << 19, least: 16 << 10, share: 16, edge: 8, alone: 2}

// cutRule steers where frames are cut. Sizes are bytes of tar stream.
type cutRule struct {
	target int64 // aim
	least  int64 // aim in the smallest regions
	share  int64 // the smallest regions are those that together make up one in so many bytes of the tree; 0: none
	edge   int64 // a frame ends at the edge of a package, once it has one in so many bytes of its aim; 0: no edges
	alone  int64 // a file that has one in so many bytes of the aim is alone
}

// frame is a piece of the tar stream: whole entries, or the bytes from..to of the one file that is sliced. Without
// entries it is the end of the archive.
type frame struct {
	entries  []Entry
	sliced   bool
	from, to int64
}

// bound is at least what the frame's content takes in the tar stream.
func (f frame) bound() int64 {
	if f.sliced {
		return 3*512 + maxPath + 64 + roundUp(f.to-f.from)
	}
	n := int64(tarEnd)
	for _, e := range f.entries {
		n += tarSize(e)
	}
	return n
}

// plan cuts the entries into frames by the rule. The aim is large where there is much, so that it compresses well, and
// small in the regions that are small beside the rest: an app's own code beside what it depends on, a lock file, the version file.
// Those change with every release. A frame ends
//   - where another region begins, once it has the least size, or where the aim is another;
//   - at the edge of a package, from an eighth of its aim on: packages change as a whole;
//   - at a change of directory, from half its aim on;
//   - within a directory, from its aim on;
//   - at the limit, and around a file of half the aim or more, which is alone.
//
// Where a frame may end, it does by a hash, the likelier the more the package, the directory or the file before
// has brought. Were it the size alone, one file more would move all cuts that follow. So after a difference between
// two trees the cuts soon agree again. A region whose aim changes as it grows costs every server that region once.
func (r cutRule) plan(entries []Entry) []frame {
	var frames []frame
	start, size := 0, int64(0)
	cut := func(end int) {
		if end > start {
			frames = append(frames, frame{entries: entries[start:end]})
		}
		start, size = end, 0
	}
	aims := r.aims(entries)
	var last struct { // of the entry before
		dir, region        string
		aim                int64
		file, folder, unit int64 // bytes of it, and of its directory and its package so far
	}
	for i, e := range entries {
		dir, reg, n := folder(e), region(e), tarSize(e)
		aim := aims[reg]
		turn, side := dir != last.dir, edge(last.dir, dir)
		switch {
		case size+n > cutLimit, n >= aim/r.alone, aim != last.aim, reg != last.region && size >= r.least:
			cut(i)
		case side && r.edge > 0 && size >= aim/r.edge && chance(last.unit, aim/r.edge, dir),
			turn && size >= aim/2 && chance(last.folder, aim/2, dir),
			!turn && size >= aim && chance(last.file, aim, e.Path):
			cut(i)
		}
		if side {
			last.unit = 0
		}
		if turn {
			last.folder = 0
		}
		last.dir, last.region, last.aim = dir, reg, aim
		last.file, last.folder, last.unit, size = n, last.folder+n, last.unit+n, size+n
		switch {
		case n > cutLimit:
			frames = append(frames, sliced(entries[i:i+1])...)
			start, size = i+1, 0
		case n >= aim/r.alone:
			cut(i + 1)
		}
	}
	cut(len(entries))
	return append(frames, frame{})
}

// aims says how large frames should be in each region.
func (r cutRule) aims(entries []Entry) map[string]int64 {
	sizes, total := map[string]int64{}, int64(0)
	for _, e := range entries {
		n := tarSize(e)
		sizes[region(e)] += n
		total += n
	}
	aims, small := map[string]int64{}, int64(0)
	for _, name := range slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[a], sizes[b]), strings.Compare(a, b))
	}) {
		aims[name] = r.target
		if small += sizes[name]; r.share == 0 || small > total/r.share {
			continue
		}
		// Few steps, far from each other: a region that grows seldom passes one.
		for aims[name] = r.least; aims[name]*128 <= sizes[name] && aims[name] < r.target; {
			aims[name] = min(aims[name]*4, r.target)
		}
	}
	return aims
}

// region is the first component of an entry's path if that is a directory, and "" for all files at the top.
func region(e Entry) string {
	if i := strings.IndexByte(e.Path, '/'); i >= 0 {
		return e.Path[:i]
	}
	if e.Mode.IsDir() {
		return e.Path
	}
	return ""
}

// folder is the directory of an entry; a directory begins its own.
func folder(e Entry) string {
	if e.Mode.IsDir() {
		return e.Path
	}
	return path.Dir(e.Path)
}

// edge reports whether one package ends and another begins between two directories: they are in different directories of
// the second level, or of the third below an npm scope.
func edge(last, dir string) bool {
	if dir == last {
		return false
	}
	a, b := strings.SplitN(last, "/", 4), strings.SplitN(dir, "/", 4)
	depth := 2
	if len(b) > 1 && strings.HasPrefix(b[1], "@") {
		depth = 3
	}
	for i := range depth {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return true
		}
	}
	return false
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

// chance is true for n of so many names, by their hash: always, where n is as many.
func chance(n, of int64, name string) bool {
	h := fnv.New64a()
	h.Write([]byte(name))
	x := h.Sum64() // its upper bits hardly know the last bytes
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x>>40*uint64(of) < uint64(n)<<24 // #nosec G115 -- sizes are not negative, and below 2^40
}
