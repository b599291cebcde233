package appdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// made seals a release with two files.
func (d *Dir) made(t *testing.T, name string, shared ...string) {
	t.Helper()
	stage, root, err := d.Stage()
	must(t, err)
	must(t, root.Mkdir("lib", 0o755))
	must(t, root.WriteFile("lib/same", []byte("same"), 0o644))
	must(t, root.WriteFile("hash", []byte(name), 0o644))
	must(t, root.Close())
	_, err = d.Seal(stage, name, shared)
	must(t, err)
}

// forward brings the release forward to a new one by one new file.
func (d *Dir) forward(t *testing.T, from, to string, shared ...string) (window string) {
	t.Helper()
	stage, root, err := d.Recycle(from)
	must(t, err)
	must(t, root.WriteFile("new", []byte(to), 0o644))
	must(t, root.Rename("new", "hash"))
	must(t, root.Close())
	sealed, err := d.Seal(stage, to, shared)
	must(t, err)
	if sealed.Print != "" || sealed.Looked != "" || sealed.Window == "" {
		t.Errorf("got %+v, want a window alone", sealed)
	}
	return sealed.Window
}

func TestRecycle(t *testing.T) {
	d := open(t)
	must(t, os.MkdirAll(filepath.Join(d.shared(), "data"), 0o755))
	d.made(t, "1-aaaaaaaaaaaa", "data/")
	d.made(t, "2-bbbbbbbbbbbb", "data/")
	must(t, d.Switch("2-bbbbbbbbbbbb"))
	before, err := os.Stat(filepath.Join(d.ReleasePath("1-aaaaaaaaaaaa"), "lib/same"))
	must(t, err)

	for name, want := range map[string]error{"2-bbbbbbbbbbbb": nil, "3-cccccccccccc": fs.ErrNotExist, "../x": nil, ".stage-x": nil} {
		if _, _, err := d.Recycle(name); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	stage, root, err := d.Recycle("1-aaaaaaaaaaaa")
	must(t, err)
	if names, err := d.Names(); err != nil || len(names) != 1 || d.Has("1-aaaaaaaaaaaa") {
		t.Errorf("while it is a stage: got %q, %v", names, err)
	}
	if info, err := os.Stat(d.ReleasePath(stage)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the stage: got %v, %v, want it closed to others", info, err)
	}
	must(t, root.WriteFile("hash2", nil, 0o644))
	must(t, root.Close())
	_, err = d.Seal(stage, "3-cccccccccccc", []string{"data/", "log/"})
	must(t, err)
	path := d.ReleasePath("3-cccccccccccc")
	after, err := os.Stat(filepath.Join(path, "lib/same"))
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, after) || info.Mode().Perm() != 0o755 {
		t.Errorf("got another file, or mode %v", info.Mode())
	}
	for _, link := range []string{"data", "log"} {
		if to, err := os.Readlink(filepath.Join(path, link)); err != nil || to != "../../shared/"+link {
			t.Errorf("%s: got %q, %v", link, to, err)
		}
	}

	// A power cut in the middle, before the renaming was on the disk and after: neither is left.
	if _, root, err = d.Recycle("3-cccccccccccc"); err != nil {
		t.Fatal(err)
	}
	must(t, root.Close())
	d.made(t, "4-dddddddddddd")
	must(t, d.Sweep(func(name string) bool { return name == "2-bbbbbbbbbbbb" }, false))
	if entries, err := os.ReadDir(d.releases()); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the live one alone", entries, err)
	}
}

func TestRecycledStageIsDiscarded(t *testing.T) {
	d := open(t)
	d.made(t, "1-aaaaaaaaaaaa")
	stage, root, err := d.Recycle("1-aaaaaaaaaaaa")
	must(t, err)
	must(t, root.Close())
	must(t, d.Discard(stage))
	if entries, err := os.ReadDir(d.releases()); err != nil || len(entries) != 0 {
		t.Errorf("got %v, %v, want nothing left", entries, err)
	}
}

