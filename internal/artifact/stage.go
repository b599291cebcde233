package artifact

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

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
	site *site
	hand *writer // of the goroutine that parses
	o    UnpackOptions

	// write makes a file; content is for it alone to read. leave is told of a file that is left out.
	write func(n *node, content io.Reader) error
	leave func(n *node, content io.Reader) error
	flush func() error // waits for all that write was told; nil if it does not defer anything

	nodes  map[string]*node
	order  []*node // the same, in the archive's order
	links  []*node // symlinks, in the archive's order, made when all else is written
	folded map[uint64]struct{}
	seed   maphash.Seed

	old     map[string]*node // what stands on the disk beside nodes; see forward.go
	forward bool             // it is a release that is brought forward
	reusing bool             // what is added stands on the disk
	frame   int              // where what is added comes from
	keep    bool             // remember what is added in brought
	brought []*node

	skips   []string
	skipped map[string]bool

	maxBytes, maxEntries int64
	bytes, entries       int64 // counted
	names                int64 // bytes of all names and targets
	listed, wroteBytes   int64 // in nodes
	files                int64 // likewise
	dots, caseWarnings   int
}

// node is what stands at a path: a directory, a file, a symlink (made at the end).
type node struct {
	name   string
	odd    bool // the name has characters that are quoted
	mode   fs.FileMode
	listed bool // has an entry of its own; a directory may precede it
	unread bool // there is no sum
	left   bool // it is left out, since the path is shared
	hard   bool // it came as a hard link
	stands bool // it was there before
	frame  int
	size   int64
	sum    [32]byte // SHA-256 of a file's content or a symlink's target
	link   string
}

// empty refuses a directory with something in it.
func empty(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return diskError{fmt.Errorf("unpack: %w", err)}
	}
	names, err := d.Readdirnames(1)
	d.Close()
	if len(names) > 0 || err != io.EOF {
		return diskError{fmt.Errorf("unpack: %s is not an empty directory", root.Name())}
	}
	return nil
}

func newStage(root *os.Root, o UnpackOptions, expect int64) (*stage, error) {
	s := &stage{
		root: root, o: o, folded: map[uint64]struct{}{},
		seed: maphash.MakeSeed(), skipped: map[string]bool{}, skips: cleanSkips(o.Skip),
		leave: func(*node, io.Reader) error { return nil },
	}
	s.maxBytes, s.maxEntries = o.limits()
	if o.Want.SHA256 != "" && s.maxBytes < o.Want.UnpackedSize {
		return nil, diskError{fmt.Errorf("unpack: the artifact takes %d bytes, at most %d may be used", o.Want.UnpackedSize, o.MaxBytes)}
	}
	site, err := newSite(root, o.Mtime)
	if err != nil {
		return nil, err
	}
	expect = min(expect, s.maxEntries)
	s.nodes, s.order = make(map[string]*node, expect), make([]*node, 0, expect)
	s.site, s.hand = site, newWriter(site)
	return s, nil
}

