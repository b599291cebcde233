package secret

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

func TestFilesMustBeClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, test := range []struct {
		text string
		mode os.FileMode
		want string // in the error; empty: none
	}{
		{"abc\n", 0o600, ""},
		{"abc", 0o400, ""},
		{"abc", 0o640, "mode 0640); run chmod 600 " + path},
		{"abc", 0o620, "run chmod 600 " + path},
		{"abc", 0o604, "run chmod 600 " + path},
		{"abc", 0o644, "run chmod 600 " + path},
		{"", 0o600, "want one line"},
		{"a\nb", 0o600, "want one line"},
		{strings.Repeat("x", maxSize+1), 0o600, "no secret"},
	} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		got, err := Store{Owner: os.Geteuid()}.Line(path)
		if test.want == "" && (err != nil || got != "abc") || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%.9q, mode %o: got %.9q, %v, want %q", test.text, test.mode, got, err, test.want)
		}
		if exposed := new(ExposedError); errors.As(err, &exposed) != strings.Contains(test.want, "chmod") {
			t.Errorf("mode %o: got %T", test.mode, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (Store{}).Line(path + "-not"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no such file", err)
	}
}

func TestFilesOfSomebodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := (Store{Owner: os.Geteuid()}).closed(path, info); err != nil {
		t.Errorf("one's own: %v", err)
	}
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to give a file away")
	}
	if err := os.Chown(path, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := (Store{}).Line(path); err == nil || !strings.Contains(err.Error(), "run chown root "+path) {
		t.Errorf("another user's: got %v, want chown", err)
	}
	if _, err := (Store{Owner: 65534}).Line(path); err != nil {
		t.Errorf("the agent's, which is another user: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("abc"), 0o444); err != nil { // as systemd sees fit
		t.Fatal(err)
	}
	s := Store{Credentials: dir}
	for _, name := range []string{"token", filepath.Join(dir, "token")} {
		if got, err := s.Line(name); err != nil || got != "abc" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := s.Line(filepath.Join(dir, "..", filepath.Base(dir), "token")); err != nil {
		t.Errorf("by a detour: %v", err)
	}
	beside := dir + "-beside"
	if err := os.WriteFile(beside, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{beside, dir + "/../" + filepath.Base(beside)} {
		if _, err := s.Line(name); !errors.As(err, new(*ExposedError)) {
			t.Errorf("%s, beside the credentials: got %v, want it refused", name, err)
		}
	}
	if _, err := (Store{}).Line("token"); err == nil || !strings.Contains(err.Error(), "LoadCredential=token:") {
		t.Errorf("without credentials: got %v, want how to pass one", err)
	}
}
