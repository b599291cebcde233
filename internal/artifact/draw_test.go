package artifact

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"pgregory.net/rapid"
)

// twoHeaders are entries with more than one extended header, about which readers might disagree.
func twoHeaders(t testing.TB) []rule {
	file := raw{flag: '0', name: "plain", body: "x"}
	symlink := raw{flag: '2', name: "plain", link: "y"}
	target := raw{flag: '0', name: "y"}
	another := raw{flag: '0', name: "z"}
	return []rule{
		{name: "PAX then PAX", accepted: rawTar(records("path=a"), records("path=b"), file)},
		{name: "PAX then PAX of another record", accepted: rawTar(records("path=a"), records("mtime=1"), file)},
		{name: "PAX with one record twice", accepted: rawTar(records("path=a", "path=b"), file)},
		{name: "PAX with an empty record", accepted: rawTar(records("path=a", "path="), file)},
		{name: "PAX with an empty name", accepted: rawTar(records("path="), file)},
		{name: "PAX with an empty target", accepted: rawTar(records("linkpath="), symlink, target)},
		{name: "PAX with a target for a file", accepted: rawTar(records("linkpath=z"), file, another)},
		{name: "GNU then GNU", accepted: rawTar(long('L', "a"), long('L', "b"), file)},
		{name: "GNU then PAX", accepted: rawTar(long('L', "a"), records("path=b"), file)},
		{name: "PAX then GNU", accepted: rawTar(records("path=a"), long('L', "b"), file)},
		{name: "PAX then GNU, another field", accepted: rawTar(records("mtime=1"), long('L', "b"), file)},
		{name: "GNU target then PAX target", accepted: rawTar(long('K', "y"), records("linkpath=z"), symlink, target, another)},
		{name: "PAX target then GNU target", accepted: rawTar(records("linkpath=y"), long('K', "z"), symlink, target, another)},
		{name: "GNU target and name", accepted: rawTar(long('K', "z"), long('L', "a"), symlink, another)},
		{name: "GNU target for a file", accepted: rawTar(long('K', "z"), file, another)},
		{name: "GNU name with more after its end", accepted: rawTar(raw{flag: 'L', name: "././@LongLink", body: "a\x00bbbb\x00"}, file)},
		{name: "GNU name without end", accepted: rawTar(raw{flag: 'L', name: "././@LongLink", body: "a"}, file)},
		{name: "GNU name that is empty", accepted: rawTar(raw{flag: 'L', name: "././@LongLink", body: "\x00"}, file)},
		{name: "GNU name before none", accepted: rawTar(long('L', "a"), raw{flag: '0', body: "x"})},
		{name: "PAX name before none", accepted: rawTar(records("path=a"), raw{flag: '0', body: "x"})},
		{name: "PAX target before none", accepted: rawTar(records("linkpath=z"), raw{flag: '2', name: "a"}, another)},
		{name: "prefix in GNU's format", accepted: func(t testing.TB) []byte {
			return patch(rawTar(raw{flag: '0', name: "d", prefix: "p"})(t), 0, func(h []byte) { copy(h[257:265], "ustar  \x00") })
		}},
		{name: "GNU name of a directory", accepted: rawTar(long('L', "a/"), file)},
		{name: "PAX name of a directory", accepted: rawTar(records("path=a/"), raw{flag: 0, name: "plain"})},
		{name: "PAX name that ends in a slash", accepted: rawTar(records("path=a/"), file)},
		{name: "PAX at the end", accepted: rawTar(file, records("path=a"))},
		{name: "GNU at the end", accepted: rawTar(file, long('L', "a"))},
		{name: "PAX before a directory", accepted: rawTar(records("path=a"), raw{flag: '5', name: "plain/"})},
		{name: "directory with a link", accepted: rawTar(raw{flag: '5', name: "d", link: "y"})},
		{name: "file with a link", accepted: rawTar(raw{flag: '0', name: "d", link: "y"})},
		{name: "hard link with a body", accepted: rawTar(target, raw{flag: '1', name: "d", link: "y", body: "x"})},
		{name: "symlink with a size", accepted: rawTar(target, raw{flag: '2', name: "d", link: "y", size: "00000001000\x00"})},
		{name: "directory with a body", accepted: rawTar(raw{flag: '5', name: "d", body: "x"})},
		{name: "old header with prefix", accepted: rawTar(raw{flag: '0', name: "d", prefix: "p", v7: true})},
		{name: "size with spaces", accepted: rawTar(raw{flag: '0', name: "d", size: "         1 \x00", body: "x"})},
		{name: "size in base 256", accepted: rawTar(raw{flag: '0', name: "d", size: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", body: "x"})},
		{name: "PAX size with a size in base 256", accepted: rawTar(records("size=1"), raw{flag: '0', name: "d", size: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00", body: "x"})},
	}
}

// drawArchive puts headers together that a writer might or might not: names that collide, extended headers that replace
// each other, sizes in several writings.
func drawArchive(r *rapid.T) []byte {
	name := rapid.SampledFrom([]string{"a", "b", "a/", "d/a", "d/", "./a", "./", "d/b/c", "x y", "\u00fc", "a -b", "d/../a", "c"})
	var out []byte
	for range rapid.IntRange(1, 8).Draw(r, "entries") {
		switch rapid.IntRange(0, 9).Draw(r, "before") {
		case 0:
			out = append(out, records("path="+name.Draw(r, "path")).bytes()...)
		case 1:
			out = append(out, long('L', name.Draw(r, "long")).bytes()...)
		case 2:
			out = append(out, long('K', name.Draw(r, "target")).bytes()...)
		case 3:
			out = append(out, records("linkpath="+name.Draw(r, "linkpath"), "mtime=1.5").bytes()...)
		}
		e := raw{
			flag: rapid.SampledFrom([]byte("000000555221\x00")).Draw(r, "flag"), name: name.Draw(r, "name"),
			v7: rapid.IntRange(0, 9).Draw(r, "old") == 0, mode: rapid.SampledFrom([]string{"", "0000755", "0004755"}).Draw(r, "mode"),
		}
		switch e.flag {
		case '0', 0:
			e.body = rapid.SampledFrom([]string{"", "x", string(bytes.Repeat([]byte("y"), 512)), string(bytes.Repeat([]byte("z"), 700))}).Draw(r, "body")
		case '1', '2':
			e.link = name.Draw(r, "link")
		}
		if rapid.IntRange(0, 9).Draw(r, "prefixed") == 0 {
			e.prefix = "p"
		}
		out = append(out, e.bytes()...)
	}
	return append(out, make([]byte, 1024)...)
}

func gunzip(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	must(t, err)
	out, err := io.ReadAll(z)
	must(t, err)
	return out
}
