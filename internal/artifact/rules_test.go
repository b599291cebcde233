package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
)

// rule is one rule of the archive, with something that just keeps it and something that breaks it.
type rule struct {
	name     string
	accepted func(t testing.TB) []byte
	refused  func(t testing.TB) []byte
	says     string
}

func archive(e ...entry) func(testing.TB) []byte {
	return func(t testing.TB) []byte { return tarOf(t, e...) }
}

func pax(e entry, key, value string) entry {
	e.PAXRecords, e.Format = map[string]string{key: value}, tar.FormatPAX
	return e
}

func gnu(e entry) entry { e.Format = tar.FormatGNU; return e }

var rules = []rule{
	{"symlink", archive(link("a", "b"), reg("b", "")), archive(link("a", "/b"), reg("b", "")), "absolute"},
	{"symlink inside", archive(link("d/a", "../b"), reg("b", "")), archive(link("d/a", "../../b"), reg("b", "")), "leaves the tree"},
	{"symlink ends somewhere", archive(link("a", "d"), dir("d")), archive(link("a", "c")), "not in the tree"},
	{"symlink chain", archive(link("a", "b"), link("b", "c"), reg("c", "")), archive(link("a", "b"), link("b", "a")), "not in the tree"},
	{"two hops", archive(dir("d/e"), link("l", "d/e"), link("m", "l/..")), archive(dir("d/e"), link("l", "d/e"), dir("x"), link("x/m", "../l/../../..")), "leaves the tree"},
	{"two hops by link", archive(dir("d"), link("l", "d"), link("m", "l/../d")), archive(dir("d"), link("d/l", ".."), link("m", "d/l/../d")), "not in the tree"},
	{"not through a link", archive(link("a", "d"), reg("d/f", "")), archive(dir("d"), link("a", "d"), reg("a/f", "")), "passes through"},
	{"not through a file", archive(reg("a", ""), reg("ab/f", "")), archive(reg("a", ""), reg("a/f", "")), "passes through"},
	{"hard link", archive(reg("a", "x"), hard("b", "a")), archive(hard("b", "a"), reg("a", "x")), "hard link"},
	{"hard link to a file", archive(reg("a", "x"), hard("d/b", "./a")), archive(dir("a"), hard("b", "a")), "hard link"},
	{"hard link to no link", archive(reg("a", "x"), hard("c", "a")), archive(reg("a", "x"), link("b", "a"), hard("c", "b")), "hard link"},
	{"device", archive(reg("a", "")), archive(special(tar.TypeChar, "a")), "type"},
	{"block device", archive(reg("a", "")), archive(special(tar.TypeBlock, "a")), "type"},
	{"fifo", archive(reg("a", "")), archive(special(tar.TypeFifo, "a")), "type"},
	{"contiguous", archive(reg("a", "")), func(t testing.TB) []byte {
		return patch(tarOf(t, reg("a", "")), 0, func(h []byte) { h[156] = '7' })
	}, "type"},
	{"unknown type", archive(reg("a", "")), func(t testing.TB) []byte {
		return patch(tarOf(t, reg("a", "")), 0, func(h []byte) { h[156] = 'V' })
	}, "type"},
	{"global PAX header", archive(reg("a", "")), archive(entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}, ""}, reg("a", "")), "global"},
	{"PAX times", archive(pax(reg("a", ""), "mtime", "1.5")), archive(pax(reg("a", ""), "comment", "x")), "PAX record"},
	{"PAX xattr", archive(pax(reg("a", ""), "path", "a")), archive(pax(reg("a", ""), "SCHILY.xattr.user.x", "x")), "PAX record"},
	{"PAX capabilities", archive(pax(reg("a", ""), "uid", "1")), archive(pax(reg("a", ""), "SCHILY.xattr.security.capability", "x")), "PAX record"},
	{"PAX sparse", archive(reg("a", "")), archive(pax(reg("a", ""), "LIBARCHIVE.creationtime", "1")), "PAX record"},
	{"size in one place", archive(reg("a", "12345")), archive(pax(reg("a", "12345"), "size", "5")), "PAX record"},
	{"only files have a size", archive(dir("a")), func(t testing.TB) []byte {
		return patch(tarOf(t, dir("a")), 0, func(h []byte) { copy(h[124:], "00000001000") })
	}, "size"},
	{"relative", archive(reg("a", "")), archive(reg("/a", "")), "absolute"},
	{"no ..", archive(reg("a..", "")), archive(reg("../a", "")), `".."`},
	{"no .. within", archive(reg("...", "")), archive(reg("d/../a", "")), `".."`},
	{"no . within", archive(reg("./a", "")), archive(reg("d/./a", "")), `"."`},
	{"one ./", archive(dir("./"), reg("./a", "")), archive(reg("././a", "")), `"."`},
	{"one ./ entry", archive(dir("./"), reg("./a", "")), archive(dir("./"), dir("./"), reg("./a", "")), "twice"},
	{"./ is a directory", archive(dir("./")), archive(link("./", "a"), reg("a", "")), "only a directory"},
	{"no empty component", archive(reg("d/a", "")), archive(reg("d//a", "")), "empty"},
	{"trailing slash", archive(dir("d/")), archive(link("d/", "a"), reg("a", "")), "empty component"},
	{"UTF-8", archive(reg("\u00fc", "")), archive(gnu(reg("a\xff", ""))), "UTF-8"},
	{"control characters", archive(reg("a b", "")), archive(reg("a\tb", "")), "control"},
	{"backslash", archive(reg("a-b", "")), archive(reg(`..\b`, "")), "backslash"},
	{"component", archive(reg(strings.Repeat("n", maxName), "")), archive(reg(strings.Repeat("n", maxName+1), "")), "component"},
	{"depth", archive(reg(strings.Repeat("d/", maxDepth-1)+"f", "")), archive(reg(strings.Repeat("d/", maxDepth)+"f", "")), "components"},
	{"length", archive(reg(strings.Repeat(strings.Repeat("n", 203)+"/", 5)+"fffe", "")), archive(reg(strings.Repeat(strings.Repeat("n", 203)+"/", 5)+"fffff", "")), "bytes"},
	{"long GNU name", archive(gnu(reg(strings.Repeat("n", 120), ""))), archive(gnu(reg(strings.Repeat("n", 300), ""))), "component"},
	{"target text", archive(link("a", "b c"), reg("b c", "")), archive(link("a", "b\nc")), "control"},
	{"target length", archive(link("a", strings.Repeat("./", 500)+"b"), reg("b", "")), archive(link("a", strings.Repeat("./", 600)+"b"), reg("b", "")), "target has"},
	{"unique", archive(reg("a", ""), reg("A", "")), archive(reg("a", ""), reg("a", "")), "twice"},
	{"unique directories", archive(reg("d/a", ""), dir("d")), archive(dir("d"), dir("d/")), "twice"},
	{"unique kinds", archive(dir("a"), dir("b")), archive(dir("a"), link("a", "b"), dir("b")), "twice"},
	{"file where a directory is", archive(reg("d/a", "")), archive(reg("d/a", ""), reg("d", "")), "twice"},
	{"end", archive(reg("a", "")), func(t testing.TB) []byte { s := tarOf(t, reg("a", "")); return s[:len(s)-512] }, "cut off"},
	{"no end", archive(reg("a", "")), func(t testing.TB) []byte { s := tarOf(t, reg("a", "")); return s[:512] }, "cut off"},
	{"after the end", func(t testing.TB) []byte { return append(tarOf(t, reg("a", "")), make([]byte, 9216)...) },
		func(t testing.TB) []byte { return append(tarOf(t, reg("a", "")), tarOf(t, reg("b", ""))...) }, "after the end"},
	{"one zero block within", archive(reg("a", "")), func(t testing.TB) []byte {
		s := tarOf(t, reg("a", ""))
		return append(s[:1024:1024], s...)
	}, "header"},
	{"checksum", archive(reg("a", "")), func(t testing.TB) []byte { s := tarOf(t, reg("a", "")); s[0] = 'b'; return s }, "header"},
	{"negative size", archive(reg("a", "")), func(t testing.TB) []byte {
		return patch(tarOf(t, reg("a", "")), 0, func(h []byte) { copy(h[124:136], bytes.Repeat([]byte{0xff}, 12)) })
	}, "header"},
}

