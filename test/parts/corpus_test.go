package parts

import (
	"testing"
)

// The service's own files are the same every time, and an edit changes five of them.
func TestCorpusService(t *testing.T) {
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
	before := Files(t, one)
	if got, want := len(before), 62; got != want {
		t.Errorf("files: got %d, want %d", got, want)
	}
	if got := differ(before, Files(t, two)); got != 0 {
		t.Errorf("written twice, %d files differ", got)
	}
	if err := editService(two, "B-code"); err != nil {
		t.Fatal(err)
	}
	if got, want := differ(before, Files(t, two)), 5; got != want {
		t.Errorf("changed by an edit: got %d files, want %d", got, want)
	}
}
