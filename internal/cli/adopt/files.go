package adopt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/release"
)

// named is how many paths a sentence names.
const named = 5

// lookAtFiles walks what is to be copied and gives its size. What must not get into a release is in the way.
func (a *Adoption) lookAtFiles() (size int64, err error) {
	root, err := os.OpenRoot(a.From)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var secret, odd []string
	err = fs.WalkDir(root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if a.isShared(p) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case p == ".":
		case info.IsDir() && info.Mode()&0o001 == 0:
			secret = append(secret, p+"/")
			return fs.SkipDir
		case info.Mode().IsRegular() && info.Mode()&0o004 == 0:
			secret = append(secret, p)
		case info.Mode().IsRegular():
			size += info.Size()
		case info.Mode().Type() != fs.ModeSymlink && !info.IsDir():
			odd = append(odd, p)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(secret) > 0 {
		return 0, inTheWay("not everybody may read %s, and everybody may read a release: name them with --shared, or chmod a+r what is no secret",
			list(a.From, secret))
	}
	if busy := written(a.From, a.isShared); len(busy) > 0 {
		return 0, inTheWay("the app writes to %s, which its releases are not for: name what it writes with --shared", list(a.From, busy))
	}
	if len(odd) > 0 {
		a.Notes = append(a.Notes, list(a.From, odd)+" is left out: a release holds files, directories and links")
	}
	return size, nil
}

// list names some paths.
func list(dir string, paths []string) string {
	var out []string
	for _, p := range paths[:min(len(paths), named)] {
		out = append(out, release.CleanText(path.Join(dir, p), 200))
	}
	text := strings.Join(out, ", ")
	if more := len(paths) - len(out); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// written are the files below a directory that a process has open to write, but for those that are left out.
func written(dir string, skip func(rel string) bool) (out []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		to, err := os.Readlink(link)
		rel, inside := strings.CutPrefix(to, dir+"/")
		if err != nil || !inside || strings.HasSuffix(rel, " (deleted)") || skip(rel) || slices.Contains(out, rel) {
			continue
		}
		info, err := os.ReadFile(strings.Replace(link, "/fd/", "/fdinfo/", 1))
		if err != nil {
			continue // it has been closed
		}
		if m := openFlags.FindSubmatch(info); m != nil {
			if flags, err := strconv.ParseInt(string(m[1]), 8, 64); err == nil && flags&syscall.O_ACCMODE != syscall.O_RDONLY {
				out = append(out, rel)
			}
		}
	}
	slices.Sort(out)
	return out
}

var openFlags = regexp.MustCompile(`(?m)^flags:\s*([0-7]+)$`)

// copier copies a tree as a release has it: files 644 or 755, and no link followed.
type copier struct {
	from, to *os.Root
	skip     []string
}

func (c copier) run(ctx context.Context) error {
	return fs.WalkDir(c.from.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case p == ".":
			return nil
		case slices.ContainsFunc(c.skip, func(s string) bool { return within(p, s) }):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		switch e.Type() {
		case fs.ModeDir:
			if err := c.to.Mkdir(p, 0o755); err != nil {
				return err
			}
			return c.to.Chmod(p, 0o755)
		case fs.ModeSymlink:
			to, err := c.from.Readlink(p)
			if err != nil {
				return err
			}
			return c.to.Symlink(to, p)
		case 0:
			return c.file(p)
		}
		return nil // Look has said so
	})
}

func (c copier) file(p string) (err error) {
	from, err := c.from.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	// It may be another file by now than the one that was looked at.
	if !info.Mode().IsRegular() || info.Mode()&0o004 == 0 {
		return fmt.Errorf("copy %s: it was exchanged meanwhile: run the command again", p)
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	to, err := c.to.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Chmod(mode); err != nil {
		return err
	}
	return c.to.Chtimes(p, info.ModTime(), info.ModTime())
}

// Where people write the version of what is deployed, and what of it is the version.
var versions = []struct {
	file string
	hash *regexp.Regexp
}{
	{"version.json", regexp.MustCompile(`"hash"\s*:\s*"([^"]+)"`)},
	{"version.js", regexp.MustCompile(`["']?hash["']?\s*[:=]\s*["']([^"']+)["']`)},
	{"REVISION", regexp.MustCompile(`^([0-9a-f]{7,64})\s*$`)}, // Capistrano
	{".git/HEAD", regexp.MustCompile(`^([0-9a-f]{40})\s*$`)},
}

// versionOf finds out what the app in a directory calls its version, "" when nothing says so.
func versionOf(dir string) string {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ""
	}
	defer root.Close()
	read := func(name string) []byte {
		f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil
		}
		defer f.Close()
		data, _ := io.ReadAll(io.LimitReader(f, 64<<10))
		return data
	}
	for _, v := range versions {
		data := read(v.file)
		if ref, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "ref: "); ok && v.file == ".git/HEAD" {
			data = read(".git/" + ref)
		}
		if m := v.hash.FindSubmatch(data); m != nil && release.CheckVersion(string(m[1])) == nil {
			return string(m[1])
		}
	}
	return ""
}