func TestModesAndTimes(t *testing.T) {
	suid := reg("suid", "x")
	suid.Mode = 0o6755
	open := reg("open", "x")
	open.Mode = 0o777
	closed := reg("closed", "x")
	closed.Mode = 0o400
	sticky := dir("sticky")
	sticky.Mode = 0o1777
	root, _, err := unpackPlain(t, tarOf(t, suid, open, closed, sticky, dir("private"), reg("implied/f", "")), UnpackOptions{Mtime: commitTime})
	must(t, err)
	for name, want := range map[string]os.FileMode{
		"suid": 0o755, "open": 0o755, "closed": 0o644, "sticky": os.ModeDir | 0o755, "private": os.ModeDir | 0o755, "implied": os.ModeDir | 0o755,
	} {
		info, err := root.Lstat(name)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
		if !info.IsDir() && !info.ModTime().Equal(commitTime) {
			t.Errorf("%s: mtime %v, want %v", name, info.ModTime(), commitTime)
		}
	}
}

func TestShared(t *testing.T) {
	stream := tarOf(t, reg(".env", "SECRET"), dir("uploads"), reg("uploads/a", "1"), reg("uploads/b", "2"), reg("uploads.txt", "3"),
		link("conf", "uploads/later"), dir("data"), reg("data/cache/x", "4"), reg("data/kept", "5"))
	var warnings []string
	o := UnpackOptions{Skip: []string{".env", "uploads/", "data/cache"}, Warn: func(s string) { warnings = append(warnings, s) }}
	root, tree, err := unpackPlain(t, stream, o)
	must(t, err)
	if got, want := len(warnings), 3; got != want {
		t.Errorf("%d warnings, want %d: %q", got, want, warnings)
	}
	if tree.Entries != 4 || tree.Bytes != 2 {
		t.Errorf("Tree = %+v, want 4 entries, 2 bytes", tree)
	}
	// What sharing puts there does not count.
	must(t, root.Symlink("/srv/app/shared/uploads", "uploads"))
	must(t, root.Symlink("/srv/app/shared/.env", ".env"))
	if got, err := DigestTree(root, o.Skip); err != nil || got != tree.Digest {
		t.Errorf("DigestTree = %s, %v, want %s", got, err, tree.Digest)
	}
	for _, stream := range [][]byte{tarOf(t, link("data", "x"), dir("x")), tarOf(t, reg("data", ""))} {
		if _, _, err := unpackPlain(t, stream, o); !errors.Is(err, release.ErrVerify) {
			t.Errorf("something else above a shared path: err = %v, want ErrVerify", err)
		}
	}
}

