package artifact

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"time"
)

// SalvageOptions say what Salvage looks for.
type SalvageOptions struct {
	Notes  []byte     // that Bring gave when it worked on the directory
	Before *Inventory // of the release that the directory was before that; nil: none, or one that is not known
	Skip   []string   // as for the Bring that follows
	Mtime  time.Time  // likewise, of files that Bring wrote
}

// Salvaged is what was found in a directory that a Bring has not finished.
type Salvaged struct {
	Base  Inventory // of all that is left of the directory; without frames if there is nothing of use
	Parts Inventory // of files in it of which only slices are of use; for Others, with the same directory
	Bytes int64     // of the frames in the artifact that need not be fetched for that
	Notes []byte    // that say the same, in the place of the ones before
}

// Salvage makes a Base of a directory in which Bring was working when it came to its end: by an error, a kill or a power cut. x is what is wanted
// now, be it the same artifact or another.
//
// Nothing of the directory is believed, nor of the notes. They say which files to read: what they hold is a frame of x if it has the
// digest that x says, and stays where it is. It is read from the disk, or is still to be written to it: a descriptor for syncfs that
// was opened before is told of what goes wrong. Whatever else is in the directory is removed, and what the frames say beside files,
// modes and links, is set right. On any error the directory holds rubbish, or, if ctx has ended, what it held before.
func Salvage(ctx context.Context, root *os.Root, x Index, o SalvageOptions) (Salvaged, error) {
	s := salvage{x: x, o: o, root: root, skips: stage{skips: cleanSkips(o.Skip)}, keep: map[string]*kept{}}
	site, err := newSite(root, time.Time{})
	if err != nil {
		return Salvaged{}, fmt.Errorf("salvage: %w", err)
	}
	defer site.close()
	s.files.root, s.reader = root, rebuilder{place: place{site: site}, salvages: true}
	defer s.files.close()
	defer func() { s.reader.close() }()
	frames, numbers := readNotes(o.Notes)
	s.from = append(s.from, &shelf{Inventory{frames: frames}, site})
	if o.Before != nil {
		s.from = append(s.from, &shelf{*o.Before, site})
	}
	for _, f := range x.Frames {
		s.most = max(s.most, f.UnpackedSize)
	}
	s.buf = make([]byte, s.most)
	if err := s.unfinished(frames, numbers); err != nil {
		return Salvaged{}, fmt.Errorf("salvage: %w", err)
	}
	if err := s.read(ctx); err != nil {
		return Salvaged{}, fmt.Errorf("salvage: %w", err)
	}
	out := s.assemble()
	files := false // the end of the archive is in every artifact, and some directories are
	for _, k := range s.keep {
		files = files || k.mode.IsRegular()
	}
	if !files {
		return Salvaged{}, nil
	}
	if err := s.tidy(); err != nil {
		return Salvaged{}, fmt.Errorf("salvage: %w", err)
	}
	return out, nil
}

// salvage is one run of Salvage.
type salvage struct {
	x      Index
	o      SalvageOptions
	root   *os.Root
	from   []*shelf // what may be in the directory: first what is noted
	skips  stage    // for its shared alone
	files  dirs
	reader rebuilder
	most   int64
	buf    []byte

	found []salvaged // of each frame of x
	keep  map[string]*kept
}

// salvaged is a frame of x whose content is in the directory.
type salvaged struct {
	held             // without entries
	position         // where it was found
	ok       bool    // it is there
	noted    bool    // Bring wrote it
	nodes    []*node // of its entries; of a slice the file

	// of a slice
	begin int64    // in the file
	whole [32]byte // SHA-256 of the file up to its end; zero if slices before it are not there
}

// kept is an entry that stays.
type kept struct {
	*node
	noted bool
	seen  bool
}

