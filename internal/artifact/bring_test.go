package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/towline/towline/internal/release"
)

// made is an artifact with its index.
type made struct {
	data []byte
	a    release.Artifact
	x    Index
}

func makeArtifact(t testing.TB, files map[string]string) made {
	t.Helper()
	data, a := pack(t, PackOptions{Dir: writeTree(t, files)})
	return made{data, a, readIndex(t, data, a)}
}

// assemble makes an artifact of frames as a test cuts them, not as the packer does.
func assemble(t testing.TB, dir string, frames []frame) made {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	w := testWorker(t)
	w.dirs = dirs{root: root}
	defer w.dirs.close()
	var m made
	var list []Frame
	var unpacked, entries int64
	for _, w.frame = range frames {
		must(t, w.pack())
		w.made.Offset = int64(len(m.data))
		m.data, list = append(m.data, w.zstd...), append(list, w.made)
		if w.frame.from == 0 {
			entries += int64(len(w.frame.entries))
			for _, e := range w.frame.entries {
				unpacked += e.Size
			}
		}
	}
	return indexed(t, m.data, list, entries, unpacked)
}

// testWorker makes frames; it is slow to make.
var testWorker = func() func(testing.TB) *worker {
	var w *worker
	return func(t testing.TB) *worker {
		if w == nil {
			var err error
			w, err = (&packer{}).newWorker()
			must(t, err)
		}
		return w
	}
}()

// indexed is the artifact with these frames, and an index that says what it is told.
func indexed(t testing.TB, data []byte, list []Frame, entries, unpacked int64) made {
	t.Helper()
	all := appendIndex(bytes.Clone(data), list)
	sum := sha256.Sum256(all)
	a := release.Artifact{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(all)), Format: release.FormatZstd, Entries: entries, UnpackedSize: unpacked}
	a.Index = indexOf(all, int64(len(data)))
	return made{all, a, readIndex(t, all, a)}
}

// bring brings the artifact; what the test does not set is as an agent sets it.
func (m made) bring(t testing.TB, root *os.Root, o BringOptions) (Tree, error) {
	t.Helper()
	o.Want = m.a
	return Bring(t.Context(), root, m.x, opener(m.data), o)
}

// installed is the release unpacked from nothing.
func (m made) installed(t testing.TB, skip ...string) (Installed, Tree) {
	t.Helper()
	root := stageDir(t)
	tree, err := m.bring(t, root, BringOptions{UnpackOptions: UnpackOptions{Skip: skip}})
	must(t, err)
	return Installed{root, tree.Inventory}, tree
}

// checkTree demands that a tree is what it says, and what unpacking the artifact as a whole gives.
func checkTree(t testing.TB, m made, root *os.Root, tree Tree, skip ...string) {
	t.Helper()
	listing, err := ListTree(t.Context(), root, skip)
	must(t, err)
	if got, want := listing.Digest(), tree.Digest; got != want {
		t.Errorf("the tree's digest is %s, want %s", got, want)
	}
	whole, err := Unpack(t.Context(), stageDir(t), bytes.NewReader(m.data), UnpackOptions{Want: m.a, Skip: skip})
	must(t, err)
	if tree.Digest != whole.Digest || tree.Entries != whole.Entries || tree.Bytes != whole.Bytes {
		t.Errorf("brought %s, %d entries, %d bytes; as a whole %s, %d, %d", tree.Digest, tree.Entries, tree.Bytes, whole.Digest, whole.Entries, whole.Bytes)
	}
	if tree.Digest != tree.Inventory.Digest() {
		t.Errorf("the inventory's digest is %s, want %s", tree.Inventory.Digest(), tree.Digest)
	}
	var all, theirs bytes.Buffer
	_, err = tree.Listing.WriteTo(&all)
	must(t, err)
	_, err = whole.Listing.WriteTo(&theirs)
	must(t, err)
	if all.String() != theirs.String() {
		t.Errorf("listing differs:\n%s", cmp.Diff(theirs.String(), all.String()))
	}
}