func TestNamesThatSomeTakeForOne(t *testing.T) {
	for _, names := range [][2]string{{"Readme", "README"}, {"caf\u00e9", "cafe\u0301"}, {"CAFE\u0301", "caf\u00e9"}} {
		var warnings []string
		_, tree, err := unpackPlain(t, tarOf(t, reg(names[0], ""), reg(names[1], "")), UnpackOptions{Warn: func(s string) { warnings = append(warnings, s) }})
		must(t, err)
		if want := names[1] + " differs from another name only in case or in how its letters are composed"; !slices.Equal(warnings, []string{want}) || tree.Entries != 2 {
			t.Errorf("%d entries, warnings = %q, want %q", tree.Entries, warnings, want)
		}
	}
}

func TestCounters(t *testing.T) {
	stream := tarOf(t, reg("a", "12345"), hard("b", "a"))
	for _, c := range []struct {
		entries, bytes, max int64
		ok                  bool
	}{{2, 10, 0, true}, {2, 10, 10, true}, {1, 10, 0, false}, {2, 9, 0, false}, {3, 10, 0, false}, {2, 11, 0, false}} {
		data := gz(t, stream)
		o := UnpackOptions{Want: describe(data, release.FormatGzip, c.entries, c.bytes), MaxBytes: c.max}
		_, err := Unpack(context.Background(), stageDir(t), bytes.NewReader(data), o)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, release.ErrVerify) {
			t.Errorf("%+v: err = %v", c, err)
		}
	}
	data := gz(t, stream)
	_, err := Unpack(context.Background(), stageDir(t), bytes.NewReader(data), UnpackOptions{Want: describe(data, release.FormatGzip, 2, 10), MaxBytes: 9})
	if err == nil || errors.Is(err, release.ErrVerify) {
		t.Errorf("too little space: err = %v, want one that blames the server, not the artifact", err)
	}
	if _, _, err := unpackPlain(t, stream, UnpackOptions{MaxBytes: 9}); !errors.Is(err, release.ErrVerify) {
		t.Errorf("a copy beyond MaxBytes: err = %v, want ErrVerify", err)
	}
	// A bomb is refused for its ratio, unless a description says that it is meant so.
	bomb := zst(t, tarOf(t, reg("zeros", strings.Repeat("\x00", 20<<20))))
	_, err = Unpack(context.Background(), stageDir(t), bytes.NewReader(bomb), UnpackOptions{Want: release.Artifact{Format: release.FormatZstd}})
	if !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "times its size") {
		t.Errorf("a ratio above 1000: err = %v, want ErrVerify", err)
	}
	_, err = Unpack(context.Background(), stageDir(t), bytes.NewReader(bomb), UnpackOptions{Want: describe(bomb, release.FormatZstd, 1, 20<<20)})
	if err != nil {
		t.Errorf("a ratio above 1000, described: %v", err)
	}
}

