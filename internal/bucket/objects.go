package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func (s *store) URL() string { return s.loc.String() }

func (s *store) Get(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	data, info, err := s.GetIfChanged(ctx, key, "", limit)
	return data, info.ETag, err
}

func (s *store) GetIfChanged(ctx context.Context, key, etag string, limit int64) ([]byte, Info, error) {
	in := &s3.GetObjectInput{}
	if etag != "" {
		in.IfNoneMatch = &etag
	}
	return s.read(ctx, in, key, limit)
}

func (s *store) GetVersion(ctx context.Context, key, versionID string, limit int64) ([]byte, error) {
	data, _, err := s.read(ctx, &s3.GetObjectInput{VersionId: &versionID}, key, limit)
	if status(err) == http.StatusMethodNotAllowed { // the answer for a delete marker
		err = &fault{text: err.Error(), kind: fs.ErrNotExist}
	}
	return data, err
}

// bodyTries is how often a small object is asked for whose body breaks off: the library tries again until there is an answer, and
// takes that for the end of its work.
const bodyTries = 3

// read gives a whole object of at most limit bytes.
func (s *store) read(ctx context.Context, in *s3.GetObjectInput, key string, limit int64) (data []byte, info Info, err error) {
	for range bodyTries {
		var began bool
		data, info, began, err = s.readOnce(ctx, in, key, limit)
		if !began || !errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			break
		}
	}
	return data, info, err
}

// readOnce asks once. began says that a body came, whole or not.
func (s *store) readOnce(ctx context.Context, in *s3.GetObjectInput, key string, limit int64) (data []byte, info Info, began bool, err error) {
	if err := checkKey(key); err != nil {
		return nil, Info{}, false, err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	in.Bucket, in.Key = &s.loc.name, &key
	out, err := s.client.GetObject(short, in)
	if err != nil {
		return nil, Info{}, false, s.fault(ctx, "get object", key, err)
	}
	defer out.Body.Close()
	info = Info{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: quoted(out.ETag), Modified: aws.ToTime(out.LastModified)}
	if in.IfNoneMatch != nil && info.ETag == *in.IfNoneMatch {
		return nil, info, false, s.fault(ctx, "get object", key, ErrNotModified) // this store ignores the condition
	}
	if info.Size > limit {
		return nil, info, false, tooLarge(key, "bucket "+s.loc.name, limit)
	}
	data, err = io.ReadAll(io.LimitReader(out.Body, limit+1))
	if err != nil {
		return nil, info, true, s.fault(ctx, "get object", key, err)
	}
	if int64(len(data)) > limit {
		return nil, info, false, tooLarge(key, "bucket "+s.loc.name, limit)
	}
	info.Size = int64(len(data))
	return data, info, true, nil
}

func (s *store) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	out, err := s.client.HeadObject(short, &s3.HeadObjectInput{Bucket: &s.loc.name, Key: &key})
	if err != nil {
		return Info{}, s.fault(ctx, "stat object", key, err)
	}
	return Info{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: quoted(out.ETag), Modified: aws.ToTime(out.LastModified)}, nil
}

func (s *store) Open(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, Info, error) {
	if err := errors.Join(checkKey(key), checkRange(key, offset, length)); err != nil {
		return nil, Info{}, err
	}
	in := &s3.GetObjectInput{Bucket: &s.loc.name, Key: &key}
	if length > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	} else if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	var out *s3.GetObjectOutput
	send := func(tag *string) (err error) {
		in.IfMatch = tag
		out, err = s.client.GetObject(ctx, in)
		return err
	}
	if err := s.conditional(ctx, key, ifMatch, send); err != nil {
		return nil, Info{}, s.fault(ctx, "get object", key, err)
	}
	info := Info{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: quoted(out.ETag), Modified: aws.ToTime(out.LastModified)}
	if in.Range != nil {
		begin, rest, _ := strings.Cut(strings.TrimPrefix(aws.ToString(out.ContentRange), "bytes "), "-")
		_, total, _ := strings.Cut(rest, "/")
		size, err := strconv.ParseInt(total, 10, 64)
		if err != nil || begin != strconv.FormatInt(offset, 10) {
			out.Body.Close()
			err := fmt.Errorf("asked for %s, got %q", *in.Range, aws.ToString(out.ContentRange))
			if out.ContentRange == nil {
				err = &fault{text: "asked for " + *in.Range + ", got the whole object", kind: errors.ErrUnsupported}
			}
			return nil, Info{}, s.fault(ctx, "get object", key, err)
		}
		info.Size = size
	}
	return &stream{ReadCloser: out.Body, ctx: ctx, store: s, key: key}, info, nil
}

