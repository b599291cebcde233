package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/grant"
)

// world is a server with an app in a directory.
type world struct {
	t *testing.T
	Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	base := t.TempDir()
	me := grant.Owner{User: "me", UID: os.Getuid(), GID: os.Getgid()}
	w := &world{t, Options{
		Key: "shop", From: filepath.Join(base, "apps/shop"), Dir: filepath.Join(base, "srv/shop"), State: filepath.Join(base, "lib/towline"),
		Shared: []string{"uploads/", "etc/.env", "later/"}, Agent: me, User: me,
	}}
	for name, text := range map[string]string{
		"server": "#!/bin/sh\n", "version.js": "module.exports = {hash: 'abcdef0123456789', msg: 'x'};\n", "lib/a.js": "a", "uploads/cat": "meow", "etc/.env": "KEY=1",
	} {
		w.write(filepath.Join(w.From, name), text)
	}
	w.must(os.Chmod(filepath.Join(w.From, "server"), 0o755))
	w.must(os.Chmod(filepath.Join(w.From, "etc/.env"), 0o600))
	w.must(os.Symlink("a.js", filepath.Join(w.From, "lib/b.js")))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(file, text string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(file), 0o755))
	w.must(os.WriteFile(file, []byte(text), 0o644))
}

// works sees that the app's directory is whole by its old path.
func (w *world) works(when string) {
	w.t.Helper()
	if err := w.whole(); err != nil {
		w.t.Fatalf("%s: %v", when, err)
	}
}

func (w *world) whole() error {
	for file, want := range map[string]string{"server": "#!/bin/sh\n", "lib/b.js": "a", "uploads/cat": "meow", "etc/.env": "KEY=1"} {
		if got, err := os.ReadFile(filepath.Join(w.From, file)); err != nil || string(got) != want {
			return fmt.Errorf("%s: got %q, %w, want %q", file, got, err, want)
		}
	}
	return nil
}

// finish runs an adoption to its end.
func (w *world) finish() {
	w.t.Helper()
	a, err := Look(w.Options)
	w.must(err)
	defer a.Close()
	w.must(a.Plan(w.t.Context()).Apply(func(grant.Change) {}))
}

// wantAdopted sees that all is as it should be at last.
func (w *world) wantAdopted() {
	w.t.Helper()
	w.works("at last")
	if to, err := os.Readlink(w.From); err != nil || to != filepath.Join(w.Dir, "current") {
		w.t.Errorf("got %q, %v, want a link to current", to, err)
	}
	if to, err := os.Readlink(filepath.Join(w.Dir, "current")); err != nil || to != "releases/0-abcdef012345" {
		w.t.Errorf("current: got %q, %v", to, err)
	}
	release := filepath.Join(w.Dir, "releases/0-abcdef012345")
	for name, want := range map[string]fs.FileMode{"server": 0o755, "lib/a.js": 0o644, "lib": fs.ModeDir | 0o755, "uploads": fs.ModeSymlink | 0o777, "later": fs.ModeSymlink | 0o777} {
		if info, err := os.Lstat(filepath.Join(release, name)); err != nil || info.Mode() != want {
			w.t.Errorf("%s: got %v, %v, want %v", name, info, err, want)
		}
	}
	if info, err := os.Lstat(filepath.Join(w.Dir, "shared/etc/.env")); err != nil || info.Mode() != 0o600 {
		w.t.Errorf("shared file: got %v, %v, want it as it was", info, err)
	}
	// The old directory still works for the process that runs from it, with the same data.
	if got, err := os.ReadFile(filepath.Join(w.From+before, "uploads/cat")); err != nil || string(got) != "meow" {
		w.t.Errorf("the old directory: got %q, %v", got, err)
	}
	for _, dir := range []string{filepath.Join(w.Dir, "releases"), filepath.Join(w.Dir, "shared"), filepath.Dir(w.From)} {
		entries, err := os.ReadDir(dir)
		w.must(err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), ".stage-") {
				w.t.Errorf("left behind: %s/%s", dir, e.Name())
			}
		}
	}
	a, err := Look(w.Options)
	w.must(err)
	defer a.Close()
	word, err := a.word()
	if err != nil || word == nil || word.Name != "0-abcdef012345" || word.Hash != "abcdef0123456789" || !strings.HasPrefix(word.Digest, "t1:") {
		w.t.Errorf("word for the agent: got %+v, %v", word, err)
	}
	if plan := a.Plan(w.t.Context()); plan.Todo() != 0 {
		w.t.Errorf("again: got %v, want nothing to do", plan.Changes)
	}
}

