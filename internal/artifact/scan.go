package artifact

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/bmatcuk/doublestar/v4"
)

// PackOptions says what to pack and how.
//
// Include and Exclude are doublestar patterns over whole paths relative to Dir, with "/" between components: "*" stays
// within a component, "**" spans any number, {a,b} and [a-z] work, a leading "./" and a trailing "/" are ignored. A
// pattern that matches a directory takes all below it. So "dist" is the directory at the top, "**/*.map" every source
// map. Without Include everything is in; Exclude wins over Include. Directories that lead to something included
// are packed with it. A path with a component ".git" is never packed, whatever the patterns say.
type PackOptions struct {
	Dir     string // directory to pack, or one regular file, packed under its own name
	Include []string
	Exclude []string
	Format  string // release.FormatZstd ("" means it too) or release.FormatGzip
	Level   int    // as from ParseCompression; 0 is the format's default
	Extra   []File // further files; they replace files of the same path, and patterns do not apply to them

	// Progress is called in order with what is packed so far, and the bytes of all files; may be nil.
	Progress  func(files, bytes, total int64)
	Unmatched func(what, pattern string) // called for each pattern of "include" or "exclude" that matched nothing; may be nil
}

// List returns what Pack would pack, in the order of the archive. It reads names and metadata, no contents, and fails
// where Pack would refuse the tree.
func List(ctx context.Context, o PackOptions) ([]Entry, error) {
	root, entries, err := scan(ctx, o)
	if err != nil {
		return nil, err
	}
	return entries, root.Close()
}

// scan walks the tree and returns it opened, with its entries checked and in order. The caller closes root.
func scan(ctx context.Context, o PackOptions) (root *os.Root, entries []Entry, err error) {
	start := "."
	info, err := os.Lstat(o.Dir)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		info, err = os.Stat(o.Dir)
		if err == nil && !info.IsDir() {
			return nil, nil, unfit(o.Dir, "is a symlink to a file; name the file itself")
		}
	}
	if err != nil {
		return nil, nil, sourceError{fmt.Errorf("pack: %w", err)}
	}
	dir := o.Dir
	if !info.IsDir() {
		dir, start = filepath.Dir(o.Dir), filepath.Base(o.Dir)
	}
	if root, err = os.OpenRoot(dir); err != nil {
		return nil, nil, sourceError{fmt.Errorf("pack: %w", err)}
	}
	if entries, err = walk(ctx, root, start, o); err != nil {
		root.Close()
		return nil, nil, err
	}
	return root, entries, nil
}

func walk(ctx context.Context, root *os.Root, start string, o PackOptions) ([]Entry, error) {
	w := walker{ctx: ctx, root: root, tree: map[string]Entry{}, used: map[string]*atomic.Bool{}}
	var err error
	if w.include, err = patterns("include", o.Include); err != nil {
		return nil, err
	}
	if w.exclude, err = patterns("exclude", o.Exclude); err != nil {
		return nil, err
	}
	for _, p := range slices.Concat(w.include, w.exclude) {
		w.used[p] = new(atomic.Bool)
	}
	found, err := w.find(start)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if err := w.add(e); err != nil {
			return nil, err
		}
	}
	if o.Unmatched != nil {
		for i, p := range append(w.include, w.exclude...) {
			switch {
			case w.used[p].Load():
			case i < len(w.include):
				o.Unmatched("include", o.Include[i])
			default:
				o.Unmatched("exclude", o.Exclude[i-len(w.include)])
			}
		}
	}
	for _, f := range o.Extra {
		if err := w.addExtra(f); err != nil {
			return nil, err
		}
	}
	if len(w.tree) == 0 {
		return nil, unfit(o.Dir, "nothing to pack: it is empty, or include and exclude leave nothing")
	}
	if len(w.tree) > MaxEntries {
		return nil, unfit(o.Dir, "%d entries, at most %d are accepted; exclude what need not be deployed", len(w.tree), MaxEntries)
	}
	entries := slices.SortedFunc(maps.Values(w.tree), func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	names := 0
	for _, e := range entries {
		if names += len(e.Path) + len(e.Link); names > maxNames {
			return nil, unfit(o.Dir, "the names of all entries have more than %d bytes; exclude what need not be deployed", maxNames)
		}
		if e.Mode&fs.ModeSymlink != 0 {
			if err := w.checkLink(e); err != nil {
				return nil, err
			}
		}
	}
	return entries, nil
}

type walker struct {
	ctx              context.Context
	root             *os.Root
	include, exclude []string
	used             map[string]*atomic.Bool // patterns, and whether they matched something
	tree             map[string]Entry
}

