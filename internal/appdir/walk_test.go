package appdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/test/parts"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What an unpacker cannot have put there is not given the name of a release.
func TestSealLooksAtEveryEntry(t *testing.T) {
	for name, test := range map[string]struct {
		put  func(stage string) error
		want string
	}{
		"a pipe":        {func(s string) error { return syscall.Mkfifo(filepath.Join(s, "d/x"), 0o644) }, `"d/x" is a pipe`},
		"a socket":      {func(s string) error { return unix.Mknod(filepath.Join(s, "d/x"), unix.S_IFSOCK|0o644, 0) }, `"d/x" is a socket`},
		"two names":     {func(s string) error { return os.Link(filepath.Join(s, "file"), filepath.Join(s, "d/x")) }, "has 2 names"},
		"set-user-ID":   {func(s string) error { return os.Chmod(filepath.Join(s, "file"), 0o755|os.ModeSetuid) }, `"file" has mode 4755`},
		"set-group-ID":  {func(s string) error { return os.Chmod(filepath.Join(s, "d"), 0o755|os.ModeSetgid) }, `"d" has mode 2755`},
		"group's":       {func(s string) error { return os.Chmod(filepath.Join(s, "file"), 0o664) }, `"file" has mode 0664`},
		"anybody's":     {func(s string) error { return os.Chmod(filepath.Join(s, "d"), 0o757) }, `"d" has mode 0757`},
		"a link":        {func(s string) error { return os.Symlink("file", filepath.Join(s, "d/x")) }, ""},
		"its own alone": {func(s string) error { return os.Chmod(filepath.Join(s, "file"), 0o600) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			stage, root, err := d.Stage()
			must(t, err)
			must(t, root.WriteFile("file", []byte("x"), 0o644))
			must(t, root.Mkdir("d", 0o755))
			must(t, root.Close())
			must(t, test.put(d.ReleasePath(stage)))
			_, err = d.Seal(stage, "1-aaaaaaaaaaaa", nil)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want it sealed", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
			if test.want != "" && d.Has("1-aaaaaaaaaaaa") {
				t.Error("it has got its name")
			}
			must(t, d.Discard(stage))
		})
	}
}

func TestSealRefusesAMount(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root")
	}
	d := open(t)
	stage, root, err := d.Stage()
	must(t, err)
	must(t, root.Mkdir("d", 0o755))
	must(t, root.Close())
	at := filepath.Join(d.ReleasePath(stage), "d")
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0755"); err != nil {
		parts.Skip(t, "the right to mount")
	}
	_, err = d.Seal(stage, "1-aaaaaaaaaaaa", nil)
	must(t, unix.Unmount(at, 0))
	if err == nil || !strings.Contains(err.Error(), `"d" is on another filesystem`) {
		t.Errorf("got %v, want a refusal of the mount", err)
	}
	must(t, d.Discard(stage))
}

func TestFingerprint(t *testing.T) {
	d := open(t)
	stage, root, err := d.Stage()
	must(t, err)
	must(t, root.MkdirAll("a/b", 0o755))
	must(t, root.WriteFile("a/b/file", []byte("x"), 0o644))
	must(t, root.Symlink("a", "l"))
	must(t, root.Close())
	made, err := d.Seal(stage, "1-aaaaaaaaaaaa", nil)
	sealed := made.Print
	must(t, err)
	fingerprint := func() string {
		t.Helper()
		print, err := d.Fingerprint("1-aaaaaaaaaaaa")
		must(t, err)
		return print
	}
	if got := fingerprint(); got != sealed || !strings.HasPrefix(got, "m1:") {
		t.Fatalf("got %s, want what Seal gave, %s", got, sealed)
	}
	at := func(p string) string { return filepath.Join(d.ReleasePath("1-aaaaaaaaaaaa"), p) }
	last := sealed
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"content", func() error { return os.WriteFile(at("a/b/file"), []byte("y"), 0o644) }},
		{"content, with the old mtime", func() error {
			info, err := os.Stat(at("a/b/file"))
			return errors.Join(err, os.WriteFile(at("a/b/file"), []byte("z"), 0o644), os.Chtimes(at("a/b/file"), time.Time{}, info.ModTime()))
		}},
		{"mode", func() error { return os.Chmod(at("a/b/file"), 0o755) }},
		{"one more", func() error { return os.WriteFile(at("a/more"), nil, 0o644) }},
		{"one less", func() error { return os.Remove(at("l")) }},
	} {
		tick(t)
		must(t, change.do())
		now := fingerprint()
		if now == last {
			t.Errorf("%s: the fingerprint stayed the same", change.what)
		}
		last = now
	}
	if _, err := d.Fingerprint("2-bbbbbbbbbbbb"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a release that is not there: got %v, want fs.ErrNotExist", err)
	}
	if _, err := d.Fingerprint("../x"); err == nil {
		t.Error("a path was taken for a release")
	}
}

// tick returns once the filesystem's clock, which is coarser than ours, has moved on.
func tick(t *testing.T) {
	t.Helper()
	stamp := func() time.Time {
		path := filepath.Join(t.TempDir(), "stamp")
		must(t, os.WriteFile(path, nil, 0o600))
		info, err := os.Stat(path)
		must(t, err)
		return info.ModTime()
	}
	for first := stamp(); !stamp().After(first); {
	}
}

// A release is its owner's to write, whatever the umask and whatever lies around it.
func TestReleasesAreTheAgentsToWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	d := open(t)
	// A directory that hands its group on, as administrators make them.
	must(t, os.Chmod(d.releases(), 0o755|os.ModeSetgid))
	must(t, os.MkdirAll(filepath.Join(d.shared(), "var/lib/data"), 0o755))
	stage, root, err := d.Stage()
	must(t, err)
	must(t, root.WriteFile("file", nil, 0o644))
	must(t, root.Close())
	_, err = d.Seal(stage, "1-aaaaaaaaaaaa", []string{"var/lib/data/"})
	must(t, err)
	for path, want := range map[string]fs.FileMode{
		".": 0o755, "file": 0o600, "var": 0o755, "var/lib": 0o755, // the file is as its writer made it
	} {
		info, err := os.Lstat(filepath.Join(d.ReleasePath("1-aaaaaaaaaaaa"), path))
		must(t, err)
		if got := info.Mode() &^ fs.ModeDir; got != want {
			t.Errorf("%s: got mode %v, want %v", path, got, want)
		}
		if got, want := int(info.Sys().(*syscall.Stat_t).Uid), os.Geteuid(); got != want {
			t.Errorf("%s: got owner %d, want %d", path, got, want)
		}
	}
}
