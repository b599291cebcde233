package grant

import (
	"os"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// Without a unit there is no app's user, but there are others.
func TestDirectoryThatEverybodyCouldExchange(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	app.Dir, app.Unit, app.User = "/srv/apps/shop", "", app.Agent
	setUp(t, root+"/srv/apps", "./")
	if err := os.Chmod(root+"/srv/apps", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(root, app); err == nil || !strings.Contains(err.Error(), "/srv/apps is writable for everybody") {
		t.Errorf("got %v, want it refused", err)
	}
}

// A link on the way, root's own, into a place of the app's user, or into one that the agent's sandbox hides.
func TestLinksAboveTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for files of several users")
	}
	for home, want := range map[string]string{
		"/data/home": "/data/home belongs to nobody", "/home/x": "the agent sees nothing of /home", "/data/other": "",
	} {
		root, app := t.TempDir(), newApp(t)
		setUp(t, root+home+"/apps", "./")
		if err := os.Symlink(root+home+"/apps", root+"/srv"); err != nil {
			t.Fatal(err)
		}
		if home == "/data/home" {
			if err := os.Chown(root+home, app.User.UID, 0); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Add(root, app)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", home, err, want)
		}
	}
}
