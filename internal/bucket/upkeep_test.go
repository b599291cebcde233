package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/test/parts"
)

func TestUpkeep(t *testing.T) {
	t.Run("S3", func(t *testing.T) {
		g := parts.S3(t)
		name := newBucket(t, g)
		begin := func(key string) {
			if _, err := admin(g).CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &name, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
		upkeep(t, openS3(t, g, name).(bucket.Upkeep), true, begin)
	})
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		upkeep(t, openDirectory(t, dir).(bucket.Upkeep), false, func(string) {
			if err := os.WriteFile(filepath.Join(dir, ".towline", "UNFINISHED"), []byte("half"), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func upkeep(t *testing.T, b bucket.Upkeep, versions bool, begin func(key string)) {
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	const one, two = "web/releases/a.json", "web/releases/b.tar.zst"
	before := time.Now().Add(-5 * time.Second)
	for _, key := range []string{two, one, "other/releases/c.json"} {
		check("create", b.Create(ctx, key, []byte("12345"), "text/plain"))
	}
	list := func() []string {
		t.Helper()
		objects, err := b.Objects(ctx, "web/")
		check("objects", err)
		var keys []string
		for _, o := range objects {
			keys = append(keys, o.Key)
			if o.Size != 5 || o.Modified.Before(before) || time.Since(o.Modified) < -5*time.Second {
				t.Errorf("%s: got %d bytes of %v, want 5 of now", o.Key, o.Size, o.Modified)
			}
		}
		return keys
	}
	if got := list(); len(got) != 2 || got[0] != one || got[1] != two {
		t.Errorf("objects: got %q, want %q and %q", got, one, two)
	}
	if now, err := b.Clock(ctx); err != nil || time.Since(now).Abs() > 5*time.Second {
		t.Errorf("clock: got %v, %v, want now", now, err)
	}
	switch kept, err := b.Kept(ctx, one); {
	case versions && (err != nil || !kept):
		t.Errorf("kept: got %v, %v, want true", kept, err)
	case !versions && !errors.Is(err, errors.ErrUnsupported):
		t.Errorf("kept: got error %v, want ErrUnsupported", err)
	}

	// What is tried is not done.
	for _, c := range []bucket.Condition{bucket.IfOther, bucket.IfAbsent} {
		if got, err := b.Try(ctx, one, []byte("other"), c); err != nil || got != bucket.Granted {
			t.Errorf("try %s: got %q, %v, want granted", c, got, err)
		}
	}
	if got, err := b.Try(ctx, "web/new/d.json", nil, bucket.IfOther); err != nil || got != bucket.Granted {
		t.Errorf("try what is not there: got %q, %v, want granted", got, err)
	}
	if got, err := b.TryUpload(ctx, "web/releases/e"); err != nil || got != bucket.Granted {
		t.Errorf("try an upload: got %q, %v, want granted", got, err)
	}
	if data, _, err := b.Get(ctx, one, 10); err != nil || string(data) != "12345" {
		t.Errorf("after trying: got %q, %v, want what was there", data, err)
	}
	unfinished := func(want int) []bucket.Upload {
		t.Helper()
		found, err := b.Unfinished(ctx, "web/")
		check("unfinished", err)
		if len(found) != want {
			t.Fatalf("unfinished: got %v, want %d", found, want)
		}
		return found
	}
	unfinished(0)

	begin("web/releases/f")
	found := unfinished(1)
	if found[0].Begun.Before(before) {
		t.Errorf("got one begun %v, want now", found[0].Begun)
	}
	for range 2 { // the second time it is gone
		check("abort", b.Abort(ctx, found[0]))
	}
	unfinished(0)
	for range 2 {
		check("delete", b.Delete(ctx, one))
	}
	if got := list(); len(got) != 1 || got[0] != two {
		t.Errorf("after delete: got %q, want %q", got, two)
	}
	if err := b.Delete(ctx, "web/../x"); err == nil {
		t.Error("delete a key with ..: got no error")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.Delete(ended, two); !errors.Is(err, context.Canceled) {
		t.Errorf("delete after the end: got %v, want canceled", err)
	}
}

func TestAbortOfADirectoryTakesNoObject(t *testing.T) {
	dir := t.TempDir()
	b := openDirectory(t, dir).(bucket.Upkeep)
	if err := b.Create(t.Context(), "a", nil, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "a", []byte("1"), ""); err != nil { // makes the lock
		t.Fatal(err)
	}
	for _, u := range []bucket.Upload{{Key: "a", ID: "a"}, {Key: ".towline/lock", ID: "lock"}, {Key: ".towline/../a", ID: "../a"}, {}} {
		if err := b.Abort(t.Context(), u); err == nil {
			t.Errorf("abort %+v: got no error", u)
		}
	}
	for _, name := range []string{"a", ".towline/lock"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// A user without rights is told so, and the time.
func TestTryWithoutRights(t *testing.T) {
	g := parts.S3(t)
	name := newBucket(t, g)
	if err := openS3(t, g, name).Create(t.Context(), "web/x", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	b := openS3(t, g.User(t, "nobody"), name).(bucket.Upkeep)
	for _, key := range []string{"web/x", "web/absent"} {
		if got, err := b.Try(t.Context(), key, []byte("1"), bucket.IfOther); err != nil || got != bucket.Denied {
			t.Errorf("try %s: got %q, %v, want denied", key, got, err)
		}
	}
	if got, err := b.TryUpload(t.Context(), "web/y"); err != nil || got != bucket.Denied {
		t.Errorf("try an upload: got %q, %v, want denied", got, err)
	}
	if err := b.Delete(t.Context(), "web/x"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("delete: got %v, want permission denied", err)
	}
	if now, err := b.Clock(t.Context()); err != nil || time.Since(now).Abs() > 5*time.Second {
		t.Errorf("clock: got %v, %v, want now", now, err)
	}
}

// A store that does not mind conditions is told apart; what it wrote is what was there.
func TestTryOnALooseStore(t *testing.T) {
	g := parts.S3(t)
	name := newBucket(t, g)
	b := openS3(t, loose(t, g), name).(bucket.Upkeep)
	if err := b.Create(t.Context(), "web/x", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []bucket.Condition{bucket.IfOther, bucket.IfAbsent} {
		if got, err := b.Try(t.Context(), "web/x", []byte("1"), c); err != nil || got != bucket.Wrote {
			t.Errorf("try %s: got %q, %v, want wrote", c, got, err)
		}
	}
}

// loose is the server as seen through a store that knows no conditions: each request is signed anew, without them.
func loose(t *testing.T, g *parts.S3Server) *parts.S3Server {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		at := g.Endpoint + r.URL.EscapedPath()
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			at += "?" + r.URL.RawQuery
		}
		again, err := http.NewRequestWithContext(r.Context(), r.Method, at, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		g.Sign(again, body)
		resp, err := http.DefaultClient.Do(again)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(proxy.Close)
	out := *g
	out.Endpoint = proxy.URL
	return &out
}
