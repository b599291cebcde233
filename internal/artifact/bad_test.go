package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/towline/towline/internal/release"
)

// list is the frames of an artifact with where their bytes are, to be put together anew.
func (m made) list() (frames []Frame, bytesOf func(Frame) []byte) {
	return slices.Clone(m.x.Frames), func(f Frame) []byte { return m.data[f.Offset : f.Offset+f.Size] }
}

// again is the artifact with other frames, signed as if they were right.
func (m made) again(t testing.TB, frames []Frame, bytesOf func(Frame) []byte) (made, error) {
	var data []byte
	for i := range frames {
		b := bytesOf(frames[i])
		frames[i].Offset = int64(len(data))
		data = append(data, b...)
	}
	return withIndex(data, frames, m.a.Entries, m.a.UnpackedSize)
}

// An index that is signed and wrong about its frames is refused, whatever is there already; frames in another order are
// the tree that they are as a whole.
func TestIndexAndContentDisagree(t *testing.T) {
	files := map[string]string{"big": numbers(3, 150_000), "z": "z"}
	for i := range 40 {
		files[fmt.Sprintf("d%02d/f", i)] = numbers(i, 1500)
	}
	m := makeArtifact(t, files)
	if n := len(m.x.Frames); n < 7 {
		t.Fatalf("%d frames, want some", n)
	}
	slice := slices.IndexFunc(m.x.Frames, func(f Frame) bool { return f.UnpackedSize == cutLimit })
	cases := map[string]func([]Frame, func(Frame) []byte) ([]Frame, func(Frame) []byte){
		"repeated": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			return slices.Insert(f, 1, f[1]), b
		},
		"left out": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) { return slices.Delete(f, 1, 2), b },
		"the end first": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			return slices.Insert(f, 0, f[len(f)-1]), b
		},
		"no end": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) { return f[:len(f)-1], b },
		"slices swapped": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			f[slice-1], f[slice] = f[slice], f[slice-1]
			return f, b
		},
		"a slice left out": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			return slices.Delete(f, slice, slice+1), b
		},
		"a slice twice": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			return slices.Insert(f, slice, f[slice]), b
		},
		"digests swapped": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			f[0].Content, f[1].Content = f[1].Content, f[0].Content
			return f, b
		},
		"another size": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			f[0].UnpackedSize -= 512
			return f, b
		},
		"truncated": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			whole := f[0]
			f[0].Size--
			f[0].SHA256 = sha256.Sum256(b(whole)[:f[0].Size])
			return f, func(x Frame) []byte { return b(x)[:x.Size] }
		},
		"other bytes": func(f []Frame, b func(Frame) []byte) ([]Frame, func(Frame) []byte) {
			return f, func(x Frame) []byte {
				if x.Offset != 0 {
					return b(x)
				}
				out := bytes.Clone(b(x))
				out[len(out)/2] ^= 1
				return out
			}
		},
	}
	for name, change := range cases {
		bad, err := m.again(t, first(change(m.list())), second(change(m.list())))
		if errors.Is(err, release.ErrVerify) {
			continue // the sums of the index say so
		}
		must(t, err)
		if _, err := bad.bring(t, stageDir(t), BringOptions{}); !errors.Is(err, release.ErrVerify) {
			t.Errorf("%s: err = %v, want ErrVerify", name, err)
		}
		base, _ := m.installed(t)
		_, err = bad.bring(t, base.Root, BringOptions{Base: &base})
		if !errors.Is(err, release.ErrVerify) && (err != nil || !harmless[name]) {
			t.Errorf("%s, brought forward: err = %v, want ErrVerify", name, err)
		}
		_, err = bad.bring(t, stageDir(t), BringOptions{Others: []Installed{base}})
		if err != nil && !errors.Is(err, release.ErrVerify) {
			t.Errorf("%s, from another: err = %v, want ErrVerify", name, err)
		}
	}
}

// harmless are the cases in which the frames that are wrong are not read, since the content that the index says is there.
var harmless = map[string]bool{"truncated": true, "other bytes": true, "digests swapped": true}

func first[A, B any](a A, _ B) A  { return a }
func second[A, B any](_ A, b B) B { return b }

// Frames that hold anything but whole entries, or slices of a file alone, are refused.
func TestFramesAreWhole(t *testing.T) {
	entries := [][]byte{tarOf(t, reg("a", "x")), tarOf(t, reg("b", string(make([]byte, 2000))))}
	for i, e := range entries {
		entries[i] = e[:len(e)-1024]
	}
	end := make([]byte, 1024)
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	for name, c := range map[string]struct {
		contents [][]byte
		ok       bool
	}{
		"whole entries":             {[][]byte{entries[0], entries[1], end}, true},
		"an end with entries":       {[][]byte{entries[0], join(entries[1], end)}, true},
		"zeros behind the end":      {[][]byte{entries[0], entries[1], end, end}, true},
		"slices":                    {[][]byte{entries[0], entries[1][:1000], entries[1][1000:], end}, true},
		"a slice and more before":   {[][]byte{join(entries[0], entries[1][:1000]), entries[1][1000:], end}, false},
		"a slice and more behind":   {[][]byte{entries[1][:1000], join(entries[1][1000:], entries[0]), end}, false},
		"padding on its own":        {[][]byte{entries[0][:513], entries[0][513:], entries[1], end}, false},
		"half a header":             {[][]byte{entries[0], entries[1][:100], entries[1][100:], end}, false},
		"half an end":               {[][]byte{join(entries[0], end[:512]), entries[1], end}, false},
		"an end in halves":          {[][]byte{entries[0], entries[1], end[:512], end[:512]}, false},
		"an entry behind the end":   {[][]byte{entries[0], end, entries[1]}, false},
		"a file without its slices": {[][]byte{entries[0], entries[1][:1000]}, false},
		"a slice behind another":    {[][]byte{entries[1][:1000], entries[0], end}, false},
	} {
		m := ofContents(t, 2, 2001, c.contents...)
		root := stageDir(t)
		tree, err := m.bring(t, root, BringOptions{})
		switch {
		case c.ok && err != nil, !c.ok && !errors.Is(err, release.ErrVerify):
			t.Errorf("%s: err = %v, want it accepted: %t", name, err, c.ok)
		case c.ok:
			checkTree(t, m, root, tree)
			got, err := m.bring(t, root, BringOptions{Base: &Installed{root, tree.Inventory}})
			if err != nil || got.Digest != tree.Digest {
				t.Errorf("%s, once more: %v", name, err)
			}
		}
	}
}

