// Package buckettest holds the one suite that every kind of bucket must pass, so that whatever is built upon a bucket
// may be tried on a directory and trusted on S3.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
)

// Run runs the suite. open gives an empty bucket that the test may fill.
func Run(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	for name, test := range map[string]func(*testing.T, bucket.Bucket){
		"get":        testGet,
		"changed":    testGetIfChanged,
		"absent":     testAbsent,
		"ranges":     testOpen,
		"create":     testCreate,
		"replace":    testReplace,
		"put":        testPut,
		"upload":     testUpload,
		"multipart":  testMultipart,
		"list":       testList,
		"keys":       testKeys,
		"versions":   testVersions,
		"ended":      testEnded,
		"one winner": testOneWinner,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

const key = "app/production/version.json"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
	if got != nil && !strings.Contains(got.Error(), "app") && !strings.Contains(got.Error(), "key") {
		t.Errorf("%s: error %q does not name the key", what, got)
	}
}

func wantBytes(t *testing.T, b bucket.Bucket, key string, want []byte) {
	t.Helper()
	got, _, err := b.Get(t.Context(), key, 1<<30)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("get %s: got %d bytes %.40q, want %d bytes %.40q", key, len(got), got, len(want), want)
	}
}

func testGet(t *testing.T, b bucket.Bucket) {
	before := time.Now().Add(-time.Minute)
	must(t, b.Create(t.Context(), key, []byte("hello"), "text/plain"))
	data, etag, err := b.Get(t.Context(), key, 5)
	must(t, err)
	if string(data) != "hello" || len(etag) < 3 || etag[0] != '"' || etag[len(etag)-1] != '"' {
		t.Errorf("got %q, ETag %s, want hello and a quoted ETag", data, etag)
	}
	if data, _, err := b.Get(t.Context(), key, 4); err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Errorf("above the limit: got %q, %v, want an error that names the limit", data, err)
	}
	info, err := b.Stat(t.Context(), key)
	must(t, err)
	if info.Key != key || info.Size != 5 || info.ETag != etag || info.Modified.Before(before) {
		t.Errorf("stat: got %+v, want size 5, ETag %s, modified now", info, etag)
	}
	must(t, b.Create(t.Context(), "app/empty", nil, "text/plain"))
	wantBytes(t, b, "app/empty", nil)
	must(t, b.Check(t.Context()))
}

func testGetIfChanged(t *testing.T, b bucket.Bucket) {
	must(t, b.Put(t.Context(), key, []byte("one"), "text/plain"))
	data, first, err := b.GetIfChanged(t.Context(), key, "", 100)
	must(t, err)
	if string(data) != "one" || first.Size != 3 || first.Modified.IsZero() {
		t.Errorf("got %q, %+v, want one", data, first)
	}
	data, _, err = b.GetIfChanged(t.Context(), key, first.ETag, 100)
	wantErr(t, "same ETag", err, bucket.ErrNotModified)
	if data != nil {
		t.Errorf("same ETag: got %q, want no data", data)
	}
	must(t, b.Put(t.Context(), key, []byte("two"), "text/plain"))
	data, second, err := b.GetIfChanged(t.Context(), key, first.ETag, 100)
	must(t, err)
	if string(data) != "two" || second.ETag == first.ETag {
		t.Errorf("got %q, %+v, want two with another ETag", data, second)
	}
}

func testAbsent(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	must(t, b.Create(ctx, "app/a", []byte("x"), "text/plain"))
	for _, key := range []string{"app/none", "app/none/deeper", "none/app"} {
		_, _, err := b.Get(ctx, key, 10)
		wantErr(t, "get", err, fs.ErrNotExist)
		_, _, err = b.GetIfChanged(ctx, key, `"00"`, 10)
		wantErr(t, "get if changed", err, fs.ErrNotExist)
		_, err = b.Stat(ctx, key)
		wantErr(t, "stat", err, fs.ErrNotExist)
		_, _, err = b.Open(ctx, key, 0, -1, "")
		wantErr(t, "open", err, fs.ErrNotExist)
		_, err = b.Replace(ctx, key, []byte("y"), `"0123456789abcdef0123456789abcdef"`)
		wantErr(t, "replace", err, fs.ErrNotExist)
		if _, err := b.Stat(ctx, key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("refused replace of %s: left an object, error %v", key, err)
		}
	}
	_, _, err := b.Get(ctx, "app", 10)
	wantErr(t, "get a folder", err, fs.ErrNotExist)
}

