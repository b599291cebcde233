package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/towline/towline/internal/release"
)

// Listing says what a tree holds: one line for each file, directory and symlink, "<path> <type> <mode> <sum>", sorted.
// The path is quoted as by strconv.Quote; the type is f, d or l, and ? for what no archive brings; the mode four octal
// digits, 0000 for l; the sum the hex SHA-256 of a file's content or a symlink's target, "-" for d, for ? and for what
// the reader may not read. Owners and times do not count.
type Listing []string

// Digest is "t1:" and the hex SHA-256 of the lines, each with the newline that ends it.
func (l Listing) Digest() string {
	sum := sha256.New()
	_, _ = l.WriteTo(sum)
	return "t1:" + hex.EncodeToString(sum.Sum(nil))
}

// WriteTo writes the lines, each with the newline that ends it.
func (l Listing) WriteTo(w io.Writer) (n int64, err error) {
	for _, line := range l {
		for _, s := range []string{line, "\n"} {
			k, err := io.WriteString(w, s)
			n += int64(k)
			if err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// DigestTree reads the whole tree below root and gives the digest of its Listing. Paths in skip, what is below them, and
// directories above them do not count, since sharing puts them there. So the digest equals Tree.Digest as long as
// nobody has touched the tree. Anything that no archive brings (a device, a set-user-ID bit) is an error that wraps
// release.ErrVerify.
func DigestTree(root *os.Root, skip []string) (string, error) {
	listing, err := list(context.Background(), root, skip, func(p string, mode fs.FileMode) error {
		return fmt.Errorf("%w: %q is %s, which no archive brings", release.ErrVerify, p, mode)
	})
	if err != nil {
		return "", fmt.Errorf("digest tree: %w", err)
	}
	return listing.Digest(), nil
}

// ListTree reads the whole tree below root, less skip as for DigestTree. What no archive brings gets a line too, one that
// no unpacked tree has. An error says that the disk could not be read or that ctx has ended, nothing of the tree.
func ListTree(ctx context.Context, root *os.Root, skip []string) (Listing, error) {
	listing, err := list(ctx, root, skip, func(string, fs.FileMode) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("list tree: %w", err)
	}
	return listing, nil
}

// list walks the tree. odd is asked about each path that no archive brings.
func list(ctx context.Context, root *os.Root, skip []string, odd func(p string, mode fs.FileMode) error) (Listing, error) {
	skip = cleanSkips(skip)
	r := treeReader{ctx: ctx, dirs: dirs{root: root}, buf: make([]byte, 128<<10)}
	defer r.dirs.close()
	var lines Listing
	err := fs.WalkDir(root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && p != "." && gone(err):
			return nil // a directory that may not be read has had its line; what was removed meanwhile needs none
		case err != nil:
			return err
		}
		if slices.ContainsFunc(skip, func(s string) bool { return within(p, s) }) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if p == "." {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		n := &node{name: p, odd: !bare(p), mode: info.Mode(), unread: true}
		switch info.Mode().Type() {
		case 0:
			n.sum, n.unread, err = r.file(p, info)
		case fs.ModeDir:
		case fs.ModeSymlink:
			var target string
			if target, err = root.Readlink(p); err == nil {
				n.sum, n.unread = sha256.Sum256([]byte(target)), false
			}
		}
		if err != nil && !gone(err) {
			return err
		}
		if kind := info.Mode() &^ fs.ModePerm; kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink {
			if err := odd(p, info.Mode()); err != nil {
				return err
			}
		}
		if line := appendLine(nil, n, skip); line != nil {
			lines = append(lines, string(line[:len(line)-1]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(lines)
	return lines, nil
}

// gone reports errors that say something of the tree rather than of the disk: what was there a moment ago is not, or is
// something else, or may not be read. The agent may read all that it has unpacked.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) ||
		errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENXIO)
}

// treeReader reads the files of a tree.
type treeReader struct {
	ctx  context.Context
	dirs dirs
	buf  []byte
}

// file is the SHA-256 of the file p. It is unread if something else has taken its place since info was taken.
func (r *treeReader) file(p string, info fs.FileInfo) (sum [32]byte, unread bool, err error) {
	dir, err := r.dirs.at(path.Dir(p))
	if err != nil {
		return sum, true, err
	}
	// A pipe that was put there meanwhile must not hold the reader up.
	f, err := dir.OpenFile(path.Base(p), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return sum, true, err
	}
	defer f.Close()
	if opened, err := f.Stat(); err != nil || !os.SameFile(opened, info) {
		return sum, true, err
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, &patient{r.ctx, f}, r.buf); err != nil {
		return sum, true, err
	}
	h.Sum(sum[:0])
	return sum, false, nil
}

// patient is a reader that ends with its context.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// octal is the mode as chmod takes it.
func octal(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for _, special := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if mode&special.mode != 0 {
			bits |= special.bit
		}
	}
	return bits
}
