package artifact

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// maxHops is how many further links a link may lead through: below what Linux follows (40), and what os.Root does.
const maxHops = 8

// Why a link leads nowhere in the tree.
var (
	errNoTarget = errors.New("is not in the tree")
	errThrough  = errors.New("goes through a file")
	errOutside  = errors.New("leaves the tree")
	errHops     = errors.New("leads through too many others")
)

// follow follows the link at p through a tree, as the kernel would. at says what stands at a path.
func follow(p, target string, at func(p string) (mode fs.FileMode, link string, ok bool)) error {
	dir, rest := path.Dir(p), strings.Split(target, "/")
	for hops, file := 0, false; len(rest) > 0; {
		var c string
		c, rest = rest[0], rest[1:]
		switch {
		case file:
			return errThrough
		case c == "" || c == ".":
			continue
		case c == ".." && dir == ".":
			return errOutside
		case c == "..":
			dir = path.Dir(dir)
			continue
		}
		next := path.Join(dir, c)
		mode, link, ok := at(next)
		switch {
		case !ok:
			return errNoTarget
		case mode&fs.ModeSymlink != 0:
			if hops++; hops >= maxHops {
				return errHops
			}
			rest = append(strings.Split(link, "/"), rest...)
		default:
			dir, file = next, !mode.IsDir()
		}
	}
	return nil
}
