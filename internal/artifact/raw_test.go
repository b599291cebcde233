package artifact

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// raw is one header block and its body as no writer with manners would write them.
type raw struct {
	flag       byte
	name, link string
	mode       string // octal; "" is 0000644
	size       string // as the field holds it; "" is what body has
	prefix     string // of the name, in ustar's field for it
	body       string
	v7         bool // without ustar's magic
}

func (r raw) bytes() []byte {
	h := make([]byte, 512)
	copy(h[0:100], r.name)
	copy(h[100:], "0000644\x00")
	if r.mode != "" {
		copy(h[100:108], r.mode+"\x00")
	}
	copy(h[108:], "0000000\x000000000\x00")
	copy(h[124:136], fmt.Sprintf("%011o\x00", len(r.body)))
	if r.size != "" {
		copy(h[124:136], r.size)
	}
	copy(h[136:], "00000000000\x00")
	h[156] = r.flag
	copy(h[157:257], r.link)
	if !r.v7 {
		copy(h[257:], "ustar\x0000")
		copy(h[345:500], r.prefix)
	}
	out := patch(h, 0, func([]byte) {})
	out = append(out, r.body...)
	return append(out, make([]byte, -len(r.body)&511)...)
}

// rawTar is an archive of raw entries with its end.
func rawTar(entries ...raw) func(testing.TB) []byte {
	return func(testing.TB) []byte {
		var out []byte
		for _, e := range entries {
			out = append(out, e.bytes()...)
		}
		return append(out, make([]byte, 1024)...)
	}
}

// records is an extended header with PAX records, each "key=value".
func records(all ...string) raw {
	var body strings.Builder
	for _, r := range all {
		n := len(r) + 2
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n = len(fmt.Sprint(n)) + len(r) + 2
		}
		fmt.Fprintf(&body, "%d %s\n", n, r)
	}
	return raw{flag: 'x', name: "PaxHeaders/x", body: body.String()}
}

// long is GNU's way to say a long name ('L') or link target ('K').
func long(flag byte, text string) raw {
	return raw{flag: flag, name: "././@LongLink", body: text + "\x00"}
}

