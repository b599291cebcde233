package publish

import (
	"context"
	"io"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/release"
)

// slowBucket takes five and a half seconds for a tenth of an upload.
type slowBucket struct{ *memory }

func (b slowBucket) Upload(ctx context.Context, key string, r io.ReaderAt, size int64, contentType string, progress func(int64)) error {
	for tenth := range int64(10) {
		progress(size * tenth / 10)
		time.Sleep(5500 * time.Millisecond)
	}
	return b.memory.Upload(ctx, key, r, size, contentType, progress)
}

// The log of a run tells how far a slow upload is, and that of one which finds the same bytes has nothing to tell of.
func TestUploadTellsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i, want := range []struct {
			lines int
			text  string
		}{{9, "uploaded 42 B of 53 B, 79 %, after 44.0 s"}, {0, "nothing to upload, the bucket has the same bytes"}} {
			p := s.parts(commit(1))
			log := &recorder{}
			p.Bucket, p.Log = slowBucket{s.bucket}, log
			if _, err := Run(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(log.text(), "uploaded "); got != want.lines || !strings.Contains(log.text(), want.text) {
				t.Errorf("run %d: got %d lines, want %d, one of them %q:\n%s", i, got, want.lines, want.text, log.text())
			}
		}
	})
}

// Packing has a limit of memory, and only packing, and one that was asked for stays.
func TestPackingIsLimitedInMemory(t *testing.T) {
	s := newSite(t)
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	defer debug.SetMemoryLimit(limit())
	for before, want := range map[int64]int64{math.MaxInt64: packMemory, 1 << 30: 1 << 30} {
		debug.SetMemoryLimit(before)
		var got int64
		p := s.parts(commit(1))
		pack := p.Pack
		p.Pack = func(ctx context.Context, out *os.File, r release.Release, progress func(done, total int64)) (release.Artifact, error) {
			got = limit()
			return pack(ctx, out, r, progress)
		}
		if _, err := Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got != want || limit() != before {
			t.Errorf("limit %d before: got %d while packing, %d after, want %d and what it was", before, got, limit(), want)
		}
	}
}
