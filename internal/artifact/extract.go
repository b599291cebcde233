package artifact

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/towline/towline/internal/release"
)

// maxTail bounds the zero bytes after the end of the archive: tar pads to its blocking factor, at most 1 MiB.
const maxTail = 1 << 20

// paxAllowed are the PAX records that an entry may have. The packer writes the first three. The rest say what is
// ignored in the header too (owner, times), and GNU tar and others write them unasked: accepting them changes nothing.
// All else (extended attributes, ACLs, sparse maps) would change what the entry is, and is refused.
var paxAllowed = map[string]bool{
	"path": true, "linkpath": true, "size": true,
	"mtime": true, "atime": true, "ctime": true, "uid": true, "gid": true, "uname": true, "gname": true,
}

// maxOctalSize is the largest size that a ustar header can say, 11 octal digits.
const maxOctalSize = 1<<33 - 1

// refuse is the refusal of an entry by a rule.
func refuse(name, format string, args ...any) error {
	if len(name) > 200 {
		name = name[:200] + "…"
	}
	return fmt.Errorf("%w: archive entry %q: "+format, append([]any{release.ErrVerify, name}, args...)...)
}

// extract reads a tar stream into root under the rules of this file and stage.go.
func extract(ctx context.Context, root *os.Root, in *tarStream, o UnpackOptions) (Tree, error) {
	if err := empty(root); err != nil {
		return Tree{}, err
	}
	s, err := newStage(root, o, 0)
	if err != nil {
		return Tree{}, err
	}
	defer s.close()
	if err := s.site.learn(); err != nil {
		return Tree{}, err
	}
	s.write = s.hand.stream
	ended, err := s.parse(ctx, in, tar.NewReader(in))
	if err != nil {
		return Tree{}, err
	}
	if !ended {
		return Tree{}, errCutOff
	}
	if err := in.tail(); err != nil {
		return Tree{}, err
	}
	return s.finish()
}

var errCutOff = fmt.Errorf("%w: artifact: the tar archive is cut off: no two zero blocks at its end", release.ErrVerify)

// errSliced is what write says of a file that goes on behind the stream that is parsed.
var errSliced = errors.New("the file is cut into slices")

// parse reads the entries of a stream, up to its end or that of the archive, and reports whether it was that.
func (s *stage) parse(ctx context.Context, in *tarStream, tr *tar.Reader) (ended bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, diskError{fmt.Errorf("unpack: %w", err)}
		}
		h, err := tr.Next()
		if err == io.EOF {
			return !in.eof, in.headers.end()
		}
		if err != nil {
			return false, fmt.Errorf("after %d entries: %w", s.entries, err)
		}
		if err := in.headers.next(in.n, h.Size); err != nil {
			return false, refuse(h.Name, "%w", err)
		}
		if err := s.entry(h, tr); err != nil {
			return false, err
		}
	}
}

// entry checks one entry and writes it, or remembers it for the end.
func (s *stage) entry(h *tar.Header, content io.Reader) error {
	name, err := checkHeader(h)
	if err != nil {
		return err
	}
	if name == "." { // the "./" that tar writes when it is told to pack "."
		if h.Typeflag != tar.TypeDir {
			return refuse(h.Name, "only a directory may have this name")
		}
		return s.dot()
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return s.add(&node{name: name, mode: dirMode}, nil)
	case tar.TypeSymlink:
		return s.add(&node{name: name, mode: fs.ModeSymlink, link: h.Linkname}, nil)
	case tar.TypeLink:
		return s.copy(name, h.Linkname)
	}
	n := &node{name: name, mode: 0o644, size: h.Size}
	if h.Mode&0o100 != 0 {
		n.mode = 0o755
	}
	return s.add(n, content)
}

// dot is the entry of the tree's own directory.
func (s *stage) dot() error {
	if s.dots++; s.dots > 1 {
		return refuse("./", "the name appears twice")
	}
	return nil
}

// add applies the rules that depend on the entries before, and takes the entry.
func (s *stage) add(n *node, content io.Reader) error {
	if err := s.count(n); err != nil {
		return err
	}
	if s.keep {
		s.brought = append(s.brought, n)
	}
	if shared, ok := s.shared(n.name); ok {
		n.left = true
		s.skip(shared)
		if content != nil {
			return s.leave(n, content)
		}
		return nil
	}
	switch n.mode.Type() {
	case fs.ModeDir:
		return s.mkdir(n)
	case fs.ModeSymlink:
		return s.link(n)
	default:
		return s.file(n, content)
	}
}

