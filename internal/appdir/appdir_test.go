package appdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/test/parts"
)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(Options{Path: filepath.Join(t.TempDir(), "app")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// release makes a complete release with one file.
func release(t *testing.T, d *Dir, name string, shared ...string) {
	t.Helper()
	stage, root, err := d.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile("name", []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Seal(stage, name, shared); err != nil {
		t.Fatal(err)
	}
}

func TestSwitchAndBack(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	d := open(t)
	if got, err := d.Current(); got != "" || err != nil {
		t.Fatalf("at first: got %q, %v, want none", got, err)
	}
	release(t, d, "1-aaaaaaaaaaaa")
	release(t, d, "2-bbbbbbbbbbbb")
	for _, want := range []string{"1-aaaaaaaaaaaa", "2-bbbbbbbbbbbb", "1-aaaaaaaaaaaa"} {
		if err := d.Switch(want); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(d.Path(), "current", "name"))
		if err != nil || string(got) != want {
			t.Errorf("current/name: got %q, %v, want %q", got, err, want)
		}
	}
	for _, path := range []string{d.Path(), d.releases(), d.ReleasePath("1-aaaaaaaaaaaa")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Mode().Perm(), fs.FileMode(0o755); got != want {
			t.Errorf("%s: got mode %o, want %o whatever the umask", path, got, want)
		}
	}
	if err := d.Switch("3-cccccccccccc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("switch to an absent release: got %v, want fs.ErrNotExist", err)
	}
	if err := d.Remove("1-aaaaaaaaaaaa"); err == nil {
		t.Error("the live release was removed")
	}
	if err := d.Remove("2-bbbbbbbbbbbb"); err != nil {
		t.Error(err)
	}
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Current(); got != "" || err != nil {
		t.Errorf("cleared: got %q, %v, want none", got, err)
	}
}

func TestCurrentRefusesWhatItDidNotMake(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a directory":    func(p string) error { return os.Mkdir(p, 0o755) },
		"a file":         func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"absolute":       func(p string) error { return os.Symlink("/etc", p) },
		"dangling":       func(p string) error { return os.Symlink("releases/9-aaaaaaaaaaaa", p) },
		"a stage":        func(p string) error { return os.Symlink("releases/.stage-x", p) },
		"out of the app": func(p string) error { return os.Symlink("releases/../../x", p) },
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			if err := make(filepath.Join(d.Path(), "current")); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Current(); err == nil {
				t.Errorf("got %q, want an error", got)
			}
		})
	}
}

func TestLock(t *testing.T) {
	d := open(t)
	if _, err := Open(Options{Path: d.Path()}); !errors.Is(err, ErrLocked) {
		t.Errorf("second agent: got %v, want ErrLocked", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Options{Path: d.Path()})
	if err != nil {
		t.Fatalf("after the first one closed: %v", err)
	}
	_ = again.Close()
}

func TestSealNeverReplaces(t *testing.T) {
	d := open(t)
	release(t, d, "1-aaaaaaaaaaaa")
	stage, root, err := d.Stage()
	if err != nil {
		t.Fatal(err)
	}
	_ = root.Close()
	if _, err := d.Seal(stage, "1-aaaaaaaaaaaa", nil); err == nil {
		t.Error("sealed over a release that was there")
	}
	if err := d.Discard(stage); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.ReleasePath("1-aaaaaaaaaaaa"), "name")); err != nil {
		t.Errorf("the release that was there: %v", err)
	}
}

