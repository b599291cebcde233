package artifact

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

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
