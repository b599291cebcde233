package artifact

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A header that is made by hand is the one that the tar writer makes: the same tree keeps its bytes.
func TestPlainHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		long := rapid.SampledFrom([]int{1, 2, 50, 97, 98, 99, 100, 101, 150}).Draw(t, "long")
		e := Entry{Path: strings.Repeat("p/", long/2) + rapid.StringMatching(`[ -.0-~]{1,3}`).Draw(t, "name"), Mode: 0o644}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			e.Mode = fs.ModeDir | 0o755
		case 1:
			e.Mode = fs.ModeSymlink | 0o755
			e.Link = strings.Repeat("l", rapid.SampledFrom([]int{1, 99, 100, 101}).Draw(t, "target"))
		case 2:
			e.Mode, e.Size = 0o755, rapid.Int64Range(0, 1<<34).Draw(t, "size")
		default:
			e.Size = rapid.Int64Range(0, 1<<20).Draw(t, "size")
		}
		want, err := header(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendHeader([]byte("before"), e)
		if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("%+v: got %q, %v, want %q", e, got, err, want)
		}
		if room := (frame{entries: []Entry{e}, sliced: true, to: 0}).bound(); int64(len(want)) > room {
			t.Errorf("%+v: %d bytes of header, a slice has room for %d", e, len(want), room)
		}
	})
}
