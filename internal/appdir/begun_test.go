package appdir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestBegunStage(t *testing.T) {
	d := open(t)
	must(t, os.MkdirAll(filepath.Join(d.shared(), "data"), 0o755))
	if _, _, err := d.Resume(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("resume nothing: got %v, want fs.ErrNotExist", err)
	}
	if _, err := d.Notes(begun); err == nil {
		t.Error("got notes about no stage")
	}
	stage, root, err := d.Begin()
	must(t, err)
	must(t, root.WriteFile("half", nil, 0o644))
	must(t, root.Symlink("../../shared/data", "data")) // as sealing that was cut off has left it
	must(t, root.Close())
	n, err := d.Notes(stage)
	must(t, err)
	_, err = n.WriteString("half")
	must(t, err)
	must(t, n.Close())
	d.Leave(stage)

	// A start keeps it if it is told to.
	must(t, d.Sweep(func(string) bool { return true }, true))
	stage, root, err = d.Resume()
	must(t, err)
	if _, err := root.Stat("half"); err != nil {
		t.Error(err)
	}
	must(t, root.Close())
	n, err = d.Notes(stage)
	must(t, err)
	if text, err := io.ReadAll(n); err != nil || string(text) != "half" {
		t.Errorf("notes: got %q, %v", text, err)
	}
	must(t, n.Close())
	sealed, err := d.Seal(stage, "1-aaaaaaaaaaaa", []string{"data/"})
	must(t, err)
	if sealed.Print == "" || sealed.Looked == "" || sealed.Window != "" {
		t.Errorf("got %+v, want it looked at", sealed)
	}
	only := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(d.releases())
		if must(t, err); len(entries) != len(want) {
			t.Fatalf("got %v, want %q", entries, want)
		}
		for i, e := range entries {
			if e.Name() != want[i] {
				t.Errorf("got %s, want %s", e.Name(), want[i])
			}
		}
	}
	only("1-aaaaaaaaaaaa")

	// Whoever begins anew, by whichever way, begins with nothing.
	for _, again := range []func() (string, *os.Root, error){d.Begin, func() (string, *os.Root, error) { return d.Recycle("1-aaaaaaaaaaaa") }} {
		stage, root, err = d.Begin()
		must(t, err)
		must(t, root.WriteFile("other", nil, 0o644))
		must(t, root.Close())
		n, err = d.Notes(stage)
		must(t, err)
		must(t, n.Close())
		_, root, err = again()
		must(t, err)
		if _, err := root.Stat("other"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want what was begun before gone", err)
		}
		must(t, root.Close())
		if _, err := os.Stat(d.ReleasePath(begun) + notes); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want the notes of before gone", err)
		}
	}
	must(t, d.DiscardBegun())
	only()
	must(t, os.Symlink("/etc", d.ReleasePath(begun)))
	if _, _, err := d.Resume(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("resume a link: got %v, want fs.ErrNotExist", err)
	}
	must(t, d.Sweep(func(string) bool { return true }, false))
	only()
}
