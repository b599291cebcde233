package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
)

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
	shut := Installed{stageDir(t), sound.Inventory}
	must(t, shut.Root.Close())
	got, err = m.bring(t, stageDir(t), BringOptions{Others: []Installed{shut, sound}})
	must(t, err)
	if got.Pulled != 0 || got.Copied != m.a.Index.Offset {
		t.Errorf("Tree = %+v, want all copied past one that cannot be opened", got)
	}
	swapped := makeArtifact(t, map[string]string{"other": "tree"})
	liar, _ := swapped.installed(t)
	liar.Inventory.frames[0].content, liar.Inventory.frames[0].size = m.x.Frames[0].Content, m.x.Frames[0].UnpackedSize
	for name, other := range map[string]Installed{
		"another tree": {liar.Root, sound.Inventory},
		"a liar":       liar,
		"empty":        {stageDir(t), sound.Inventory},
		"shut":         shut,
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
