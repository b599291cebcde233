// Package blocks is a disk that remembers in which order it was written, and can be what any power cut would have left.
//
// The disk is one file of a FUSE filesystem under a loop device: every write and every flush of the filesystem on it
// arrives here, past all caches. What was recorded is a History. Of it a disk is rebuilt as it may be found after the power went
// at some moment: all that was written before the last flush is there; of the writes after it any may be missing, in any
// order, and the last may be torn between two pages.
//
// Nothing of a History is changed once it is taken; a Disk is set to an image of it, and what is then written to it is forgotten
// by the next image.
package blocks

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// pageSize is what a disk writes whole or not at all, in bytes.
const pageSize = 4096

// pages are the pages of a disk by their number; an absent one is zeros. A page is replaced, never changed.
type pages map[int64]*[pageSize]byte

// op is a write, or a flush where data is nil.
type op struct {
	off  int64
	data []byte
}

// Disk is a disk of a fixed size. Its methods may be called at any time but Record and Show only while nothing is mounted
// from it.
type Disk struct {
	size   int64
	dir    string // the FUSE filesystem
	server *fuse.Server
	loop   string // the loop device

	mu        sync.Mutex
	below     pages // not written to
	pages     pages // written over it
	recording bool
	log       []op
}

// New mounts the filesystem at dir and attaches a loop device to the disk in it. size is in bytes.
func New(dir string, size int64) (*Disk, error) {
	d := &Disk{size: size, dir: dir, below: pages{}, pages: pages{}}
	server, err := fs.Mount(dir, &root{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: "towline-blocks", Name: "blocks", DirectMount: true, MaxWrite: 512 << 10, DisableXAttrs: true,
	}})
	if err != nil {
		return nil, fmt.Errorf("mount the disk's file: %w", err)
	}
	d.server = server
	if d.loop, err = attach(d.Path()); err != nil {
		_ = server.Unmount()
		return nil, err
	}
	return d, nil
}

// Path is the file that the disk is.
func (d *Disk) Path() string { return filepath.Join(d.dir, "disk") }

// Device is the loop device to make a filesystem on and to mount.
func (d *Disk) Device() string { return d.loop }

// Close detaches the device and unmounts the file.
func (d *Disk) Close() error {
	if err := detach(d.loop); err != nil {
		return err
	}
	return d.server.Unmount()
}

// Record begins a history with what the disk holds now.
func (d *Disk) Record() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.below = maps.Clone(d.below) // what was below belongs to a history
	maps.Copy(d.below, d.pages)
	for n, page := range d.below {
		if *page == ([pageSize]byte{}) {
			delete(d.below, n)
		}
	}
	d.pages = pages{}
	d.recording, d.log = true, nil
}

// Ops is the number of writes and flushes recorded so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// Recorded ends the recording.
func (d *Disk) Recorded() *History {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording = false
	return &History{start: d.below, log: d.log}
}

// Show makes the disk an image.
func (d *Disk) Show(i Image) error {
	d.mu.Lock()
	d.below, d.pages = i.pages, pages{}
	d.mu.Unlock()
	// What the kernel has cached of the device belongs to the image before.
	f, err := os.OpenFile(d.loop, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("flush %s: %w", d.loop, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages = pages{} // nothing is mounted: whatever was flushed just now was of the image before
	return nil
}

func (d *Disk) read(dest []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := 0; n < len(dest); {
		page, at := (off+int64(n))/pageSize, (off+int64(n))%pageSize
		from := d.pages[page]
		if from == nil {
			from = d.below[page]
		}
		end := min(len(dest), n+int(pageSize-at))
		if from == nil {
			clear(dest[n:end])
		} else {
			copy(dest[n:end], from[at:])
		}
		n = end
	}
}

// put writes into pages that lie over others.
func put(above, below pages, data []byte, off int64) {
	for n := 0; n < len(data); {
		page, at := (off+int64(n))/pageSize, (off+int64(n))%pageSize
		fresh := new([pageSize]byte)
		if old := above[page]; old != nil {
			*fresh = *old
		} else if old := below[page]; old != nil {
			*fresh = *old
		}
		n += copy(fresh[at:], data[n:])
		above[page] = fresh
	}
}

func (d *Disk) write(data []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	put(d.pages, d.below, data, off)
	if d.recording {
		d.log = append(d.log, op{off, append([]byte{}, data...)})
	}
}

func (d *Disk) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recording && (len(d.log) == 0 || d.log[len(d.log)-1].data != nil) {
		d.log = append(d.log, op{})
	}
}

// root is the directory with the one file.
type root struct {
	fs.Inode
	disk *Disk
}

var _ fs.NodeOnAdder = (*root)(nil)

func (r *root) OnAdd(ctx context.Context) {
	r.AddChild("disk", r.NewPersistentInode(ctx, &file{disk: r.disk}, fs.StableAttr{Mode: fuse.S_IFREG, Ino: 2}), true)
}

// file is the file that is the disk. The kernel caches nothing of it.
type file struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeSetattrer = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
	_ fs.NodeWriter    = (*file)(nil)
	_ fs.NodeFsyncer   = (*file)(nil)
)

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blocks = fuse.S_IFREG|0o600, uint64(f.disk.size), uint64(f.disk.size/512) // #nosec G115 -- sizes
	return 0
}

func (f *file) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.Getattr(ctx, h, out)
}

func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	dest = dest[:max(0, min(int64(len(dest)), f.disk.size-off))]
	f.disk.read(dest, off)
	return fuse.ReadResultData(dest), 0
}

func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	f.disk.write(data, off)
	return uint32(len(data)), 0 // #nosec G115 -- at most MaxWrite
}

func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.flush()
	return 0
}
