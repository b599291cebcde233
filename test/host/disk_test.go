package host

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// disk is a small filesystem of its own.
type disk struct {
	t            testing.TB
	image, mount string
}

// newDisk makes an ext4 of that many MiB and mounts it until the test ends. inodes 0 are as many as there usually are.
func newDisk(t testing.TB, mount string, mebibytes, inodes int) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to mount a filesystem")
	}
	mkfs := parts.Program(t, "mkfs.ext4", "e2fsprogs")
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "disk.img"), mount: mount}
	must(t, os.MkdirAll(mount, 0o755))
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, int64(mebibytes)<<20))
	args := []string{"-q", "-m", "0", "-O", "^has_journal"}
	if inodes > 0 {
		args = append(args, "-N", fmt.Sprint(inodes))
	}
	run(t, mkfs, append(args, d.image)...)
	t.Cleanup(func() { // registered before it is mounted: whatever fails from here on leaves no mount, and no loop device
		if exec.Command("mountpoint", "--quiet", mount).Run() != nil {
			return
		}
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
			run(t, "umount", "--lazy", mount)
		}
	})
	d.on()
	return d
}

// on mounts the disk. Not by mount's own loop option, which asks every loop device of the machine what it holds, those too
// that do not answer.
func (d *disk) on() {
	d.t.Helper()
	loop := strings.TrimSpace(run(d.t, "losetup", "--find", "--show", d.image))
	defer run(d.t, "losetup", "--detach", loop) // once it is unmounted
	run(d.t, "mount", "-o", "noatime", loop, d.mount)
}

// fill fills the disk but for so many KiB.
func (d *disk) fill(left int) { d.t.Helper(); must(d.t, d.writer(left)) }

// writer is fill for any goroutine.
func (d *disk) writer(left int) error {
	f, err := os.Create(filepath.Join(d.mount, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 4<<10)
	written := int64(0)
	for err == nil {
		var n int
		n, err = f.Write(block)
		written += int64(n)
	}
	return f.Truncate(max(0, written-int64(left)<<10))
}

// crowd leaves so many inodes of the disk, made as empty files.
func (d *disk) crowd(left int) error {
	dir := filepath.Join(d.mount, "crowd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	n := 0
	for ; ; n++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			break
		}
		f.Close()
	}
	for i := range left {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint(n-1-i))); err != nil {
			return err
		}
	}
	return nil
}

// free takes away what fill and crowd have made.
func (d *disk) free() {
	d.t.Helper()
	must(d.t, os.RemoveAll(filepath.Join(d.mount, "filler")))
	must(d.t, os.RemoveAll(filepath.Join(d.mount, "crowd")))
}

// noise is so many KiB that no compression makes smaller. The same seed gives the same.
func noise(kibibytes int, seed string) string {
	text := make([]byte, kibibytes<<10)
	_, _ = io.ReadFull(rand.NewChaCha8(sha256.Sum256([]byte(seed))), text)
	return string(text)
}

// noisy are so many files of 256 KiB of noise each.
func noisy(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("noise/%d", i)
		files[name] = noise(256, name)
	}
	return files
}

// crowded are so many small files below a directory.
func crowded(dir string, n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("%s/%d/%d", dir, i%7, i)] = fmt.Sprint(i)
	}
	return files
}

// onDisk is a world whose app lies on a disk of its own, with release one live.
func onDisk(t *testing.T, mebibytes, inodes int) (*world, *disk) {
	w := newWorld(t)
	d := newDisk(t, filepath.Join(w.dir, "disk"), mebibytes, inodes)
	w.app = filepath.Join(d.mount, "web")
	w.publish("one")
	w.ends(deployment.ExitOK, "web: deployed one")
	return w, d
}