// visit says what is at p: an entry, if it is to be packed, and whether there is something below it.
func (w *walker) visit(p string, d fs.DirEntry) (e Entry, packed, below bool, err error) {
	if w.matches(w.exclude, p) || d.Name() == ".git" {
		return e, false, false, nil
	}
	if len(w.include) > 0 && !w.included(p) {
		return e, false, d.IsDir(), nil
	}
	if err := checkPath(p); err != nil {
		return e, false, false, unfit(p, "%w; rename or exclude it", err)
	}
	info, err := d.Info()
	if err != nil {
		return e, false, false, fmt.Errorf("pack: %w", err)
	}
	e = Entry{Path: p, Mode: 0o644, mtime: info.ModTime()}
	switch info.Mode().Type() {
	case 0:
		e.Size = info.Size()
		if info.Mode()&0o100 != 0 {
			e.Mode = 0o755
		}
	case fs.ModeDir:
		e.Mode, below = fs.ModeDir|0o755, true
	case fs.ModeSymlink:
		e.Mode = fs.ModeSymlink | 0o755
		if e.Link, err = w.root.Readlink(p); err != nil {
			return e, false, false, fmt.Errorf("pack: %w", err)
		}
	default:
		return e, false, false, unfit(p, "neither file, directory nor symlink (%s); exclude it", info.Mode().Type())
	}
	return e, true, below, nil
}

// included reports whether p or a directory above it matches an include pattern.
func (w *walker) included(p string) bool {
	for ; p != "."; p = path.Dir(p) {
		if w.matches(w.include, p) {
			return true
		}
	}
	return false
}

// add records e and the directories above it that are not recorded yet.
func (w *walker) add(e Entry) error {
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		switch have, ok := w.tree[dir]; {
		case ok && !have.Mode.IsDir():
			return unfit(e.Path, "%q is not a directory", dir)
		case ok:
			w.tree[e.Path] = e
			return nil
		}
		w.tree[dir] = Entry{Path: dir, Mode: fs.ModeDir | 0o755}
	}
	w.tree[e.Path] = e
	return nil
}

func (w *walker) addExtra(f File) error {
	if err := checkPath(f.Path); err != nil {
		return unfit(f.Path, "%w", err)
	}
	if slices.Contains(strings.Split(f.Path, "/"), ".git") {
		return unfit(f.Path, "below .git nothing is packed")
	}
	if have, ok := w.tree[f.Path]; ok && !have.Mode.IsRegular() {
		return unfit(f.Path, "the tree has a directory or symlink of this name")
	}
	return w.add(Entry{Path: f.Path, Mode: 0o644, Size: int64(len(f.Data)), extra: true, data: f.Data})
}

// checkLink follows a symlink through the tree as packed, as a server would once it is unpacked.
func (w *walker) checkLink(e Entry) error {
	if err := checkTarget(e.Path, e.Link); err != nil {
		return unfit(e.Path, "%w; make it relative and inward, or exclude it", err)
	}
	err := follow(e.Path, e.Link, func(p string) (fs.FileMode, string, bool) {
		at, ok := w.tree[p]
		return at.Mode, at.Link, ok
	})
	switch err {
	case nil:
		return nil
	case errThrough:
		return unfit(e.Path, "the symlink's target %q goes through a file; correct or exclude it", e.Link)
	case errOutside:
		return unfit(e.Path, "the symlink's target %q leaves the tree; make it inward, or exclude it", e.Link)
	case errHops:
		return unfit(e.Path, "the symlink leads through %d others; exclude it", maxHops)
	default:
		return unfit(e.Path, "the symlink's target %q is not among what is packed; include it, or exclude the link", e.Link)
	}
}

func patterns(what string, list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, p := range list {
		if rest, ok := strings.CutPrefix(p, "/"); ok {
			return nil, sourceError{fmt.Errorf("pack: %s pattern %q: every pattern begins at the top; write %q", what, p, rest)}
		}
		if rest, ok := strings.CutPrefix(p, "!"); ok {
			other := map[string]string{"include": "exclude", "exclude": "include"}[what]
			return nil, sourceError{fmt.Errorf("pack: %s pattern %q: there is no negation; write %q in %s", what, p, rest, other)}
		}
		clean := strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/")
		if clean == "" || !doublestar.ValidatePattern(clean) {
			return nil, sourceError{fmt.Errorf("pack: %s pattern %q is not valid", what, p)}
		}
		out = append(out, clean)
	}
	return out, nil
}

// matches reports whether p matches any of the patterns, and remembers all that it does match.
func (w *walker) matches(patterns []string, p string) bool {
	matched := false
	for _, pat := range patterns {
		if doublestar.MatchUnvalidated(pat, p) {
			matched = true
			w.used[pat].Store(true)
		}
	}
	return matched
}