func TestTruncation(t *testing.T) {
	stream := tarOf(t, reg("a", strings.Repeat("x", 1000)), dir("d"), gnu(reg("d/"+strings.Repeat("n", 150), "y")), pax(reg("b", ""), "mtime", "1.5"), link("l", "a"))
	for n := 0; n < len(stream); n += 512 {
		root, _, err := unpackPlain(t, stream[:n], UnpackOptions{})
		if !errors.Is(err, release.ErrVerify) {
			t.Errorf("first %d of %d bytes: err = %v, want ErrVerify", n, len(stream), err)
		}
		checkContained(t, root)
	}
}

func TestStageMustBeEmpty(t *testing.T) {
	root := stageDir(t)
	must(t, root.WriteFile("left", nil, 0o644))
	_, err := Unpack(context.Background(), root, bytes.NewReader(gz(t, tarOf(t, reg("a", "")))), UnpackOptions{Want: release.Artifact{Format: release.FormatGzip}})
	if err == nil || errors.Is(err, release.ErrVerify) || !strings.Contains(fmt.Sprint(err), "empty") {
		t.Errorf("err = %v, want one about the directory", err)
	}
}

func TestDigestTreeSees(t *testing.T) {
	stream := tarOf(t, reg("a", "x"), dir("d"), link("l", "a"))
	for name, change := range map[string]func(r *os.Root) error{
		"content": func(r *os.Root) error { return r.WriteFile("a", []byte("y"), 0o644) },
		"mode":    func(r *os.Root) error { return r.Chmod("a", 0o755) },
		"setuid":  func(r *os.Root) error { return r.Chmod("a", 0o644|os.ModeSetuid) },
		"more":    func(r *os.Root) error { return r.WriteFile("d/b", nil, 0o644) },
		"less":    func(r *os.Root) error { return r.Remove("d") },
		"target":  func(r *os.Root) error { return errors.Join(r.Remove("l"), r.Symlink("d", "l")) },
	} {
		root, tree, err := unpackPlain(t, stream, UnpackOptions{})
		must(t, err)
		must(t, change(root))
		if got, err := DigestTree(root, nil); err == nil && got == tree.Digest {
			t.Errorf("%s: the digest stayed the same", name)
		}
	}
}
