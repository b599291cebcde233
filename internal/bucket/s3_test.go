package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/bucket/buckettest"
	"github.com/towline/towline/test/parts"
)

func admin(g *parts.S3Server) *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: &g.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(g.AccessKey, g.SecretKey, "")})
}

var buckets atomic.Int32

func newBucket(t *testing.T, g *parts.S3Server) string {
	return g.Bucket(t, fmt.Sprintf("bucket-%d", buckets.Add(1)))
}

func openS3(t *testing.T, g *parts.S3Server, name string) bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), bucket.Options{URL: "s3://" + name + "?endpoint=" + g.Endpoint, AccessKeyID: g.AccessKey, SecretAccessKey: g.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestS3Conforms(t *testing.T) {
	g := parts.S3(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return openS3(t, g, newBucket(t, g)) })
}

func TestS3Versions(t *testing.T) {
	g := parts.S3(t)
	name := newBucket(t, g)
	b := openS3(t, g, name)
	const key = "app/production/version.json"
	var etag string
	for _, state := range []string{"one", "two", "three"} {
		var err error
		if etag, err = b.Replace(t.Context(), key, []byte(state), etag); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin(g).DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &name, Key: ptr(key)}); err != nil {
		t.Fatal(err)
	}
	versions, err := b.Versions(t.Context(), key)
	if err != nil || len(versions) != 4 || !versions[0].Deleted || !versions[0].Latest {
		t.Fatalf("got %+v, %v, want a delete marker and three states", versions, err)
	}
	for i, want := range []string{"three", "two", "one"} {
		got, err := b.GetVersion(t.Context(), key, versions[i+1].ID, 10)
		if err != nil || string(got) != want {
			t.Errorf("version %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	for _, id := range []string{versions[0].ID, "01K9V0000000000000000000ZZ"} {
		if _, err := b.GetVersion(t.Context(), key, id, 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("version %s: got error %v, want fs.ErrNotExist", id, err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestS3Refusals(t *testing.T) {
	g := parts.S3(t)
	name := newBucket(t, g)
	wrong, stranger := parts.S3Server{Endpoint: g.Endpoint, AccessKey: g.AccessKey, SecretKey: "not it"},
		parts.S3Server{Endpoint: g.Endpoint, AccessKey: "nobody", SecretKey: g.SecretKey}
	for _, c := range []struct {
		what string
		b    bucket.Bucket
		want error
		text string
	}{
		{"missing bucket", openS3(t, g, "no-such-bucket"), bucket.ErrNoBucket, "in bucket no-such-bucket: no such bucket"},
		{"wrong secret", openS3(t, &wrong, name), fs.ErrPermission, "in bucket " + name + ": access denied: SignatureDoesNotMatch"},
		{"unknown key", openS3(t, &stranger, name), fs.ErrPermission, "in bucket " + name + ": access denied: InvalidAccessKeyId"},
	} {
		_, _, get := c.b.Get(t.Context(), "k", 10)
		_, list := c.b.List(t.Context(), "k")
		_, replace := c.b.Replace(t.Context(), "k", nil, "")
		upload := c.b.Upload(t.Context(), "k", strings.NewReader(strings.Repeat("x", 17<<20)), 17<<20, "", nil)
		for op, err := range map[string]error{"get object k": get, "list objects k": list, "replace object k": replace, "upload object k": upload,
			"create object k": c.b.Create(t.Context(), "k", nil, ""), "look": c.b.Check(t.Context())} {
			if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), op+" "+c.text) {
				t.Errorf("%s: got error %v, want %q", c.what, err, op+" "+c.text)
			}
		}
	}
}

// A failed upload leaves no parts behind, whether reading failed or the caller left.
func TestS3AbortsLeftovers(t *testing.T) {
	g := parts.S3(t)
	name := newBucket(t, g)
	b := openS3(t, g, name)
	ctx, cancel := context.WithCancel(t.Context())
	data := strings.NewReader(strings.Repeat("x", 40<<20))
	if err := b.Upload(ctx, "left", data, 40<<20, "", func(int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if err := b.Upload(t.Context(), "short", data, 41<<20, "", nil); err == nil {
		t.Error("upload of too few bytes: got no error, want one")
	}
	out, err := admin(g).ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &name})
	if err != nil || len(out.Uploads) != 0 {
		t.Errorf("uploads left: got %+v, %v, want none", out.Uploads, err)
	}
}
