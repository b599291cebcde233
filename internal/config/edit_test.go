package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const above = "# of the web servers\nserver: web-1\nbucket: my-deploys # in Frankfurt\ntrust: {keys: [\"" + key1 + "\"]}\n"

// draft opens a file with the text.
func draft(t *testing.T, text string) (d *Draft, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDraft(path)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

func TestDraftAddsAnApp(t *testing.T) {
	blog := Entry{Unit: "blog.service", HTTP: "http://127.0.0.1:3000/version?full=yes", Shared: []string{".env", "up loads/"}}
	const lines = "  blog:\n    unit: blog.service\n    health:\n      http: \"http://127.0.0.1:3000/version?full=yes\"\n    shared: [.env, \"up loads/\"]\n"
	deep := strings.ReplaceAll("  "+strings.ReplaceAll(lines, "\n", "\n  "), "\n  \n", "\n")
	for name, c := range map[string]struct{ before, want string }{
		"after the others": {
			above + "apps:\n  # the shop\n  shop: {unit: shop.service}   # old\n",
			above + "apps:\n  # the shop\n  shop: {unit: shop.service}   # old\n" + lines,
		},
		"in the middle": {
			above + "apps:\n  shop:\n    keep: 4\n    # why four\n\n# elsewhere\npoll: 5s\n",
			above + "apps:\n  shop:\n    keep: 4\n    # why four\n" + lines + "\n# elsewhere\npoll: 5s\n",
		},
		"with their indent": {
			above + "apps:\n    shop:\n        keep: 4\npoll: 5s\n",
			above + "apps:\n    shop:\n        keep: 4\n" + strings.TrimSuffix(deep, "  ") + "poll: 5s\n",
		},
		"the first":              {above, above + "\napps:\n" + lines},
		"the first below apps":   {above + "apps:\npoll: 5s\n", above + "apps:\n" + lines + "poll: 5s\n"},
		"without a last newline": {above + "apps:\n  shop:", above + "apps:\n  shop:\n" + lines},
		"before the end":         {above + "apps:\n  shop:\n...\n", above + "apps:\n  shop:\n" + lines + "...\n"},
		"with Windows' newlines": {
			strings.ReplaceAll(above+"apps:\n  shop:\n", "\n", "\r\n"), strings.ReplaceAll(above+"apps:\n  shop:\n"+lines, "\n", "\r\n"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, path := draft(t, c.before)
			if d.Has("blog") {
				t.Error("it is there before")
			}
			if err := d.Add("blog", blog); err != nil {
				t.Fatal(err)
			}
			for _, line := range d.Diff() {
				if strings.HasPrefix(line, "-") {
					t.Errorf("a line goes: %q", line)
				}
			}
			if got, _ := os.ReadFile(path); string(got) != c.before {
				t.Error("written too early")
			}
			if err := d.Write(); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(path); string(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			s, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if a := s.Apps[0]; a.Key != "blog" || a.Unit != blog.Unit || a.Health.HTTP != blog.HTTP || a.Shared[1] != "up loads/" {
				t.Errorf("got %+v", a)
			}
			// And out again.
			if d, err = OpenDraft(path); err != nil {
				t.Fatal(err)
			}
			err = d.Remove("blog")
			if len(s.Apps) == 1 {
				if !errors.Is(err, ErrByHand) {
					t.Errorf("the only app: got %v, want %v", err, ErrByHand)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Write(); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(path); strings.TrimSpace(string(got)) != strings.TrimSpace(c.before) {
				t.Errorf("taken out: got\n%s\nwant\n%s", got, c.before)
			}
		})
	}
}

func TestDraftIsRefused(t *testing.T) {
	var wrong *Error
	for name, c := range map[string]struct {
		before string
		entry  Entry
		want   string
	}{
		"in braces":      {above + "apps: {shop: {unit: shop.service}}\n", Entry{}, "it is to be changed by hand"},
		"there already":  {above + "apps:\n  blog:\n", Entry{}, "has an app blog already"},
		"not YAML":       {above + "apps: [\n", Entry{}, "not YAML"},
		"bad before":     {above + "apps:\n  shop:\npol: 5s\n", Entry{}, `unknown key "pol"`},
		"bad afterwards": {above + "apps:\n  shop:\n", Entry{Dir: "/srv/shop"}, "must lie apart"},
		"bad value":      {above + "apps:\n  shop:\n", Entry{Unit: "blog"}, "unit"},
		"two documents":  {above + "apps:\n  shop:\n---\nserver: other\n", Entry{}, "a second document"},
		"kept newlines":  {above + "notify: [{webhook: https://h.example/}]\napps:\n  shop:\n    hooks:\n      after-healthy:\n        - |+\n          x\n\n\n", Entry{}, "something else"},
	} {
		t.Run(name, func(t *testing.T) {
			d, path := draft(t, c.before)
			err := d.Add("blog", c.entry)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if errors.As(err, &wrong) && errors.Is(err, ErrByHand) {
				t.Error("two kinds of errors")
			}
			if d.Diff() != nil {
				t.Errorf("got diff %q, want none", d.Diff())
			}
			if err := d.Write(); err != nil {
				t.Error(err)
			}
			if got, _ := os.ReadFile(path); string(got) != c.before {
				t.Errorf("it was changed:\n%s", got)
			}
		})
	}
}

func TestDraftRemovesOneOfSeveral(t *testing.T) {
	const before = above + "apps:\n  # a\n  a:\n    keep: 4 # four\n\n  # b\n  b: {keep: 5}\n  c:\n\npoll: 5s\n"
	for key, want := range map[string]string{
		"a": above + "apps:\n  # a\n\n  # b\n  b: {keep: 5}\n  c:\n\npoll: 5s\n",
		"b": above + "apps:\n  # a\n  a:\n    keep: 4 # four\n\n  # b\n  c:\n\npoll: 5s\n",
		"c": above + "apps:\n  # a\n  a:\n    keep: 4 # four\n\n  # b\n  b: {keep: 5}\n\npoll: 5s\n",
	} {
		d, path := draft(t, before)
		if err := d.Remove(key); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("without %s: got\n%s\nwant\n%s", key, got, want)
		}
	}
	d, _ := draft(t, before)
	if err := d.Remove("d"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestDraftKeepsTheFile(t *testing.T) {
	_, path := draft(t, above+"apps:\n  shop:\n")
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 65534, 65534
	}
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDraft(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Add("blog", Entry{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o640 || int(st.Uid) != uid || int(st.Gid) != gid {
		t.Errorf("got mode %v, owner %d:%d, want 0640 of %d:%d", info.Mode(), st.Uid, st.Gid, uid, gid)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link: got %v, %v", info, err)
	}

	// Changed by somebody else meanwhile.
	if d, err = OpenDraft(path); err != nil {
		t.Fatal(err)
	}
	if err := d.Add("wiki", Entry{}); err != nil {
		t.Fatal(err)
	}
	const theirs = above + "apps:\n  theirs:\n"
	if err := os.WriteFile(path, []byte(theirs), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(); err == nil || !strings.Contains(err.Error(), "changed it meanwhile") {
		t.Errorf("got %v, want it refused", err)
	}
	if got, _ := os.ReadFile(path); string(got) != theirs {
		t.Errorf("got\n%s", got)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestScalarText reads back what is written.
func TestScalarText(t *testing.T) {
	for _, s := range []string{
		"shop.service", "http://127.0.0.1:3000/version", "yes", "No", "null", "1.5", "0x10", "127.0.0.1:3000", "a b", " a", "a: b", "a #b", "#a", "[a]",
		"{{hash}}", "ü", "a\"b", `a\b`, "a,b", "-", "- a", "*a", "&a", "!a", "%a", "@a", "`a", "~", ".env", "uploads/", "a:", "?", "2026-11-26", "<<",
	} {
		f, problems := readForm("x", []byte("bucket: "+scalarText(s)+"\nlabels: ["+scalarText(s)+", x]\n"))
		if len(problems) > 0 || f.Bucket != s || len(f.Labels) != 2 || f.Labels[0] != s {
			t.Errorf("%q as %s: got %q, %q, %v", s, scalarText(s), f.Bucket, f.Labels, problems)
		}
	}
}
