package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/agent/source"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/release"
)

func TestSourceHistory(t *testing.T) {
	w := newWorld(t)
	a, b := "aaaaaaa1", "aaaaaaa2"
	for _, h := range []string{a, b, a, "ccccccc"} {
		w.publish("web", h, h)
	}
	w.must(w.bucket.Put(t.Context(), release.HistoryKey("web", "production", 9), []byte("{}"), ""))
	for _, listing := range []bool{true, false} {
		store := w.bucket
		if !listing {
			store = unlistable{w.bucket}
		}
		s := source.New(store, w.settings("", oneApp).Apps[0], nil)
		for _, test := range []struct {
			version string
			seq     uint64
			err     error
		}{
			{a, 3, nil}, {b, 2, nil}, {"ccccccc", 4, nil}, {"aaaaaaa", 0, deploy.ErrAmbiguous}, {"ccccc", 0, fs.ErrNotExist},
			{"ddddddd", 0, fs.ErrNotExist}, {"../x", 0, fs.ErrNotExist},
		} {
			v, err := s.History(t.Context(), test.version)
			if v.Pointer().Seq != test.seq || !errors.Is(err, test.err) {
				t.Errorf("%s, listing %v: got seq %d, %v, want %d, %v", test.version, listing, v.Pointer().Seq, err, test.seq, test.err)
			}
		}
	}
}

// unlistable is a bucket whose key may not list.
type unlistable struct{ bucket.Bucket }

func (unlistable) List(context.Context, string) ([]string, error) { return nil, fs.ErrPermission }

func TestSourceResumes(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), strings.Repeat("0123456789", 15))
	s := source.New(w.bucket, w.settings("", oneApp).Apps[0], nil)
	look, err := s.Look(t.Context(), "")
	w.must(err)
	if _, err := s.Look(t.Context(), look.ETag); !errors.Is(err, deploy.ErrNotModified) {
		t.Errorf("got %v, want ErrNotModified", err)
	}
	p := look.Pointer.Pointer()
	whole, _, err := w.bucket.Get(t.Context(), p.Artifact.Key, 1<<20)
	w.must(err)
	for _, have := range []int{0, 1, len(whole) / 2, len(whole)} {
		path := filepath.Join(t.TempDir(), "part")
		w.must(os.WriteFile(path, whole[:have], 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		w.must(err)
		told := int64(-1)
		if err := s.Fetch(t.Context(), p, f, int64(have), func(n int64) { told = n }); err != nil {
			t.Errorf("from %d: %v", have, err)
		}
		f.Close()
		if data, err := os.ReadFile(path); err != nil || string(data) != string(whole) || have < len(whole) && told != int64(len(whole)) {
			t.Errorf("from %d: got %d bytes, told %d, want %d", have, len(data), told, len(whole))
		}
	}
	// Too long, and wrong at the start: both must be refused, for the engine to begin again.
	for _, data := range [][]byte{append(whole[:len(whole):len(whole)], 'x'), []byte("wrong")} {
		path := filepath.Join(t.TempDir(), "part")
		w.must(os.WriteFile(path, data, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		w.must(err)
		if err := s.Fetch(t.Context(), p, f, int64(len(data)), func(int64) {}); !errors.Is(err, release.ErrVerify) {
			t.Errorf("%.10q: got %v, want ErrVerify", data, err)
		}
		f.Close()
	}
}
