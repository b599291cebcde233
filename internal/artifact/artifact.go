// Package artifact is both ends of the archive: Pack makes the one object that a release is, Unpack and Bring turn
// it back into a directory, and neither trusts what it reads.
//
// # The archive
//
// A tar stream with one profile, so that the same tree gives the same bytes on any machine at any time: entries in
// tree order (paths compared byte by byte, "/" before every other byte, so a directory stands right before what it
// holds); regular files, directories, relative symlinks that end inside the tree; mode 0755 for directories, links
// and files that their owner may execute, else 0644; uid and gid 0, no names; mtime 1980-01-01T00:00:00Z throughout;
// ustar headers, PAX records only for path, linkpath and size where ustar has no room; two zero blocks at the end.
//
// It is compressed as tar+gzip (one member, no name, no time) or as tar+zstd, which is what follows.
//
// # Frames
//
// A tar+zstd artifact is a row of independent zstd frames, each with its content size and checksum, that together
// hold the tar stream, and one skippable frame at the end that holds the index. Every zstd reader gives the plain
// tar. A frame holds whole entries; a file larger than 4 MiB is cut into slices of 4 MiB with frames of its own (its
// header is in the first, its padding in the last); the two zero blocks are the last frame. No frame holds more than
// 8 MiB. Where frames are cut depends on paths, sizes and directory borders alone (see plan), so that a changed file
// changes the frame it is in and few others.
//
// # Index
//
// The index is the last frame, whole, its eight bytes of skippable-frame header included: release.Index gives the
// offset of its first byte, its size and its SHA-256. Integers are little-endian.
//
//	 0  4  5E 2A 4D 18, the magic number of a zstd skippable frame
//	 4  4  length of what follows: 12 + 72 n
//	 8  4  "TLIX"
//	12  4  version of this layout: 1
//	16  4  n, the number of frames before the index, at least 2
//	20     n times:
//	       0   4  size of the frame in the artifact
//	       4   4  size of its content
//	       8  32  SHA-256 of the frame as it lies in the artifact
//	      40  32  SHA-256 of its content
//
// Frames follow each other from offset 0 without gaps, and the index follows the last one and ends the artifact.
// So a frame's offset is the sum of the sizes before it, and the sum of all is the offset of the index. An index with another
// name or a higher version in its place says that this agent is too old to read it (ErrNewer); the artifact is the same to Unpack.
//
// # Directories that were not finished
//
// Bring notes each frame whose files it has written (notes.go). Salvage makes a Base of a directory in which Bring came to no end, out of
// what those notes lead to and what verifies against an index; so a download goes on where it broke off, for the same artifact or another.
//
// # Verification
//
// Sizes and digests are checked before the bytes that they cover are decompressed or parsed, down from the signed
// release.Artifact: the index by its digest, a frame by its digest in the index; for tar+gzip the whole object.
// What the tar stream may hold is the rule set in name.go and extract.go, for every archive, whoever made it;
// each refusal wraps release.ErrVerify and names the entry and the rule, and nothing is ever repaired.
package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Limits of the format. A reader refuses what is beyond them; the packer stays within.
const (
	MaxEntries = 200_000 // entries of one artifact
	maxFrame   = 8 << 20 // bytes of content of one frame
	maxWindow  = 8 << 20 // zstd window of archives made by others
	maxIndex   = 16 << 20
	maxNames   = 16 << 20 // bytes of the names and targets of all entries, which are held in memory
	maxPath    = 1024     // bytes
	maxName    = 255      // bytes of one path component
	maxDepth   = 64       // path components
)

// ErrSource marks errors of Pack, List and VersionFile whose cause is what was to be packed (a missing or empty
// directory, a name or a link that no server would accept, a bad pattern), not the machine.
var ErrSource = errors.New("cannot be packed")

// epoch is the modification time of every entry: constant, since a fresh one would change every header. Not 1970,
// about which GNU tar warns when it extracts.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Entry is one thing in the tree as packed.
type Entry struct {
	Path string      // relative, slash-separated, clean
	Mode fs.FileMode // type bits (none, fs.ModeDir, fs.ModeSymlink) and 0644 or 0755
	Size int64       // bytes of a regular file, else 0
	Link string      // target of a symlink

	mtime time.Time // as scanned, to notice a file that changes while it is packed
	extra bool      // content is data, not a file on disk
	data  []byte
}

// File is a file that is written into the tree as packed without being on disk. Path is relative, slash-separated.
type File struct {
	Path string
	Data []byte
}

// sourceError is an error that ErrSource marks without changing its text.
type sourceError struct{ error }

func (e sourceError) Is(err error) bool { return err == ErrSource }
func (e sourceError) Unwrap() error     { return e.error }

// unfit says what about path cannot be packed, and what helps.
func unfit(path, format string, args ...any) error {
	return sourceError{fmt.Errorf("pack %q: "+format, append([]any{path}, args...)...)}
}

// dirs opens files of a tree by directory. os.Root walks every component of a name, so the directory used last is
// kept open: entries come sorted, and most have the directory of the one before.
type dirs struct {
	root *os.Root
	path string // of sub; meaningless when sub is nil
	sub  *os.Root
}

// at returns the directory dir of the tree; it is valid until the next call.
func (d *dirs) at(dir string) (*os.Root, error) {
	if dir == "." {
		return d.root, nil
	}
	if d.sub != nil && d.path == dir {
		return d.sub, nil
	}
	d.close()
	sub, err := d.root.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d.sub, d.path = sub, dir
	return sub, nil
}

func (d *dirs) close() {
	if d.sub != nil {
		d.sub.Close()
		d.sub = nil
	}
}