// ofContents is the artifact whose frames have these contents.
func ofContents(t testing.TB, entries, unpacked int64, contents ...[]byte) made {
	t.Helper()
	var data []byte
	var list []Frame
	for _, c := range contents {
		frame := rawFrame(c)
		list = append(list, Frame{Size: int64(len(frame)), UnpackedSize: int64(len(c)), SHA256: sha256.Sum256(frame), Content: sha256.Sum256(c)})
		data = append(data, frame...)
	}
	return indexed(t, data, list, entries, unpacked)
}

// Every rule holds for frames too, and when what it is about was there before.
func TestRulesHoldForFrames(t *testing.T) {
	for _, r := range allRules() {
		for _, c := range []struct {
			stream   []byte
			accepted bool
		}{{r.accepted(t), true}, {r.refused(t), false}} {
			end := max(len(c.stream)-1024, 0)
			if end == 0 || len(c.stream)%512 != 0 {
				continue
			}
			m := ofContents(t, 100, 1<<20, c.stream[:end], c.stream[end:])
			m.a.SHA256 = "" // the counts are not what the rules are about
			root := stageDir(t)
			o := BringOptions{UnpackOptions: UnpackOptions{Skip: []string{"uploads"}, Want: m.a, MaxBytes: 1 << 20}}
			tree, err := Bring(t.Context(), root, m.x, opener(m.data), o)
			checkContained(t, root)
			if c.accepted && err != nil || !c.accepted && !errors.Is(err, release.ErrVerify) {
				t.Errorf("%s: err = %v, want it accepted: %t", r.name, err, c.accepted)
			}
			if err != nil {
				continue
			}
			o.Base = &Installed{root, tree.Inventory}
			got, err := Bring(t.Context(), root, m.x, opener(m.data), o)
			if err != nil || got.Digest != tree.Digest {
				t.Errorf("%s, once more: %s, %v, want %s", r.name, got.Digest, err, tree.Digest)
			}
		}
	}
}

// A context that ends at any read ends Bring, with the context's error and no other.
func TestCanceledAtAnyRead(t *testing.T) {
	files := map[string]string{"big": numbers(3, 150_000)}
	for i := range 20 {
		files[fmt.Sprintf("d%02d/f", i)] = numbers(i, 1500)
	}
	m := makeArtifact(t, files)
	for at := 1; at < 40; at++ {
		ctx, cancel := context.WithCancel(t.Context())
		reads := 0
		open := func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
			r := bytes.NewReader(m.data[offset : offset+length])
			return io.NopCloser(readerFunc(func(b []byte) (int, error) {
				if reads++; reads == at {
					cancel()
				}
				return r.Read(b[:min(len(b), 300_000)])
			})), nil
		}
		_, err := Bring(ctx, stageDir(t), m.x, open, BringOptions{UnpackOptions: UnpackOptions{Want: m.a}})
		if err != nil && !errors.Is(err, context.Canceled) || errors.Is(err, release.ErrVerify) || err == nil && reads >= at {
			t.Errorf("at read %d of %d: err = %v, want context.Canceled", at, reads, err)
		}
		cancel()
		if err == nil {
			return
		}
	}
}

// What an inventory says is not followed out of the directory, and one that was changed is not read.
func TestInventoryIsChecked(t *testing.T) {
	m := makeArtifact(t, smallTree)
	base, tree := m.installed(t)
	good := tree.Inventory.encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := ReadInventory(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d: it was read", i)
		}
	}
	for _, bad := range [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), 0)} {
		if _, err := ReadInventory(bytes.NewReader(bad)); err == nil {
			t.Errorf("%d bytes of %d: it was read", len(bad), len(good))
		}
	}
	v, err := ReadInventory(bytes.NewReader(good))
	if err != nil || v.Digest() != tree.Digest || !bytes.Equal(v.encode(), good) {
		t.Errorf("ReadInventory: %v", err)
	}
	for _, name := range []string{"../x", "/x", "a/../../x", ""} {
		v.frames = slices.Clone(tree.Inventory.frames)
		v.frames[0].entries = appendEntry(nil, &node{name: name, mode: 0o644}, "")
		_, err := m.bring(t, base.Root, BringOptions{Base: &Installed{base.Root, v}})
		if !errors.Is(err, ErrBase) {
			t.Errorf("an inventory with %q: err = %v, want ErrBase", name, err)
		}
	}
	if _, err := os.Stat(base.Root.Name() + "/server.js"); err != nil {
		t.Error(err)
	}
}
