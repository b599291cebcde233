package bucket

import (
	"context"
	"crypto/md5" // #nosec G501 -- stores' ETags are MD5
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	singleMax  = 16 << 20        // bytes that go in one request
	partSize   = 8 << 20         // bytes of a part, more only where maxParts would not do
	maxParts   = 10000           // S3's limit
	workers    = 4               // parts in flight
	abortTime  = 3 * time.Second // a person who pressed Ctrl-C, and a runner that kills, wait no longer
	aborts     = 3
	abortPause = 100 * time.Millisecond
	abandoned  = 24 * time.Hour // an upload that began so long before another is nobody's any more
)

func (s *store) Upload(ctx context.Context, key string, r io.ReaderAt, size int64, contentType string, progress func(int64)) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if size > singleMax {
		return s.multipart(ctx, key, r, size, contentType, progress)
	}
	in := &s3.PutObjectInput{IfNoneMatch: aws.String("*"), ContentType: &contentType}
	_, err := s.write(ctx, ctx, "upload object", key, io.NewSectionReader(r, 0, size), in)
	if err == nil && progress != nil {
		progress(size)
	}
	return err
}

func (s *store) multipart(ctx context.Context, key string, r io.ReaderAt, size int64, contentType string, progress func(int64)) (err error) {
	const op = "upload object"
	// Looked at first, too: it spares the upload, and not every store minds the condition when completing.
	if _, err := s.Stat(ctx, key); err == nil {
		return s.fault(ctx, op, key, &fault{text: "something else is there", kind: fs.ErrExist})
	}
	in := &s3.CreateMultipartUploadInput{Bucket: &s.loc.name, Key: &key, ContentType: &contentType}
	if s.client.Options().RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32 // the one that the SDK adds to parts; said, or completing fails
	}
	begun, err := s.client.CreateMultipartUpload(ctx, in)
	if err == nil {
		err = s.unwritten("an upload id", begun.UploadId)
	}
	if err != nil {
		return s.fault(ctx, op, key, err)
	}
	defer func() {
		if err == nil {
			return
		}
		// Parts that nobody lists cost money for ever: abort them even when ctx has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		s.abort(ctx, key, begun.UploadId)
	}()
	s.sweep(ctx, key, aws.ToString(begun.UploadId))
	parts, err := s.parts(ctx, key, begun.UploadId, r, size, progress)
	if err != nil {
		return s.fault(ctx, op, key, err)
	}
	end := &s3.CompleteMultipartUploadInput{Bucket: &s.loc.name, Key: &key, UploadId: begun.UploadId, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}
	counted, sent := withAttempts(ctx)
	whole, err := s.client.CompleteMultipartUpload(counted, end)
	if status(err) == http.StatusNotImplemented {
		if err := s.look(ctx, op, key, ""); err != nil {
			return err
		}
		end.IfNoneMatch = nil
		whole, err = s.client.CompleteMultipartUpload(counted, end)
	}
	if err == nil {
		err = s.unwritten("an ETag", whole.ETag)
	}
	if err != nil && sent.Load() > 1 {
		// An earlier attempt may have completed it, and its answer was lost.
		if now, statErr := s.Stat(ctx, key); statErr == nil && now.Size == size && now.ETag == multipartETag(parts) {
			return nil
		}
	}
	return s.fault(ctx, op, key, err)
}

// abort gives up the parts that were uploaded. A part that was on its way can arrive after that and bring the upload back,
// so it is asked again until the store knows nothing of it.
func (s *store) abort(ctx context.Context, key string, id *string) {
	for again := range aborts {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.loc.name, Key: &key, UploadId: id})
		switch {
		case err != nil && apiCode(err) == "NoSuchUpload":
			return
		case err != nil && again == 0:
			s.log.Warn("parts of a failed upload stay in the bucket", "key", key, "error", s.fault(ctx, "abort upload of", key, err))
			return
		case err != nil:
			return
		}
		select {
		case <-time.After(abortPause):
		case <-ctx.Done():
			return
		}
	}
}

// sweep aborts what uploads in the folder of key have left that were killed, and could not do it themselves: those that began
// long before ours, by the store's own clock. Not every publisher may list uploads, and nothing rests on it.
func (s *store) sweep(ctx context.Context, key, ours string) {
	ctx, cancel := context.WithTimeout(ctx, abortTime)
	defer cancel()
	folder := key[:strings.LastIndex(key, "/")+1]
	list, err := s.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.loc.name, Prefix: &folder})
	if err != nil {
		s.log.Debug("uploads that were given up are left alone", "bucket", s.loc.name, "error", s.fault(ctx, "list uploads", folder, err))
		return
	}
	var began time.Time // of ours
	for _, u := range list.Uploads {
		if aws.ToString(u.UploadId) == ours {
			began = aws.ToTime(u.Initiated)
		}
	}
	for _, u := range list.Uploads {
		at := aws.ToTime(u.Initiated)
		if began.IsZero() || at.IsZero() || began.Sub(at) < abandoned || !strings.HasPrefix(aws.ToString(u.Key), folder) {
			continue
		}
		s.log.Info("aborting an upload that was given up", "bucket", s.loc.name, "key", aws.ToString(u.Key), "began", at)
		s.abort(ctx, aws.ToString(u.Key), u.UploadId)
	}
}

// parts uploads all parts, several at a time, and ends all at the first failure.
func (s *store) parts(ctx context.Context, key string, id *string, r io.ReaderAt, size int64, progress func(int64)) ([]types.CompletedPart, error) {
	piece := max(int64(partSize), (size+maxParts-1)/maxParts)
	parts := make([]types.CompletedPart, (size+piece-1)/piece)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		running sync.WaitGroup
		mu      sync.Mutex // guards next and done, and keeps calls of progress apart
		next    int
		done    int64
	)
	claim := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= len(parts) && ctx.Err() == nil
	}
	for range min(workers, len(parts)) {
		running.Go(func() {
			for i, ok := claim(); ok; i, ok = claim() {
				from := int64(i) * piece
				n := min(piece, size-from)
				number := int32(i + 1) // #nosec G115 -- at most 10,000 parts
				part, err := s.part(ctx, key, id, number, io.NewSectionReader(r, from, n), n)
				if err != nil {
					cancel(err) // the first one stays
					return
				}
				mu.Lock()
				parts[i] = part
				done += n
				if progress != nil {
					progress(done)
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return parts, context.Cause(ctx)
}

func (s *store) part(ctx context.Context, key string, id *string, number int32, body io.ReadSeeker, size int64) (types.CompletedPart, error) {
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &s.loc.name, Key: &key, UploadId: id, PartNumber: &number,
		Body: body, ContentLength: &size})
	if err != nil {
		return types.CompletedPart{}, err
	}
	if err := s.unwritten("an ETag", out.ETag); err != nil {
		return types.CompletedPart{}, err
	}
	return types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C,
		ChecksumCRC64NVME: out.ChecksumCRC64NVME, ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256}, nil
}

// multipartETag is what stores give an object that was put together from these parts: the MD5 of the MD5s of its parts. A
// store that does it otherwise never answers with it.
func multipartETag(parts []types.CompletedPart) string {
	sum := md5.New() // #nosec G401 -- compared with an ETag; nothing rests on it
	for _, part := range parts {
		digest, err := hex.DecodeString(strings.Trim(*part.ETag, `"`))
		if err != nil {
			return ""
		}
		sum.Write(digest)
	}
	return fmt.Sprintf(`"%x-%d"`, sum.Sum(nil), len(parts))
}

// apiCode gives the S3 error code of an error, or "".
func apiCode(err error) string {
	var api interface{ ErrorCode() string }
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
