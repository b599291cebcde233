package artifact

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// checkPath says why p cannot be the path of an entry: nil, or the rule that it breaks. The packer and the unpacker
// ask the same question, so what one emits the other accepts. p has no trailing slash.
func checkPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("the name is empty")
	case len(p) > maxPath:
		return fmt.Errorf("the name has %d bytes, at most %d are accepted", len(p), maxPath)
	case p[0] == '/':
		return fmt.Errorf("the name is absolute")
	}
	if err := checkText(p); err != nil {
		return fmt.Errorf("the name %w", err)
	}
	if strings.Count(p, "/") >= maxDepth {
		return fmt.Errorf("the name has more than %d components", maxDepth)
	}
	for c := range strings.SplitSeq(p, "/") {
		switch {
		case c == "":
			return fmt.Errorf("the name has an empty component")
		case c == "." || c == "..":
			return fmt.Errorf("the name has a component %q", c)
		case len(c) > maxName:
			return fmt.Errorf("a component of the name has %d bytes, at most %d are accepted", len(c), maxName)
		}
	}
	return nil
}

// checkTarget says why a symlink at p may not have this target by its text alone: nil, or the rule that it breaks.
// Where the target leads through other links is asked of the tree, once it is known.
func checkTarget(p, target string) error {
	switch {
	case target == "":
		return fmt.Errorf("the symlink has no target")
	case len(target) > maxPath:
		return fmt.Errorf("the symlink's target has %d bytes, at most %d are accepted", len(target), maxPath)
	case target[0] == '/':
		return fmt.Errorf("the symlink's target %q is absolute", target)
	}
	if err := checkText(target); err != nil {
		return fmt.Errorf("the symlink's target %w", err)
	}
	if end := path.Join(path.Dir(p), target); end == ".." || strings.HasPrefix(end, "../") {
		return fmt.Errorf("the symlink's target %q leaves the tree", target)
	}
	return nil
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("is not UTF-8")
	}
	for _, r := range s {
		switch {
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return fmt.Errorf("has the control character %U", r)
		case r == '\\':
			return fmt.Errorf("has a backslash")
		}
	}
	return nil
}

// comparePaths orders paths as a walk of the tree meets them: "/" sorts before every other byte.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' {
			return -1
		}
		if y == '/' || x > y {
			return 1
		}
		return -1
	}
	return len(a) - len(b)
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// dirMode is the mode of every directory.
const dirMode = fs.ModeDir | 0o755
