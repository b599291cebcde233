package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// maxMemory is what unpacking anything may allocate in all, and so hold at once, in bytes.
const maxMemory = 64 << 20

// FuzzUnpack offers arbitrary tar streams: none may hang, panic, take much memory, or leave anything but plain things in
// the stage.
func FuzzUnpack(f *testing.F) {
	for _, r := range rules {
		f.Add(r.accepted(f))
		f.Add(r.refused(f))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		root := stageDir(t)
		data := rawFrame(stream)
		o := UnpackOptions{Want: release.Artifact{Format: release.FormatZstd}, Skip: []string{"uploads"}, MaxBytes: 1 << 20}
		before := allocated()
		tree, err := Unpack(context.Background(), root, bytes.NewReader(data), o)
		if n := allocated() - before; n > maxMemory {
			t.Errorf("allocated %d bytes for %d", n, len(stream))
		}
		checkUnpacked(t, root.Name(), tree, err, o)
		checkContained(t, root)
		if err == nil {
			if got, err := DigestTree(root, o.Skip); err != nil || got != tree.Digest {
				t.Errorf("DigestTree = %s, %v, want %s", got, err, tree.Digest)
			}
		}
	})
}

// FuzzFrames offers arbitrary bytes, cut anywhere, as the frames of an artifact whose index vouches for them, as a packer
// that was taken over would write it. What is accepted by frames must be accepted as a whole, as the same tree.
func FuzzFrames(f *testing.F) {
	seed := func(frames ...[]byte) {
		var cuts []byte
		var all []byte
		for _, frame := range frames {
			all = append(all, frame...)
			cuts = binary.LittleEndian.AppendUint16(cuts, uint16(len(all)))
		}
		f.Add(all, cuts)
	}
	for _, files := range []map[string]string{smallTree, {"a": "content", "d/b": "+x more", "l": "-> a"}} {
		data, a := pack(f, PackOptions{Dir: writeTree(f, files)})
		var frames [][]byte
		for _, x := range readIndex(f, data, a).Frames {
			frames = append(frames, data[x.Offset:x.Offset+x.Size])
		}
		seed(frames...)
	}
	stream := tarOf(f, reg("a", "x"), dir("d"), link("l", "a"), hard("b", "a"))
	seed(rawFrame(stream[:len(stream)-1024]), rawFrame(stream[len(stream)-1024:]))
	seed(rawFrame(stream[:700]), rawFrame(stream[700:1024]), rawFrame(stream[1024:]))
	seed(zst(f, stream[:512]), zst(f, stream[512:]))
	seed(append(rawFrame(stream[:512]), rawFrame(stream[512:1024])...), rawFrame(stream[1024:]))
	seed(append(rawFrame(stream[:512]), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'), rawFrame(stream[512:]))
	seed([]byte("no frame at all"), []byte{0x28, 0xb5, 0x2f, 0xfd, 0xff})
	zeros := zst(f, make([]byte, 300<<10))
	seed(zeros, zeros, rawFrame(stream))

	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20))
	must(f, err)
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		list := cut(data, cuts)
		if len(list) < 2 {
			return // no artifact has fewer
		}
		for i := range list {
			x := &list[i]
			content, err := decoder.DecodeAll(data[x.Offset:x.Offset+x.Size], nil)
			if err != nil || len(content) == 0 {
				content = make([]byte, x.Size) // what it decodes to is not known, so the index lies
			}
			x.UnpackedSize, x.Content = int64(len(content)), sha256.Sum256(content)
		}
		all := appendIndex(bytes.Clone(data), list)
		a := describe(all, release.FormatZstd, MaxEntries, 1<<20)
		a.Index = indexOf(all, int64(len(data)))
		x, err := ReadIndex(all[len(data):], a)
		if err != nil {
			if !errors.Is(err, release.ErrVerify) {
				t.Errorf("err = %v, want ErrVerify", err)
			}
			return // a frame that is smaller than its content can be, say
		}
		o := UnpackOptions{Want: release.Artifact{Format: release.FormatZstd}, MaxBytes: 1 << 20}
		root := stageDir(t)
		before := allocated()
		tree, err := Bring(context.Background(), root, x, opener(all), BringOptions{UnpackOptions: o})
		if n := allocated() - before; n > maxMemory {
			t.Errorf("allocated %d bytes for %d", n, len(data))
		}
		checkUnpacked(t, root.Name(), tree, err, o)
		checkContained(t, root)
		if err != nil {
			return
		}
		o.Want = describe(all, release.FormatZstd, tree.Entries, tree.Bytes)
		whole, err := Unpack(context.Background(), stageDir(t), bytes.NewReader(all), o)
		if err != nil || whole.Digest != tree.Digest || whole.Entries != tree.Entries || whole.Bytes != tree.Bytes {
			t.Errorf("by frames %+v, as a whole %+v, %v", tree, whole, err)
		}
	})
}

