package artifact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// scribe keeps notes, and breaks the run off after so many.
type scribe struct {
	mu    sync.Mutex
	data  []byte
	left  int // notes until stop; negative: never
	stop  func()
	whole int // notes
}

func (s *scribe) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, b...)
	if s.whole++; s.whole == s.left {
		s.stop()
	}
	return len(b), nil
}

// interrupted brings the artifact until so many frames are noted, and returns the notes.
func (m made) interrupted(t testing.TB, root *os.Root, frames int, o BringOptions) []byte {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	notes := &scribe{left: frames, stop: cancel}
	o.Want, o.Notes = m.a, notes
	if _, err := Bring(ctx, root, m.x, opener(m.data), o); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return notes.data
}

// resumed salvages the directory and brings the artifact from there. fetched is what that took from the store.
func (m made) resumed(t testing.TB, root *os.Root, s SalvageOptions, o BringOptions) (found Salvaged, tree Tree) {
	t.Helper()
	found, err := Salvage(t.Context(), root, m.x, s)
	must(t, err)
	o.Skip, o.Mtime = s.Skip, s.Mtime
	if len(found.Base.frames) == 0 {
		root = stageDir(t)
	} else {
		o.Base = &Installed{root, found.Base}
		o.Others = append([]Installed{{root, found.Parts}}, o.Others...)
	}
	tree, err = m.bring(t, root, o)
	must(t, err)
	checkTree(t, m, root, tree, s.Skip...)
	return found, tree
}

// Whatever was brought when a run ended need not be fetched again, for the same artifact; and the release is the same as one that was brought
// at once, whatever was done to the directory and the notes meanwhile, and whichever artifact is wanted then.
func TestSalvage(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		skip := rapid.SampledFrom([][]string{nil, nil, {"a"}, {"b/d", "d/a/"}}).Draw(r, "skip")
		files := drawTree(r, "files")
		dir := writeTree(t, files)
		m := assemble(t, dir, drawFrames(t, r, "files", dir))
		full, want, err := m.try(t, skip)
		if err != nil {
			r.Skip("shared paths rule it out: ", err)
		}
		o := BringOptions{UnpackOptions: UnpackOptions{Skip: skip, Mtime: commitTime}, Writers: rapid.IntRange(0, 3).Draw(r, "writers")}
		root := stageDir(t)
		if rapid.Bool().Draw(r, "forward") {
			other := drawTree(r, "before")
			dir := writeTree(t, other)
			first := assemble(t, dir, drawFrames(t, r, "before", dir))
			base, _, err := first.try(t, skip)
			if err != nil {
				r.Skip("shared paths rule it out: ", err)
			}
			root, o.Base = base.Root, &base
			share(t, root, skip)
		}
		s := SalvageOptions{Skip: skip, Mtime: commitTime}
		if o.Base != nil && rapid.Bool().Draw(r, "before is known") {
			s.Before = &o.Base.Inventory
		}
		s.Notes = m.interrupted(t, root, rapid.IntRange(1, len(m.x.Frames)+1).Draw(r, "frames"), o)
		intact := int64(0) // bytes of frames that must be found
		if _, numbers := readNotes(s.Notes); skip == nil {
			for _, i := range numbers {
				intact += m.x.Frames[i].Size
			}
			if found, _ := readNotes(s.Notes); !slices.ContainsFunc(found, func(h held) bool {
				files := false
				must(t, h.each(func(n *node) error { files = files || n.mode.IsRegular(); return nil }))
				return files
			}) {
				intact = 0
			}
		}
		if rapid.Bool().Draw(r, "touched") {
			touch(t, r, root)
			intact = 0
		}
		switch rapid.IntRange(0, 3).Draw(r, "notes") {
		case 0:
			intact = 0
			s.Notes = s.Notes[:rapid.IntRange(0, len(s.Notes)).Draw(r, "notes end")]
		case 1:
			intact = 0
			if at := rapid.IntRange(0, len(s.Notes)).Draw(r, "notes flip"); at < len(s.Notes) {
				s.Notes[at] ^= 1
			}
		case 2:
			s.Notes = append(s.Notes, make([]byte, 100)...) // as a power cut leaves it
		}
		for n := rapid.IntRange(0, 2).Draw(r, "again"); n > 0; n-- { // it is interrupted again
			found, err := Salvage(t.Context(), root, m.x, s)
			must(t, err)
			if len(found.Base.frames) == 0 {
				break
			}
			more := m.interrupted(t, root, rapid.IntRange(1, 3).Draw(r, "more frames"), BringOptions{
				UnpackOptions: o.UnpackOptions, Base: &Installed{root, found.Base}, Others: []Installed{{root, found.Parts}}, Writers: o.Writers,
			})
			s.Notes, s.Before = append(found.Notes, more...), nil
		}
		found, tree := m.resumed(t, root, s, BringOptions{Writers: o.Writers})
		if !bytes.Equal(tree.Inventory.encode(), want.Inventory.encode()) {
			r.Errorf("the inventory differs from a full unpack's")
		}
		if len(found.Base.frames) > 0 {
			if diff := cmp.Diff(unshared(t, full.Root, skip), unshared(t, root, skip)); diff != "" {
				r.Errorf("the trees differ:\n%s", diff)
			}
		}
		if whole := m.a.Index.Offset; tree.Reused+tree.Copied < max(found.Bytes, intact) || tree.Pulled+tree.Reused+tree.Copied < whole {
			r.Errorf("salvaged %d, pulled %d, reused %d, copied %d of %d bytes", found.Bytes, tree.Pulled, tree.Reused, tree.Copied, whole)
		}
		if t.Failed() {
			r.Fatalf("files %q", files)
		}
	})
}

