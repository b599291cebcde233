package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/release"
)

// Ranges gives parts of one artifact, all of the same object: one that was replaced after the first answer is refused.
type Ranges struct {
	bucket bucket.Bucket
	key    string
	size   int64
	etag   string // of the first answer, which Index waits for; empty where the store gives none
	pulled atomic.Int64
}

// Index reads and verifies the index of the artifact of p. It is errors.ErrUnsupported if there is none, if it is of a kind that
// this agent does not know (artifact.ErrNewer), or if the store gives no parts of an object: then the artifact can only be had whole.
func (s *Source) Index(ctx context.Context, p release.Pointer) (*Ranges, artifact.Index, error) {
	if p.Artifact.Index == nil || p.Artifact.Format != release.FormatZstd {
		return nil, artifact.Index{}, fmt.Errorf("artifact of release %s: frames: %w", release.ShortHash(p.Release.Hash), errors.ErrUnsupported)
	}
	if err := artifact.CheckIndex(p.Artifact); err != nil {
		return nil, artifact.Index{}, err
	}
	r := &Ranges{bucket: s.bucket, key: s.key(p), size: p.Artifact.Size}
	data := make([]byte, p.Artifact.Index.Size)
	for have, idle := int64(0), 0; have < int64(len(data)); {
		body, etag, err := r.open(ctx, p.Artifact.Index.Offset+have, int64(len(data))-have)
		if err != nil { // the bucket has tried that a few times already
			return nil, artifact.Index{}, s.shorter(ctx, p, err)
		}
		r.etag = etag
		got, err := io.ReadFull(body, data[have:])
		_ = body.Close()
		have += int64(got)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("get object %s: the answer is %d bytes short: %w", r.key, int64(len(data))-have, bucket.ErrUnreachable)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil, !errors.Is(err, bucket.ErrUnreachable):
			return nil, artifact.Index{}, err
		case got == 0:
			if idle++; idle >= maxResumes {
				return nil, artifact.Index{}, err
			}
		default:
			idle = 0
		}
	}
	x, err := artifact.ReadIndex(data, p.Artifact)
	if err != nil {
		return nil, artifact.Index{}, fmt.Errorf("object %s: %w", r.key, err)
	}
	return r, x, nil
}

// shorter is the error of a range, or what is behind it: that the object is not as long as the pointer says.
func (s *Source) shorter(ctx context.Context, p release.Pointer, err error) error {
	for _, other := range []error{fs.ErrNotExist, fs.ErrPermission, release.ErrVerify, bucket.ErrUnreachable, bucket.ErrNoBucket, errors.ErrUnsupported} {
		if errors.Is(err, other) || ctx.Err() != nil {
			return err
		}
	}
	if offers := s.Offers(ctx, p); errors.Is(offers, release.ErrVerify) {
		return offers
	}
	return err
}

// Open is an artifact.Opener.
func (r *Ranges) Open(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	body, _, err := r.open(ctx, offset, length)
	return body, err
}

func (r *Ranges) open(ctx context.Context, offset, length int64) (_ io.ReadCloser, etag string, _ error) {
	body, info, err := r.bucket.Open(ctx, r.key, offset, length, r.etag)
	switch {
	case err == nil && info.Size != r.size:
		_ = body.Close()
		err = fmt.Errorf("get object %s: %w: it has %d bytes, the pointer says %d", r.key, release.ErrVerify, info.Size, r.size)
	case err != nil && r.etag != "" && errors.Is(err, fs.ErrExist):
		err = fmt.Errorf("get object %s: it changed during the download: %w", r.key, release.ErrVerify)
	}
	if err != nil {
		return nil, "", err
	}
	return &countedBody{ReadCloser: body, ranges: r}, info.ETag, nil
}

// Pulled is how many bytes came over the network so far.
func (r *Ranges) Pulled() int64 { return r.pulled.Load() }

// countedBody counts what is read.
type countedBody struct {
	io.ReadCloser
	ranges *Ranges
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ranges.pulled.Add(int64(n))
	return n, err
}