// stream names the object in the errors of its body.
type stream struct {
	io.ReadCloser
	ctx   context.Context
	store *store
	key   string
}

func (r *stream) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = r.store.fault(r.ctx, "get object", r.key, err)
	}
	return n, err
}

// conditional calls send with etag in the form that this store takes. Some refuse the quoted form that they hand out
// themselves; where a look shows that the ETag is right after all, the bare form is tried once, and kept. An empty etag
// is no condition.
func (s *store) conditional(ctx context.Context, key, etag string, send func(tag *string) error) error {
	if etag == "" {
		return send(nil)
	}
	bare := strings.Trim(etag, `"`)
	if s.unquoted.Load() {
		return send(&bare)
	}
	err := send(&etag)
	if code := status(err); code != http.StatusPreconditionFailed && code != http.StatusBadRequest {
		return err
	}
	if now, statErr := s.Stat(ctx, key); statErr != nil || now.ETag != etag {
		return err
	}
	if err = send(&bare); err == nil {
		s.unquoted.Store(true)
	}
	return err
}

func (s *store) Create(ctx context.Context, key string, data []byte, contentType string) error {
	in := &s3.PutObjectInput{IfNoneMatch: aws.String("*"), ContentType: &contentType}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	_, err := s.write(ctx, short, "create object", key, bytes.NewReader(data), in)
	return err
}

func (s *store) Replace(ctx context.Context, key string, data []byte, etag string) (string, error) {
	in := &s3.PutObjectInput{ContentType: aws.String("application/json"), CacheControl: aws.String("no-store")}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &etag
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	return s.write(ctx, short, "replace object", key, bytes.NewReader(data), in)
}

func (s *store) Put(ctx context.Context, key string, data []byte, contentType string) error {
	in := &s3.PutObjectInput{ContentType: &contentType, CacheControl: aws.String("no-store")}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	_, err := s.write(ctx, short, "put object", key, bytes.NewReader(data), in)
	return err
}

// write sends one object under the condition in in, and gives its ETag. ctx is the caller's, short its deadline.
func (s *store) write(ctx, short context.Context, op, key string, body io.ReadSeeker, in *s3.PutObjectInput) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	in.Bucket, in.Key, in.Body = &s.loc.name, &key, body
	counted, sent := withAttempts(short)
	var out *s3.PutObjectOutput
	send := func(tag *string) (err error) {
		sent.Store(0)
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		in.IfMatch = tag
		out, err = s.client.PutObject(counted, in)
		return err
	}
	etag, fresh := aws.ToString(in.IfMatch), in.IfNoneMatch != nil
	err := s.conditional(ctx, key, etag, send)
	if status(err) == http.StatusNotImplemented && (etag != "" || fresh) {
		if err := s.look(ctx, op, key, etag); err != nil {
			return "", err
		}
		in.IfNoneMatch = nil
		err = send(nil)
	}
	if err == nil {
		err = s.unwritten("an ETag", out.ETag)
	}
	if err == nil {
		return quoted(out.ETag), nil
	}
	failed := s.fault(ctx, op, key, err)
	if errors.Is(failed, fs.ErrExist) && sent.Load() > 1 {
		if tag, ok := s.holds(ctx, key, body); ok {
			return tag, nil // an earlier attempt wrote it, and its answer was lost
		}
	}
	return "", failed
}

// look stands in for a condition that the store does not implement: another writer may still come between.
func (s *store) look(ctx context.Context, op, key, etag string) error {
	s.log.Warn("store has no conditional writes: looking before writing", "bucket", s.loc.name, "key", key)
	now, err := s.Stat(ctx, key)
	if etag == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && now.ETag != etag {
		return &fault{text: fmt.Sprintf("%s %s in bucket %s: something else is there", op, key, s.loc.name), kind: fs.ErrExist}
	}
	return err
}

// holds reports whether the object has exactly these bytes, and its ETag.
func (s *store) holds(ctx context.Context, key string, body io.ReadSeeker) (string, bool) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return "", false
	}
	want, err := io.ReadAll(body)
	if err != nil {
		return "", false
	}
	have, tag, err := s.Get(ctx, key, int64(len(want)))
	return tag, err == nil && bytes.Equal(have, want)
}