// TestNoSpaceBefore has too little space, and too few inodes, for a release: it is refused before anything of it is fetched but
// its index, with both numbers. A store that gives no parts of an object makes the archive need room too.
func TestNoSpaceBefore(t *testing.T) {
	const large, spare = 8 << 20, 64 << 20
	for name, need := range map[string]int{"bytes": large, "bytes for the whole object": 2 * large} {
		t.Run(name, func(t *testing.T) {
			w, d := onDisk(t, 160, 0)
			s := newStore(t, w)
			s.whole, s.begun = need > large, func() { t.Error("the artifact was fetched") }
			d.fill(40 << 10)
			w.files = map[string]string{"large": noise(large>>10, name)}
			w.publish("two")
			w.ends(deployment.ExitError, "not enough space in "+w.app+": ", fmt.Sprintf(" MiB free, %d MiB needed", (need+need/10+spare)>>20))
			w.stays("one")
			s.set(func() { s.begun = nil })
			d.free()
			w.ends(deployment.ExitOK, "web: deployed two")
			w.stays("two")
		})
	}
	t.Run("inodes", func(t *testing.T) {
		w, d := onDisk(t, 160, 3000)
		must(t, d.crowd(1100))
		w.files = crowded("lib", 200)
		w.publish("two")
		w.ends(deployment.ExitError, "not enough inodes in "+w.app+": ", "1100 free, 12")
		w.stays("one")
		d.free()
		w.ends(deployment.ExitOK, "web: deployed two")
		w.stays("two")
	})
}

// TestNoSpaceDuring has another program fill the disk while a release is being fetched, frame by frame and as a whole, and,
// where that comes after it, while it is being unpacked.
func TestNoSpaceDuring(t *testing.T) {
	const full = "no space left on device"
	for _, test := range []struct {
		name  string
		files map[string]string
		fault func(s *store, d *disk)
		words []string
	}{
		{"fetching", noisy(64), func(s *store, d *disk) {
			s.half = func() { must(d.t, d.writer(0)) }
		}, []string{"fetch: unpack ", full, " (0 MiB and "}},
		{"a large file", map[string]string{"large": noise(16<<10, "")}, func(s *store, d *disk) { // its room is taken at once
			s.begun = func() { must(d.t, d.writer(12<<10)) }
		}, []string{"fetch: unpack ", "fallocate: " + full, " MiB and "}},
		{"inodes", crowded("lib", 700), func(s *store, d *disk) {
			s.begun = func() { must(d.t, d.crowd(100)) }
		}, []string{"fetch: unpack ", full, " and 0 inodes free in "}},
		{"fetching the whole object", map[string]string{"large": noise(16<<10, "")}, func(s *store, d *disk) {
			s.whole, s.half = true, func() { must(d.t, d.writer(0)) }
		}, []string{"fetch: ", "incoming/", full, " (0 MiB and "}},
		{"unpacking the whole object", map[string]string{"large": noise(16<<10, ""), "more": noise(8<<10, "more")}, func(s *store, d *disk) {
			s.whole, s.full = true, func() { must(d.t, d.writer(12<<10)) }
		}, []string{"unpack: ", full, " (0 MiB and "}},
		{"inodes for the whole object", crowded("lib", 700), func(s *store, d *disk) {
			s.whole, s.full = true, func() { must(d.t, d.crowd(100)) }
		}, []string{"unpack: ", full, " and 0 inodes free in "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, d := onDisk(t, 160, 3000)
			s := newStore(t, w)
			w.files = test.files
			w.publish("two")
			test.fault(s, d)
			w.ends(deployment.ExitError, append(test.words, "web: failed two")...)
			w.stays("one")
			w.ends(deployment.ExitError) // it stays so while the disk is full, and nothing heaps up
			w.stays("one")
			d.free()
			w.ends(deployment.ExitOK, "web: deployed two")
			w.stays("two")
		})
	}
}

