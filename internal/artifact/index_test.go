package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/towline/towline/internal/release"
)

func TestGoldenIndex(t *testing.T) {
	frames := []Frame{
		{Size: 0x0102, UnpackedSize: 0x030405, SHA256: sha256.Sum256([]byte("a")), Content: sha256.Sum256([]byte("b"))},
		{Offset: 0x0102, Size: 30, UnpackedSize: 1024, SHA256: sha256.Sum256([]byte("c")), Content: sha256.Sum256([]byte("d"))},
	}
	want := "5e2a4d18" + "9c000000" + "544c4958" + "01000000" + "02000000" +
		"02010000" + "05040300" +
		"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" + "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d" +
		"1e000000" + "00040000" +
		"2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6" + "18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4"
	if got := hex.EncodeToString(appendIndex(nil, frames)); got != want {
		t.Errorf("index = %s\nwant    %s", got, want)
	}
}

func TestReadIndexRefuses(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, smallTree)})
	good := data[a.Index.Offset:]
	resign := func(b []byte, change func(*release.Artifact, *release.Index)) ([]byte, release.Artifact) {
		sum := sha256.Sum256(b)
		want, x := a, *a.Index
		x.SHA256, x.Size, want.Size = hex.EncodeToString(sum[:]), int64(len(b)), x.Offset+int64(len(b))
		if change != nil {
			change(&want, &x)
		}
		want.Index = &x
		return b, want
	}
	set := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	for name, f := range map[string]func() ([]byte, release.Artifact){
		"cut":                       func() ([]byte, release.Artifact) { return good[:len(good)-1], a },
		"resigned cut":              func() ([]byte, release.Artifact) { return resign(good[:len(good)-1], nil) },
		"tail":                      func() ([]byte, release.Artifact) { return resign(append(bytes.Clone(good), 0), nil) },
		"one frame off":             func() ([]byte, release.Artifact) { return resign(good[:len(good)-indexEntry], nil) },
		"magic":                     func() ([]byte, release.Artifact) { return resign(set(0, 0x50), nil) },
		"length":                    func() ([]byte, release.Artifact) { return resign(set(4, 1), nil) },
		"version":                   func() ([]byte, release.Artifact) { return resign(set(12, 0), nil) },
		"newer and cut":             func() ([]byte, release.Artifact) { return resign(set(12, 2)[:len(good)-1], nil) },
		"newer, not what is signed": func() ([]byte, release.Artifact) { return set(12, 2), a },
		"count":                     func() ([]byte, release.Artifact) { return resign(set(16, 200), nil) },
		"size zero":                 func() ([]byte, release.Artifact) { b := set(20, 0); b[21] = 0; return resign(b, nil) },
		"sizes":                     func() ([]byte, release.Artifact) { return resign(set(20, good[20]+1), nil) },
		"frame of 4 GB":             func() ([]byte, release.Artifact) { return resign(set(27, 0xff), nil) },
		"beyond want": func() ([]byte, release.Artifact) {
			return resign(good, func(w *release.Artifact, _ *release.Index) { w.UnpackedSize, w.Entries = -maxTail, 0 })
		},
		"elsewhere": func() ([]byte, release.Artifact) {
			return resign(good, func(w *release.Artifact, x *release.Index) { x.Offset--; w.Size-- })
		},
		"not at the end": func() ([]byte, release.Artifact) {
			return resign(good, func(w *release.Artifact, x *release.Index) { w.Size++ })
		},
		"too large": func() ([]byte, release.Artifact) {
			return resign(good, func(w *release.Artifact, x *release.Index) { x.Size = maxIndex + 1; w.Size = x.Offset + x.Size })
		},
		"of gzip": func() ([]byte, release.Artifact) {
			return resign(good, func(w *release.Artifact, x *release.Index) { w.Format = release.FormatGzip })
		},
		"absent": func() ([]byte, release.Artifact) { b := a; b.Index = nil; return good, b },
	} {
		b, want := f()
		if _, err := ReadIndex(b, want); !errors.Is(err, release.ErrVerify) {
			t.Errorf("%s: err = %v, want ErrVerify", name, err)
		}
	}
	if _, err := ReadIndex(good, a); err != nil {
		t.Errorf("the index itself: %v", err)
	}
}

// An index of a layout that came later is signed as any other: it is no refusal, and the artifact can be had whole.
func TestNewerIndex(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, smallTree)})
	good := data[a.Index.Offset:]
	set := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	longer := append(set(12, 2), "what comes with version 2"...)
	binary.LittleEndian.PutUint32(longer[4:], uint32(len(longer)-8))
	for name, index := range map[string][]byte{
		"the next version": set(12, 2), "a later one": set(15, 1), "of another kind": set(8, 'X'), "with more in it": longer,
	} {
		whole := append(bytes.Clone(data[:a.Index.Offset]), index...)
		want := describe(whole, release.FormatZstd, a.Entries, a.UnpackedSize)
		sum := sha256.Sum256(index)
		want.Index = &release.Index{Offset: a.Index.Offset, Size: int64(len(index)), SHA256: hex.EncodeToString(sum[:])}
		_, err := ReadIndex(index, want)
		if !errors.Is(err, ErrNewer) || !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, release.ErrVerify) {
			t.Errorf("%s: err = %v, want ErrNewer, which is no refusal", name, err)
		}
		root := stageDir(t)
		tree, err := Unpack(t.Context(), root, bytes.NewReader(whole), UnpackOptions{Want: want})
		must(t, err)
		if got, err := DigestTree(root, nil); err != nil || got != tree.Digest || tree.Entries != a.Entries {
			t.Errorf("%s: got %s, %d entries, %v, want %s, %d", name, got, tree.Entries, err, tree.Digest, a.Entries)
		}
	}
}

