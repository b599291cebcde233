package artifact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sized makes entries of these sizes, with the directories above them.
func sized(files map[string]int64) []Entry {
	w := walker{tree: map[string]Entry{}}
	for p, size := range files {
		if err := w.add(Entry{Path: p, Mode: 0o644, Size: size}); err != nil {
			panic(err)
		}
	}
	entries := make([]Entry, 0, len(w.tree))
	for _, e := range w.tree {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	return entries
}

// Whatever the tree, its frames are all of it, in order, and none is beyond the limit.
func TestPlanIsTheTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := map[string]int64{}
		for i := range rapid.IntRange(1, 300).Draw(t, "files") {
			dir := strings.Repeat(fmt.Sprintf("d%d/", rapid.IntRange(0, 9).Draw(t, "dir")), rapid.IntRange(0, 4).Draw(t, "depth"))
			files[fmt.Sprintf("%sf%d", dir, i)] = rapid.SampledFrom([]int64{0, 1, 600, 9000, 70_000, 600_000, 3 << 20, 5 << 20, 13 << 20}).Draw(t, "size")
		}
		entries := sized(files)
		r := cutRule{
			target: rapid.SampledFrom([]int64{16 << 10, 1 << 20, 2 << 20, 4 << 20}).Draw(t, "target"), least: 16 << 10,
			share: rapid.Int64Range(0, 20).Draw(t, "share"), edge: rapid.Int64Range(0, 8).Draw(t, "edge"), alone: rapid.Int64Range(1, 8).Draw(t, "alone"),
		}
		frames := r.plan(entries)
		next, offset := 0, int64(0)
		for _, f := range frames[:len(frames)-1] {
			if len(f.entries) == 0 || f.entries[0].Path != entries[next].Path {
				t.Fatalf("a frame begins elsewhere than at entry %d, %s", next, entries[next].Path)
			}
			if f.bound() > cutLimit+4096 {
				t.Errorf("a frame of %d bytes, at most %d are wanted", f.bound(), cutLimit)
			}
			if !f.sliced {
				next += len(f.entries)
				continue
			}
			if f.from != offset || f.to <= f.from {
				t.Errorf("a slice from %d to %d, want one from %d", f.from, f.to, offset)
			}
			if offset = f.to; offset == f.entries[0].Size {
				next, offset = next+1, 0
			}
		}
		if end := frames[len(frames)-1]; next != len(entries) || offset != 0 || end.entries != nil {
			t.Errorf("the frames hold %d of %d entries, the last one %+v", next, len(entries), end)
		}
	})
}

// What is small beside the rest is cut finely: an edit of it is pulled for little. What is large is not.
func TestSmallRegionsAreCutFinely(t *testing.T) {
	files := map[string]int64{"package.json": 600, "package-lock.json": 300_000, "version.js": 90}
	for i := range 60 {
		files[fmt.Sprintf("dist/routes/r%02d.js", i)] = 5000
	}
	for i := range 4000 {
		files[fmt.Sprintf("node_modules/p%03d/f%d.js", i/20, i)] = 5000
	}
	found := map[string]frame{}
	for _, f := range cuts.plan(sized(files)) {
		for _, e := range f.entries {
			found[e.Path] = f
		}
	}
	for p, most := range map[string]int64{"version.js": 16 << 10, "package.json": 16 << 10, "dist/routes/r30.js": 64 << 10} {
		if got := found[p].bound(); got > most {
			t.Errorf("%s lies in a frame of %d bytes, want at most %d", p, got, most)
		}
	}
	if got := len(found["package-lock.json"].entries); got != 1 {
		t.Errorf("the lock file shares its frame with %d entries", got-1)
	}
	if f := found["node_modules/p100/f2000.js"]; f.bound() < 200<<10 {
		t.Errorf("a dependency lies in a frame of %d bytes, want one that compresses well", f.bound())
	}
	for _, e := range found["node_modules/p100/f2000.js"].entries[1:] {
		if region(e) != "node_modules" {
			t.Errorf("%s lies in a frame with dependencies", e.Path)
		}
	}
}

// Where nothing tells one package from another, cuts agree again soon after a difference, too.
func TestCutsAgreeAgain(t *testing.T) {
	files := map[string]int64{}
	for i := range 6000 {
		files[fmt.Sprintf("content/plugins/p%d/a%d/f%d.php", i/1500, i/12, i)] = 8000
	}
	names := func() map[string]bool {
		set := map[string]bool{}
		for _, f := range cuts.plan(sized(files)) {
			var b strings.Builder
			for _, e := range f.entries {
				fmt.Fprintln(&b, e.Path, e.Size)
			}
			set[b.String()] = true
		}
		return set
	}
	before := names()
	files["content/plugins/p0/a0/new.php"] = 700_000
	missing := 0
	after := names()
	for name := range after {
		if !before[name] {
			missing++
		}
	}
	if len(after) < 15 || missing > 4 {
		t.Errorf("a file more at the front changed %d of %d frames, want at most 4", missing, len(after))
	}
}

// An archive that was cut by another rule is read like any other: the index decides.
func TestOtherCutsAreRead(t *testing.T) {
	files := map[string]string{}
	for i := range 400 {
		files[fmt.Sprintf("node_modules/p%03d/lib/f%d.js", i/6, i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), 1500)
	}
	dir := writeTree(t, files)
	_, now := pack(t, PackOptions{Dir: dir})
	out, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	must(t, err)
	defer out.Close()
	a, err := packCut(context.Background(), out, PackOptions{Dir: dir}, func(e []Entry) []frame { return planByFolder(e, 1<<20) })
	must(t, err)
	if a.SHA256 == now.SHA256 {
		t.Fatal("the rules cut alike")
	}
	data, err := os.ReadFile(out.Name())
	must(t, err)
	tree, err := Bring(context.Background(), stageDir(t), readIndex(t, data, a), opener(data), BringOptions{UnpackOptions: UnpackOptions{Want: a}})
	must(t, err)
	if tree.Bytes != now.UnpackedSize || tree.Entries != now.Entries {
		t.Errorf("got %d bytes in %d entries, want %d in %d", tree.Bytes, tree.Entries, now.UnpackedSize, now.Entries)
	}
}