func TestSweepLeavesWhatIsKeptAndLive(t *testing.T) {
	d := open(t)
	for _, name := range []string{"1-aaaaaaaaaaaa", "2-bbbbbbbbbbbb", "p3-cccccccccccc"} {
		release(t, d, name)
	}
	if err := d.Switch("2-bbbbbbbbbbbb"); err != nil {
		t.Fatal(err)
	}
	if _, root, err := d.Stage(); err != nil {
		t.Fatal(err)
	} else {
		_ = root.Close()
	}
	if err := d.Sweep(func(name string) bool { return name == "p3-cccccccccccc" }, false); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(d.releases())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := []string{"2-bbbbbbbbbbbb", "p3-cccccccccccc"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNextLeadsToAnyRelease(t *testing.T) {
	d := open(t)
	release(t, d, "1-aaaaaaaaaaaa")
	release(t, d, "2-bbbbbbbbbbbb")
	if err := d.Switch("1-aaaaaaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(d.Path(), "next")
	for _, want := range []string{"2-bbbbbbbbbbbb", "1-aaaaaaaaaaaa", "1-aaaaaaaaaaaa"} {
		if err := d.Next(want); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(link, "name")); err != nil || string(got) != want {
			t.Errorf("next/name: got %q, %v, want %q", got, err, want)
		}
	}
	for _, name := range []string{"3-cccccccccccc", "", "../shared"} {
		if err := d.Next(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("next to %q: got %v, want fs.ErrNotExist", name, err)
		}
	}
	if got, err := d.Current(); got != "1-aaaaaaaaaaaa" || err != nil {
		t.Errorf("got %q, %v live", got, err)
	}
	for range 2 {
		if err := d.ClearNext(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cleared: got %v, want no link", err)
		}
	}
	if err := d.Next("2-bbbbbbbbbbbb"); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(func(string) bool { return true }, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("swept: got %v, want no link", err)
	}
}

func TestSharedPathsAreLinked(t *testing.T) {
	d := open(t)
	for _, dir := range []string{"uploads", "var/data"} {
		if err := os.MkdirAll(filepath.Join(d.shared(), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.shared(), ".env"), []byte("A=1"), 0o600); err != nil {
		t.Fatal(err)
	}
	release(t, d, "1-aaaaaaaaaaaa", ".env", "uploads/", "var/data/")
	in := d.ReleasePath("1-aaaaaaaaaaaa")
	if got, err := os.ReadFile(filepath.Join(in, ".env")); string(got) != "A=1" {
		t.Errorf(".env: got %q, %v", got, err)
	}
	for _, dir := range []string{"uploads", "var/data"} {
		if err := os.WriteFile(filepath.Join(in, dir, "f"), []byte("x"), 0o644); err != nil {
			t.Errorf("write through %s: %v", dir, err)
		}
		if _, err := os.Stat(filepath.Join(d.shared(), dir, "f")); err != nil {
			t.Errorf("not in shared: %v", err)
		}
	}
	if to, err := os.Readlink(filepath.Join(in, "var/data")); to != "../../../shared/var/data" {
		t.Errorf("var/data: got %q, %v, want a relative link", to, err)
	}
	if err := d.Remove("1-aaaaaaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.shared(), "uploads", "f")); err != nil {
		t.Errorf("shared files went with the release: %v", err)
	}
}

func TestSharedPathProblems(t *testing.T) {
	d := open(t)
	if err := os.Mkdir(filepath.Join(d.shared(), "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"dir":       "is a directory",
		"../escape": "inside the release",
		"/abs":      "inside the release",
		"name":      "something there already",
	} {
		stage, root, err := d.Stage()
		if err != nil {
			t.Fatal(err)
		}
		if err := root.WriteFile("name", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = root.Close()
		if path == "name" {
			if err := os.WriteFile(filepath.Join(d.shared(), "name"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Seal(stage, "1-aaaaaaaaaaaa", []string{path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", path, err, want)
		}
		if err := d.Discard(stage); err != nil {
			t.Fatal(err)
		}
	}
}

// The app's user may put links into shared/: an agent that is root makes nothing behind them and gives nothing away.
func TestSharedPathsThroughLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to make shared paths")
	}
	const uid, gid = 4711, 4712
	owner := func(path string) (uid, gid uint32) {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		return st.Uid, st.Gid
	}
	outside := t.TempDir()
	d, err := Open(Options{Path: filepath.Join(t.TempDir(), "app"), UID: uid, GID: gid})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	inside := filepath.Join(d.shared(), "inside")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"parent": outside, "deep": outside, "near": "inside", "dangling": filepath.Join(outside, "new"), "file": filepath.Join(outside, "passwd"),
	} {
		if err := os.Symlink(to, filepath.Join(d.shared(), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, shared := range []string{"parent/made/", "parent/.env", "deep/a/b/", "near/made/", "near/.env", "dangling/", "dangling/a/", "file"} {
		err := d.ensureShared(strings.TrimSuffix(shared, "/"), strings.HasSuffix(shared, "/"))
		if err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: got %v, want that a link is in the way", shared, err)
		}
	}
	for _, dir := range []string{outside, inside} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("got %v in %s, want nothing", entries, dir)
		}
		if u, g := owner(dir); u != 0 || g != 0 {
			t.Errorf("%s was given to %d:%d", dir, u, g)
		}
	}
	release(t, d, "1-aaaaaaaaaaaa", "var/data/", "etc/app/.env", "uploads/", ".env")
	for _, path := range []string{"var", "var/data", "etc/app", "etc/app/.env", "uploads", ".env"} {
		if u, g := owner(filepath.Join(d.shared(), path)); u != uid || g != gid {
			t.Errorf("%s: got owner %d:%d, want %d:%d", path, u, g, uid, gid)
		}
	}
	if info, err := os.Stat(filepath.Join(d.shared(), ".env")); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf(".env: got %v, %v, want a file that not everybody reads", info, err)
	}
}

func TestIncomingResumes(t *testing.T) {
	d := open(t)
	f, have, err := d.Incoming("x.part")
	if err != nil || have != 0 {
		t.Fatalf("got %d bytes, %v", have, err)
	}
	if _, err := f.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	f, have, err = d.Incoming("x.part")
	if err != nil || have != 4 {
		t.Errorf("again: got %d bytes, %v, want 4", have, err)
	}
	_ = f.Close()
	if err := d.ClearIncoming(); err != nil {
		t.Fatal(err)
	}
	if f, have, err = d.Incoming("x.part"); err != nil || have != 0 {
		t.Errorf("cleared: got %d bytes, %v", have, err)
	}
	_ = f.Close()
	if _, _, err := d.Incoming("../x"); err == nil {
		t.Error("a name that leaves the directory was opened")
	}
}

func TestOpenProblems(t *testing.T) {
	if _, err := Open(Options{Path: "relative"}); err == nil {
		t.Error("relative path: got nil, want an error")
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: file}); err == nil {
		t.Error("a file: got nil, want an error")
	}
	if _, err := Open(Options{Path: filepath.Join(t.TempDir(), "no", "parent")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parent: got %v, want fs.ErrNotExist", err)
	}
}