// unfinished gives a large file whose slices were still coming the name that it was to get, if it has more of them than what is there.
func (s *salvage) unfinished(frames []held, numbers []int) error {
	for at, h := range frames {
		if h.bits&heldSlice == 0 || h.bits&heldLater != 0 {
			continue
		}
		begun := fmt.Sprint(probe, numbers[at])
		if info, err := s.root.Lstat(begun); err != nil || !info.Mode().IsRegular() {
			continue
		}
		name, count := "", map[string]int{}
		if err := h.each(func(n *node) error { name = n.name; return nil }); err != nil || name == "" {
			continue
		}
		for _, place := range []string{begun, name} {
			s.reader.instead = place
			for i := at; i < len(frames) && (i == at || frames[i].bits&heldLater != 0); i++ {
				if size := frames[i].size; size <= s.most && s.reader.rebuild(source{s.from[0], i}, s.buf[:size], frames[i].content) {
					count[place]++
				}
			}
			s.reader.instead = ""
		}
		if count[begun] > count[name] {
			if err := s.root.RemoveAll(name); err != nil {
				return err
			}
			if err := s.root.Rename(begun, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// read finds the frames of x in the directory.
func (s *salvage) read(ctx context.Context) error {
	s.found = make([]salvaged, len(s.x.Frames))
	var positions []map[[32]byte]int
	for _, from := range s.from {
		positions = append(positions, from.inventory.positions())
	}
	file := running{}
	for i, f := range s.x.Frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		var places []position
		if i > 0 && s.found[i-1].ok { // slices may be alike: the one that follows comes first
			places = append(places, position{s.found[i-1].from, s.found[i-1].at + 1})
		}
		for k := range s.from {
			if at, ok := positions[k][f.Content]; ok {
				places = append(places, position{k, at})
			}
		}
		for _, p := range places {
			if s.found[i] = s.look(f, p, &file); s.found[i].ok {
				break
			}
		}
	}
	return nil
}

// position is a frame of one of those that may be in the directory.
type position struct{ from, at int }

// running is the file whose slices come one after the other.
type running struct {
	name string
	sum  hash.Hash
	have int64
}

// look reads what may be the frame.
func (s *salvage) look(f Frame, p position, file *running) (got salvaged) {
	from := s.from[p.from]
	frames := from.inventory.frames
	if p.at >= len(frames) || frames[p.at].content != f.Content || frames[p.at].size != f.UnpackedSize {
		return salvaged{}
	}
	var contents [][]byte
	s.reader.met = func(n *node, begin int64, content []byte) {
		got.nodes, got.begin, contents = append(got.nodes, n), begin, append(contents, content)
	}
	if !s.reader.rebuild(source{from, p.at}, s.buf[:f.UnpackedSize], f.Content) {
		return salvaged{}
	}
	h := frames[p.at]
	got.ok, got.noted, got.position = true, p.from == 0, p
	got.held = held{content: h.content, size: h.size, bits: h.bits, part: h.part}
	if h.bits&heldSlice == 0 {
		for j, n := range got.nodes {
			n.sum = sha256.Sum256(contents[j])
		}
		return got
	}
	n := got.nodes[0]
	if got.begin == 0 {
		*file = running{name: n.name, sum: sha256.New()}
	}
	if file.sum != nil && file.name == n.name && file.have == got.begin {
		_, _ = file.sum.Write(contents[0])
		if file.have += int64(len(contents[0])); file.have == n.size {
			file.sum.Sum(got.whole[:0])
		}
	}
	return got
}

// group is all slices of the file that the slice at is one of: those from first on, before end.
func group(frames []held, at int) (first, end int) {
	first, end = at, at+1
	for frames[first].bits&heldLater != 0 && first > 0 {
		first--
	}
	for end < len(frames) && frames[end].bits&heldLater != 0 {
		end++
	}
	return first, end
}

// assemble makes inventories of what was found.
func (s *salvage) assemble() (out Salvaged) {
	out.Base.skips = s.skips.skips
	parts := map[position]int{}
	for i := 0; i < len(s.found); {
		f := s.found[i]
		end := i + 1
		if f.ok && f.bits&heldSlice != 0 {
			whole := f.begin == 0
			for ; whole && s.found[end-1].whole == ([32]byte{}); end++ {
				next := end < len(s.found) && s.found[end].ok && s.found[end].bits&heldLater != 0 && s.found[end].nodes[0].name == f.nodes[0].name
				if whole = next; !whole {
					break
				}
			}
			if !whole {
				s.part(&out, i, parts)
				i++
				continue
			}
			f.nodes[0].sum = s.found[end-1].whole
		}
		for ; i < end; i++ {
			if s.found[i].ok {
				s.add(&out, i)
			}
		}
	}
	return out
}

// add puts a frame that is there, all slices of its file included, into the Base.
func (s *salvage) add(out *Salvaged, i int) {
	f := s.found[i]
	out.Bytes += s.x.Frames[i].Size
	h, before := f.held, ""
	if h.bits&heldLater == 0 {
		for _, n := range f.nodes {
			if _, n.left = s.skips.shared(n.name); !n.left {
				s.keep[n.name] = &kept{node: n, noted: f.noted}
			}
			h.entries = appendEntry(h.entries, n, before)
			before = n.name
		}
	}
	out.Base.frames = append(out.Base.frames, h)
	s.note(out, i)
}

// part has the file stay that the slice is in, although others of its slices are missing. As far as Base goes it is a file that is in the
// way. parts says where in Parts the slices of a file begin.
func (s *salvage) part(out *Salvaged, i int, parts map[position]int) {
	f := s.found[i]
	n := f.nodes[0]
	if _, shared := s.skips.shared(n.name); shared {
		return
	}
	frames := s.from[f.position.from].inventory.frames
	first, end := group(frames, f.at)
	id := position{f.position.from, first}
	begin, known := parts[id]
	if !known {
		begin = len(out.Parts.frames)
		parts[id] = begin
		for _, h := range frames[first:end] {
			h.content = [32]byte{} // until it is known to be there
			out.Parts.frames = append(out.Parts.frames, h)
		}
		if s.keep[n.name] == nil {
			s.keep[n.name] = &kept{node: n, noted: f.noted}
			out.Base.frames = append(out.Base.frames, held{size: 1, bits: heldLoose, entries: appendEntry(nil, n, "")})
		}
	}
	out.Parts.frames[begin+f.at-first].content = f.content
	out.Bytes += s.x.Frames[i].Size
	s.note(out, i)
}

// note notes a frame that was found, as Bring does one that it has made.
func (s *salvage) note(out *Salvaged, i int) {
	h, before := s.found[i].held, ""
	if h.bits&heldLater == 0 {
		for _, n := range s.found[i].nodes {
			h.entries = appendEntry(h.entries, unsummed(n), before)
			before = n.name
		}
	}
	out.Notes = appendNote(out.Notes, i, h)
}
