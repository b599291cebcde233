package grant

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/test/parts"
)

// What the app's user has made must not become a program with the rights of the user who gets it: the kernel takes the
// set-user-ID bit away with the owner, and nobody may put it back.
func TestGivingKeepsNoSetUserID(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to give files away")
	}
	root, app := t.TempDir(), newApp(t)
	plan, err := Add(root, app)
	apply(t, plan, err)
	file, dir := filepath.Join(root, app.Dir, "shared/.env"), filepath.Join(root, app.Dir, "shared/uploads")
	for path, mode := range map[string]fs.FileMode{file: 0o775 | fs.ModeSetuid | fs.ModeSetgid, dir: 0o775 | fs.ModeSetgid | fs.ModeSticky} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	app.User = Owner{User: "root", Group: "root"}
	plan, err = Add(root, app)
	apply(t, plan, err)
	for path, want := range map[string]fs.FileMode{file: 0o775, dir: fs.ModeDir | fs.ModeSetgid | fs.ModeSticky | 0o775} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}
