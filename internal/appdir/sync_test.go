package appdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestKernelsWhoseSyncfsTells(t *testing.T) {
	for kernel, want := range map[string]bool{
		"5.4.0-216-generic": false, "4.19.0-27-amd64": false, "5.7.19": false, "3.10": false, "": false, "x": false,
		"5.8.0": true, "5.10.0-35-amd64": true, "6.1.0-40-cloud-amd64": true, "10.0": true,
	} {
		if got := tells(kernel); got != want {
			t.Errorf("%q: got %v, want %v", kernel, got, want)
		}
	}
}

// Where syncfs does not tell of writes that failed, every file and directory is synced by itself before the release has its name.
func TestEachIsSyncedWhereSyncfsDoesNotTell(t *testing.T) {
	tells := syncfsTells
	syncfsTells = func() bool { return false }
	real := fsync
	t.Cleanup(func() { fsync, syncfsTells = real, tells })

	d := open(t)
	d.made(t, "1-aaaaaaaaaaaa")
	for _, recycled := range []bool{false, true} {
		var synced []string
		var stage string
		fsync = func(f *os.File) error {
			if rel, err := filepath.Rel(d.ReleasePath(stage), f.Name()); err == nil && !strings.HasPrefix(rel, "..") {
				synced = append(synced, rel)
			}
			if d.Has("2-bbbbbbbbbbbb") {
				t.Error("synced after it had its name")
			}
			return real(f)
		}
		var root *os.Root
		var err error
		if recycled {
			stage, root, err = d.Recycle("1-aaaaaaaaaaaa")
			must(t, err)
		} else {
			stage, root, err = d.Stage()
			must(t, err)
			must(t, root.Mkdir("lib", 0o755))
			must(t, root.WriteFile("lib/same", nil, 0o644))
			must(t, root.WriteFile("hash", nil, 0o644))
		}
		must(t, root.Symlink("hash", "link"))
		must(t, root.Close())
		_, err = d.Seal(stage, "2-bbbbbbbbbbbb", nil)
		must(t, err)
		if want := []string{"hash", "lib/same", "lib", "."}; !slices.Equal(synced, want) {
			t.Errorf("recycled %v: got %q synced, want %q", recycled, synced, want)
		}
		must(t, d.Remove("2-bbbbbbbbbbbb"))
	}

	fsync = func(*os.File) error { return syscall.EIO }
	stage, root, err := d.Stage()
	must(t, err)
	must(t, root.WriteFile("hash", nil, 0o644))
	must(t, root.Close())
	if _, err := d.Seal(stage, "3-cccccccccccc", nil); !errors.Is(err, syscall.EIO) || d.Has("3-cccccccccccc") {
		t.Errorf("a write that failed: got %v, want EIO and no release", err)
	}
}