// What stands where a shared path is to be, and does not lead there, is not left alone.
func TestRecycledStageWithSomethingElseAtASharedPath(t *testing.T) {
	for what, put := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, nil, 0o644) },
		"another one": func(path string) error { return os.Symlink("/etc", path) },
	} {
		d := open(t)
		must(t, os.MkdirAll(filepath.Join(d.shared(), "data"), 0o755))
		d.made(t, "1-aaaaaaaaaaaa")
		stage, root, err := d.Recycle("1-aaaaaaaaaaaa")
		must(t, err)
		must(t, root.Close())
		must(t, put(filepath.Join(d.ReleasePath(stage), "data")))
		if _, err := d.Seal(stage, "2-bbbbbbbbbbbb", []string{"data/"}); err == nil || !strings.Contains(err.Error(), "has something there already") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// The times of its entries tell whether somebody has touched a release that was recycled.
func TestUntouched(t *testing.T) {
	const one, two = "1-aaaaaaaaaaaa", "2-bbbbbbbbbbbb"
	touch := func(d *Dir, name string) {
		path := filepath.Join(d.ReleasePath(name), "lib/same")
		must(t, os.WriteFile(path, []byte("EVIL"), 0o644))
	}
	for name, test := range map[string]struct {
		looked, before, after func(d *Dir) // before clean, between clean and the recycling, after it
		change                func(window, clean string) (string, string)
		want                  bool
	}{
		"nobody":              {want: true},
		"before the look":     {looked: func(d *Dir) { touch(d, one) }, want: true},
		"since the look":      {before: func(d *Dir) { touch(d, one) }},
		"since it was sealed": {after: func(d *Dir) { touch(d, two) }},
		"one more":            {after: func(d *Dir) { must(t, os.WriteFile(filepath.Join(d.ReleasePath(two), "more"), nil, 0o644)) }},
		"no look":             {change: func(w, c string) (string, string) { return w, "" }},
		"no window":           {change: func(w, c string) (string, string) { return "", c }},
		"half a window":       {change: func(w, c string) (string, string) { b, _, _ := strings.Cut(w, " "); return b + " ", c }},
		"another start of the machine": {change: func(w, c string) (string, string) {
			m, _ := readMoment(c)
			return w, fmt.Sprintf("k1:%d:%d:%d", m.coarse, m.fine, m.up+3600e9)
		}},
		"a clock that was put back since the look":      {change: func(w, c string) (string, string) { return w, shifted(t, c, -3600e9) }},
		"a clock that was put forward since the look":   {change: func(w, c string) (string, string) { return w, shifted(t, c, 100e6) }},
		"a clock that is slewed as ever since the look": {change: func(w, c string) (string, string) { return w, shifted(t, c, -1e6) }, want: true},
		"a clock that was put back since it was sealed": {change: func(w, c string) (string, string) {
			b, e, _ := strings.Cut(w, " ")
			return b + " " + shifted(t, e, 100e6), c
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			do := func(f func(*Dir)) {
				coarse(t, d)
				if f != nil {
					f(d)
				}
				coarse(t, d)
			}
			d.made(t, one)
			do(test.looked)
			clean := d.Moment()
			do(test.before)
			window := d.forward(t, one, two)
			do(test.after)
			if test.change != nil {
				window, clean = test.change(window, clean)
			}
			print, got, err := d.Untouched(two, window, clean)
			must(t, err)
			if got != test.want {
				t.Errorf("got untouched %v, want %v", got, test.want)
			}
			if want, err := d.Fingerprint(two); err != nil || print != want {
				t.Errorf("got print %s, want %s, %v", print, want, err)
			}
		})
	}
	d := open(t)
	if _, _, err := d.Untouched(one, "", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a release that is not there: got %v, want fs.ErrNotExist", err)
	}
	if _, _, err := d.Untouched("../x", "", ""); err == nil {
		t.Error("a path was taken for a release")
	}
}

// coarse returns once what is changed is dated later than now. One tick is not enough: it moves the clock that changes are dated by
// forward by whole ticks, and where it comes late in one, that clock is still behind what the other told before it.
func coarse(t *testing.T, d *Dir) {
	t.Helper()
	first, ok := readMoment(d.Moment())
	for now := first; ok && now.coarse <= first.fine; {
		now, ok = readMoment(d.Moment())
	}
	if !ok {
		t.Fatal("this machine tells no moments")
	}
}

// shifted is the moment as a clock would have given it that was by so many nanoseconds elsewhere.
func shifted(t *testing.T, text string, by int64) string {
	t.Helper()
	m, ok := readMoment(text)
	if !ok {
		t.Fatalf("%q is no moment", text)
	}
	return fmt.Sprintf("k1:%d:%d:%d", m.coarse+by, m.fine+by, m.up)
}