// rawRules are the rules that only a hand-made archive can break, or just keep.
var rawRules = []rule{
	{"a name", rawTar(raw{flag: '0', name: "a"}), rawTar(raw{flag: '0', name: ""}), "empty"},
	{"no NUL", rawTar(records("path=long"), raw{flag: '0', name: "a"}), rawTar(records("path=a\x00b"), raw{flag: '0', name: "a"}), "header"},
	{"a slash only at the end of directories", rawTar(raw{flag: '5', name: "a/"}), rawTar(raw{flag: '0', name: "a/"}), "empty component"},
	{"two slashes at the end", rawTar(raw{flag: '5', name: "a"}), rawTar(raw{flag: '5', name: "a//"}), "empty component"},
	{"old header", rawTar(raw{flag: 0, name: "a", v7: true}), rawTar(raw{flag: 0, name: "../a", v7: true}), `".."`},
	{"old header of a directory", rawTar(raw{flag: 0, name: "a/", v7: true}), rawTar(raw{flag: 0, name: "a/", v7: true, body: "x"}), "size"},
	{"prefix", rawTar(raw{flag: '0', prefix: "d", name: "a"}), rawTar(raw{flag: '0', prefix: "..", name: "a"}), `".."`},
	{"absolute prefix", rawTar(raw{flag: '0', prefix: "d/e", name: "a"}), rawTar(raw{flag: '0', prefix: "/d", name: "a"}), "absolute"},
	{"C1 control characters", rawTar(raw{flag: '0', name: "a\u00a0b"}), rawTar(raw{flag: '0', name: "a\u0085b"}), "control"},
	{"symlink has a target", rawTar(raw{flag: '2', name: "a", link: "."}), rawTar(raw{flag: '2', name: "a"}), "no target"},
	{"symlink's long target", rawTar(long('K', "./b"), raw{flag: '2', name: "a", link: "c"}, raw{flag: '0', name: "b"}), rawTar(long('K', "../b"), raw{flag: '2', name: "a", link: "c"}), "leaves the tree"},
	{"symlink's PAX target", rawTar(records("linkpath=b"), raw{flag: '2', name: "a", link: "x"}, raw{flag: '0', name: "b"}), rawTar(records("linkpath=/b"), raw{flag: '2', name: "a", link: "b"}, raw{flag: '0', name: "b"}), "absolute"},
	{"hard link inside", rawTar(raw{flag: '0', name: "a"}, raw{flag: '1', name: "b", link: "a"}), rawTar(raw{flag: '0', name: "a"}, raw{flag: '1', name: "b", link: "../a"}), "hard link"},
	{"hard link not absolute", rawTar(raw{flag: '0', name: "a"}, raw{flag: '1', name: "b", link: "./a"}), rawTar(raw{flag: '0', name: "a"}, raw{flag: '1', name: "b", link: "/a"}), "hard link"},
	{"hard link to something", rawTar(raw{flag: '0', name: "a"}, raw{flag: '1', name: "b", link: "a"}), rawTar(raw{flag: '1', name: "b", link: "/etc/passwd"}), "hard link"},
	{"hard link to another", rawTar(raw{flag: '0', name: "a"}, raw{flag: '1', name: "b", link: "a"}), rawTar(raw{flag: '1', name: "b", link: "b"}), "hard link"},
	{"modes are clamped", rawTar(raw{flag: '0', name: "a", mode: "7777777"}), rawTar(raw{flag: '3', name: "a", mode: "7777777"}), "type"},
	{"PAX name", rawTar(records("path=b"), raw{flag: '0', name: "../a"}), rawTar(records("path=../a"), raw{flag: '0', name: "a"}), `".."`},
	{"GNU name", rawTar(long('L', "b"), raw{flag: '0', name: "../a"}), rawTar(long('L', "../a"), raw{flag: '0', name: "a"}), `".."`},
	{"PAX size smaller than the header's", rawTar(raw{flag: '0', name: "a", body: "12345"}), rawTar(records("size=0"), raw{flag: '0', name: "a", body: strings.Repeat("x", 512)}), "size"},
	{"PAX size larger than the header's", rawTar(raw{flag: '0', name: "a"}), rawTar(records("size=512"), raw{flag: '0', name: "a"}, raw{flag: '0', name: "b"}), "size"},
	{"PAX size below zero", rawTar(raw{flag: '0', name: "a"}), rawTar(records("size=-512"), raw{flag: '0', name: "a"}), "header"},
	{"size beyond all", rawTar(raw{flag: '0', name: "a"}), rawTar(raw{flag: '0', name: "a", size: "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}), "may be unpacked"},
	{"size beyond the limit", rawTar(raw{flag: '0', name: "a"}), rawTar(raw{flag: '0', name: "a", size: "\x80\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00"}), "may be unpacked"},
	{"size that is none", rawTar(raw{flag: '0', name: "a"}), rawTar(raw{flag: '0', name: "a", size: "0000000008x\x00"}), "header"},
	{"malformed PAX records", rawTar(records("mtime=1"), raw{flag: '0', name: "a"}), rawTar(raw{flag: 'x', name: "x", body: "99 path=a\n"}, raw{flag: '0', name: "a"}), "header"},
	{"PAX record without value", rawTar(records("uname=x"), raw{flag: '0', name: "a"}), rawTar(raw{flag: 'x', name: "x", body: "7 path\n"}, raw{flag: '0', name: "a"}), "header"},
	{"one PAX header", rawTar(records("path=a", "mtime=1"), raw{flag: '0', name: "x"}), rawTar(records("path=a"), records("mtime=1"), raw{flag: '0', name: "x"}), "extended headers"},
	{"one GNU name", rawTar(long('L', "a"), long('K', "."), raw{flag: '2', name: "x", link: "x"}), rawTar(long('L', "a"), long('L', "b"), raw{flag: '0', name: "x"}), "extended headers"},
	{"one format", rawTar(long('K', "."), long('L', "a"), raw{flag: '2', name: "x", link: "x"}), rawTar(records("path=a"), long('L', "b"), raw{flag: '0', name: "x"}), "extended headers"},
	{"one format, the other way round", rawTar(long('L', "b"), raw{flag: '0', name: "x"}), rawTar(long('L', "b"), records("path=a"), raw{flag: '0', name: "x"}), "extended headers"},
	{"long names say something", rawTar(long('L', "b"), raw{flag: '0', name: "x"}), rawTar(long('L', ""), raw{flag: '0', name: "x"}), "empty"},
	{"long targets replace something", rawTar(long('K', "."), raw{flag: '2', name: "a", link: "x"}), rawTar(long('K', "."), raw{flag: '2', name: "a"}), "no target"},
	{"PAX targets replace something", rawTar(records("linkpath=."), raw{flag: '2', name: "a", link: "x"}), rawTar(records("linkpath=."), raw{flag: '2', name: "a"}), "no target"},
	{"PAX records say something", rawTar(records("uname="), raw{flag: '0', name: "x"}), rawTar(records("path="), raw{flag: '0', name: "x"}), "is empty"},
	{"PAX targets say something", rawTar(records("linkpath=."), raw{flag: '2', name: "x", link: "y"}), rawTar(records("linkpath="), raw{flag: '2', name: "x", link: "."}), "is empty"},
	{"extended headers extend something", rawTar(records("path=a"), raw{flag: '0', name: "x"}), rawTar(raw{flag: '0', name: "x"}, records("path=a")), "before no entry"},
	{"GNU's format has no prefix", rawTar(raw{flag: '0', name: "a", prefix: "p"}), func(t testing.TB) []byte {
		return patch(rawTar(raw{flag: '0', name: "d", prefix: "p"})(t), 0, func(h []byte) { copy(h[257:265], "ustar  \x00") })
	}, "prefix"},
	{"PAX sparse map", rawTar(records("path=a"), raw{flag: '0', name: "x"}), rawTar(records("GNU.sparse.size=10", "GNU.sparse.numblocks=0", "GNU.sparse.map="), raw{flag: '0', name: "a"}), ""},
	{"PAX sparse 1.0", rawTar(records("path=a"), raw{flag: '0', name: "x"}), rawTar(records("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=a", "GNU.sparse.realsize=10"), raw{flag: '0', name: "x", body: "0\n" + strings.Repeat("\x00", 510)}), "PAX record"},
	{"PAX ACL", rawTar(records("atime=1", "ctime=1"), raw{flag: '0', name: "a"}), rawTar(records("SCHILY.acl.access=user::rwx"), raw{flag: '0', name: "a"}), "PAX record"},
	{"PAX SELinux label", rawTar(records("gname=g"), raw{flag: '0', name: "a"}), rawTar(records("RHT.security.selinux=x"), raw{flag: '0', name: "a"}), "PAX record"},
	{"PAX character set", rawTar(records("gid=1"), raw{flag: '0', name: "a"}), rawTar(records("hdrcharset=BINARY"), raw{flag: '0', name: "a"}), "PAX record"},
	{"PAX link of BSD", rawTar(records("uid=1"), raw{flag: '0', name: "a"}), rawTar(records("LIBARCHIVE.symlinktype=dir"), raw{flag: '2', name: "a", link: "."}), "PAX record"},
	{"PAX global size", rawTar(raw{flag: '0', name: "a"}), func(t testing.TB) []byte {
		g := records("size=512")
		g.flag = 'g'
		return rawTar(g, raw{flag: '0', name: "a"})(t)
	}, "global"},
}

// kindRules has one rule for every kind of entry beyond the four that are accepted.
func kindRules() (out []rule) {
	for _, flag := range []byte("346789ADEIMNPSVXZ\x01\xff") {
		out = append(out, rule{fmt.Sprintf("kind %q", flag), rawTar(raw{flag: '0', name: "a"}), rawTar(raw{flag: flag, name: "a"}), ""})
	}
	return out
}

// layer is a compressed archive, and whether it is read.
type layer struct {
	name   string
	data   []byte
	format string
	ok     bool
}

// layers are the rules of what lies around the tar stream.
func layers(t testing.TB) []layer {
	stream := tarOf(t, reg("a", "x"))
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}
	window := func(size int) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(size))
		must(t, err)
		_, err = w.Write(stream)
		must(t, err)
		must(t, w.Flush())
		must(t, w.Close())
		return b.Bytes()
	}
	broken := bytes.Clone(gz(t, stream))
	broken[len(broken)-8] ^= 1
	sum := zst(t, stream)
	sum[len(sum)-1] ^= 1
	return []layer{
		{"gzip", gz(t, stream), release.FormatGzip, true},
		{"zstd", zst(t, stream), release.FormatZstd, true},
		{"zstd, raw", rawFrame(stream), release.FormatZstd, true},
		{"zstd, index", append(zst(t, stream), skippable...), release.FormatZstd, true},
		{"two frames", append(zst(t, stream[:512]), zst(t, stream[512:])...), release.FormatZstd, true},
		{"two members", append(gz(t, stream), gz(t, nil)...), release.FormatGzip, false},
		{"gzip tail", append(gz(t, stream), 0), release.FormatGzip, false},
		{"gzip cut", gz(t, stream)[:60], release.FormatGzip, false},
		{"gzip checksum", broken, release.FormatGzip, false},
		{"zstd tail", append(zst(t, stream), "tail"...), release.FormatZstd, false},
		{"zstd cut", zst(t, stream)[:60], release.FormatZstd, false},
		{"zstd checksum", sum, release.FormatZstd, false},
		{"wide window", window(2 * maxWindow), release.FormatZstd, false},
		{"window", window(maxWindow), release.FormatZstd, true},
		{"plain", stream, release.FormatGzip, false},
		{"wrong format", gz(t, stream), release.FormatZstd, false},
		{"no format", gz(t, stream), "", false},
		{"empty", nil, release.FormatZstd, false},
	}
}