// drawTree draws a small tree out of few names and contents, so that two of them share much and collide in all ways.
func drawTree(r *rapid.T, label string) map[string]string {
	files := map[string]string{}
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		for _, name := range []string{"a", "b", "b-c", "d"} {
			p := path.Join(dir, name)
			switch k := rapid.IntRange(0, 12).Draw(r, label+" "+p); {
			case k < 3:
			case k < 6 && depth < 3:
				files[p+"/"] = ""
				fill(p, depth+1)
			case k == 6:
				files[p] = "-> ."
			case k == 7:
				files[p] = "+x 1"
			case k == 8:
				files[p] = strings.Repeat("long enough ", 60)
			case k == 9:
				files[p] = strings.Repeat("long enough ", 50) + strings.Repeat("with another end ", 8)
			case k == 10:
				files[p] = ""
			default:
				files[p] = fmt.Sprint(k % 2)
			}
		}
	}
	fill("", 1)
	links := []string{"../a", "b", "./d/a", "../d/../a", "a"}
	for _, p := range slices.Sorted(maps.Keys(files)) { // in order, or a failure cannot be repeated
		if files[p] == "-> ." && rapid.Bool().Draw(r, label+" link "+p) {
			target := rapid.SampledFrom(links).Draw(r, label+" target "+p)
			if checkTarget(p, target) == nil && follow(p, target, func(q string) (os.FileMode, string, bool) {
				if _, dir := files[q+"/"]; dir {
					return dirMode, "", true
				}
				c, ok := files[q]
				return 0o644, "", ok && !strings.HasPrefix(c, "-> ")
			}) == nil {
				files[p] = "-> " + target
			}
		}
	}
	files["z"] = "so that there is something"
	return files
}

// drawFrames cuts a tree as no packer does.
func drawFrames(t testing.TB, r *rapid.T, label, dir string) []frame {
	entries, err := List(t.Context(), PackOptions{Dir: dir})
	must(t, err)
	every := rapid.IntRange(1, 6).Draw(r, label+" cuts")
	slice := rapid.SampledFrom([]int64{200, 512, 5000}).Draw(r, label+" slice")
	var frames []frame
	begin := 0
	cut := func(end int) {
		if end > begin {
			frames = append(frames, frame{entries: entries[begin:end]})
		}
		begin = end
	}
	for i, e := range entries {
		switch {
		case e.Size > slice:
			cut(i)
			for from := int64(0); from < e.Size; from += slice {
				frames = append(frames, frame{entries: entries[i : i+1], sliced: true, from: from, to: min(from+slice, e.Size)})
			}
			begin = i + 1
		case len(e.Path)%every == 0:
			cut(i)
		}
	}
	cut(len(entries))
	return append(frames, frame{})
}