// FuzzIndex offers arbitrary bytes as a frame index with a right digest: what is accepted must be what the writer writes
// for it, and its sums must be what was signed.
func FuzzIndex(f *testing.F) {
	for _, files := range []map[string]string{smallTree, {"a": ""}} {
		data, a := pack(f, PackOptions{Dir: writeTree(f, files)})
		f.Add(data[a.Index.Offset:], a.Index.Offset, a.UnpackedSize, a.Entries)
	}
	frames := []Frame{{Size: 10, UnpackedSize: 512}, {Size: 30, UnpackedSize: 1024}}
	f.Add(appendIndex(nil, frames), int64(40), int64(0), int64(1))
	f.Add(appendIndex(nil, frames[:1]), int64(10), int64(0), int64(1))
	f.Add(appendIndex(nil, nil), int64(0), int64(-1), int64(1)<<62)
	f.Add([]byte("TLIX"), int64(1), int64(1)<<62, int64(1)<<62)
	f.Fuzz(func(t *testing.T, data []byte, offset, unpacked, entries int64) {
		want := release.Artifact{Format: release.FormatZstd, Size: offset + int64(len(data)), UnpackedSize: unpacked, Entries: entries}
		sum := sha256.Sum256(data)
		want.Index = &release.Index{Offset: offset, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
		before := allocated()
		x, err := ReadIndex(data, want)
		if n := allocated() - before; n > maxMemory {
			t.Errorf("allocated %d bytes for %d", n, len(data))
		}
		if err != nil {
			if newer := skippable(data) && !bytes.Equal(data[8:16], []byte("TLIX\x01\x00\x00\x00")); errors.Is(err, release.ErrVerify) == (newer && errors.Is(err, ErrNewer)) {
				t.Errorf("err = %v, want ErrVerify, or ErrNewer alone: %v", err, newer)
			}
			return
		}
		var end, total int64
		for i, fr := range x.Frames {
			if fr.Offset != end || fr.Size <= 0 || fr.UnpackedSize <= 0 || fr.UnpackedSize > maxFrame || fr.Size > frameBound(maxFrame) {
				t.Errorf("frame %d: %+v at %d", i, fr, end)
			}
			end, total = end+fr.Size, total+fr.UnpackedSize
		}
		if end != offset || total != x.UnpackedSize() || len(x.Frames) < 2 || !bytes.Equal(appendIndex(nil, x.Frames), data) {
			t.Errorf("accepted %d frames that end at %d, the index at %d: %x", len(x.Frames), end, offset, data)
		}
		flipped := bytes.Clone(data)
		flipped[len(flipped)/2] ^= 1
		if _, err := ReadIndex(flipped, want); !errors.Is(err, release.ErrVerify) {
			t.Errorf("another index with the same digest: err = %v", err)
		}
	})
}

// checkUnpacked demands a refusal, or a tree within the limits; the disk is no excuse.
func checkUnpacked(t *testing.T, stage string, tree Tree, err error, o UnpackOptions) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, release.ErrVerify) {
			t.Errorf("%s: err = %v, want ErrVerify", stage, err)
		}
		return
	}
	if tree.Bytes > o.MaxBytes || tree.Entries > MaxEntries || tree.Entries < 0 {
		t.Errorf("accepted %+v", tree)
	}
}

