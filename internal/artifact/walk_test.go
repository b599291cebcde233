package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Directories are read side by side; what is found, and which of several mistakes is told of, does not depend on who was first.
func TestWalkIsTheSameEveryTime(t *testing.T) {
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("d%02d/e%d/f%03d", i/20, i/5, i)] = fmt.Sprint(i)
	}
	good := writeTree(t, files)
	for _, bad := range []string{"d03/e12/a\\b", "d03/e13/a\\b", "d09/e46/a\\b", "d14/a\\b"} {
		files[bad] = ""
	}
	dir := writeTree(t, files)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first []Entry
	for i := range 40 {
		runtime.GOMAXPROCS(1 + i%8)
		_, err := List(t.Context(), PackOptions{Dir: dir})
		if !errors.Is(err, ErrSource) || !strings.Contains(fmt.Sprint(err), `"d03/e12/a\\b"`) {
			t.Fatalf("got %v, want what is wrong with d03/e12", err)
		}
		list, err := List(t.Context(), PackOptions{Dir: good})
		must(t, err)
		if first == nil {
			first = list
		}
		if !slices.EqualFunc(list, first, func(a, b Entry) bool { return a.Path == b.Path && a.Size == b.Size && a.Mode == b.Mode }) || len(list) != 375 {
			t.Fatalf("got %d entries, want 375, and the same as before", len(list))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := List(ctx, PackOptions{Dir: good}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrSource) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// A directory that cannot be read is no reason to pack the rest.
func TestWalkOfWhatCannotBeRead(t *testing.T) {
	dir := writeTree(t, map[string]string{"a/b/c": "1", "z": "2"})
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	w := walker{ctx: t.Context(), root: root}
	must(t, os.RemoveAll(filepath.Join(dir, "a/b")))
	f := finder{w: &w, todo: []string{".", "a/b"}}
	f.more.L = &f.mu
	f.run()
	if !errors.Is(f.err, os.ErrNotExist) || f.at != "a/b" {
		t.Errorf("got %v at %q, want that a/b is gone", f.err, f.at)
	}
}