// TestNoSpaceForTheState has the disk of the agent's state full, before and during a deployment, while the app's is not; what
// is live is what was.
func TestNoSpaceForTheState(t *testing.T) {
	for _, when := range []string{"before", "reading the index", "fetching", "recycling", "fetching the whole object"} {
		t.Run(when, func(t *testing.T) {
			w := newWorld(t)
			d := newDisk(t, filepath.Join(w.dir, "var"), 8, 0)
			w.state = filepath.Join(d.mount, "state")
			old := []string{"one"}
			if when == "recycling" {
				old = []string{"one", "two", "three"}
			}
			for _, version := range old {
				w.publish(version)
				w.ends(deployment.ExitOK)
			}
			s := newStore(t, w)
			if when != "reading the index" { // which is more than half of a small release
				w.files = noisy(16)
			}
			w.publish("next")
			fill := func() { must(t, d.writer(0)) }
			switch when {
			case "before":
				fill()
			case "fetching the whole object":
				s.whole, s.full = true, fill
			default:
				s.half = fill
			}
			code, out := w.once()
			if code != deployment.ExitError && code != deployment.ExitUsage || !strings.Contains(out, "no space left on device") || !strings.Contains(out, w.state) {
				t.Errorf("got exit code %d, want 1 or 2 and the state's place:\n%s", code, out)
			}
			want := old[len(old)-1]
			if got := w.live(); got != want { // what was fetched may stay, to go on with: the app's disk has room
				t.Errorf("got %q live, want %s", got, want)
			}
			d.free()
			w.ends(deployment.ExitOK, "web: deployed next")
			w.stays("next")
		})
	}
}

// TestReadOnly has the app's disk turn read-only, as a filesystem does that has met an error.
func TestReadOnly(t *testing.T) {
	w, d := onDisk(t, 160, 0)
	s := newStore(t, w)
	w.files = map[string]string{"large": noise(4<<10, "")}
	w.publish("two")
	run(t, "mount", "-o", "remount,ro", d.mount)
	w.ends(deployment.ExitUsage, "read-only file system", w.app)
	w.stays("one")
	run(t, "mount", "-o", "remount,rw", d.mount)
	s.set(func() { s.half = func() { run(t, "mount", "-o", "remount,abort,errors=remount-ro", d.mount) } })
	w.ends(deployment.ExitError, "web: failed two", "read-only file system")
	if got := w.live(); got != "one" {
		t.Errorf("got %q live, want one", got)
	}
	run(t, "umount", d.mount)
	check := exec.Command("e2fsck", "-fy", d.image)
	if out, err := check.CombinedOutput(); check.ProcessState == nil || check.ProcessState.ExitCode() > 1 { // 1: it has mended something
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	d.on()
	w.ends(deployment.ExitOK, "web: deployed two")
	w.stays("two")
}

// TestLostMount has the app's disk be away, before a deployment and from the middle of one. Nothing is installed into the empty
// directory that is left in its place, until a person says so.
func TestLostMount(t *testing.T) {
	w := newWorld(t)
	d := newDisk(t, w.app, 160, 0)
	w.publish("one")
	w.ends(deployment.ExitOK, "web: deployed one")
	s := newStore(t, w)
	w.files = map[string]string{"large": noise(4<<10, "")}
	w.publish("two")
	s.set(func() { s.half = func() { run(t, "umount", "--lazy", d.mount) } })
	w.ends(deployment.ExitError, "web: failed two")
	const words = "is its disk mounted?"
	for range 2 {
		w.ends(deployment.ExitError, "every release is gone from "+w.app, words)
		if left, _ := filepath.Glob(filepath.Join(w.app, "releases/*")); len(left) > 0 || w.live() != "" {
			t.Errorf("installed without the disk: %q", left)
		}
	}
	d.on()
	if got := w.live(); got != "one" {
		t.Errorf("got %q live, want one", got)
	}
	w.ends(deployment.ExitOK, "web: deployed two")
	w.stays("two")

	// Whoever has emptied the directory on purpose says so.
	run(t, "umount", "--lazy", d.mount)
	w.settings = "poll: 1s\n"
	w.start()
	eventually(t, "it is said", func() (bool, string) { s := w.status().Status; return strings.Contains(s, "current is gone"), s })
	if out, err := w.tryTowline("deploy", "web", "--force"); err != nil || !strings.Contains(out, "deployed") {
		t.Errorf("got %v\n%s", err, out)
	}
	w.stays("two")
}

// TestTwoFilesystems has a part of the app's directory lie on another filesystem, where no rename could be atomic.
func TestTwoFilesystems(t *testing.T) {
	for _, part := range []string{"releases", "incoming"} {
		w := newWorld(t)
		newDisk(t, filepath.Join(w.app, part), 80, 0)
		w.publish("one")
		w.ends(deployment.ExitError, part+" is on another filesystem, and renames between two are not atomic")
		if got := w.live(); got != "" {
			t.Errorf("got %q live, want nothing", got)
		}
	}
}