// cut makes frames of data that end at the places that cuts names, two bytes each.
func cut(data, cuts []byte) []Frame {
	ends := []int{len(data)}
	for len(cuts) >= 2 && len(ends) < 20 {
		ends = append(ends, int(binary.LittleEndian.Uint16(cuts))%(len(data)+1))
		cuts = cuts[2:]
	}
	slices.Sort(ends)
	var list []Frame
	var begin int64
	for _, end := range slices.Compact(ends) {
		if end == 0 {
			continue
		}
		list = append(list, Frame{Offset: begin, Size: int64(end) - begin, SHA256: sha256.Sum256(data[begin:end])})
		begin = int64(end)
	}
	return list
}

// indexOf describes the index that lies in an artifact from offset on.
func indexOf(artifact []byte, offset int64) *release.Index {
	sum := sha256.Sum256(artifact[offset:])
	return &release.Index{Offset: offset, Size: int64(len(artifact)) - offset, SHA256: hex.EncodeToString(sum[:])}
}

// rawFrame is a zstd frame that holds data as it is, without checksum: what a fuzzer changes in it changes the content.
func rawFrame(data []byte) []byte {
	const block = 128 << 10
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0} // single segment, four bytes of content size
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	for {
		n := min(len(data), block)
		head := uint32(n) << 3
		if n == len(data) {
			head |= 1 // the last one
		}
		out = append(out, byte(head), byte(head>>8), byte(head>>16))
		out = append(out, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return out
		}
	}
}

// allocated is how many bytes this process has ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzInventory offers arbitrary bytes as the inventory of a release with a right digest. What is read is written as it was, and
// bringing a release forward from it ends with that release's tree or an error, and touches nothing beside the stage.
func FuzzInventory(f *testing.F) {
	m := makeArtifact(f, map[string]string{"a": "content", "d/b": "+x more", "l": "-> a", "e/": ""})
	_, tree := m.installed(f)
	f.Add(tree.Inventory.encode())
	_, other := makeArtifact(f, smallTree).installed(f, "lib", "empty")
	f.Add(other.Inventory.encode())
	f.Add([]byte(inventoryMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 32 {
			sum := sha256.Sum256(data[:len(data)-32])
			data = append(data[:len(data)-32:len(data)-32], sum[:]...)
		}
		before := allocated()
		v, err := ReadInventory(bytes.NewReader(data))
		if n := allocated() - before; n > maxMemory {
			t.Errorf("allocated %d bytes for %d", n, len(data))
		}
		if err != nil {
			return
		}
		if !bytes.Equal(v.encode(), data) {
			t.Errorf("read %x, wrote %x", data, v.encode())
		}
		root := stageDir(t)
		o := BringOptions{UnpackOptions: UnpackOptions{Want: m.a}, Others: []Installed{{root, v}}}
		got, err := Bring(context.Background(), root, m.x, opener(m.data), o)
		if err != nil || got.Digest != tree.Digest {
			t.Errorf("with a release that is none beside it: %s, %v, want %s", got.Digest, err, tree.Digest)
		}
		o = BringOptions{UnpackOptions: UnpackOptions{Want: m.a, Skip: v.skips}, Base: &Installed{root, v}}
		if _, err := Bring(context.Background(), root, m.x, opener(m.data), o); err != nil && !errors.Is(err, ErrBase) && !errors.Is(err, release.ErrVerify) {
			t.Errorf("err = %v, want ErrBase or ErrVerify", err)
		}
		if beside, err := os.ReadDir(filepath.Dir(root.Name())); err != nil || len(beside) != 1 {
			t.Errorf("beside the stage: %v, %v", beside, err)
		}
	})
}