// However two trees differ and wherever their frames are cut, bringing one forward to the other gives what a full unpack
// gives: the same tree, listing, digest and inventory.
func TestForwardIsFull(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		skip := rapid.SampledFrom([][]string{nil, nil, {"a"}, {"b/d", "d/a/"}, {"nowhere/at/all"}}).Draw(r, "skip")
		from, to := drawTree(r, "from"), drawTree(r, "to")
		for _, p := range slices.Sorted(maps.Keys(to)) { // most of it stays
			if rapid.IntRange(0, 2).Draw(r, "stays "+p) == 0 {
				continue
			}
			if old, ok := from[p]; ok && !strings.HasPrefix(old, "-> ") {
				to[p] = old
			}
		}
		a, b := writeTree(t, from), writeTree(t, to)
		first := assemble(t, a, drawFrames(t, r, "from", a))
		second := assemble(t, b, drawFrames(t, r, "to", b))
		base, tree, err := first.try(t, skip)
		if err != nil {
			r.Skip("shared paths rule it out: ", err)
		}
		checkTree(t, first, base.Root, tree, skip...)
		full, want, err := second.try(t, skip)
		if err != nil {
			r.Skip("shared paths rule it out: ", err)
		}
		share(t, base.Root, skip)
		kept := inodes(t, base.Root.Name())
		got, err := second.bring(t, base.Root, BringOptions{UnpackOptions: UnpackOptions{Skip: skip}, Base: &base, Writers: rapid.IntRange(0, 3).Draw(r, "writers")})
		if err != nil {
			r.Fatalf("%v\nfrom %q\nto %q", err, from, to)
		}
		checkTree(t, second, base.Root, got, skip...)
		if !bytes.Equal(got.Inventory.encode(), want.Inventory.encode()) {
			r.Errorf("the inventory differs from a full unpack's")
		}
		if diff := cmp.Diff(unshared(t, full.Root, skip), unshared(t, base.Root, skip)); diff != "" {
			r.Errorf("the trees differ:\n%s", diff)
		}
		was, is := snapshot(t, full.Root.Name()), inodes(t, base.Root.Name())
		for p, inode := range is {
			old, ok := from[p]
			now, still := to[p]
			if _, there := was[p]; there && ok && still && old == now && len(now) < 200 && kept[p] != inode {
				r.Errorf("%s is the same and was written anew", p)
			}
		}
		if n := got.Pulled + got.Reused + got.Copied; n < second.a.Index.Offset {
			r.Errorf("pulled %d, reused %d, copied %d of %d bytes", got.Pulled, got.Reused, got.Copied, second.a.Index.Offset)
		}
		back, err := first.bring(t, base.Root, BringOptions{UnpackOptions: UnpackOptions{Skip: skip}, Base: &Installed{nil, got.Inventory}, Others: []Installed{full}})
		if err != nil {
			r.Fatalf("back: %v", err)
		}
		checkTree(t, first, base.Root, back, skip...)
		if t.Failed() {
			r.Fatalf("from %q\nto %q", from, to)
		}
	})
}

// try unpacks from nothing.
func (m made) try(t testing.TB, skip []string) (Installed, Tree, error) {
	root := stageDir(t)
	tree, err := m.bring(t, root, BringOptions{UnpackOptions: UnpackOptions{Skip: skip}})
	return Installed{root, tree.Inventory}, tree, err
}

// share puts a link to each shared path into a release, as an agent does.
func share(t testing.TB, root *os.Root, skip []string) {
	t.Helper()
	for _, p := range skip {
		p = filepath.Join(root.Name(), p)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.Symlink("/nonexistent", p))
	}
}

// unshared is a snapshot without shared paths and what is above them.
func unshared(t testing.TB, root *os.Root, skip []string) map[string]string {
	all := snapshot(t, root.Name())
	for _, s := range cleanSkips(skip) {
		for p := range all {
			if within(p, s) || within(s, p) {
				delete(all, p)
			}
		}
	}
	return all
}

// inodes are the inodes and times of the regular files below dir.
func inodes(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		out[rel] = identity(info)
		return nil
	}))
	return out
}

// Frames that Base has are not looked at on the disk at all.
func TestReusedCostsNothing(t *testing.T) {
	m := makeArtifact(t, smallTree)
	base, tree := m.installed(t)
	empty := stageDir(t)
	got, err := m.bring(t, empty, BringOptions{Base: &base})
	must(t, err)
	if got.Digest != tree.Digest || got.Pulled != 0 || got.Copied != 0 || got.Reused != m.a.Index.Offset {
		t.Errorf("Tree = %+v, want all reused", got)
	}
	if n := len(snapshot(t, empty.Name())); n != 0 {
		t.Errorf("%d paths were made, want none", n)
	}
	if frames, n := Missing(m.x, tree.Inventory); frames != 0 || n != 0 {
		t.Errorf("Missing = %d, %d, want none", frames, n)
	}
	if frames, n := Missing(m.x); frames != len(m.x.Frames) || n != m.a.Index.Offset {
		t.Errorf("Missing of nothing = %d, %d, want all", frames, n)
	}
}

