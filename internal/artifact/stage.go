package artifact

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/text/unicode/norm"

	"github.com/towline/towline/internal/release"
)

// diskError is an error of the directory that is written to, not of the archive.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

// maxCaseWarnings bounds the warnings about names that differ only in case.
const maxCaseWarnings = 10

// stage is the directory that an archive is unpacked into, and what is known about it. Nothing on the disk is asked
// while files are written: a name that the archive has not made as a directory cannot be passed through.
type stage struct {
	root *os.Root
	dirs dirs
	o    UnpackOptions

	nodes  map[string]node
	links  []string // symlinks, in the archive's order, made when all else is written
	folded map[uint64]struct{}
	seed   maphash.Seed

	skips   []string
	skipped map[string]bool

	maxBytes, maxEntries int64
	bytes, entries       int64 // counted
	names                int64 // bytes of all names and targets
	wroteBytes           int64
	dots, caseWarnings   int
	buf                  []byte
	sum                  hash.Hash
}

// node is what stands at a path: a directory, a file, a symlink (made at the end).
type node struct {
	mode   fs.FileMode
	listed bool // has an entry of its own; a directory may precede it
	size   int64
	sum    [32]byte // SHA-256 of a file's content or a symlink's target
	unread bool     // there is no sum
	link   string
}

func newStage(root *os.Root, o UnpackOptions) (*stage, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, diskError{fmt.Errorf("unpack: %w", err)}
	}
	names, err := d.Readdirnames(1)
	d.Close()
	if len(names) > 0 || err != io.EOF {
		return nil, diskError{fmt.Errorf("unpack: %s is not an empty directory", root.Name())}
	}
	s := &stage{
		root: root, dirs: dirs{root: root}, o: o, nodes: map[string]node{}, folded: map[uint64]struct{}{},
		seed: maphash.MakeSeed(), skipped: map[string]bool{}, buf: make([]byte, 128<<10), sum: sha256.New(),
		skips: cleanSkips(o.Skip),
	}
	s.maxBytes, s.maxEntries = o.limits()
	if o.Want.SHA256 != "" && s.maxBytes < o.Want.UnpackedSize {
		return nil, diskError{fmt.Errorf("unpack: the artifact takes %d bytes, at most %d may be used", o.Want.UnpackedSize, o.MaxBytes)}
	}
	return s, nil
}

func cleanSkips(skip []string) []string {
	var out []string
	for _, p := range skip {
		if p = path.Clean(p); p != "." {
			out = append(out, p)
		}
	}
	return out
}

func (s *stage) warn(text string) {
	if s.o.Warn != nil {
		s.o.Warn(text)
	}
}

// claim takes name for n, with the directories above it.
func (s *stage) claim(name string, n node) error {
	if have, ok := s.nodes[name]; ok {
		if !have.mode.IsDir() || !n.mode.IsDir() || have.listed {
			return refuse(name, "the name appears twice")
		}
	} else if err := s.parents(name); err != nil {
		return err
	}
	n.listed = true
	return s.put(name, n)
}

// parents makes the directories above name that no entry has made.
func (s *stage) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	if have, ok := s.nodes[dir]; ok {
		if !have.mode.IsDir() {
			return refuse(name, "the name passes through %q, which is not a directory", dir)
		}
		return nil
	}
	if err := s.parents(dir); err != nil {
		return err
	}
	if err := s.put(dir, node{mode: fs.ModeDir | 0o755}); err != nil {
		return err
	}
	return s.makeDir(dir)
}

// put notes what stands at name. Directories that no entry lists count too: one name can ask for a whole chain of them.
func (s *stage) put(name string, n node) error {
	s.nodes[name] = n
	if int64(len(s.nodes)) > s.maxEntries {
		return refuse(name, "more than the %d files, directories and symlinks that there may be", s.maxEntries)
	}
	key := maphash.String(s.seed, strings.ToLower(norm.NFC.String(name)))
	if _, met := s.folded[key]; met && !n.mode.IsDir() && s.caseWarnings < maxCaseWarnings {
		s.caseWarnings++
		s.warn(fmt.Sprintf("%s differs from another name only in case or in how its letters are composed", name))
	}
	s.folded[key] = struct{}{}
	return nil
}

func (s *stage) mkdir(name string) error {
	_, implied := s.nodes[name]
	if err := s.claim(name, node{mode: fs.ModeDir | 0o755}); err != nil || implied {
		return err
	}
	return s.makeDir(name)
}

