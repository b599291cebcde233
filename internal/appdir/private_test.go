package appdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// Root works in no directory that the app's user could exchange: it would write and delete wherever a link leads.
func TestRootWorksInNoDirectoryOfTheAppsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to act beside another user")
	}
	const uid, gid = 4711, 4712
	outside := filepath.Join(t.TempDir(), "precious")
	must(t, os.Mkdir(outside, 0o755))
	kept := filepath.Join(outside, "file")
	must(t, os.WriteFile(kept, nil, 0o600))
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"app directory": {func(dir string) error {
			must(t, os.Remove(filepath.Join(dir, "incoming")))
			must(t, os.Symlink(outside, filepath.Join(dir, "incoming")))
			return os.Chown(dir, uid, gid)
		}, "belongs to the user that the app runs as"},
		"releases":       {func(dir string) error { return os.Chown(filepath.Join(dir, "releases"), uid, gid) }, "releases belongs to the user"},
		"group":          {func(dir string) error { must(t, os.Chown(dir, 0, gid)); return os.Chmod(dir, 0o775) }, "writable for the group"},
		"everybody":      {func(dir string) error { return os.Chmod(filepath.Join(dir, "incoming"), 0o777) }, "incoming is writable for everybody"},
		"shared is his":  {func(dir string) error { return os.Chown(filepath.Join(dir, "shared"), uid, gid) }, ""},
		"of the agent's": {func(dir string) error { return os.Chown(dir, 4713, 4713) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "app")
			d, err := Open(Options{Path: dir, UID: uid, GID: gid})
			must(t, err)
			must(t, d.Close())
			must(t, c.change(dir))
			d, err = Open(Options{Path: dir, UID: uid, GID: gid})
			if err == nil {
				must(t, d.ClearIncoming())
				must(t, d.Close())
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Stat(kept); err != nil {
				t.Errorf("what lies elsewhere is gone: %v", err)
			}
		})
	}
}

// Nothing is made where the app's user could put a link in the place of what was just made.
func TestRootMakesNothingInADirectoryOfTheAppsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to act beside another user")
	}
	home := filepath.Join(t.TempDir(), "home")
	must(t, os.Mkdir(home, 0o755))
	must(t, os.Chown(home, 4711, 4712))
	d, err := Open(Options{Path: filepath.Join(home, "app"), UID: 4711, GID: 4712})
	if err == nil {
		_ = d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), home+" belongs to the user") {
		t.Errorf("got %v, want the directory above named", err)
	}
	if names, _ := os.ReadDir(home); len(names) > 0 {
		t.Errorf("got %v made there", names)
	}
}

// A link on the way, root's own, into a place of the app's user.
func TestRootFollowsNoLinkIntoADirectoryOfTheAppsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to act beside another user")
	}
	base := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(base, "home/data"), 0o755))
	must(t, os.Chown(filepath.Join(base, "home"), 4711, 4712))
	must(t, os.Symlink("home/data", filepath.Join(base, "srv")))
	d, err := Open(Options{Path: filepath.Join(base, "srv/app"), UID: 4711, GID: 4712})
	if err == nil {
		_ = d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), filepath.Join(base, "home")+" belongs to the user") {
		t.Errorf("got %v, want the directory behind the link named", err)
	}
}

func TestLockIsNoLink(t *testing.T) {
	dir, outside := filepath.Join(t.TempDir(), "app"), filepath.Join(t.TempDir(), "nologin")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "lock")))
	if d, err := Open(Options{Path: dir}); err == nil {
		_ = d.Close()
		t.Error("got a lock through a link")
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("the link made a file elsewhere")
	}
}
