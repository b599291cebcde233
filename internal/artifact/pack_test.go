package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

var smallTree = map[string]string{
	"server.js": "require('./lib')\n", "bin/run": "+x #!/bin/sh\n", "lib/index.js": "1", "lib-a.js": "2", "empty/": "",
	"current.js": "-> lib/index.js", "lib/up": "-> ../bin", "umlaut-\u00fc.txt": "u",
	strings.Repeat("long/", 22) + "name": "l",
}

func plainTar(t testing.TB, data []byte) []byte {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1))
	must(t, err)
	defer r.Close()
	stream, err := io.ReadAll(r)
	must(t, err)
	return stream
}

// The tar profile is frozen: the same tree must give the same stream for ever, or every server downloads everything.
func TestGoldenStream(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, smallTree)})
	sum := sha256.Sum256(plainTar(t, data))
	if got, want := hex.EncodeToString(sum[:]), "ed84b516fc5223c4b61e9416656342c20ad618847f58ad20b3b18d13202f49ac"; got != want {
		t.Errorf("SHA-256 of the tar stream = %s, want %s", got, want)
	}
	if a.Format != release.FormatZstd || a.Key != "" {
		t.Errorf("Format, Key = %q, %q, want %q and none", a.Format, a.Key, release.FormatZstd)
	}
}

func TestProfile(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, smallTree)})
	var names []string
	var size int64
	r := tar.NewReader(bytes.NewReader(plainTar(t, data)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, strings.TrimSuffix(h.Name, "/"))
		size += h.Size
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(epoch) {
			t.Errorf("%s: owner %d:%d %q:%q, mtime %v", h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime)
		}
		if h.Mode != 0o644 && h.Mode != 0o755 {
			t.Errorf("%s: mode %o, want 644 or 755", h.Name, h.Mode)
		}
		for key := range h.PAXRecords {
			if key != "path" && key != "linkpath" {
				t.Errorf("%s: PAX record %s", h.Name, key)
			}
		}
	}
	if !slices.IsSortedFunc(names, comparePaths) {
		t.Errorf("names are not in tree order: %q", names)
	}
	if i := slices.Index(names, "lib"); names[i+1] != "lib/index.js" {
		t.Errorf("after lib comes %s, want lib/index.js (not lib-a.js)", names[i+1])
	}
	if int64(len(names)) != a.Entries || size != a.UnpackedSize {
		t.Errorf("Entries, UnpackedSize = %d, %d, want %d, %d", a.Entries, a.UnpackedSize, len(names), size)
	}
}

// Neither cores, nor umask, modes beyond owner-x, or time may show in the bytes.
func TestReproducible(t *testing.T) {
	files := maps.Clone(smallTree)
	for i := range 200 {
		files[fmt.Sprintf("node_modules/p%02d/f%d.js", i/9, i)] = strings.Repeat(fmt.Sprint(i, "abc"), 30*i)
	}
	first, want := pack(t, PackOptions{Dir: writeTree(t, files)})
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	defer syscall.Umask(syscall.Umask(0))
	for i, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		syscall.Umask([]int{0, 0o077, 0o002}[i])
		dir := writeTree(t, files)
		must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				at := commitTime.Add(time.Duration(i) * time.Hour)
				info, _ := d.Info()
				err = errors.Join(os.Chmod(p, info.Mode()&0o700|0o060), os.Chtimes(p, at, at))
			}
			return err
		}))
		got, a := pack(t, PackOptions{Dir: dir})
		if a.SHA256 != want.SHA256 || !bytes.Equal(got, first) || *a.Index != *want.Index {
			t.Errorf("GOMAXPROCS %d: another artifact: %+v, want %+v", procs, a, want)
		}
		plain, b := pack(t, PackOptions{Dir: dir, Format: release.FormatGzip})
		again, _ := pack(t, PackOptions{Dir: dir, Format: release.FormatGzip})
		if !bytes.Equal(plain, again) || b.Index != nil || b.Format != release.FormatGzip {
			t.Errorf("gzip differs between two runs, or has an index: %+v", b)
		}
	}
}