// makeDir makes a directory with its final mode, which neither the umask nor a setgid parent may change.
func (s *stage) makeDir(name string) error {
	d, err := s.dirs.at(path.Dir(name))
	if err == nil {
		err = d.Mkdir(path.Base(name), 0o700)
	}
	if err == nil {
		err = d.Chmod(path.Base(name), 0o755)
	}
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	return nil
}

// file writes a regular file of size bytes. The file must not exist and no link is followed (os.Root opens with
// O_NOFOLLOW), and it has no rights until it is whole.
func (s *stage) file(name string, size int64, exec bool, content io.Reader) error {
	n := node{mode: 0o644, size: size}
	if exec {
		n.mode = 0o755
	}
	if err := s.aboveShared(name); err != nil {
		return err
	}
	if err := s.claim(name, n); err != nil {
		return err
	}
	d, err := s.dirs.at(path.Dir(name))
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	base := path.Base(name)
	f, err := d.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	defer f.Close()
	s.sum.Reset()
	for left := size; left > 0; {
		buf := s.buf[:min(left, int64(len(s.buf)))]
		if _, err := io.ReadFull(content, buf); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
		s.sum.Write(buf)
		if _, err := f.Write(buf); err != nil {
			return diskError{fmt.Errorf("unpack %q: %w", name, err)}
		}
		left -= int64(len(buf))
	}
	s.sum.Sum(n.sum[:0])
	n.listed = true
	s.nodes[name] = n
	s.wroteBytes += size
	err = f.Chmod(n.mode)
	if err == nil {
		err = f.Close()
	}
	if err == nil && !s.o.Mtime.IsZero() {
		err = d.Chtimes(base, s.o.Mtime, s.o.Mtime)
	}
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	return nil
}

// copy makes a hard link into a file of its own: what shares an inode shares every later change.
func (s *stage) copy(name, of string) error {
	n, ok := s.nodes[of]
	if !ok || !n.mode.IsRegular() {
		return refuse(name, "the hard link's target %q is not a regular file earlier in the archive", of)
	}
	src, err := s.root.Open(of)
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	defer src.Close()
	err = s.file(name, n.size, n.mode&0o100 != 0, src)
	if err != nil && !errors.Is(err, release.ErrVerify) {
		err = diskError{err}
	}
	return err
}

// link takes a symlink's name and keeps it for the end.
func (s *stage) link(name, target string) error {
	if err := checkTarget(name, target); err != nil {
		return refuse(name, "%w", err)
	}
	if err := s.aboveShared(name); err != nil {
		return err
	}
	s.links = append(s.links, name)
	return s.claim(name, node{mode: fs.ModeSymlink, link: target, sum: sha256.Sum256([]byte(target))})
}

// trouble reports whether it is the disk that says no, and not a tree without the name: a link that leads nowhere, in a
// circle, through a file, or out.
func trouble(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && errno != syscall.ENOENT && errno != syscall.ELOOP && errno != syscall.ENOTDIR && errno != syscall.ENAMETOOLONG
}

// finish makes the symlinks, now that nothing can be written through one, and asks the tree where each leads: to
// something inside, or to a shared path, which is put there later.
func (s *stage) finish() (Tree, error) {
	for _, name := range s.links {
		d, err := s.dirs.at(path.Dir(name))
		if err == nil {
			err = d.Symlink(s.nodes[name].link, path.Base(name))
		}
		if err != nil {
			return Tree{}, diskError{fmt.Errorf("unpack %q: %w", name, err)}
		}
	}
	for _, name := range s.links {
		target := s.nodes[name].link
		if _, ok := s.shared(path.Join(path.Dir(name), target)); ok {
			continue
		}
		switch _, err := s.root.Stat(name); {
		case err == nil:
		case trouble(err):
			return Tree{}, diskError{fmt.Errorf("unpack %q: %w", name, err)}
		default:
			return Tree{}, refuse(name, "the symlink's target %q is not in the tree", target)
		}
	}
	w := s.o.Want
	if w.SHA256 != "" && (s.entries != w.Entries || s.bytes != w.UnpackedSize) {
		return Tree{}, fmt.Errorf("%w: artifact: %d entries with %d bytes, want %d with %d",
			release.ErrVerify, s.entries, s.bytes, w.Entries, w.UnpackedSize)
	}
	all := s.contents()
	return Tree{Entries: s.wroteEntries(), Bytes: s.wroteBytes, Digest: all.Digest(), Listing: all}, nil
}
