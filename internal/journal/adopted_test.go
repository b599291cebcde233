package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

func TestAdoptedIsReadBack(t *testing.T) {
	dir := t.TempDir()
	state, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	want := deployment.Adopted{Name: "0-abc", Hash: "abcdef", Digest: "t1:" + strings.Repeat("a", 64), Shared: []string{"data/"}}
	for range 2 {
		if err := LeaveAdopted(state, "web", os.Getuid(), os.Getgid(), want, bytes.NewBufferString("lines\n")); err != nil {
			t.Fatal(err)
		}
	}
	j, err := Open(filepath.Join(dir, "apps/web"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := j.Adopted()
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if data, err := j.Listing(want.Digest); err != nil || string(data) != "lines\n" {
		t.Errorf("listing: got %q, %v", data, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "apps/web/.adopted-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if j, err = Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if got, err := j.Adopted(); got != nil || err != nil {
		t.Errorf("none: got %+v, %v", got, err)
	}
	for _, text := range []string{"", "{", "{}", `{"name":"0-a","digest":"x"}`} {
		if err := os.WriteFile(filepath.Join(j.dir, adoptedFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Adopted(); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}

// The agent's user may have led a name of its directory elsewhere.
func TestAdoptedLeavesNothingOutside(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(dir, "apps")); err != nil {
		t.Fatal(err)
	}
	state, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	a := deployment.Adopted{Name: "0-abc", Digest: "t1:" + strings.Repeat("a", 64)}
	if err := LeaveAdopted(state, "web", os.Getuid(), os.Getgid(), a, bytes.NewBufferString("")); err == nil {
		t.Error("a link out of the directory is followed")
	}
	if got, _ := os.ReadDir(elsewhere); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}
