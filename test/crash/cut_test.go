package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/test/crash/blocks"
	"github.com/towline/towline/test/parts"
)

var images = flag.Int("images", 1002, "disks that TestPowerCut takes up again, over all filesystems")

// filesystem is one that servers have.
type filesystem struct {
	name    string
	program string
	debian  string
	args    []string
	size    int64 // bytes; the least that it takes
}

var filesystems = []filesystem{
	{"ext4", "mkfs.ext4", "e2fsprogs", []string{"-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4"}, 112 << 20},
	{"xfs", "mkfs.xfs", "xfsprogs", []string{"-q", "-f"}, 320 << 20},
	{"btrfs", "mkfs.btrfs", "btrfs-progs", []string{"-q", "-f"}, 256 << 20},
}

// medium is a worker whose disk is a filesystem on blocks.
type medium struct {
	*worker
	filesystem
	blocks *blocks.Disk
}

func newMedium(t *testing.T, w *world, f filesystem) *medium {
	t.Helper()
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to mount a filesystem")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		parts.Skip(t, "FUSE: "+err.Error())
	}
	parts.Program(t, f.program, f.debian)
	d, err := blocks.New(t.TempDir(), f.size)
	must(t, err)
	m := &medium{worker: newWorker(t, w), filesystem: f, blocks: d}
	t.Cleanup(func() {
		_ = unix.Unmount(m.disk, 0) // what a failed test has left mounted
		must(t, d.Close())
	})
	return m
}

// make makes the filesystem anew.
func (m *medium) make(t testing.TB) {
	t.Helper()
	run(t, exec.Command(parts.Program(t, m.program, m.debian), append(m.args[:len(m.args):len(m.args)], m.blocks.Device())...))
}

func (m *medium) mount() error {
	if err := unix.Mount(m.blocks.Device(), m.disk, m.filesystem.name, unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", m.filesystem.name, err)
	}
	return nil
}

// unmount waits for what still has a file open for a moment: the health check, a process that has just been forked.
func (m *medium) unmount() error {
	for end := time.Now().Add(10 * time.Second); ; {
		err := unix.Unmount(m.disk, 0)
		if err != unix.EBUSY || time.Now().After(end) {
			return err
		}
		<-time.After(time.Millisecond)
	}
}

// recording is one scenario as the disk saw it.
type recording struct {
	scenario
	*blocks.History
	told int // how many writes and flushes there were when the agent ended
}

// record plays the scenario, under a command before the agent if there is one.
func (m *medium) record(t testing.TB, s scenario, before ...string) recording {
	t.Helper()
	m.make(t)
	must(t, m.mount())
	for _, b := range s.before {
		if code, out := m.once(t, b); code != 0 {
			t.Fatalf("%s: got exit code %d:\n%s", s.name, code, out)
		}
	}
	must(t, m.unmount())
	must(t, m.mount())
	m.blocks.Record()
	if code, out := m.once(t, s.now, before...); code != s.code {
		t.Fatalf("%s: got exit code %d, want %d:\n%s", s.name, code, s.code, out)
	}
	told := m.blocks.Ops()
	must(t, m.unmount())
	return recording{s, m.blocks.Recorded(), told}
}

// survives mounts an image, looks at it, lets the agent take it up again, and looks again.
func (m *medium) survives(t testing.TB, r recording, i blocks.Image) (err error) {
	if err := m.blocks.Show(i); err != nil {
		return err
	}
	if err := m.mount(); err != nil {
		return err
	}
	defer func() {
		if uerr := m.unmount(); err == nil && uerr != nil {
			err = fmt.Errorf("unmount: %w", uerr)
		}
	}()
	if err := m.torn(r.scenario); err != nil {
		return fmt.Errorf("torn: %w", err)
	}
	if i.At >= r.told {
		if err := m.told(r.scenario); err != nil {
			return fmt.Errorf("lost after it was told: %w", err)
		}
	}
	code, out := m.once(t, r.now)
	if code != r.code {
		return fmt.Errorf("unrecovered: got exit code %d, want %d:\n%s", code, r.code, out)
	}
	if err := m.settled(r.ends); err != nil {
		return fmt.Errorf("unrecovered: %w:\n%s", err, out)
	}
	return nil
}

// TestPowerCut cuts the power at every write of every scenario.
func TestPowerCut(t *testing.T) {
	w := newWorld(t)
	began := time.Now()
	for _, f := range filesystems {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // the disks of the others' scenarios are recorded meanwhile
			cut(t, w, f, *images/len(filesystems), began)
		})
	}
}

// cut makes so many images on one filesystem.
func cut(t *testing.T, w *world, f filesystem, n int, began time.Time) {
	m := newMedium(t, w, f)
	var recordings []recording
	ops, flushes := 0, 0
	for _, s := range w.scenarios() {
		r := m.record(t, s)
		ops, flushes = ops+r.Ops(), flushes+r.Flushes()
		recordings = append(recordings, r)
	}
	random := rand.New(rand.NewPCG(*seed, uint64(len(f.name))))
	several := n/max(1, ops) + 1
	type job struct {
		recording
		blocks.Image
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	var failed, done atomic.Int64
	kinds := sync.Map{}
	for i := range max(1, runtime.NumCPU()/2) {
		worker := m
		if i > 0 {
			worker = newMedium(t, w, f)
		}
		wg.Go(func() {
			defer drain(jobs)
			for j := range jobs {
				if err := worker.survives(t, j.recording, j.Image); err != nil {
					failed.Add(1)
					t.Errorf("%s on %s, cut after %d of %d, %s of the writes since the flush, %d lost (seed %d): %v",
						j.name, f.name, j.At, j.Ops(), j.Kind, j.Lost, *seed, err)
				}
				done.Add(1)
				k, _ := kinds.LoadOrStore(j.Kind, new(atomic.Int64))
				k.(*atomic.Int64).Add(1)
			}
		})
	}
	// Spread over all scenarios: of every image that there is, one in so many.
	total := 0
	for _, r := range recordings {
		r.Images(several, rand.New(rand.NewPCG(*seed, 1)), func(blocks.Image) bool { total++; return true })
	}
	left := n
	for _, r := range recordings {
		r.Images(several, random, func(i blocks.Image) bool {
			if random.IntN(total) < left {
				jobs <- job{r, i}
				left--
			}
			total--
			return failed.Load() < 10 && total > 0
		})
	}
	close(jobs)
	wg.Wait()
	var byKind []string
	kinds.Range(func(k, v any) bool {
		byKind = append(byKind, fmt.Sprintf("%s %d", k, v.(*atomic.Int64).Load()))
		return true
	})
	t.Logf("%s: %d writes, %d flushes, %d images, %d failed (%s), %.0f s after the start",
		f.name, ops-flushes, flushes, done.Load(), failed.Load(), strings.Join(byKind, ", "), time.Since(began).Seconds())
	if done.Load() < int64(min(n, total)) {
		t.Errorf("got %d images, want %d", done.Load(), n)
	}
}