func TestAdopt(t *testing.T) {
	w := newWorld(t)
	a, err := Look(w.Options)
	if err != nil || !a.Known || len(a.Notes) > 0 {
		t.Fatalf("got %+v, %v", a, err)
	}
	// Somebody asks for it all the time.
	var stop atomic.Bool
	asking, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		for n := 0; !stop.Load() || n < 2; n++ { // before and after at least
			if err := w.whole(); err != nil {
				t.Errorf("meanwhile: %v", err)
				stop.Store(true)
			}
			if n == 0 {
				close(asking)
			}
		}
	}()
	<-asking
	f, err := os.OpenFile(filepath.Join(w.From, "uploads/dog"), os.O_CREATE|os.O_WRONLY, 0o644) // as a process that runs on
	w.must(err)
	w.finish()
	_, err = f.WriteString("woof")
	w.must(errors.Join(err, f.Close()))
	stop.Store(true)
	<-asked
	if got, err := os.ReadFile(filepath.Join(w.From, "uploads/dog")); err != nil || string(got) != "woof" {
		t.Errorf("written by an open file: got %q, %v", got, err)
	}
	w.wantAdopted()
}

// TestAdoptIsTakenUp ends an adoption at every step, and within steps, and runs it again.
func TestAdoptIsTakenUp(t *testing.T) {
	first := newWorld(t)
	a, err := Look(first.Options)
	if err != nil {
		t.Fatal(err)
	}
	steps := len(a.Plan(t.Context()).Changes)
	if steps != 6 {
		t.Fatalf("got %d steps, want 6", steps)
	}
	part := func(w *world, n int) {
		t.Helper()
		a, err := Look(w.Options)
		w.must(err)
		plan := a.Plan(t.Context())
		plan.Changes = plan.Changes[:n]
		w.must(plan.Apply(func(grant.Change) {}))
		a.Close() // as the end of the process does
	}
	for n := range steps + 1 {
		w := newWorld(t)
		part(w, n)
		w.works("after some steps")
		w.finish()
		w.wantAdopted()
	}
	for name, c := range map[string]struct {
		after int
		crash func(w *world) error
	}{
		"before data moves": {1, func(w *world) error {
			at := filepath.Join(w.Dir, "shared/uploads")
			return os.Symlink(at, at)
		}},
		"in the copy": {3, func(w *world) error {
			return os.MkdirAll(filepath.Join(w.Dir, "releases/.stage-X/lib"), 0o755)
		}},
		"before the copy has its name": {4, func(w *world) error {
			return os.RemoveAll(filepath.Join(w.Dir, "releases/0-abcdef012345"))
		}},
		"before the exchange": {5, func(w *world) error { return os.Symlink(filepath.Join(w.Dir, "current"), w.From+before) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			part(w, c.after)
			w.must(c.crash(w))
			w.works("after the crash")
			w.finish()
			w.wantAdopted()
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world) error
		want   string
	}{
		"a link":             {func(w *world) error { return errors.Join(os.Rename(w.From, w.From+"-1"), os.Symlink("shop-1", w.From)) }, "is a link to shop-1"},
		"a file":             {func(w *world) error { w.From += "/server"; return nil }, "is not a directory"},
		"nothing":            {func(w *world) error { return os.RemoveAll(w.From) }, "no such file"},
		"itself":             {func(w *world) error { w.Dir = w.From + "/towline"; return nil }, "must not lie in the other"},
		"a secret":           {func(w *world) error { return os.Chmod(filepath.Join(w.From, "lib/a.js"), 0o640) }, "lib/a.js"},
		"a closed directory": {func(w *world) error { return os.Chmod(filepath.Join(w.From, "lib"), 0o750) }, "apps/shop/lib, and"},
		"the old name":       {func(w *world) error { return os.Mkdir(w.From+before, 0o755) }, "is there already"},
		"other releases":     {func(w *world) error { return os.MkdirAll(filepath.Join(w.Dir, "releases/1-abc"), 0o755) }, "has releases already"},
		"data in two places": {func(w *world) error { w.write(filepath.Join(w.Dir, "shared/uploads/other"), ""); return nil }, "both"},
		"a linked share": {func(w *world) error {
			from := filepath.Join(w.From, "uploads")
			return errors.Join(os.Rename(from, from+"2"), os.Symlink("uploads2", from))
		}, "is a link to uploads2"},
		"a file for a directory": {func(w *world) error { w.Shared = []string{"uploads", "etc/.env"}; return nil }, "[uploads/]"},
		"a bad version":          {func(w *world) error { w.Version = "previous"; return nil }, "previous"},
		"an open file": {func(w *world) error {
			f, err := os.OpenFile(filepath.Join(w.From, "lib/a.js"), os.O_RDWR, 0)
			w.t.Cleanup(func() { _ = f.Close() })
			return err
		}, "lib/a.js"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.must(c.change(w))
			if a, err := Look(w.Options); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want %q", a, err, c.want)
			}
			if _, err := os.Lstat(w.State); err == nil {
				t.Error("something was made")
			}
		})
	}
	t.Run("an agent at work", func(t *testing.T) {
		w := newWorld(t)
		tree, err := appdir.Open(appdir.Options{Path: mkdirs(t, w.Dir)})
		w.must(err)
		defer tree.Close()
		a, err := Look(w.Options)
		w.must(err)
		defer a.Close()
		if err := a.Plan(t.Context()).Apply(func(grant.Change) {}); !errors.Is(err, appdir.ErrLocked) {
			t.Errorf("got %v, want %v", err, appdir.ErrLocked)
		}
		w.works("refused")
	})
	t.Run("exchanged for a secret meanwhile", func(t *testing.T) {
		w := newWorld(t)
		a, err := Look(w.Options)
		w.must(err)
		defer a.Close()
		file := filepath.Join(w.From, "lib/a.js")
		w.must(errors.Join(os.Remove(file), os.Symlink("/etc/hostname", file)))
		if err := a.Plan(t.Context()).Apply(func(grant.Change) {}); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(filepath.Join(w.Dir, "current/lib/a.js")); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("got %v, %v, want the link, not what it leads to", info, err)
		}
	})
}

