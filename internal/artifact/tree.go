package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/towline/towline/internal/release"
)

// DigestTree reads the whole tree below root and gives its digest: "t1:" and the hex SHA-256 of one line for each file,
// directory and symlink, "<path> <type> <mode> <sum>\n", sorted. The path is quoted as by strconv.Quote; the type is f, d
// or l; the mode four octal digits, 0000 for l; the sum the hex SHA-256 of a file's content or a symlink's target, "-"
// for d. Owners and times do not count. Paths in skip, what is below them, and directories above them do not
// count either, since sharing puts them there. So the digest equals Tree.Digest as long as nobody has touched the
// tree. Anything that no archive brings (a device, a set-user-ID bit) is an error that wraps release.ErrVerify.
func DigestTree(root *os.Root, skip []string) (string, error) {
	skip = cleanSkips(skip)
	d := dirs{root: root}
	defer d.close()
	var lines []string
	buf := make([]byte, 128<<10)
	sum := sha256.New()
	err := fs.WalkDir(root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
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
			return err
		}
		n := node{mode: info.Mode()}
		switch info.Mode() &^ fs.ModePerm {
		case 0:
			dir, err := d.at(path.Dir(p))
			if err != nil {
				return err
			}
			f, err := dir.Open(path.Base(p))
			if err != nil {
				return err
			}
			defer f.Close()
			sum.Reset()
			if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, buf); err != nil {
				return err
			}
			sum.Sum(n.sum[:0])
		case fs.ModeDir:
		case fs.ModeSymlink:
			target, err := root.Readlink(p)
			if err != nil {
				return err
			}
			n.sum = sha256.Sum256([]byte(target))
		default:
			return fmt.Errorf("%w: %q is %s, which no archive brings", release.ErrVerify, p, info.Mode())
		}
		lines = appendLine(lines, p, n, skip)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("digest tree: %w", err)
	}
	return digestLines(lines), nil
}

// digest is the digest of what the stage has written.
func (s *stage) digest() string {
	lines := make([]string, 0, len(s.nodes))
	for p, n := range s.nodes {
		lines = appendLine(lines, p, n, s.skips)
	}
	return digestLines(lines)
}

// wroteEntries counts the entries that stand in the tree.
func (s *stage) wroteEntries() int64 {
	var count int64
	for _, n := range s.nodes {
		if n.listed {
			count++
		}
	}
	return count
}

func appendLine(lines []string, p string, n node, skip []string) []string {
	switch n.mode.Type() {
	case fs.ModeDir:
		if slices.ContainsFunc(skip, func(s string) bool { return within(s, p) }) {
			return lines
		}
		return append(lines, fmt.Sprintf("%q d %04o -", p, n.mode.Perm()))
	case fs.ModeSymlink:
		return append(lines, fmt.Sprintf("%q l 0000 %x", p, n.sum))
	}
	return append(lines, fmt.Sprintf("%q f %04o %x", p, n.mode.Perm(), n.sum))
}

func digestLines(lines []string) string {
	slices.Sort(lines)
	sum := sha256.New()
	for _, l := range lines {
		io.WriteString(sum, l)
		io.WriteString(sum, "\n")
	}
	return "t1:" + hex.EncodeToString(sum.Sum(nil))
}
