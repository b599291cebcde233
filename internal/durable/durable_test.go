package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteFileReplaces(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, want := range []string{"first", "second, longer", ""} {
		if err := WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), fs.FileMode(0o644); got != want {
		t.Errorf("mode: got %o, want %o", got, want)
	}
	wantNames(t, dir, "state")
}

func TestWriteFileLeavesNothingBehindOnError(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Error("got nil writing over a directory, want an error")
	}
	wantNames(t, dir, "taken")
}

func TestSymlinkReplacesLinkAndLeftover(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "current")
	if err := os.Symlink("leftover", filepath.Join(dir, ".current.tmp")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"releases/1", "releases/2"} {
		if err := Symlink(want, path); err != nil {
			t.Fatal(err)
		}
		got, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	wantNames(t, dir, "current")
}

func TestSymlinkRefusesDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "current")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Symlink("releases/1", path); err == nil {
		t.Error("got nil, want an error: a directory is in the way")
	}
	wantNames(t, dir, "current")
}

func TestRenameAcrossDirectories(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rename(filepath.Join(dir, "a", "f"), filepath.Join(dir, "b", "g")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, filepath.Join(dir, "a"))
	wantNames(t, filepath.Join(dir, "b"), "g")
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is absent, which is no error
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, filepath.Dir(path))
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if len(got) != len(want) {
		t.Fatalf("%s holds %q, want %q", dir, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s holds %q, want %q", dir, got, want)
		}
	}
}
