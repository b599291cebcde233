package bucket_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/bucket/buckettest"
)

func openDirectory(t *testing.T, dir string) bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), bucket.Options{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDirectoryConforms(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return openDirectory(t, t.TempDir()) })
}

func TestDirectoryMissing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "gone"), file} {
		b := openDirectory(t, path)
		_, _, getErr := b.Get(t.Context(), "k", 10)
		_, listErr := b.List(t.Context(), "")
		_, replaceErr := b.Replace(t.Context(), "k", nil, "")
		for _, err := range []error{getErr, listErr, replaceErr, b.Check(t.Context()), b.Put(t.Context(), "k", nil, ""), b.Create(t.Context(), "k", nil, "")} {
			if !errors.Is(err, bucket.ErrNoBucket) || !strings.Contains(err.Error(), path) {
				t.Errorf("got error %v, want ErrNoBucket naming %s", err, path)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the missing directory was made: %v", err)
	}
}

func TestDirectoryStaysInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b := openDirectory(t, dir)
	if data, _, err := b.Get(t.Context(), "link/secret", 10); err == nil {
		t.Errorf("get through a symlink: got %q, want an error", data)
	}
	if err := b.Put(t.Context(), "link/new", nil, ""); err == nil {
		t.Error("put through a symlink: got no error, want one")
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
		t.Error("put through a symlink: a file was written outside")
	}
}

// What people and shell scripts do in the directory is seen as objects, and a fifo does not hang anybody.
func TestDirectoryFilledByHand(t *testing.T) {
	dir := t.TempDir()
	b := openDirectory(t, dir)
	path := filepath.Join(dir, "version.json")
	if err := os.WriteFile(path, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, etag, err := b.Get(t.Context(), "version.json", 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	data, _, err := b.GetIfChanged(t.Context(), "version.json", etag, 10)
	if err != nil || string(data) != "two" {
		t.Errorf("after a copy over it: got %q, %v, want two", data, err)
	}
	if _, err := b.Replace(t.Context(), "version.json", []byte("three"), etag); !errors.Is(err, fs.ErrExist) {
		t.Errorf("replace of what a person changed: got error %v, want fs.ErrExist", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "fifo", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("fifo: got error %v, want fs.ErrNotExist", err)
	}
	if keys, err := b.List(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("list: got %q, %v, want version.json alone", keys, err)
	}
}

// Nothing but the lock is left in the hidden folder, after success and after failure.
func TestDirectoryLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	b := openDirectory(t, dir)
	for range 2 {
		_ = b.Create(t.Context(), "a/b", []byte("x"), "")
		_ = b.Put(t.Context(), "a/c", []byte("x"), "")
		_ = b.Upload(t.Context(), "a/d", strings.NewReader(""), 5, "", nil)
	}
	entries, err := os.ReadDir(filepath.Join(dir, ".towline"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "lock" {
		t.Errorf("hidden folder: got %v, %v, want the lock alone", entries, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "a/c")); err != nil || fi.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("object: got %v, %v, want a file its owner may read and write", fi, err)
	}
}
