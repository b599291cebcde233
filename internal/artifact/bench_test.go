package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
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
		_, err := UnpackFrames(context.Background(), stageDir(b), x, opener(data), UnpackOptions{Want: a, Mtime: commitTime})
		must(b, err)
	}
}

// BenchmarkVerifyFrame is what stands before the decompression of a frame of 1 MiB: it is read and its SHA-256 compared.
func BenchmarkVerifyFrame(b *testing.B) {
	data := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	f := &frames{
		ctx: b.Context(), open: opener(data),
		list: []Frame{{Size: int64(len(data)), UnpackedSize: int64(len(data)), SHA256: sha256.Sum256(data)}},
	}
	var buf []byte
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		buf, err = f.fetch(0, buf)
		must(b, err)
		f.closeBody()
	}
}
