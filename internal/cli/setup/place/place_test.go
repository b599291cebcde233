package place

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// want compares all files below dir, and their texts.
func want(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	var got []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		if data, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(data) != text {
			t.Errorf("%s: got %q, %v, want %q", path, data, err, text)
		}
	}
	if len(got) != len(files) {
		t.Errorf("got files %q, want %d", got, len(files))
	}
}

func files(root string, texts ...string) []File {
	var all []File
	for i, text := range texts {
		all = append(all, File{Path: "/etc/app/" + string(rune('a'+i)), Root: root, Text: text, Mode: 0o640, UID: os.Getuid(), GID: os.Getgid()})
	}
	return all
}

func plan(t *testing.T, all []File, force bool) []Change {
	t.Helper()
	changes, err := Plan(all, force)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestWriteCreatesKeepsReplaces(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/etc/app/b", "same")
	put(t, root+"/etc/app/c", "old")
	put(t, root+"/etc/app/c.bak", "older")
	all := files(root, "new", "same", "newer")
	var taken *ThereError
	if _, err := Plan(all, false); !errors.As(err, &taken) || taken.Path != "/etc/app/c" {
		t.Fatalf("got %v, want c to be there", err)
	}
	changes := plan(t, all, true)
	var got []string
	for _, c := range changes {
		got = append(got, c.What, c.Backup)
	}
	if w := []string{Create, "", Keep, "", Replace, "/etc/app/c.bak2"}; !slices.Equal(got, w) {
		t.Fatalf("got %q, want %q", got, w)
	}
	if err := Write(changes); err != nil {
		t.Fatal(err)
	}
	want(t, root+"/etc/app", map[string]string{"a": "new", "b": "same", "c": "newer", "c.bak": "older", "c.bak2": "old"})
	for _, name := range []string{"a", "c"} {
		if info, err := os.Stat(root + "/etc/app/" + name); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: got %v, %v, want mode 0640", name, info.Mode(), err)
		}
	}
}

// What comes after Plan is not overwritten, and what was done before that is seen is taken back.
func TestWriteIsAllOrNothing(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/etc/app/b", "old")
	changes := plan(t, files(root, "1", "2", "3"), true)
	put(t, root+"/etc/app/c", "from somebody else")
	if err := Write(changes); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want that it exists", err)
	}
	want(t, root+"/etc/app", map[string]string{"b": "old", "c": "from somebody else"})
}

func TestWriteFailsBeforeAnythingAppears(t *testing.T) {
	root := t.TempDir()
	changes := plan(t, files(root, "1", "2"), false)
	put(t, root+"/etc/app/.b.towline-init/in/the/way", "")
	if err := Write(changes); err == nil {
		t.Error("got no error, want one")
	}
	if _, err := os.Stat(root + "/etc/app/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want a not to be there", err)
	}
}
