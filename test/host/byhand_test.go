package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// TestByHand has an administrator edit current and the release directories behind the agent's back. It is reported in the
// receipt, and the agent leaves it as it is: until a release is published, or a person commands something.
func TestByHand(t *testing.T) {
	type hand struct {
		name string
		edit func(t *testing.T, app string)
		said string // in the receipt
		live string // where current leads afterwards, as it was edited
		next int    // exit code with the next release
		mend func(t *testing.T, app string)
	}
	link := func(to string) func(*testing.T, string) {
		return func(t *testing.T, app string) {
			must(t, os.Remove(filepath.Join(app, "current")))
			must(t, os.Symlink(strings.ReplaceAll(to, "APP", app), filepath.Join(app, "current")))
		}
	}
	remove := func(t *testing.T, app string) { must(t, os.RemoveAll(filepath.Join(app, "current"))) }
	for _, h := range []hand{
		{name: "led to the other release", edit: link("releases/1-one"), said: "current leads to 1-one, though this agent led it to 2-two", live: "one"},
		{name: "missing", edit: remove, said: "current is gone, though this agent led it to 2-two"},
		{name: "dangling", edit: link("releases/7-seven"), said: "it leads to release 7-seven, which is gone", next: deployment.ExitError, mend: remove},
		{name: "absolute", edit: link("APP/releases/1-one"), said: "which is not a release here", live: "one", next: deployment.ExitError, mend: remove},
		{name: "outside", edit: link("../elsewhere"), said: `it leads to "../elsewhere", which is not a release here`, next: deployment.ExitError, mend: remove},
		{name: "a directory", edit: func(t *testing.T, app string) {
			remove(t, app)
			must(t, os.CopyFS(filepath.Join(app, "current"), os.DirFS(filepath.Join(app, "releases/1-one"))))
		}, said: "it is not a symbolic link; move it away", live: "one", next: deployment.ExitError, mend: remove},
		{name: "a file", edit: func(t *testing.T, app string) {
			remove(t, app)
			must(t, os.WriteFile(filepath.Join(app, "current"), []byte("x"), 0o644))
		}, said: "it is not a symbolic link; move it away", next: deployment.ExitError, mend: remove},
		{name: "the live release half deleted", edit: func(t *testing.T, app string) {
			must(t, os.RemoveAll(filepath.Join(app, "releases/2-two/lib/1")))
		}, said: "the live release 2-two was changed on this server: lib/1", live: "two"},
		{name: "the previous release half deleted", edit: func(t *testing.T, app string) {
			must(t, os.RemoveAll(filepath.Join(app, "releases/1-one/lib/1")))
		}, said: "release 1-one was changed on this server and is fetched again before it is used: lib/1", live: "two"},
		{name: "the live release deleted", edit: func(t *testing.T, app string) {
			must(t, os.RemoveAll(filepath.Join(app, "releases/2-two")))
		}, said: "it leads to release 2-two, which is gone", next: deployment.ExitError, mend: remove},
	} {
		t.Run(h.name, func(t *testing.T) {
			w := newWorld(t)
			w.files = crowded("lib", 14)
			for _, version := range []string{"one", "two"} {
				w.publish(version)
				w.ends(deployment.ExitOK, "web: deployed "+version)
			}
			h.edit(t, w.app)
			edited := what(t, w.app)
			for range 2 {
				if h.live == "two" { // only who stays looks into the directories by itself
					d := w.start()
					eventually(t, "it is reported", func() (bool, string) { s := w.receipt().Status; return strings.Contains(s, h.said), s })
					d.stop()
				} else {
					w.once()
				}
				if got := w.receipt().Status; !strings.Contains(got, h.said) {
					t.Errorf("got status %q, want %q", got, h.said)
				}
				if got := what(t, w.app); got != edited {
					t.Errorf("got current as %s, want it left as it was edited, %s", got, edited)
				}
			}
			w.publish("three")
			if h.next != deployment.ExitOK {
				w.ends(h.next, h.said)
				if got := what(t, w.app); got != edited {
					t.Errorf("with a new release: got current as %s, want %s", got, edited)
				}
				h.mend(t, w.app)
			}
			w.ends(deployment.ExitOK, "web: deployed three")
			w.stays("three")
			if got := w.receipt().Status; strings.Contains(got, "current") {
				t.Errorf("afterwards: got status %q", got)
			}
		})
	}
}

// what is at current: where it leads, or what else it is.
func what(t *testing.T, app string) string {
	t.Helper()
	path := filepath.Join(app, "current")
	if to, err := os.Readlink(path); err == nil {
		return "a link to " + to
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "nothing"
	}
	return info.Mode().Type().String()
}