func TestPackRefusals(t *testing.T) {
	long := strings.Repeat("d/", maxDepth) + "f"
	for name, c := range map[string]struct {
		files map[string]string
		o     PackOptions
		want  string
	}{
		"empty":          {map[string]string{}, PackOptions{}, "nothing to pack"},
		"all excluded":   {map[string]string{"a": ""}, PackOptions{Exclude: []string{"*"}}, "nothing to pack"},
		"bad pattern":    {map[string]string{"a": ""}, PackOptions{Exclude: []string{"[a"}}, "pattern"},
		"format":         {map[string]string{"a": ""}, PackOptions{Format: "zip"}, "unknown format"},
		"absolute link":  {map[string]string{"a": "-> /etc/passwd"}, PackOptions{}, "absolute"},
		"outward link":   {map[string]string{"a": "-> ../x"}, PackOptions{}, "leaves the tree"},
		"dangling link":  {map[string]string{"a": "-> b"}, PackOptions{}, "not among what is packed"},
		"excluded end":   {map[string]string{"a": "-> b", "b": ""}, PackOptions{Exclude: []string{"b"}}, "not among"},
		"link loop":      {map[string]string{"a": "-> b", "b": "-> a"}, PackOptions{}, "leads through"},
		"through a file": {map[string]string{"a": "-> b/", "b": ""}, PackOptions{}, "through a file"},
		"two hops out":   {map[string]string{"d/e/x": "", "l": "-> d/e", "m": "-> l/../../.."}, PackOptions{}, "leaves the tree"},
		"backslash":      {map[string]string{`a\b`: ""}, PackOptions{}, "backslash"},
		"control":        {map[string]string{"a\nb": ""}, PackOptions{}, "control character"},
		"not UTF-8":      {map[string]string{"a\xff": ""}, PackOptions{}, "UTF-8"},
		"too deep":       {map[string]string{long: ""}, PackOptions{}, "components"},
		"extra outside":  {map[string]string{"a": ""}, PackOptions{Extra: []File{{Path: "../v.js"}}}, ".."},
		"extra on dir":   {map[string]string{"a/b": ""}, PackOptions{Extra: []File{{Path: "a"}}}, "directory"},
		"extra in file":  {map[string]string{"a": ""}, PackOptions{Extra: []File{{Path: "a/v.js"}}}, "not a directory"},
		"extra in .git":  {map[string]string{"a": ""}, PackOptions{Extra: []File{{Path: ".git/v.js"}}}, ".git"},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Dir = writeTree(t, c.files)
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			must(t, err)
			defer out.Close()
			_, err = Pack(context.Background(), out, c.o)
			if !errors.Is(err, ErrSource) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("err = %v, want ErrSource with %q", err, c.want)
			}
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("err = %v claims that something is absent", err)
			}
		})
	}
	_, err := List(context.Background(), PackOptions{Dir: filepath.Join(t.TempDir(), "dist")})
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrSource) {
		t.Errorf("missing directory: err = %v, want fs.ErrNotExist and ErrSource", err)
	}
	dir := writeTree(t, map[string]string{"a": ""})
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	if _, err := List(context.Background(), PackOptions{Dir: dir}); !errors.Is(err, ErrSource) || !strings.Contains(fmt.Sprint(err), `"pipe"`) {
		t.Errorf("fifo: err = %v, want ErrSource naming it", err)
	}
}

func TestSelection(t *testing.T) {
	files := map[string]string{
		"a.js": "", "a.js.map": "", "dist/x.js": "", "dist/x.js.map": "", "dist/deep/y.js": "", "src/x.ts": "", ".env": "",
		".git/config": "", "sub/.git": "", "node_modules/p/i.js": "",
	}
	all := []string{".env", "a.js", "a.js.map", "dist", "dist/deep", "dist/deep/y.js", "dist/x.js", "dist/x.js.map",
		"node_modules", "node_modules/p", "node_modules/p/i.js", "src", "src/x.ts", "sub"}
	for _, c := range []struct{ include, exclude, want []string }{
		{nil, nil, all},
		{[]string{"./dist/"}, []string{"**/*.map"}, []string{"dist", "dist/deep", "dist/deep/y.js", "dist/x.js"}},
		{[]string{"*.js"}, nil, []string{"a.js"}},
		{[]string{"dist/deep/*.js", ".env"}, nil, []string{".env", "dist", "dist/deep", "dist/deep/y.js"}},
		{nil, []string{"{dist,src,sub,node_modules}", "a.*"}, []string{".env"}},
		{[]string{"**/.git/**", "a.js"}, nil, []string{"a.js"}},
	} {
		list, err := List(context.Background(), PackOptions{Dir: writeTree(t, files), Include: c.include, Exclude: c.exclude})
		must(t, err)
		var got []string
		for _, e := range list {
			got = append(got, e.Path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("include %q, exclude %q: got %q, want %q", c.include, c.exclude, got, c.want)
		}
	}
	dir := writeTree(t, map[string]string{"app": "+x binary", "other": ""})
	list, err := List(context.Background(), PackOptions{Dir: filepath.Join(dir, "app")})
	must(t, err)
	if len(list) != 1 || list[0].Path != "app" || list[0].Mode != 0o755 {
		t.Errorf("a single file is packed as %+v, want app, 0755", list)
	}
}

func TestExtraReplaces(t *testing.T) {
	v, err := VersionFile("src/version.js", release.Release{Hash: "abc"})
	must(t, err)
	dir := writeTree(t, map[string]string{"src/version.js": "old", "a": ""})
	data, _ := pack(t, PackOptions{Dir: dir, Exclude: []string{"src"}, Extra: []File{v}})
	if stream := plainTar(t, data); !bytes.Contains(stream, v.Data) || bytes.Contains(stream, []byte("old")) {
		t.Error("the version file is not in the archive, or the old one is")
	}
	if old, _ := os.ReadFile(filepath.Join(dir, "src/version.js")); string(old) != "old" {
		t.Errorf("the tree's file became %q", old)
	}
}

// A file that changes between the scan and the read must not be packed half old and half new.
func TestFileChanges(t *testing.T) {
	for name, change := range map[string]func(p string) error{
		"longer":  func(p string) error { return os.WriteFile(p, []byte("longer than it was"), 0o644) },
		"shorter": func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"touched": func(p string) error { return os.Chtimes(p, commitTime, commitTime) },
		"pipe":    func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o644)) },
	} {
		dir := writeTree(t, map[string]string{"a": "x", "b": "content"})
		root, entries, err := scan(context.Background(), PackOptions{Dir: dir})
		must(t, err)
		defer root.Close()
		must(t, change(filepath.Join(dir, "b")))
		p := packer{ctx: context.Background(), root: root, out: io.Discard}
		if err := p.run(cuts.plan(entries)); !errors.Is(err, ErrSource) || !strings.Contains(fmt.Sprint(err), `"b"`) {
			t.Errorf("%s: err = %v, want ErrSource naming b", name, err)
		}
	}
}

