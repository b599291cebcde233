package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/agent/source"
	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
)

// odd is a bucket whose ranges are not what was asked for.
type odd struct {
	bucket.Bucket
	opened int
	body   func(whole []byte) io.Reader // in the place of a range; nil: the range
	err    error
}

func (o *odd) Open(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, bucket.Info, error) {
	o.opened++
	if o.err != nil {
		return nil, bucket.Info{}, o.err
	}
	body, info, err := o.Bucket.Open(ctx, key, offset, length, ifMatch)
	if err != nil || o.body == nil {
		return body, info, err
	}
	whole, err := io.ReadAll(body)
	return io.NopCloser(o.body(whole)), info, errors.Join(err, body.Close())
}

// The index is read by one range, whatever breaks off on the way, and every range is of the same object.
func TestIndexOfAnArtifact(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), strings.Repeat("0123456789", 15))
	look, err := source.New(w.bucket, w.settings("", oneApp).Apps[0], nil).Look(t.Context(), "")
	w.must(err)
	p := look.Pointer.Pointer()
	whole, _, err := w.bucket.Get(t.Context(), p.Artifact.Key, 1<<20)
	w.must(err)
	size := p.Artifact.Index.Size
	for name, test := range map[string]struct {
		body   func([]byte) io.Reader
		err    error
		want   error
		opened int
		pulled int64
	}{
		"well":                 {opened: 1, pulled: size},
		"half of each":         {body: func(b []byte) io.Reader { return bytes.NewReader(b[:(len(b)+1)/2]) }, opened: 9, pulled: size},
		"more than asked":      {body: func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b), strings.NewReader("more")) }, opened: 1, pulled: size},
		"nothing":              {body: func([]byte) io.Reader { return strings.NewReader("") }, want: bucket.ErrUnreachable, opened: 5},
		"other bytes":          {body: func(b []byte) io.Reader { return bytes.NewReader(make([]byte, len(b))) }, want: release.ErrVerify, opened: 1},
		"no parts":             {err: errors.ErrUnsupported, want: errors.ErrUnsupported, opened: 1},
		"a store that is away": {err: bucket.ErrUnreachable, want: bucket.ErrUnreachable, opened: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := &odd{Bucket: w.bucket, body: test.body, err: test.err}
			s := source.New(o, w.settings("", oneApp).Apps[0], nil)
			ranges, x, err := s.Index(t.Context(), p)
			if !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if name != "half of each" && o.opened != test.opened || o.opened > test.opened {
				t.Errorf("got %d ranges asked for, want %d", o.opened, test.opened)
			}
			if err == nil && (len(x.Frames) < 2 || ranges.Pulled() != test.pulled) {
				t.Errorf("got %d frames and %d bytes, want two at least and %d", len(x.Frames), ranges.Pulled(), test.pulled)
			}
		})
	}

	s := source.New(w.bucket, w.settings("", oneApp).Apps[0], nil)
	ranges, _, err := s.Index(t.Context(), p)
	w.must(err)
	body, err := ranges.Open(t.Context(), 0, 4)
	w.must(err)
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, whole[:4]) || ranges.Pulled() != size+4 {
		t.Errorf("got %q, %v, and %d bytes pulled", got, err, ranges.Pulled())
	}
	w.must(body.Close())
	w.must(w.bucket.Put(t.Context(), p.Artifact.Key, append([]byte("other"), whole[5:]...), ""))
	if _, err := ranges.Open(t.Context(), 0, 4); !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "changed during the download") {
		t.Errorf("of another object: got %v, want a refusal", err)
	}
	w.must(w.bucket.Put(t.Context(), p.Artifact.Key, whole[:len(whole)/2], ""))
	if _, _, err := s.Index(t.Context(), p); !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "bytes, the pointer says") {
		t.Errorf("of half an object: got %v, want a refusal", err)
	}
	w.must(w.bucket.Put(t.Context(), p.Artifact.Key, append(whole, 'x'), ""))
	if _, _, err := s.Index(t.Context(), p); !errors.Is(err, release.ErrVerify) {
		t.Errorf("of more than an object: got %v, want a refusal", err)
	}

	// What has no frames is not asked for.
	o := &odd{Bucket: w.bucket}
	plain := p
	plain.Artifact = release.Artifact{}
	packed := p
	packed.Artifact.Format, packed.Artifact.Index = release.FormatGzip, nil
	for _, p := range []release.Pointer{plain, packed} {
		if _, _, err := source.New(o, w.settings("", oneApp).Apps[0], nil).Index(t.Context(), p); !errors.Is(err, errors.ErrUnsupported) || o.opened != 0 {
			t.Errorf("got %v after %d ranges, want it unsupported", err, o.opened)
		}
	}
}

// What happens to the store in the middle of bringing a release is told from what happens to the disk, and from a store that lies.
func TestTroubleInTheMiddleOfAFetch(t *testing.T) {
	for name, test := range map[string]struct {
		trouble func(w *world, o *odd, p release.Pointer)
		want    error
	}{
		"nothing": {func(*world, *odd, release.Pointer) {}, nil},
		"another object": {func(w *world, _ *odd, p release.Pointer) {
			data, _, err := w.bucket.Get(w.t.Context(), p.Artifact.Key, 8<<20)
			w.must(err)
			w.must(w.bucket.Put(w.t.Context(), p.Artifact.Key, append([]byte("other"), data[5:]...), ""))
		}, release.ErrVerify},
		"other bytes": {func(_ *world, o *odd, _ release.Pointer) {
			o.body = func(b []byte) io.Reader { return bytes.NewReader(make([]byte, len(b))) }
		}, release.ErrVerify},
		"answers that are too short": {func(_ *world, o *odd, _ release.Pointer) {
			o.body = func(b []byte) io.Reader { return bytes.NewReader(b[:len(b)/3]) }
		}, io.ErrUnexpectedEOF},
		"it is gone":    {func(w *world, _ *odd, p release.Pointer) { w.unpublish("web", p.Release.Hash) }, fs.ErrNotExist},
		"store is away": {func(_ *world, o *odd, _ release.Pointer) { o.err = bucket.ErrUnreachable }, bucket.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.files = map[string]string{"lib/one": noise(1, 1500<<10), "lib/two": noise(2, 1500<<10)}
			w.publish("web", hash("1"), "one")
			o := &odd{Bucket: w.bucket}
			one := w.settings("", oneApp).Apps[0]
			s := source.New(o, one, nil)
			look, err := s.Look(t.Context(), "")
			w.must(err)
			dir, err := appdir.Open(appdir.Options{Path: one.Dir})
			w.must(err)
			defer dir.Close()
			memory, err := journal.Open(filepath.Join(w.dir, "state"))
			w.must(err)
			f := frames{app: &app{App: one, log: slog.New(slog.DiscardHandler)}, source: s, dir: dir, memory: memory}
			plan, err := f.Plan(t.Context(), look.Pointer.Pointer())
			w.must(err)
			test.trouble(w, o, look.Pointer.Pointer())
			_, root, err := dir.Stage()
			w.must(err)
			defer root.Close()
			_, err = plan.Bring(t.Context(), root, deploy.Bringing{Warn: func(string) {}, Progress: func(int64) {}})
			if !errors.Is(err, test.want) || errors.Is(err, deploy.ErrBase) || test.want != release.ErrVerify && errors.Is(err, release.ErrVerify) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if size := look.Pointer.Pointer().Artifact.Size; err == nil && plan.Pulled() != size {
				t.Errorf("got %d bytes pulled of %d", plan.Pulled(), size)
			}
		})
	}
}