// numbers is content that does not compress away and differs from block to block.
func numbers(seed, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%x\n", sha256.Sum256(fmt.Append(nil, seed, i)))
	}
	return b.String()
}

// Of a large file that changes in one slice the others are copied from the old file, into a new one.
func TestLargeFileForward(t *testing.T) {
	text := numbers(1, 200_000) // 13 MB, four slices
	files := map[string]string{"big": text, "a": "a", "other": "x"}
	first := makeArtifact(t, files)
	base, _ := first.installed(t)
	before := inodes(t, base.Root.Name())
	files["big"] = text[:5<<20] + "changed" + text[5<<20+7:]
	second := makeArtifact(t, files)
	got, err := second.bring(t, base.Root, BringOptions{Base: &base})
	must(t, err)
	checkTree(t, second, base.Root, got)
	after := inodes(t, base.Root.Name())
	if after["big"] == before["big"] || after["a"] != before["a"] || after["other"] != before["other"] {
		t.Errorf("before %v, after %v, want a new file big alone", before, after)
	}
	slice := second.x.Frames[slices.IndexFunc(second.x.Frames, func(f Frame) bool { return f.UnpackedSize == cutLimit })]
	if got.Copied < slice.Size*2 || got.Pulled > 2*slice.Size {
		t.Errorf("pulled %d, copied %d, reused %d; a slice has %d", got.Pulled, got.Copied, got.Reused, slice.Size)
	}
	// The same from another release, with a file in it that was changed by hand.
	other, _ := first.installed(t)
	must(t, os.WriteFile(filepath.Join(other.Root.Name(), "a"), []byte("b"), 0o644))
	fresh := stageDir(t)
	got, err = second.bring(t, fresh, BringOptions{Others: []Installed{other}})
	must(t, err)
	checkTree(t, second, fresh, got)
	if got.Copied < slice.Size*2 || got.Reused != 0 {
		t.Errorf("from another: pulled %d, copied %d, reused %d", got.Pulled, got.Copied, got.Reused)
	}
}

// A directory that is not what the inventory says is an error that says so, if it is noticed.
func TestBaseLies(t *testing.T) {
	first := makeArtifact(t, map[string]string{"d/a": "1", "d/b": "2", "e/": "", "l": "-> d"})
	second := makeArtifact(t, map[string]string{"d/a": "3", "f/g": "", "l": "-> f"})
	for name, spoil := range map[string]func(dir string) error{
		"a file is gone":            func(dir string) error { return os.Remove(dir + "/d/a") },
		"a directory is gone":       func(dir string) error { return os.RemoveAll(dir + "/d") },
		"a directory is a link":     func(dir string) error { return errors.Join(os.RemoveAll(dir+"/d"), os.Symlink("e", dir+"/d")) },
		"something was added":       func(dir string) error { return os.WriteFile(dir+"/e/x", nil, 0o644) },
		"something stands in a way": func(dir string) error { return os.Mkdir(dir+"/f", 0o755) },
		"a file is a directory":     func(dir string) error { return errors.Join(os.Remove(dir+"/d/a"), os.Mkdir(dir+"/d/a", 0o755)) },
	} {
		base, _ := first.installed(t)
		must(t, spoil(base.Root.Name()))
		_, err := second.bring(t, base.Root, BringOptions{Base: &base})
		if !errors.Is(err, ErrBase) || errors.Is(err, release.ErrVerify) {
			t.Errorf("%s: err = %v, want ErrBase", name, err)
		}
	}
	base, _ := first.installed(t, "d/")
	if !base.Inventory.Fits([]string{"d", "./d"}) || base.Inventory.Fits(nil) || (Inventory{}).Fits(nil) {
		t.Error("an inventory fits other shared paths, or not its own")
	}
	if _, err := second.bring(t, base.Root, BringOptions{Base: &base}); !errors.Is(err, ErrBase) {
		t.Errorf("with other shared paths: err = %v, want ErrBase", err)
	}
}

