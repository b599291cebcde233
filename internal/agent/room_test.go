package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// On a disk that has no room for one more tree a release is brought forward all the same, since that takes room for what changed
// alone; and where there is not even that, what is live stays.
func TestDiskWithoutRoomForOneMoreTree(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to mount a filesystem")
	}
	f := newFramed(t, "", "")
	clear(f.files)
	for i := range 20 {
		f.files[fmt.Sprintf("lib/%d", i)] = noise(uint64(i), 1500<<10)
	}
	// Three trees of 29 MiB, and what is left free always.
	at := filepath.Join(f.dir, "srv")
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%dm", 3*30+64+20)); err != nil {
		parts.Skip(t, "the right to mount")
	}
	t.Cleanup(func() { f.must(unix.Unmount(at, unix.MNT_DETACH)) })
	for n := 1; n <= 5; n++ {
		f.files["lib/7"] = noise(uint64(100+n), 1500<<10)
		d, _ := f.next()
		f.whole(n)
		if got, want := strings.HasSuffix(fetched(d).Message, " recycled"), n > 3; got != want {
			t.Errorf("release %d: got it recycled: %v, want %v: %s", n, got, want, fetched(d).Message)
		}
	}
	for i := range 20 {
		f.files[fmt.Sprintf("lib/%d", i)] = noise(uint64(200+i), 1500<<10)
	}
	f.publish("web", hash("6"), "6")
	code, out, errs := f.once(f.config)
	if code != deployment.ExitError || !strings.Contains(out, "not enough space in "+at) || f.live("web") != "5" {
		t.Errorf("got exit code %d, %q live: %s\n%s", code, f.live("web"), out, errs)
	}
	if want := []string{f.tree(3), f.tree(4), f.tree(5)}; !slices.Equal(f.names(), want) { // what could not be brought forward stays
		t.Errorf("on disk: got %q, want %q", f.names(), want)
	}
}