// A file far larger than the memory that packing may take.
func TestLargeFile(t *testing.T) {
	dir := writeTree(t, map[string]string{"a": "1", "z": "2"})
	must(t, os.WriteFile(filepath.Join(dir, "big"), nil, 0o644))
	const size = 150<<20 + 100
	must(t, os.Truncate(filepath.Join(dir, "big"), size))
	var peak uint64
	var files, done int64
	runtime.GC() // what other tests left, and the garbage that the heap may hold by its measure
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapInuse
	data, a := pack(t, PackOptions{Dir: dir, Progress: func(f, b, total int64) {
		runtime.ReadMemStats(&m)
		peak, files, done = max(peak, m.HeapInuse), f, b
	}})
	if files != 3 || done != size+2 {
		t.Errorf("progress ended at %d files, %d bytes, want 3, %d", files, done, size+2)
	}
	if limit := uint64(24<<20) * uint64(min(runtime.GOMAXPROCS(0), 8)+2); peak > before+limit {
		t.Errorf("heap in use rose from %d to %d MiB, want at most %d more", before>>20, peak>>20, limit>>20)
	}
	x := readIndex(t, data, a)
	if got, want := len(x.Frames), 1+38+1+1; got != want {
		t.Errorf("%d frames, want %d: before, slices, after, end", got, want)
	}
	root := stageDir(t)
	tree, err := Bring(context.Background(), root, x, opener(data), BringOptions{UnpackOptions: UnpackOptions{Want: a}})
	must(t, err)
	if tree.Bytes != a.UnpackedSize || tree.Entries != 3 {
		t.Errorf("Tree = %+v, want %d bytes, 3 entries", tree, a.UnpackedSize)
	}
}

func TestPackCanceled(t *testing.T) {
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("f%02d", i)] = strings.Repeat("x", int(cuts.target))
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	defer out.Close()
	_, err = Pack(ctx, out, PackOptions{Dir: writeTree(t, files), Progress: func(int64, int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrSource) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

// One changed file changes the frame it is in; a file more changes few.
func TestFramesAreLocal(t *testing.T) {
	files := map[string]string{}
	for i := range 1200 {
		files[fmt.Sprintf("node_modules/p%03d/lib/f%d.js", i/6, i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), 1500)
	}
	frames := func() map[[32]byte]bool {
		data, a := pack(t, PackOptions{Dir: writeTree(t, files)})
		set := map[[32]byte]bool{}
		for _, f := range readIndex(t, data, a).Frames {
			set[f.Content] = true
		}
		return set
	}
	missing := func(from, to map[[32]byte]bool) (n int) {
		for d := range to {
			if !from[d] {
				n++
			}
		}
		return n
	}
	before := frames()
	if len(before) < 10 {
		t.Fatalf("%d frames, want at least 10", len(before))
	}
	files["node_modules/p100/lib/f602.js"] = "changed"
	edited := frames()
	if got := missing(before, edited); got > 2 {
		t.Errorf("an edit changed %d of %d frames, want at most 2", got, len(edited))
	}
	files["node_modules/p100/lib/new.js"] = strings.Repeat("n", 300<<10)
	files["aaa-first"] = "pushes everything back"
	if got := missing(edited, frames()); got > 5 {
		t.Errorf("two files more changed %d of %d frames, want at most 5", got, len(edited))
	}
}