// touch changes something in the directory by hand.
func touch(t testing.TB, r *rapid.T, root *os.Root) {
	paths := slices.Sorted(maps.Keys(snapshot(t, root.Name())))
	if len(paths) == 0 {
		return
	}
	p := filepath.Join(root.Name(), rapid.SampledFrom(paths).Draw(r, "path"))
	switch rapid.IntRange(0, 5).Draw(r, "how") {
	case 0:
		must(t, os.RemoveAll(p))
	case 1:
		if info, err := os.Lstat(p); err == nil && info.Mode().IsRegular() {
			must(t, os.WriteFile(p, []byte("2"), 0o644))
		}
	case 2:
		must(t, os.RemoveAll(p))
		must(t, os.Symlink(root.Name(), p))
	case 3:
		must(t, os.RemoveAll(p))
		must(t, os.MkdirAll(p+"/d/e", 0o755))
	case 4:
		if info, err := os.Lstat(p); err == nil && info.Mode()&os.ModeSymlink == 0 {
			must(t, os.Chmod(p, 0o700))
		}
	case 5:
		must(t, os.WriteFile(filepath.Join(root.Name(), "more"), []byte("more"), 0o644))
	}
}

// Of a file in slices those that came are not fetched again, whether they lie under its name or not yet.
func TestSalvageOfLargeFile(t *testing.T) {
	text := numbers(1, 320_000) // 21 MB, five slices
	files := map[string]string{"big": text, "z": "z"}
	m := makeArtifact(t, files)
	if n := len(m.x.Frames); n != 7 {
		t.Fatalf("got %d frames, want 7: cut it in another way", n)
	}
	files["big"] = "older" + text[7<<20:14<<20]
	old := makeArtifact(t, files)
	for _, forward := range []bool{false, true} {
		for _, again := range []int{0, 1, 2} {
			t.Run(fmt.Sprint(forward, again), func(t *testing.T) {
				root, o := stageDir(t), BringOptions{Writers: 1}
				if forward {
					base, _ := old.installed(t)
					root, o.Base = base.Root, &base
				}
				s := SalvageOptions{Notes: m.interrupted(t, root, 3, o)}
				before := snapshot(t, root.Name())
				if _, begun := before[fmt.Sprint(probe, 0)]; begun != forward {
					t.Fatalf("the begun file lies where it should not: %v", slices.Collect(maps.Keys(before)))
				}
				had := int64(0)
				for n := range again { // each time it gets a frame further
					found, err := Salvage(t.Context(), root, m.x, s)
					must(t, err)
					if found.Bytes < had || found.Bytes < 3*m.x.Frames[0].Size/2 {
						t.Errorf("got %d bytes, %d before", found.Bytes, had)
					}
					had = found.Bytes
					more := m.interrupted(t, root, 4+n, BringOptions{Base: &Installed{root, found.Base}, Others: []Installed{{root, found.Parts}}, Writers: 1})
					s.Notes = append(found.Notes, more...)
				}
				found, tree := m.resumed(t, root, s, BringOptions{})
				if found.Bytes < had || tree.Pulled != m.a.Index.Offset-found.Bytes {
					t.Errorf("got %d bytes there, %d pulled of %d, %d there before", found.Bytes, tree.Pulled, m.a.Index.Offset, had)
				}
			})
		}
	}
}