// checkHeader returns the entry's clean name, or the rule that its header breaks.
func checkHeader(h *tar.Header) (name string, err error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	case tar.TypeXGlobalHeader:
		return "", refuse(h.Name, "global PAX headers are not accepted")
	default:
		return "", refuse(h.Name, "entries of type %q are not accepted, only files, directories, symlinks and hard links", h.Typeflag)
	}
	for key := range h.PAXRecords {
		if !paxAllowed[key] {
			return "", refuse(h.Name, "the PAX record %q is not accepted", key)
		}
	}
	for _, key := range []string{"path", "linkpath", "size"} {
		if value, ok := h.PAXRecords[key]; ok && value == "" {
			return "", refuse(h.Name, "the PAX record %q is empty, which readers take for different things", key)
		}
	}
	// Two places that give the size, and readers that differ in which they believe, let one archive hold two trees.
	if h.PAXRecords["size"] != "" && h.Size <= maxOctalSize {
		return "", refuse(h.Name, "a PAX record gives the size %d, for which the header has room", h.Size)
	}
	if h.Typeflag != tar.TypeReg && h.Size != 0 {
		return "", refuse(h.Name, "only regular files have a size, this has %d", h.Size)
	}
	name = h.Name
	if name == "./" {
		return ".", nil
	}
	name = strings.TrimPrefix(name, "./")
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if err := checkPath(name); err != nil {
		return "", refuse(h.Name, "%w", err)
	}
	return name, nil
}

// count adds an entry to the sums, before the first byte of it is written.
func (s *stage) count(n *node) error {
	if s.entries++; s.entries > s.maxEntries {
		return refuse(n.name, "more than the %d entries that there may be", s.maxEntries)
	}
	if s.names += int64(len(n.name) + len(n.link)); s.names > maxNames {
		return refuse(n.name, "the names of all entries have more than %d bytes", maxNames)
	}
	if n.size > s.maxBytes-s.bytes {
		return refuse(n.name, "more than the %d bytes that may be unpacked", s.maxBytes)
	}
	s.bytes += n.size
	return nil
}

// shared returns the shared path that name is or lies under. A shared path also keeps its parents: they must be
// directories, which link and file see to.
func (s *stage) shared(name string) (string, bool) {
	for _, p := range s.skips {
		if within(name, p) {
			return p, true
		}
	}
	return "", false
}

func (s *stage) skip(shared string) {
	if !s.skipped[shared] {
		s.skipped[shared] = true
		s.warn(fmt.Sprintf("%s is shared between releases: what the artifact has there is left out", shared))
	}
}

// aboveShared refuses anything but a directory where a shared path needs one.
func (s *stage) aboveShared(name string) error {
	for _, p := range s.skips {
		if within(p, name) {
			return refuse(name, "it must be a directory, since %s below it is shared between releases", p)
		}
	}
	return nil
}

// tarStream is a tar stream that knows how it ended and how long it may become.
type tarStream struct {
	r     io.Reader
	n     int64
	limit int64
	over  func(n int64) bool // a further limit; may be nil
	eof   bool               // the parser has asked for more than there is

	headers headers
}

func (t *tarStream) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.headers.observe(p[:n], t.n)
	t.n += int64(n)
	if t.n > t.limit {
		return 0, fmt.Errorf("%w: artifact: the tar stream is longer than %d bytes", release.ErrVerify, t.limit)
	}
	if t.over != nil && t.over(t.n) {
		return 0, fmt.Errorf("%w: artifact: unpacks to more than %d times its size", release.ErrVerify, plainRatio)
	}
	if n > 0 && err == io.EOF {
		err = nil // given with the next read, so that eof means what it says
	}
	t.eof = t.eof || err == io.EOF
	return n, err
}

var errTail = errors.New("bytes after the end of the tar archive")

// tail reads what follows the two zero blocks: nothing but zeros.
func (t *tarStream) tail() error {
	buf := make([]byte, 32<<10)
	for tail := 0; ; {
		n, err := t.Read(buf)
		tail += n
		if tail > maxTail || strings.Trim(string(buf[:n]), "\x00") != "" {
			return fmt.Errorf("%w: artifact: %w", release.ErrVerify, errTail)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
