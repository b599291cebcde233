package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func (s *store) Objects(ctx context.Context, prefix string) ([]Info, error) {
	var found []Info
	size := 0
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.loc.name, Prefix: &prefix})
	for n := 1; pages.HasMorePages(); n++ {
		short, cancel := context.WithTimeout(ctx, small)
		page, err := pages.NextPage(short)
		cancel()
		if err != nil {
			return nil, s.fault(ctx, "list objects", prefix, err)
		}
		for _, o := range page.Contents {
			if key := aws.ToString(o.Key); checkKey(key) == nil && strings.HasPrefix(key, prefix) {
				found = append(found, Info{Key: key, Size: aws.ToInt64(o.Size), ETag: quoted(o.ETag), Modified: aws.ToTime(o.LastModified)})
				size += len(key)
			}
		}
		if n == maxPages || size > maxKeyBytes {
			return nil, s.endless(ctx, "list objects", prefix, len(found), n)
		}
	}
	slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

func (s *store) endless(ctx context.Context, op, prefix string, found, pages int) error {
	return s.fault(ctx, op, prefix, &fault{text: fmt.Sprintf("it has no end: %d on %d pages", found, pages), kind: ErrUnreachable})
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	_, err := s.client.DeleteObject(short, &s3.DeleteObjectInput{Bucket: &s.loc.name, Key: &key})
	if err = s.fault(ctx, "delete object", key, err); errors.Is(err, fs.ErrNotExist) {
		return nil // most stores do not even say so
	}
	return err
}

func (s *store) Unfinished(ctx context.Context, prefix string) ([]Upload, error) {
	const op = "list unfinished uploads of"
	var found []Upload
	pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{Bucket: &s.loc.name, Prefix: &prefix})
	for n := 1; pages.HasMorePages(); n++ {
		short, cancel := context.WithTimeout(ctx, small)
		page, err := pages.NextPage(short)
		cancel()
		if err != nil {
			return nil, s.fault(ctx, op, prefix, err)
		}
		for _, u := range page.Uploads {
			if key := aws.ToString(u.Key); checkKey(key) == nil && strings.HasPrefix(key, prefix) {
				found = append(found, Upload{Key: key, ID: aws.ToString(u.UploadId), Size: -1, Begun: aws.ToTime(u.Initiated)})
			}
		}
		if n == maxPages {
			return nil, s.endless(ctx, op, prefix, len(found), n)
		}
	}
	return found, nil
}

func (s *store) Abort(ctx context.Context, u Upload) error {
	if err := checkKey(u.Key); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(short, &s3.AbortMultipartUploadInput{Bucket: &s.loc.name, Key: &u.Key, UploadId: &u.ID})
	if apiCode(err) == "NoSuchUpload" {
		return nil
	}
	return s.fault(ctx, "abort upload of", u.Key, err)
}

func (s *store) Clock(ctx context.Context) (time.Time, error) {
	const op = "ask for the time"
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	out, err := s.client.HeadBucket(short, &s3.HeadBucketInput{Bucket: &s.loc.name})
	header := http.Header{}
	if resp := response(err); resp != nil {
		header = resp.Header // a refusal is dated too
	} else if err != nil {
		return time.Time{}, s.fault(ctx, op, "", err)
	} else if raw, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
		header = raw.Header
	}
	when, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}, s.fault(ctx, op, "", &fault{text: "the answer has no date", kind: errors.ErrUnsupported})
	}
	return when, nil
}

func (s *store) Kept(ctx context.Context, key string) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	out, err := s.client.HeadObject(short, &s3.HeadObjectInput{Bucket: &s.loc.name, Key: &key})
	if err != nil {
		return false, s.fault(ctx, "stat object", key, err)
	}
	id := aws.ToString(out.VersionId)
	return id != "" && id != "null", nil
}

func (s *store) Try(ctx context.Context, key string, same []byte, c Condition) (Leave, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	in := &s3.PutObjectInput{Bucket: &s.loc.name, Key: &key, Body: bytes.NewReader(same),
		ContentType: aws.String("application/json"), CacheControl: aws.String("no-store")}
	if c == IfAbsent {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = aws.String(noTag)
	}
	_, err := s.client.PutObject(short, in)
	if err == nil {
		return Wrote, nil
	}
	// Rights come first, then the condition; one that names an ETag does not fit what is not there either.
	if status(err) == http.StatusNotFound && apiCode(err) == "NoSuchKey" {
		return Granted, nil
	}
	return leave(s.fault(ctx, "try to write", key, err))
}

// leave reads an answer that is no success.
func leave(err error) (Leave, error) {
	switch {
	case errors.Is(err, fs.ErrExist):
		return Granted, nil
	case errors.Is(err, fs.ErrPermission):
		return Denied, nil
	}
	return "", err
}

func (s *store) TryUpload(ctx context.Context, key string) (Leave, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	short, cancel := context.WithTimeout(ctx, small)
	defer cancel()
	begun, err := s.client.CreateMultipartUpload(short, &s3.CreateMultipartUploadInput{Bucket: &s.loc.name, Key: &key})
	if err != nil {
		return leave(s.fault(ctx, "try to upload", key, err))
	}
	return Granted, s.Abort(ctx, Upload{Key: key, ID: aws.ToString(begun.UploadId)})
}
