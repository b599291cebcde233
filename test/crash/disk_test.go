package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/towline/towline/test/parts"
)

// snapshots gives a worker a disk that can be set back to an earlier time as it was, times and all: a subvolume of a btrfs in
// memory. The app's trees are remembered with their change times, which no copy would keep.
type snapshots struct {
	mount string
}

// newSnapshots makes the filesystem and mounts it until the test ends.
func newSnapshots(t *testing.T) *snapshots {
	t.Helper()
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to mount a filesystem")
	}
	mkfs := parts.Program(t, "mkfs.btrfs", "btrfs-progs")
	s := &snapshots{mount: t.TempDir()}
	image := filepath.Join(memory(t), "snapshots.img")
	f, err := os.Create(image)
	must(t, err)
	must(t, f.Truncate(1<<30))
	must(t, f.Close())
	run(t, exec.Command(mkfs, "--quiet", image))
	run(t, exec.Command("mount", "-o", "loop,noatime", image, s.mount))
	t.Cleanup(func() { run(t, exec.Command("umount", s.mount)) })
	run(t, exec.Command("btrfs", "--quiet", "subvolume", "create", s.disk()))
	return s
}

// memory is a directory in memory, removed when the test ends.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "towline-crash-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// disk is the directory that is set back.
func (s *snapshots) disk() string { return filepath.Join(s.mount, "disk") }

// keep remembers the disk under a name.
func (s *snapshots) keep(t testing.TB, name string) {
	t.Helper()
	run(t, exec.Command("btrfs", "--quiet", "subvolume", "snapshot", s.disk(), filepath.Join(s.mount, name)))
}

// back sets the disk back to what it was then.
func (s *snapshots) back(t testing.TB, name string) {
	t.Helper()
	run(t, exec.Command("btrfs", "--quiet", "subvolume", "delete", s.disk()))
	run(t, exec.Command("btrfs", "--quiet", "subvolume", "snapshot", filepath.Join(s.mount, name), s.disk()))
}
