package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// writeTree makes files from a map: a path ending in "/" is a directory, content "-> x" a symlink, "+x text" executable.
func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for p, content := range files {
		full := filepath.Join(dir, filepath.FromSlash(p))
		if strings.HasSuffix(p, "/") {
			must(t, os.MkdirAll(full, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			must(t, os.Symlink(target, full))
			continue
		}
		mode := fs.FileMode(0o644)
		content, exec := strings.CutPrefix(content, "+x ")
		if exec {
			mode = 0o755
		}
		must(t, os.WriteFile(full, []byte(content), mode))
		must(t, os.Chmod(full, mode))
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pack(t testing.TB, o PackOptions) ([]byte, release.Artifact) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	must(t, err)
	defer out.Close()
	a, err := Pack(context.Background(), out, o)
	must(t, err)
	data, err := os.ReadFile(out.Name())
	must(t, err)
	if got, want := a.Size, int64(len(data)); got != want {
		t.Fatalf("Size = %d, want %d", got, want)
	}
	must(t, VerifyFile(bytes.NewReader(data), a))
	return data, a
}

func stageDir(t testing.TB) *os.Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stage")
	must(t, os.Mkdir(dir, 0o700))
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

func opener(data []byte) func(context.Context, int64, int64) (io.ReadCloser, error) {
	return func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[offset : offset+length])), nil
	}
}

func readIndex(t testing.TB, data []byte, a release.Artifact) Index {
	t.Helper()
	x, err := ReadIndex(data[a.Index.Offset:a.Index.Offset+a.Index.Size], a)
	must(t, err)
	return x
}

// describe signs, as it were, an archive that Pack did not make.
func describe(data []byte, format string, entries, unpacked int64) release.Artifact {
	sum := sha256.Sum256(data)
	return release.Artifact{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data)), Format: format, Entries: entries, UnpackedSize: unpacked}
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	must(t, err)
	defer w.Close()
	return w.EncodeAll(data, nil)
}

// unpackPlain unpacks a tar stream without description.
func unpackPlain(t testing.TB, stream []byte, o UnpackOptions) (*os.Root, Tree, error) {
	t.Helper()
	root := stageDir(t)
	o.Want.Format = release.FormatGzip
	tree, err := Unpack(context.Background(), root, bytes.NewReader(gz(t, stream)), o)
	return root, tree, err
}

// entry is one tar entry of a test archive.
type entry struct {
	tar.Header
	body string
}

func reg(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body}
}
func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}
func link(name, to string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""}
}
func hard(name, to string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}, ""}
}
func special(flag byte, name string) entry {
	return entry{tar.Header{Typeflag: flag, Name: name, Mode: 0o644}, ""}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		must(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.body)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// patch changes a header block of an archive and corrects its checksum.
func patch(stream []byte, block int, f func(header []byte)) []byte {
	out := bytes.Clone(stream)
	h := out[512*block : 512*block+512]
	f(h)
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return out
}

// snapshot describes every path below dir by type, mode and content.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case info.IsDir():
			out[rel] = "dir " + info.Mode().String()
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out[rel] = "link " + target
			return err
		default:
			data, err := os.ReadFile(p)
			sum := sha256.Sum256(data)
			out[rel] = fmt.Sprintf("%s %x", info.Mode(), sum)
			return err
		}
		return nil
	}))
	return out
}

// checkContained is the oracle for hostile archives: nothing beside the stage, and in it only plain things that
// stay in it.
func checkContained(t testing.TB, root *os.Root) {
	t.Helper()
	stage := root.Name()
	beside, err := os.ReadDir(filepath.Dir(stage))
	must(t, err)
	if len(beside) != 1 {
		t.Errorf("%d names beside the stage, want none: %v", len(beside)-1, beside)
	}
	must(t, filepath.WalkDir(stage, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch info.Mode() &^ fs.ModePerm {
		case fs.ModeDir:
			if m := info.Mode().Perm(); m != 0o755 && p != stage {
				t.Errorf("%s has mode %04o, want 0755", p, m)
			}
		case fs.ModeSymlink:
			target, _ := os.Readlink(p)
			rel, _ := filepath.Rel(stage, filepath.Join(filepath.Dir(p), target))
			if filepath.IsAbs(target) || !filepath.IsLocal(rel) {
				t.Errorf("%s -> %s leaves the stage", p, target)
			}
		case 0:
			if m := info.Mode().Perm(); m != 0o644 && m != 0o755 && m != 0o600 {
				t.Errorf("%s has mode %04o, want 0644 or 0755, or 0600 while it is written", p, m)
			}
			if n := info.Sys().(*syscall.Stat_t).Nlink; n != 1 {
				t.Errorf("%s has %d links, want 1", p, n)
			}
		default:
			t.Errorf("%s is %s", p, info.Mode())
		}
		return nil
	}))
}

var commitTime = time.Date(2026, 11, 23, 13, 6, 43, 0, time.UTC)

// identity is what a file keeps as long as nobody writes it.
func identity(info fs.FileInfo) string {
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino, info.ModTime().UnixNano())
}