// What was begun for one artifact is of use to another that has the same frames.
func TestSalvageForAnother(t *testing.T) {
	files := map[string]string{"a": numbers(1, 40_000), "b": numbers(2, 40_000), "c": numbers(3, 40_000), "l": "-> a", "e/": ""}
	first := makeArtifact(t, files)
	files["b"] = numbers(4, 40_000)
	second := makeArtifact(t, files)
	root := stageDir(t)
	notes := first.interrupted(t, root, 2, BringOptions{Writers: 1})
	inode := inodes(t, root.Name())
	found, tree := second.resumed(t, root, SalvageOptions{Notes: notes}, BringOptions{})
	if found.Bytes != second.x.Frames[0].Size || tree.Reused != found.Bytes {
		t.Errorf("got %d bytes there, %d reused, want the %d of a", found.Bytes, tree.Reused, second.x.Frames[0].Size)
	}
	if now := inodes(t, root.Name()); now["a"] != inode["a"] || now["b"] == inode["b"] {
		t.Errorf("got %v, then %v: want a to be the same file, and b another", inode, now)
	}

	third := makeArtifact(t, map[string]string{"else": "all"})
	found, err := Salvage(t.Context(), root, third.x, SalvageOptions{Notes: notes})
	if err != nil || found.Bytes != 0 {
		t.Errorf("for one that has nothing of it: got %d bytes, %v", found.Bytes, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := snapshot(t, root.Name())
	if _, err := Salvage(ctx, root, second.x, SalvageOptions{Notes: notes}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	if diff := cmp.Diff(before, snapshot(t, root.Name())); diff != "" {
		t.Errorf("a salvage that was interrupted has changed something:\n%s", diff)
	}
}

// Notes that cannot be written end nothing.
func TestNotesThatFail(t *testing.T) {
	m := makeArtifact(t, smallTree)
	root := stageDir(t)
	tree, err := m.bring(t, root, BringOptions{Notes: writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite })})
	must(t, err)
	checkTree(t, m, root, tree)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Notes of a hostile hand lead nowhere but into the directory, and are believed in nothing.
func FuzzNotes(f *testing.F) {
	m := makeArtifact(f, smallTree)
	notes := m.interrupted(f, stageDir(f), -1, BringOptions{})
	f.Add(notes[noteHead:])
	f.Add([]byte(strings.Repeat("\x00", 60)))
	f.Fuzz(func(t *testing.T, body []byte) {
		root := stageDir(t)
		m.interrupted(t, root, -1, BringOptions{})
		data := append(make([]byte, noteHead), body...)
		data[0], data[1], data[2] = byte(len(body)), byte(len(body)>>8), byte(len(body)>>16)
		copy(data[4:], noteSum(body))
		found, err := Salvage(t.Context(), root, m.x, SalvageOptions{Notes: append(data, notes...)})
		if err != nil {
			return
		}
		checkContained(t, root)
		if len(found.Base.frames) > 0 {
			tree, err := m.bring(t, root, BringOptions{Base: &Installed{root, found.Base}, Others: []Installed{{root, found.Parts}}})
			must(t, err)
			checkTree(t, m, root, tree)
		}
	})
}