// Releases that are not sound, or whose inventories lie, cost a fetch and nothing else.
func TestOthersAreNotTrusted(t *testing.T) {
	m := makeArtifact(t, smallTree)
	sound, want := m.installed(t)
	got, err := m.bring(t, stageDir(t), BringOptions{Others: []Installed{sound}})
	must(t, err)
	if got.Digest != want.Digest || got.Pulled != 0 || got.Copied != m.a.Index.Offset {
		t.Errorf("Tree = %+v, want all copied", got)
	}
	swapped := makeArtifact(t, map[string]string{"other": "tree"})
	liar, _ := swapped.installed(t)
	liar.Inventory.frames[0].content, liar.Inventory.frames[0].size = m.x.Frames[0].Content, m.x.Frames[0].UnpackedSize
	for name, other := range map[string]Installed{
		"another tree": {liar.Root, sound.Inventory},
		"a liar":       liar,
		"empty":        {stageDir(t), sound.Inventory},
	} {
		root := stageDir(t)
		got, err := m.bring(t, root, BringOptions{Others: []Installed{other}})
		must(t, err)
		checkTree(t, m, root, got)
		if got.Copied > m.a.Index.Offset/2 {
			t.Errorf("%s: Tree = %+v, want it fetched", name, got)
		}
	}
}

// What goes wrong with the ranges.
func TestRangesThatFail(t *testing.T) {
	m := makeArtifact(t, map[string]string{"a": numbers(1, 30_000), "b": numbers(2, 30_000)})
	for name, c := range map[string]struct {
		read func(call int, b []byte) io.Reader
		want error
	}{
		"short": {func(n int, b []byte) io.Reader {
			if n < 3 {
				b = b[:len(b)/2]
			}
			return bytes.NewReader(b)
		}, nil},
		"always short":   {func(_ int, b []byte) io.Reader { return bytes.NewReader(b[:min(len(b), 5)]) }, io.ErrUnexpectedEOF},
		"empty":          {func(int, []byte) io.Reader { return bytes.NewReader(nil) }, io.ErrUnexpectedEOF},
		"long":           {func(_ int, b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b), strings.NewReader("tail")) }, nil},
		"other bytes":    {func(_ int, b []byte) io.Reader { return bytes.NewReader(append([]byte{1}, b...)) }, release.ErrVerify},
		"fails twice":    {func(n int, b []byte) io.Reader { return breaks(b, n < 3) }, nil},
		"fails for ever": {func(int, []byte) io.Reader { return breaks(nil, true) }, io.ErrClosedPipe},
	} {
		calls := 0
		open := func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
			calls++
			return io.NopCloser(c.read(calls, m.data[offset:offset+length])), nil
		}
		tree, err := Bring(t.Context(), stageDir(t), m.x, open, BringOptions{UnpackOptions: UnpackOptions{Want: m.a}})
		switch {
		case c.want == nil && (err != nil || tree.Bytes != m.a.UnpackedSize):
			t.Errorf("%s: err = %v, want none", name, err)
		case c.want != nil && (!errors.Is(err, c.want) || errors.Is(err, release.ErrVerify) != (c.want == release.ErrVerify)):
			t.Errorf("%s: err = %v, want %v", name, err, c.want)
		}
		if calls > 200 {
			t.Errorf("%s: %d ranges", name, calls)
		}
	}
}

// breaks gives some of b and then an error, if it is told to.
func breaks(b []byte, broken bool) io.Reader {
	if !broken {
		return bytes.NewReader(b)
	}
	return io.MultiReader(bytes.NewReader(b[:len(b)/3]), readerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