func testOpen(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	const text = "0123456789"
	must(t, b.Create(ctx, "app/digits", []byte(text), "text/plain"))
	stat, err := b.Stat(ctx, "app/digits")
	must(t, err)
	for _, c := range []struct {
		offset, length int64
		match, want    string
	}{
		{0, -1, "", text}, {0, 4, "", "0123"}, {3, 4, stat.ETag, "3456"}, {7, -1, stat.ETag, "789"}, {8, 100, "", "89"}, {9, 1, "", "9"},
	} {
		body, info, err := b.Open(ctx, "app/digits", c.offset, c.length, c.match)
		must(t, err)
		got, err := io.ReadAll(body)
		must(t, errors.Join(err, body.Close()))
		if string(got) != c.want || info.Size != 10 || info.ETag != stat.ETag {
			t.Errorf("open %d+%d: got %q, %+v, want %q of 10 bytes", c.offset, c.length, got, info, c.want)
		}
	}
	for _, c := range [][2]int64{{10, -1}, {11, 5}, {0, 0}, {-1, 5}} {
		if _, _, err := b.Open(ctx, "app/digits", c[0], c[1], ""); err == nil {
			t.Errorf("open %d+%d: got no error, want one", c[0], c[1])
		}
	}
	must(t, b.Put(ctx, "app/digits", []byte("other"), "text/plain"))
	_, _, err = b.Open(ctx, "app/digits", 2, -1, stat.ETag)
	wantErr(t, "open what was replaced", err, fs.ErrExist)
}

func testCreate(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	must(t, b.Create(ctx, key, []byte("first"), "application/json"))
	wantErr(t, "create again", b.Create(ctx, key, []byte("second"), "application/json"), fs.ErrExist)
	wantErr(t, "create the same", b.Create(ctx, key, []byte("first"), "application/json"), fs.ErrExist)
	_, err := b.Replace(ctx, key, []byte("second"), "")
	wantErr(t, "replace where nothing may be", err, fs.ErrExist)
	wantErr(t, "upload over it", b.Upload(ctx, key, strings.NewReader("second"), 6, "application/json", nil), fs.ErrExist)
	wantBytes(t, b, key, []byte("first"))
}

func testReplace(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	tag, err := b.Replace(ctx, key, []byte("1"), "")
	must(t, err)
	for i := 2; i < 5; i++ {
		next, err := b.Replace(ctx, key, fmt.Append(nil, i), tag)
		must(t, err)
		_, got, err := b.Get(ctx, key, 10)
		must(t, err)
		if got != next || next == tag {
			t.Errorf("replace: got ETag %s after %s, get says %s", next, tag, got)
		}
		_, err = b.Replace(ctx, key, []byte("lost"), tag)
		wantErr(t, "replace with a stale ETag", err, fs.ErrExist)
		tag = next
	}
	wantBytes(t, b, key, []byte("4"))
}

func testPut(t *testing.T, b bucket.Bucket) {
	for i := range 3 {
		must(t, b.Put(t.Context(), "app/receipts/web-1.json", fmt.Append(nil, i), "application/json"))
	}
	wantBytes(t, b, "app/receipts/web-1.json", []byte("2"))
}

func noise(size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data)
	return data
}

// upload uploads data and checks what progress tells.
func upload(t *testing.T, b bucket.Bucket, key string, data []byte) error {
	t.Helper()
	var last int64
	err := b.Upload(t.Context(), key, bytes.NewReader(data), int64(len(data)), "application/octet-stream", func(done int64) {
		if done < last || done > int64(len(data)) {
			t.Errorf("progress: got %d after %d of %d", done, last, len(data))
		}
		last = done
	})
	if err == nil && last != int64(len(data)) {
		t.Errorf("progress: got %d at the end, want %d", last, len(data))
	}
	return err
}

func testUpload(t *testing.T, b bucket.Bucket) {
	data := noise(1 << 20)
	must(t, upload(t, b, "app/releases/small", data))
	wantBytes(t, b, "app/releases/small", data)
	must(t, upload(t, b, "app/releases/empty", nil))
	wantBytes(t, b, "app/releases/empty", nil)
	short := b.Upload(t.Context(), "app/releases/short", failing{}, 1<<20, "application/octet-stream", nil)
	wantErr(t, "upload of what cannot be read", short, errRead)
	if err := b.Upload(t.Context(), "app/releases/short", strings.NewReader("abc"), 5, "application/octet-stream", nil); err == nil {
		t.Error("upload of 3 bytes as 5: got no error, want one")
	}
	_, err := b.Stat(t.Context(), "app/releases/short")
	wantErr(t, "after a failed upload", err, fs.ErrNotExist)
}

var errRead = errors.New("read of app: disk on fire")

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errRead }

func testMultipart(t *testing.T, b bucket.Bucket) {
	data := noise(33<<20 + 7)
	must(t, upload(t, b, "app/releases/large", data))
	wantBytes(t, b, "app/releases/large", data)
	wantErr(t, "upload again", upload(t, b, "app/releases/large", data), fs.ErrExist)
	info, err := b.Stat(t.Context(), "app/releases/large")
	must(t, err)
	body, _, err := b.Open(t.Context(), "app/releases/large", 8<<20-3, 9, info.ETag)
	must(t, err)
	got, err := io.ReadAll(body)
	must(t, errors.Join(err, body.Close()))
	if want := data[8<<20-3:][:9]; !bytes.Equal(got, want) {
		t.Errorf("range over a part's border: got %x, want %x", got, want)
	}
	failed := b.Upload(t.Context(), "app/releases/failed", failing{}, 33<<20, "application/octet-stream", nil)
	wantErr(t, "upload of what cannot be read", failed, errRead)
}