// Bounds of a listing, far above what any app comes to. A store that has been taken over has no end of either.
const (
	maxPages    = 2000
	maxKeyBytes = 32 << 20
)

func (s *store) List(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	n, size := 0, 0
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.loc.name, Prefix: &prefix})
	for pages.HasMorePages() {
		short, cancel := context.WithTimeout(ctx, small)
		page, err := pages.NextPage(short)
		cancel()
		if err != nil {
			return nil, s.fault(ctx, "list objects", prefix, err)
		}
		for _, object := range page.Contents {
			key := aws.ToString(object.Key)
			if checkKey(key) == nil && strings.HasPrefix(key, prefix) { // consoles leave "folder/" objects behind
				keys = append(keys, key)
				size += len(key)
			}
		}
		if n++; n == maxPages || size > maxKeyBytes {
			return nil, s.fault(ctx, "list objects", prefix, &fault{
				text: fmt.Sprintf("it has no end: %d keys on %d pages", len(keys), n), kind: ErrUnreachable})
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (s *store) Versions(ctx context.Context, key string) ([]Version, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	var found []Version
	n := 0
	pages := s3.NewListObjectVersionsPaginator(s.client, &s3.ListObjectVersionsInput{Bucket: &s.loc.name, Prefix: &key})
	for pages.HasMorePages() {
		short, cancel := context.WithTimeout(ctx, small)
		page, err := pages.NextPage(short)
		cancel()
		if err != nil {
			return nil, s.fault(ctx, "list versions of", key, err)
		}
		for _, v := range page.Versions {
			if aws.ToString(v.Key) == key {
				found = append(found, Version{ID: aws.ToString(v.VersionId), Size: aws.ToInt64(v.Size), ETag: quoted(v.ETag),
					Modified: aws.ToTime(v.LastModified), Latest: aws.ToBool(v.IsLatest)})
			}
		}
		for _, v := range page.DeleteMarkers {
			if aws.ToString(v.Key) == key {
				found = append(found, Version{ID: aws.ToString(v.VersionId), Modified: aws.ToTime(v.LastModified),
					Latest: aws.ToBool(v.IsLatest), Deleted: true})
			}
		}
		if n++; n == maxPages {
			return nil, s.fault(ctx, "list versions of", key, &fault{text: fmt.Sprintf("it has no end: %d on %d pages", len(found), n), kind: ErrUnreachable})
		}
	}
	// Stable: within one second the store's own order, which is newest first, is all there is.
	slices.SortStableFunc(found, func(a, b Version) int {
		if a.Latest != b.Latest {
			return map[bool]int{true: -1, false: 1}[a.Latest]
		}
		return b.Modified.Compare(a.Modified)
	})
	switch {
	case len(found) == 0:
		return nil, s.fault(ctx, "list versions of", key, &fault{text: "no such object", kind: fs.ErrNotExist})
	case len(found) == 1 && (found[0].ID == "" || found[0].ID == "null") && !s.versioned(ctx):
		return nil, s.fault(ctx, "list versions of", key, &fault{text: "the bucket keeps no versions", kind: errors.ErrUnsupported})
	}
	return found, nil
}

// versioned asks whether the bucket ever kept versions. No answer counts as yes.
func (s *store) versioned(ctx context.Context) bool {
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	out, err := s.client.GetBucketVersioning(short, &s3.GetBucketVersioningInput{Bucket: &s.loc.name})
	return err != nil || out.Status == types.BucketVersioningStatusEnabled || out.Status == types.BucketVersioningStatusSuspended
}

func (s *store) Check(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	_, err := s.client.ListObjectsV2(short, &s3.ListObjectsV2Input{Bucket: &s.loc.name, MaxKeys: aws.Int32(1)})
	var who *identityError
	if apiCode(err) == "AccessDenied" && !errors.As(err, &who) {
		s.log.Info("these credentials may not list the whole bucket, as is right", "bucket", s.loc.name)
		return nil
	}
	return s.fault(ctx, "look", "", err)
}

// quoted gives an ETag in the one form that callers see.
func quoted(etag *string) string {
	tag := aws.ToString(etag)
	if tag == "" || strings.HasSuffix(tag, `"`) {
		return tag
	}
	return `"` + tag + `"`
}

// checkRange refuses ranges that no request can express.
func checkRange(key string, offset, length int64) error {
	if offset < 0 || length == 0 {
		return fmt.Errorf("get object %s: no bytes in range %d+%d", key, offset, length)
	}
	return nil
}