func mkdirs(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAdoptEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	a, err := Look(w.Options)
	w.must(err)
	defer a.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Plan(ctx).Apply(func(grant.Change) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	a.Close()
	w.works("interrupted")
	if left, _ := filepath.Glob(filepath.Join(w.Dir, "releases/.stage-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	w.finish()
	w.wantAdopted()
}

func TestVersionOf(t *testing.T) {
	for text, want := range map[[2]string]string{
		{"version.json", `{"hash": "abc123", "msg": ""}`}:       "abc123",
		{"version.js", "module.exports = { hash: \"v1.2\" };"}:  "v1.2",
		{"version.js", "exports.hash = 'e02371a'"}:              "e02371a",
		{"REVISION", "e02371ab6db3a60c\n"}:                      "e02371ab6db3a60c",
		{"REVISION", "who knows\n"}:                             "",
		{"version.json", `{"hash": "../../etc"}`}:               "",
		{".git/HEAD", strings.Repeat("a", 40) + "\n"}:           strings.Repeat("a", 40),
		{".git/HEAD", "ref: ../../../../../../../etc/passwd\n"}: "",
		{"package.json", `{"hash": "abc"}`}:                     "",
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, text[0])), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, text[0]), []byte(text[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := versionOf(dir); got != want {
			t.Errorf("%s %q: got %q, want %q", text[0], text[1], got, want)
		}
	}
}