func testList(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	keys := []string{"app-b/x", "app.c", "app/a", "app/history/0000000001.json", "app/history/0000000002.json", "app/releases/r"}
	for _, key := range keys {
		must(t, b.Put(ctx, key, []byte("x"), "text/plain"))
	}
	for prefix, want := range map[string][]string{
		"": keys, "app/": keys[2:], "app/history/": keys[3:5], "app/h": keys[3:5], "app": keys, "app/a": keys[2:3], "none": nil, "none/": nil, "app/a/": nil, "../": nil,
	} {
		got, err := b.List(ctx, prefix)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("list %q: got %q, want %q", prefix, got, want)
		}
	}
}

func testKeys(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	for _, key := range []string{"", "/etc/app", "../app", "app/../b", "app//b", "app/", "./app", "app\x00", "app\nb", ".towline/lock", strings.Repeat("app/", 300) + "b"} {
		_, _, err := b.Get(ctx, key, 10)
		errs := []error{err, b.Create(ctx, key, nil, ""), b.Put(ctx, key, nil, ""), b.Upload(ctx, key, strings.NewReader(""), 0, "", nil)}
		_, err = b.Replace(ctx, key, nil, "")
		errs = append(errs, err)
		_, err = b.Stat(ctx, key)
		errs = append(errs, err)
		_, _, err = b.Open(ctx, key, 0, -1, "")
		for _, err := range append(errs, err) {
			if err == nil || !strings.Contains(err.Error(), "key ") || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("key %.30q: got error %v, want one about the key", key, err)
			}
		}
	}
	keys, err := b.List(ctx, "")
	must(t, err)
	if len(keys) > 0 {
		t.Errorf("refused keys: got objects %q, want none", keys)
	}
}

func testVersions(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	for i := range 3 {
		must(t, b.Put(ctx, key, fmt.Append(nil, "state ", i), "application/json"))
	}
	must(t, b.Put(ctx, key+".other", []byte("x"), "application/json"))
	versions, err := b.Versions(ctx, key)
	if errors.Is(err, errors.ErrUnsupported) {
		_, err = b.GetVersion(ctx, key, "1", 10)
		wantErr(t, "get version where none are kept", err, errors.ErrUnsupported)
		return
	}
	must(t, err)
	if len(versions) != 3 || !versions[0].Latest || versions[1].Latest {
		t.Fatalf("got %+v, want three versions, newest first", versions)
	}
	for i, v := range versions {
		got, err := b.GetVersion(ctx, key, v.ID, 100)
		must(t, err)
		if want := fmt.Sprint("state ", 2-i); string(got) != want || v.Size != int64(len(want)) {
			t.Errorf("version %d: got %q, %+v, want %q", i, got, v, want)
		}
	}
	_, err = b.Versions(ctx, "app/none")
	wantErr(t, "versions of nothing", err, fs.ErrNotExist)
}

func testEnded(t *testing.T, b bucket.Bucket) {
	must(t, b.Create(t.Context(), key, []byte("x"), "text/plain"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := b.Get(ctx, key, 10)
	wantErr(t, "get", err, context.Canceled)
	wantErr(t, "create", b.Create(ctx, "app/new", nil, ""), context.Canceled)
	_, err = b.Replace(ctx, "app/new", nil, "")
	wantErr(t, "replace", err, context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	data := noise(40 << 20)
	err = b.Upload(ctx, "app/large", bytes.NewReader(data), int64(len(data)), "", func(int64) { cancel() })
	wantErr(t, "upload ended halfway", err, context.Canceled)
	_, err = b.Stat(t.Context(), "app/large")
	wantErr(t, "after it", err, fs.ErrNotExist)
}

func testOneWinner(t *testing.T, b bucket.Bucket) {
	must(t, b.Put(t.Context(), key, []byte("start"), "text/plain"))
	_, etag, err := b.Get(t.Context(), key, 100)
	must(t, err)
	for what, write := range map[string]func(i int) (string, error){
		"create": func(i int) (string, error) {
			return "app/created", b.Create(t.Context(), "app/created", fmt.Append(nil, i), "text/plain")
		},
		"replace": func(i int) (string, error) {
			_, err := b.Replace(t.Context(), key, fmt.Append(nil, i), etag)
			return key, err
		},
		"replace nothing": func(i int) (string, error) {
			_, err := b.Replace(t.Context(), "app/first", fmt.Append(nil, i), "")
			return "app/first", err
		},
	} {
		const writers = 16
		var wg sync.WaitGroup
		errs := make([]error, writers)
		keys := make([]string, writers)
		for i := range writers {
			wg.Go(func() { keys[i], errs[i] = write(i) })
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				t.Errorf("%s: both %d and %d won", what, winner, i)
			default:
				wantErr(t, what, err, fs.ErrExist)
			}
		}
		if winner < 0 {
			t.Errorf("%s: got no winner, want one", what)
			continue
		}
		wantBytes(t, b, keys[winner], fmt.Append(nil, winner))
	}
}
