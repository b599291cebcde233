package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/release"
)

// broken is a bucket whose bodies end after a number of bytes, as those of one that drips do after a while.
type broken struct {
	bucket.Bucket
	data  []byte
	gives int64
	from  []int64 // where each transfer began
}

func (b *broken) Open(_ context.Context, _ string, offset, _ int64, _ string) (io.ReadCloser, bucket.Info, error) {
	b.from = append(b.from, offset)
	rest := b.data[offset:]
	var body io.Reader = bytes.NewReader(rest)
	if int64(len(rest)) > b.gives {
		body = io.MultiReader(bytes.NewReader(rest[:b.gives]), failing{})
	}
	return io.NopCloser(body), bucket.Info{Size: int64(len(b.data)), ETag: `"1"`}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) {
	return 0, fmt.Errorf("only 7 bytes in 30s: %w", bucket.ErrUnreachable)
}

// A download that breaks off goes on where it broke off, as often as it takes if that brings it on; one that hardly moves is
// given up, and what has come is kept for the next try.
func TestResumes(t *testing.T) {
	data := make([]byte, 20*minGain)
	sum := sha256.Sum256(data)
	p := release.Pointer{Artifact: release.Artifact{Key: "web/releases/a.tar.zst", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Format: release.FormatZstd}}
	for _, c := range []struct {
		gives     int64
		transfers int
		whole     bool
	}{
		{int64(len(data)), 1, true}, {minGain, 20, true}, {minGain - 1, maxResumes, false}, {7, maxResumes, false}, {0, maxResumes, false},
	} {
		b := &broken{data: data, gives: c.gives}
		s := &Source{bucket: b}
		f, err := os.Create(filepath.Join(t.TempDir(), "part"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		told := int64(0)
		err = s.Fetch(t.Context(), p, f, 0, func(n int64) { told = n })
		if c.whole != (err == nil) || !c.whole && !errors.Is(err, bucket.ErrUnreachable) || len(b.from) != c.transfers {
			t.Errorf("%d bytes at a time: got %d transfers, %v, want %d, whole %v", c.gives, len(b.from), err, c.transfers, c.whole)
		}
		for i, from := range b.from {
			if want := int64(i) * c.gives; from != want {
				t.Errorf("%d bytes at a time: transfer %d began at %d, want %d", c.gives, i+1, from, want)
			}
		}
		if want := min(int64(c.transfers)*c.gives, int64(len(data))); told != want {
			t.Errorf("%d bytes at a time: told of %d bytes, want %d", c.gives, told, want)
		}
	}
}
