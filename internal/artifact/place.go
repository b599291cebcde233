package artifact

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// site is the directory that a release is written into, as all who write there share it. Files are made by descriptors
// of their directories rather than through os.Root, which asks for every component of every name anew, and registers each
// file with the poller. What that leaves to see to: every directory is opened by its last component alone, without
// following a link, from the one above it.
type site struct {
	dir   *os.File
	fd    int
	times []unix.Timespec // of files; nil leaves the moment of writing
	exact bool            // what is made has the mode that was asked for

	wrote atomic.Int64 // files
}

// probe is a name that no entry can have.
const probe = "\x01towline"

func newSite(root *os.Root, mtime time.Time) (*site, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, diskError{fmt.Errorf("unpack: %w", err)}
	}
	s := &site{dir: dir, fd: int(dir.Fd())} // #nosec G115 -- a descriptor
	if !mtime.IsZero() {
		t := unix.NsecToTimespec(mtime.UnixNano())
		s.times = []unix.Timespec{t, t}
	}
	return s, nil
}

// learn finds out whether a umask, a setgid directory or an access list changes the mode of what is made here. It is an error
// if what it makes for that would stay.
func (s *site) learn() error {
	if unix.Mkdirat(s.fd, probe, 0o755) != nil {
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(s.fd, probe, &st, unix.AT_SYMLINK_NOFOLLOW)
	s.exact = err == nil && st.Mode&0o7777 == 0o755
	if err := unix.Unlinkat(s.fd, probe, unix.AT_REMOVEDIR); err != nil {
		return diskError{fmt.Errorf("unpack: %w", os.NewSyscallError("unlinkat", err))}
	}
	return nil
}

func (s *site) close() { s.dir.Close() }

// place keeps the directories on the way to the one used last open: entries come sorted, and most have the directory of
// the one before. It is one goroutine's.
type place struct {
	*site
	dir   string // used last; "" and "." are the top
	parts []string
	fds   []int
}

// at is the descriptor of the directory dir, valid until the next call.
func (p *place) at(dir string) (int, error) {
	if dir == p.dir {
		return p.last(), nil
	}
	p.dir = dir
	depth := 0
	if dir != "." {
		for c := range strings.SplitSeq(dir, "/") {
			if depth < len(p.parts) && p.parts[depth] == c {
				depth++
				continue
			}
			p.leave(depth)
			fd, err := openat(p.last(), c, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
			if err != nil {
				p.dir = strings.Join(p.parts, "/")
				return -1, err
			}
			p.parts, p.fds = append(p.parts, c), append(p.fds, fd)
			depth++
		}
	}
	p.leave(depth)
	return p.last(), nil
}

func (p *place) last() int {
	if len(p.fds) == 0 {
		return p.fd
	}
	return p.fds[len(p.fds)-1]
}

// leave closes the directories below the given depth.
func (p *place) leave(depth int) {
	for _, fd := range p.fds[depth:] {
		_ = unix.Close(fd)
	}
	p.parts, p.fds = p.parts[:depth], p.fds[:depth]
}

func (p *place) close() { p.leave(0); p.dir = "" }

// split is path.Split without the slash, "." for the top.
func split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

// mkdir makes a directory with its final mode.
func (p *place) mkdir(name string) error {
	dir, base := split(name)
	fd, err := p.at(dir)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(fd, base, 0o755); err != nil {
		return os.NewSyscallError("mkdirat", err)
	}
	if p.exact {
		return nil
	}
	return os.NewSyscallError("fchmodat", unix.Fchmodat(fd, base, 0o755, 0))
}

func (p *place) symlink(name, target string) error {
	dir, base := split(name)
	fd, err := p.at(dir)
	if err != nil {
		return err
	}
	return os.NewSyscallError("symlinkat", unix.Symlinkat(target, fd, base))
}

// remove removes a file or a link, or with unix.AT_REMOVEDIR an empty directory.
func (p *place) remove(name string, flags int) error {
	dir, base := split(name)
	fd, err := p.at(dir)
	if err != nil {
		return err
	}
	return os.NewSyscallError("unlinkat", unix.Unlinkat(fd, base, flags))
}

// create makes a file for writing. It must not exist.
func (p *place) create(name string, mode fs.FileMode) (fd int, err error) {
	dir, base := split(name)
	at, err := p.at(dir)
	if err != nil {
		return -1, err
	}
	return openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, uint32(mode.Perm()))
}

// done gives a file that was written its mode and times, and closes it. name must be in the directory used last.
func (p *place) done(fd int, name string, mode fs.FileMode) error {
	var err error
	if !p.exact {
		err = os.NewSyscallError("fchmod", unix.Fchmod(fd, uint32(mode.Perm())))
	}
	if closed := unix.Close(fd); err == nil && closed != nil {
		err = os.NewSyscallError("close", closed)
	}
	if err == nil {
		p.wrote.Add(1)
	}
	if err != nil || p.times == nil {
		return err
	}
	dir, base := split(name)
	at, err := p.at(dir)
	if err != nil {
		return err
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(at, base, p.times, unix.AT_SYMLINK_NOFOLLOW))
}

func openat(at int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(at, name, flags|unix.O_CLOEXEC, mode)
		if err == unix.EINTR {
			continue
		}
		return fd, os.NewSyscallError("openat", err)
	}
}

// write writes all of b.
func write(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return os.NewSyscallError("write", err)
		case n <= 0:
			return os.NewSyscallError("write", unix.EIO)
		default:
			b = b[n:]
		}
	}
	return nil
}
