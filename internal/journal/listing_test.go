package journal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := func(c string) string { return "t1:" + strings.Repeat(c, 64) }
	if err := j.DropListings(nil); err != nil {
		t.Errorf("drop none: %v", err)
	}
	if _, err := j.Listing(digest("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got %v, want fs.ErrNotExist", err)
	}
	for _, c := range []string{"a", "b"} {
		if err := j.KeepListing(digest(c), bytes.NewBufferString("lines of "+c)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := j.Listing(digest("b")); err != nil || string(got) != "lines of b" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trees", ".listing-left-by-a-crash"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.DropListings([]string{digest("b"), digest("c")}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "trees"))
	if err != nil || len(entries) != 1 || entries[0].Name() != strings.Repeat("b", 64) {
		t.Errorf("left: got %v, %v, want that of b", entries, err)
	}
	for _, bad := range []string{"", "t1:../../x", "t1:" + strings.Repeat("A", 64), digest("a") + "\n"} {
		if err := j.KeepListing(bad, bytes.NewBufferString("")); err == nil {
			t.Errorf("a listing was kept as %q", bad)
		}
		if _, err := j.Listing(bad); err == nil {
			t.Errorf("a listing was read as %q", bad)
		}
	}
}