func (s *stage) close() {
	s.hand.close()
	s.site.close()
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

// claim takes n's name for it, with the directories above it.
func (s *stage) claim(n *node) error {
	if have, ok := s.nodes[n.name]; ok {
		if !have.mode.IsDir() || !n.mode.IsDir() || have.listed {
			return refuse(n.name, "the name appears twice")
		}
	} else if err := s.parents(n.name); err != nil {
		return err
	}
	n.listed, n.frame, n.stands = true, s.frame, s.reusing
	s.listed++
	return s.put(n)
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
	if err := s.put(&node{name: dir, mode: dirMode, frame: s.frame}); err != nil {
		return err
	}
	return s.makeDir(dir)
}

// put notes what stands at a name. Directories that no entry lists count too: one name can ask for a whole chain of them.
func (s *stage) put(n *node) error {
	if have := s.nodes[n.name]; have != nil { // a directory that no entry had listed
		have.listed = true
		return nil
	}
	n.odd = !bare(n.name)
	s.nodes[n.name], s.order = n, append(s.order, n)
	if int64(len(s.nodes)) > s.maxEntries {
		return refuse(n.name, "more than the %d files, directories and symlinks that there may be", s.maxEntries)
	}
	key := maphash.String(s.seed, strings.ToLower(norm.NFC.String(n.name)))
	if _, met := s.folded[key]; met && !n.mode.IsDir() && s.caseWarnings < maxCaseWarnings {
		s.caseWarnings++
		s.warn(fmt.Sprintf("%s differs from another name only in case or in how its letters are composed", n.name))
	}
	s.folded[key] = struct{}{}
	return nil
}

func (s *stage) mkdir(n *node) error {
	_, implied := s.nodes[n.name]
	if err := s.claim(n); err != nil || implied {
		return err
	}
	return s.makeDir(n.name)
}

// makeDir makes a directory, unless it stands there.
func (s *stage) makeDir(name string) error {
	if s.reusing {
		return nil
	}
	if old := s.old[name]; old != nil {
		if old.mode.IsDir() {
			return nil
		}
		if err := s.clear(old); err != nil {
			return err
		}
	}
	err := s.hand.mkdir(name)
	if s.forward && errors.Is(err, fs.ErrExist) && s.aboveShared(name) != nil {
		err = nil // sharing has put it there
	}
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	return nil
}

// file takes a regular file's name and has it written. The file must not exist and no link is followed.
func (s *stage) file(n *node, content io.Reader) error {
	if err := s.aboveShared(n.name); err != nil {
		return err
	}
	if err := s.claim(n); err != nil {
		return err
	}
	s.wroteBytes += n.size
	s.files++
	if s.reusing {
		return nil
	}
	if old := s.old[n.name]; old != nil && old.mode.IsDir() {
		if err := s.clear(old); err != nil {
			return err
		}
	}
	return s.write(n, content)
}

// copy makes a hard link into a file of its own: what shares an inode shares every later change.
func (s *stage) copy(name, link string) error {
	of := s.nodes[strings.TrimPrefix(link, "./")]
	n := &node{name: name, hard: true, mode: 0o644}
	known := of != nil && of.mode.IsRegular() && of.frame <= s.frame
	if known {
		n.mode, n.size = of.mode, of.size
	}
	s.names += int64(len(link))
	if _, shared := s.shared(name); !known || shared {
		if shared {
			return s.add(n, nil)
		}
		return errors.Join(s.count(n), refuse(name, "the hard link's target %q is not a regular file earlier in the archive", link))
	}
	if s.flush != nil {
		if err := s.flush(); err != nil {
			return err
		}
	}
	src, err := s.root.Open(of.name)
	if err != nil {
		return diskError{fmt.Errorf("unpack %q: %w", name, err)}
	}
	defer src.Close()
	err = s.add(n, src)
	if err == nil && n.sum != of.sum {
		return diskError{fmt.Errorf("unpack %q: %w", of.name, ErrBase)}
	}
	if err != nil && !errors.Is(err, release.ErrVerify) {
		err = diskError{err}
	}
	return err
}

// link takes a symlink's name and keeps it for the end.
func (s *stage) link(n *node) error {
	if err := checkTarget(n.name, n.link); err != nil {
		return refuse(n.name, "%w", err)
	}
	if err := s.aboveShared(n.name); err != nil {
		return err
	}
	n.sum = sha256.Sum256([]byte(n.link))
	s.links = append(s.links, n)
	return s.claim(n)
}

// finish makes the symlinks, now that nothing can be written through one, and follows each: to something inside, or to a
// shared path, which is put there later.
func (s *stage) finish() (Tree, error) {
	if err := s.clearGone(); err != nil {
		return Tree{}, err
	}
	for _, n := range s.links {
		if n.stands {
			continue
		}
		if old := s.old[n.name]; old != nil {
			if old.mode == n.mode && old.link == n.link {
				continue
			}
			if err := s.clear(old); err != nil {
				return Tree{}, err
			}
		}
		if err := s.hand.symlink(n.name, n.link); err != nil {
			return Tree{}, diskError{fmt.Errorf("unpack %q: %w", n.name, err)}
		}
	}
	at := func(p string) (fs.FileMode, string, bool) {
		if n := s.nodes[p]; n != nil {
			return n.mode, n.link, true
		}
		return 0, "", false
	}
	for _, n := range s.links {
		if _, ok := s.shared(path.Join(path.Dir(n.name), n.link)); ok {
			continue
		}
		if err := follow(n.name, n.link, at); err != nil {
			return Tree{}, refuse(n.name, "the symlink's target %q is not in the tree", n.link)
		}
	}
	w := s.o.Want
	if w.SHA256 != "" && (s.entries != w.Entries || s.bytes != w.UnpackedSize) {
		return Tree{}, fmt.Errorf("%w: artifact: %d entries with %d bytes, want %d with %d",
			release.ErrVerify, s.entries, s.bytes, w.Entries, w.UnpackedSize)
	}
	all := s.contents()
	return Tree{Entries: s.listed, Bytes: s.wroteBytes, Digest: all.Digest(), Listing: all}, nil
}
