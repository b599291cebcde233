package appdir

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// maxDepth bounds how deep a walk goes, since it holds a descriptor for each level. Archives are refused long before.
const maxDepth = 200

// Fingerprint reads the metadata of a release, no contents, and sums it up: of each entry path, type, mode, size, mtime
// and ctime. As long as it stays the same nobody has touched the tree; that it has changed may mean as little as a touch.
// The times of the release directory itself do not count, since giving it its name changes them.
func (d *Dir) Fingerprint(name string) (string, error) {
	if !releaseName.MatchString(name) {
		return "", fmt.Errorf("fingerprint release %q: not the name of one", name)
	}
	sum := sha256.New()
	err := walk(d.ReleasePath(name), func(p string, st *unix.Stat_t) error {
		imprint(sum, p, st)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("fingerprint release %s: %w", name, err)
	}
	return printed(sum), nil
}

// inspect walks a stage that is complete and gives its fingerprint. It is an error if the stage holds what an unpacker
// cannot have put there: anything but directories, files and symbolic links, a second name of a file, a mount, special
// bits, or what others than the owner may write.
func inspect(stage string) (string, error) {
	sum := sha256.New()
	var dirs, files uint64 // the device of each kind: on an overlay they may differ
	first := map[bool]bool{}
	err := walk(stage, func(p string, st *unix.Stat_t) error {
		kind, isDir, device := st.Mode&unix.S_IFMT, st.Mode&unix.S_IFMT == unix.S_IFDIR, &files
		if isDir {
			device = &dirs
		}
		if !first[isDir] {
			first[isDir], *device = true, st.Dev
		}
		switch {
		case !isDir && kind != unix.S_IFREG && kind != unix.S_IFLNK:
			return fmt.Errorf("%q is a %s", p, kindText(kind))
		case !isDir && st.Nlink != 1:
			return fmt.Errorf("%q has %d names", p, st.Nlink)
		case st.Dev != *device:
			return fmt.Errorf("%q is on another filesystem", p)
		case kind != unix.S_IFLNK && st.Mode&0o7022 != 0:
			return fmt.Errorf("%q has mode %04o", p, st.Mode&0o7777)
		}
		imprint(sum, p, st)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("the stage is not as it was unpacked: %w", err)
	}
	return printed(sum), nil
}

func kindText(kind uint32) string {
	switch kind {
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// imprint adds an entry to a fingerprint.
func imprint(sum hash.Hash, p string, st *unix.Stat_t) {
	var b [512]byte
	line := append(b[:0], p...)
	line = append(line, 0)
	line = binary.AppendUvarint(line, uint64(st.Mode))
	if p != "." {
		line = binary.AppendVarint(line, st.Size)
		for _, t := range []unix.Timespec{st.Mtim, st.Ctim} {
			line = binary.AppendVarint(line, int64(t.Sec))
			line = binary.AppendVarint(line, int64(t.Nsec))
		}
	}
	sum.Write(line)
}

func printed(sum hash.Hash) string { return "m1:" + hex.EncodeToString(sum.Sum(nil)) }

// walk calls see with every entry of the tree below dir, "." for dir itself, sorted by name within each directory. It
// goes by descriptors and follows no link, so that it stays in the tree whoever changes it meanwhile.
func walk(dir string, see func(p string, st *unix.Stat_t) error) error {
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return walkDir(fd, ".", 0, see)
}

// walkDir is walk for a directory that is open; it closes it. The directory's line comes first.
func walkDir(fd int, p string, depth int, see func(string, *unix.Stat_t) error) error {
	dir := os.NewFile(uintptr(fd), p)
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	if err := see(p, &st); err != nil {
		return err
	}
	if depth == maxDepth {
		return fmt.Errorf("%q: more than %d directories deep", p, maxDepth)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		below := path.Join(p, name)
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "stat", Path: below, Err: err}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err := see(below, &st); err != nil {
				return err
			}
			continue
		}
		sub, err := openDir(fd, name)
		if err != nil {
			return &fs.PathError{Op: "open", Path: below, Err: err}
		}
		if err := walkDir(sub, below, depth+1, see); err != nil {
			return err
		}
	}
	return nil
}

func openDir(at int, name string) (int, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
