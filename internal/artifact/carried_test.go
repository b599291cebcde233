package artifact

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// carriedMost is the longest tar stream that TestHostileFrames carries in frames.
const carriedMost = 12 << 20

// TestHostileFrames carries what TestHostileArchives unpacks in the frames of an artifact, with an index that vouches for them. The
// artifact has one verdict, whether it is unpacked as a whole, by frames, or brings forward a release that has some of
// its frames: cut at the edges of entries it is accepted or refused alike, cut elsewhere it may be refused only.
func TestHostileFrames(t *testing.T) {
	all := slices.Concat(ruleCases(t), layerCases(t), bombs(t), collection(t, filepath.Join(goroot(t), "src/archive/tar/testdata/*.tar*")))
	for _, dir := range append(filepath.SplitList(os.Getenv("TOWLINE_TEST_CORPORA")), "../../../shared/corpora/*") {
		all = append(all, collection(t, filepath.Join(dir, "*.tar"))...)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(carriedMost))
	must(t, err)
	defer decoder.Close()
	counts := map[string]int{}
	for _, h := range all {
		stream, err := decoder.DecodeAll(h.data, nil)
		if h.want.Format != release.FormatZstd || err != nil || len(stream) < 2 {
			counts["not to be carried"]++
			continue
		}
		c := carried{hostile: h, stream: stream, random: rand.New(rand.NewPCG(1, uint64(len(stream)))), counts: counts}
		before := elsewhere(h.data)
		c.try(t, c.edges(), true)
		if len(stream) <= 1<<18 {
			c.try(t, c.anywhere(512), false)
			c.try(t, c.anywhere(1), false)
		}
		if after := elsewhere(h.data); !maps.Equal(before, after) {
			t.Errorf("%s: elsewhere there was %v, now there is %v", h.name, before, after)
		}
	}
	t.Logf("%d archives: %v", len(all), counts)
	for _, want := range []string{"accepted", "refused", "forward, accepted", "forward, refused", "cut elsewhere, refused"} {
		if counts[want] == 0 {
			t.Errorf("none was %s", want)
		}
	}
	if counts["accepted"]+counts["refused"] < 150 {
		parts.Skip(t, "Go's source tree with src/archive/tar/testdata")
	}
}

// carried is a hostile archive in frames.
type carried struct {
	hostile
	stream []byte
	random *rand.Rand
	counts map[string]int

	// what came of it as a whole, once it was tried
	tree Tree
	err  error
}

// edges cuts the stream where entries end, as far as they can be read, and files that are too large for a frame within.
func (c carried) edges() (contents [][]byte) {
	var read counting
	r := tar.NewReader(io.TeeReader(bytes.NewReader(c.stream), &read))
	begin := 0
	for {
		if _, err := r.Next(); err != nil {
			break
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			break
		}
		if end := min(int(roundUp(int64(read))), len(c.stream)); end > begin {
			contents = append(contents, slices.Collect(slices.Chunk(c.stream[begin:end], cutLimit))...)
			begin = end
		}
	}
	contents = append(contents, slices.Collect(slices.Chunk(c.stream[begin:], cutLimit))...)
	if len(contents) < 2 { // no artifact has fewer
		contents = [][]byte{c.stream[:len(c.stream)/2], c.stream[len(c.stream)/2:]}
	}
	return contents
}

// anywhere cuts the stream at some multiples of step.
func (c carried) anywhere(step int) (contents [][]byte) {
	places := []int{0, len(c.stream)}
	for range 1 + c.random.IntN(4) {
		places = append(places, (1+c.random.IntN(len(c.stream)-1))/step*step)
	}
	slices.Sort(places)
	places = slices.Compact(places)
	for i := range places[1:] {
		contents = append(contents, c.stream[places[i]:places[i+1]])
	}
	if len(contents) < 2 {
		return [][]byte{c.stream[:1], c.stream[1:]}
	}
	return contents
}

// try compares the verdicts on an artifact whose frames have these contents. Whole says that frames hold whole entries.
func (c *carried) try(t *testing.T, contents [][]byte, whole bool) {
	t.Helper()
	o := UnpackOptions{Want: c.want, Skip: []string{"uploads"}, MaxBytes: carriedMost}
	make := func(contents [][]byte) made {
		m := ofContents(t, MaxEntries, carriedMost, contents...)
		if c.want.SHA256 == "" {
			m.a = release.Artifact{Format: release.FormatZstd}
		} else {
			m.a.Entries, m.a.UnpackedSize = c.want.Entries, c.want.UnpackedSize
		}
		return m
	}
	m := make(contents)
	o.Want = m.a
	if whole {
		c.tree, c.err = Unpack(t.Context(), stageDir(t), bytes.NewReader(m.data), o)
	}
	tree, err := c.tree, c.err
	if err != nil && !errors.Is(err, release.ErrVerify) {
		t.Fatalf("%s, as a whole: %v", c.name, err)
	}
	judge := func(how string, root *os.Root, base *Installed) {
		t.Helper()
		got, gotErr := Bring(t.Context(), root, m.x, opener(m.data), BringOptions{UnpackOptions: o, Base: base})
		checkContained(t, root)
		switch {
		case gotErr != nil && !errors.Is(gotErr, release.ErrVerify):
			t.Errorf("%s, %s: err = %v, want ErrVerify", c.name, how, gotErr)
		case gotErr == nil && (err != nil || got.Digest != tree.Digest || got.Entries != tree.Entries || got.Bytes != tree.Bytes):
			t.Errorf("%s, %s: accepted as %+v; as a whole it is %+v, %v", c.name, how, got, tree, err)
		case gotErr != nil && err == nil && whole:
			t.Errorf("%s, %s: refused: %v; as a whole it is accepted", c.name, how, gotErr)
		case gotErr == nil:
			c.counts[how+"accepted"]++
		default:
			c.counts[how+"refused"]++
		}
		if gotErr == nil {
			if listed, err := DigestTree(root, o.Skip); err != nil || listed != got.Digest {
				t.Errorf("%s, %s: DigestTree = %s, %v, want %s", c.name, how, listed, err, got.Digest)
			}
		}
	}
	if !whole {
		judge("cut elsewhere, ", stageDir(t), nil)
		return
	}
	judge("", stageDir(t), nil)
	if len(contents) > 40 {
		return
	}
	// A release that has the first frames or the last ones, and is sound by itself, is brought forward.
	for k := 1; k < len(contents); k++ {
		for _, some := range [][][]byte{contents[:k], contents[k:]} {
			part := make(append(slices.Clip(some), bytes.Repeat([]byte{0}, 1024)))
			root := stageDir(t)
			before := UnpackOptions{Want: release.Artifact{Format: release.FormatZstd}, Skip: o.Skip, MaxBytes: o.MaxBytes}
			if had, err := Bring(t.Context(), root, part.x, opener(part.data), BringOptions{UnpackOptions: before}); err == nil {
				judge("forward, ", root, &Installed{root, had.Inventory})
			}
		}
	}
}

// counting is how many bytes were written.
type counting int64

func (n *counting) Write(p []byte) (int, error) {
	*n += counting(len(p))
	return len(p), nil
}
