package parts

import (
	"os"
	"path/filepath"
	"testing"
)

// The service's own files are the same every time, and an edit changes five of them.
func TestCorpusService(t *testing.T) {
	read := func(dist string) map[string]string {
		out := map[string]string{}
		err := filepath.WalkDir(dist, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			name, _ := filepath.Rel(dist, path)
			out[name] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	one, two := t.TempDir(), t.TempDir()
	for _, dist := range []string{one, two} {
		if err := writeService(dist); err != nil {
			t.Fatal(err)
		}
	}
	differ := func(a, b map[string]string) (n int) {
		for name := range a {
			if a[name] != b[name] {
				n++
			}
		}
		return n
	}
	before := read(one)
	if got, want := len(before), 62; got != want {
		t.Errorf("files: got %d, want %d", got, want)
	}
	if got := differ(before, read(two)); got != 0 {
		t.Errorf("written twice, %d files differ", got)
	}
	if err := editService(two, "B-code"); err != nil {
		t.Fatal(err)
	}
	if got, want := differ(before, read(two)), 5; got != want {
		t.Errorf("changed by an edit: got %d files, want %d", got, want)
	}
}