// No byte of an artifact may change unnoticed, by either way of reading it.
func TestEveryByteFlip(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, map[string]string{"a": "content", "d/b": "+x more"})})
	x := readIndex(t, data, a)
	for i := range data {
		b := bytes.Clone(data)
		b[i] ^= 1 << (i % 8)
		if err := VerifyFile(bytes.NewReader(b), a); !errors.Is(err, release.ErrVerify) {
			t.Errorf("byte %d: VerifyFile: err = %v, want ErrVerify", i, err)
		}
		if _, err := Unpack(context.Background(), stageDir(t), bytes.NewReader(b), UnpackOptions{Want: a}); !errors.Is(err, release.ErrVerify) {
			t.Errorf("byte %d: Unpack: err = %v, want ErrVerify", i, err)
		}
		var err error
		if int64(i) >= a.Index.Offset {
			_, err = ReadIndex(b[a.Index.Offset:], a)
		} else {
			_, err = Bring(context.Background(), stageDir(t), x, opener(b), BringOptions{UnpackOptions: UnpackOptions{Want: a}})
		}
		if !errors.Is(err, release.ErrVerify) {
			t.Errorf("byte %d: by frames: err = %v, want ErrVerify", i, err)
		}
	}
	for _, n := range []int{0, 1, len(data) - 1} {
		if err := VerifyFile(bytes.NewReader(data[:n]), a); !errors.Is(err, release.ErrVerify) {
			t.Errorf("first %d bytes: err = %v, want ErrVerify", n, err)
		}
	}
	if err := VerifyFile(bytes.NewReader(append(bytes.Clone(data), 0)), a); !errors.Is(err, release.ErrVerify) {
		t.Errorf("a byte more: err = %v, want ErrVerify", err)
	}
	if err := VerifyFile(iotest.ErrReader(io.ErrClosedPipe), a); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, release.ErrVerify) {
		t.Errorf("a broken file: err = %v, want io.ErrClosedPipe alone", err)
	}
}

// A connection that breaks is taken up again where it broke; one that breaks for good is an error of its own.
func TestFramesResume(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, map[string]string{"a": "content", "big": string(bytes.Repeat([]byte("0123456789abcdef"), 400<<10))})})
	x := readIndex(t, data, a)
	var offsets []int64
	open := func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		offsets = append(offsets, offset)
		if offset+length != a.Index.Offset {
			t.Errorf("asked for %d bytes at %d, want up to the index at %d", length, offset, a.Index.Offset)
		}
		end := min(offset+x.Frames[0].Size+10, a.Index.Offset)
		r := io.Reader(bytes.NewReader(data[offset:end]))
		if len(offsets) < 3 {
			r = io.MultiReader(r, iotest.ErrReader(io.ErrClosedPipe))
		} else {
			r = bytes.NewReader(data[offset : offset+length])
		}
		return io.NopCloser(r), nil
	}
	tree, err := Bring(context.Background(), stageDir(t), x, open, BringOptions{UnpackOptions: UnpackOptions{Want: a}})
	must(t, err)
	if want := x.Frames[0].Size + 10; len(offsets) != 3 || offsets[1] != want || tree.Bytes != a.UnpackedSize {
		t.Errorf("opened at %v for %+v, want a second time at %d", offsets, tree, want)
	}

	tries := 0
	dead := func(context.Context, int64, int64) (io.ReadCloser, error) {
		tries++
		return io.NopCloser(iotest.ErrReader(io.ErrClosedPipe)), nil
	}
	_, err = Bring(context.Background(), stageDir(t), x, dead, BringOptions{UnpackOptions: UnpackOptions{Want: a}})
	if !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, release.ErrVerify) || tries != fetchTries {
		t.Errorf("err = %v after %d tries, want io.ErrClosedPipe after %d", err, tries, fetchTries)
	}
	gone := errors.New("gone")
	_, err = Bring(context.Background(), stageDir(t), x, func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, gone }, BringOptions{UnpackOptions: UnpackOptions{Want: a}})
	if !errors.Is(err, gone) || errors.Is(err, release.ErrVerify) {
		t.Errorf("err = %v, want what open said", err)
	}
}

// blocked is a body that gives nothing until it is closed.
type blocked struct{ closed chan struct{} }

func (b blocked) Read([]byte) (int, error) { <-b.closed; return 0, io.ErrClosedPipe }
func (b blocked) Close() error             { close(b.closed); return nil }

func TestFramesCanceled(t *testing.T) {
	data, a := pack(t, PackOptions{Dir: writeTree(t, smallTree)})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Bring(ctx, stageDir(t), readIndex(t, data, a), func(context.Context, int64, int64) (io.ReadCloser, error) {
		cancel()
		return blocked{make(chan struct{})}, nil
	}, BringOptions{UnpackOptions: UnpackOptions{Want: a}})
	if !errors.Is(err, context.Canceled) || errors.Is(err, release.ErrVerify) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
	_, err = Unpack(ctx, stageDir(t), bytes.NewReader(data), UnpackOptions{Want: a})
	if !errors.Is(err, context.Canceled) || errors.Is(err, release.ErrVerify) {
		t.Errorf("Unpack: err = %v, want context.Canceled", err)
	}
}
