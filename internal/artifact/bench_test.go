package artifact

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// benchTree is 2,000 small files of words, some 8 MB, in the shape of a node_modules.
func benchTree(b *testing.B) (dir string, size int64) {
	r := rand.New(rand.NewPCG(1, 2))
	files := map[string]string{}
	for i := range 2000 {
		var text bytes.Buffer
		for range r.IntN(1000) {
			fmt.Fprintf(&text, "exports.word%d = %d;\n", r.IntN(300), r.IntN(1000))
		}
		files[fmt.Sprintf("node_modules/p%03d/lib/f%d.js", i/10, i)] = text.String()
		size += int64(text.Len())
	}
	return writeTree(b, files), size
}

func BenchmarkPack(b *testing.B) {
	dir, size := benchTree(b)
	out, err := os.Create(filepath.Join(b.TempDir(), "out"))
	must(b, err)
	defer out.Close()
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		must(b, out.Truncate(0))
		_, err := out.Seek(0, 0)
		must(b, err)
		_, err = Pack(context.Background(), out, PackOptions{Dir: dir})
		must(b, err)
	}
}

func BenchmarkUnpack(b *testing.B) {
	dir, size := benchTree(b)
	data, a := pack(b, PackOptions{Dir: dir})
	x := readIndex(b, data, a)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := Bring(context.Background(), stageDir(b), x, opener(data), BringOptions{UnpackOptions: UnpackOptions{Want: a, Mtime: commitTime}})
		must(b, err)
	}
}

// BenchmarkForward brings a release forward to one with one more file of 2,000 changed, and back.
func BenchmarkForward(b *testing.B) {
	dir, _ := benchTree(b)
	first := packTree(b, dir)
	must(b, os.WriteFile(filepath.Join(dir, "node_modules/p003/lib/f31.js"), []byte("changed"), 0o644))
	second := packTree(b, dir)
	base, _ := first.installed(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, m := range []made{second, first} {
			tree, err := m.bring(b, base.Root, BringOptions{Base: &base})
			must(b, err)
			base.Inventory = tree.Inventory
		}
	}
}

// BenchmarkIndexDiff is what decides about a new release: its index is read, and compared with an inventory that is read too.
func BenchmarkIndexDiff(b *testing.B) {
	dir, _ := benchTree(b)
	m := packTree(b, dir)
	_, tree := m.installed(b)
	inventory := tree.Inventory.encode()
	b.SetBytes(int64(len(inventory)))
	b.ReportAllocs()
	for b.Loop() {
		v, err := ReadInventory(bytes.NewReader(inventory))
		must(b, err)
		x := readIndex(b, m.data, m.a)
		if frames, _ := Missing(x, v); frames != 0 {
			b.Fatalf("%d frames are missing", frames)
		}
	}
}

// BenchmarkListTree is what the scrub costs that metadata does not satisfy, and towline verify: every file is read, and its SHA-256 made.
func BenchmarkListTree(b *testing.B) {
	dir, size := benchTree(b)
	base, tree := packTree(b, dir).installed(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		listing, err := ListTree(b.Context(), base.Root, nil)
		if err != nil || listing.Digest() != tree.Digest {
			b.Fatalf("%v, %v, want %s", listing.Digest(), err, tree.Digest)
		}
	}
}

// BenchmarkFrame is what a frame costs until it can be parsed: its SHA-256 is compared, it is decompressed, and the SHA-256
// of its content is compared.
func BenchmarkFrame(b *testing.B) {
	dir, _ := benchTree(b)
	m := packTree(b, dir)
	decoder, err := newDecoder(1)
	must(b, err)
	defer decoder.Close()
	buf := make([]byte, maxFrame)
	b.SetBytes(m.x.UnpackedSize())
	b.ReportAllocs()
	for b.Loop() {
		for i, f := range m.x.Frames {
			must(b, decode(decoder, i, m.x.Frames, m.data[f.Offset:f.Offset+f.Size], buf[:f.UnpackedSize]))
		}
	}
}

func packTree(b *testing.B, dir string) made {
	data, a := pack(b, PackOptions{Dir: dir})
	return made{data, a, readIndex(b, data, a)}
}
