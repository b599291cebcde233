package grant

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the app's directory as it should be.
type tree struct {
	root string // before every path
	app  App
}

// node is a directory or file of the tree.
type node struct {
	path  string // below the app's directory; "" is that itself
	file  bool
	owner Owner
	mode  uint32
	// exact: group and mode are to be these too. Under shared/ they are the administrator's to change.
	exact bool
}

func (t tree) nodes() []node {
	a := t.app
	nodes := []node{
		{path: "", owner: a.Agent, mode: 0o755, exact: true},
		{path: "releases", owner: a.Agent, mode: 0o755, exact: true},
		{path: "incoming", owner: a.Agent, mode: 0o700, exact: true},
		{path: "shared", owner: a.User, mode: 0o755},
	}
	for _, s := range a.Shared {
		path := "shared/" + strings.TrimSuffix(s, "/")
		for i, r := range path {
			if r == '/' && i > len("shared") {
				nodes = append(nodes, node{path: path[:i], owner: a.User, mode: 0o755})
			}
		}
		leaf := node{path: path, owner: a.User, mode: 0o755}
		if !strings.HasSuffix(s, "/") {
			leaf.file, leaf.mode = true, 0o640 // such a file holds secrets as a rule
		}
		nodes = append(nodes, leaf)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(nodes, func(n node) bool {
		again := seen[n.path]
		seen[n.path] = true
		return again
	})
}

func (t tree) plan() (Plan, error) {
	var plan Plan
	if err := t.safeAbove(); err != nil {
		return plan, err
	}
	var device uint64
	linked := "" // a link under shared/ that the administrator made: what lies behind it is not ours to make
	for _, n := range t.nodes() {
		if linked != "" && strings.HasPrefix(n.path, linked+"/") {
			continue
		}
		st, err := t.stat(n.path)
		switch {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK && strings.HasPrefix(n.path, "shared/"):
			linked = n.path
			plan.Changes = append(plan.Changes,
				Change{Action: Keep, Path: t.show(n), Detail: "a symbolic link; see to what it leads to yourself"})
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return plan, fmt.Errorf("%s: %w", t.show(n), err)
		case err == nil && (n.path == "" || n.path == "releases" || n.path == "incoming"):
			if n.path == "" {
				device = st.Dev
			} else if st.Dev != device {
				return plan, fmt.Errorf("%s is on another filesystem than %s, and renames between two are not atomic",
					t.show(n), t.app.Dir)
			}
		}
		c, err := t.change(n, st, err == nil)
		if err != nil {
			return plan, err
		}
		plan.Changes = append(plan.Changes, c)
	}
	return plan, t.mend(&plan)
}

// change compares a node with what is there.
func (t tree) change(n node, st unix.Stat_t, there bool) (Change, error) {
	c := Change{Path: t.show(n), Detail: "of " + n.owner.User}
	if n.exact {
		c.Detail = fmt.Sprintf("of %s, mode %o", n.owner.User, n.mode)
	}
	if !there {
		if n.file {
			c.Detail += ", empty: fill it in before the first release"
		}
		c.Action, c.do = Make, func() error { return t.make(n) }
		return c, nil
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFLNK:
		return c, fmt.Errorf("%s is a symbolic link: want the directory itself", t.show(n))
	case n.file && kind == unix.S_IFDIR:
		return c, fmt.Errorf("%s is a directory; write shared: [%s/] if it is meant to be one",
			t.show(n), strings.TrimPrefix(n.path, "shared/"))
	case !n.file && kind != unix.S_IFDIR:
		return c, fmt.Errorf("%s is not a directory", t.show(n))
	}
	// Directories on the way to a shared path may be somebody else's.
	way := !n.exact && !n.file && n.path != "shared" && !slices.Contains(t.app.Shared, strings.TrimPrefix(n.path, "shared/")+"/")
	same := int(st.Uid) == n.owner.UID
	if n.exact {
		same = same && int(st.Gid) == n.owner.GID && st.Mode&0o7777 == n.mode
	}
	if same || way {
		c.Action = Keep
		return c, nil
	}
	c.Action, c.do = Give, func() error { return t.give(n) }
	return c, nil
}

// show is the path of a node for people.
func (t tree) show(n node) string {
	path := filepath.Join(t.app.Dir, n.path)
	if !n.file {
		path += "/"
	}
	return path
}

// openParent opens the directory in which the node lies, following no link below the app's directory.
func (t tree) openParent(path string) (fd int, name string, err error) {
	full := t.root + t.app.Dir
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if path == "" {
		// What lies above was seen to be out of the app's reach.
		fd, err = unix.Open(filepath.Dir(full), flags, 0)
		return fd, filepath.Base(full), err
	}
	if fd, err = unix.Open(full, flags|unix.O_NOFOLLOW, 0); err != nil {
		return -1, "", err
	}
	names := strings.Split(path, "/")
	for _, step := range names[:len(names)-1] {
		next, err := unix.Openat(fd, step, flags|unix.O_NOFOLLOW, 0)
		_ = unix.Close(fd)
		if err != nil {
			return -1, "", err
		}
		fd = next
	}
	return fd, names[len(names)-1], nil
}

// stat looks at a node itself; what lies below a missing directory is missing.
func (t tree) stat(path string) (st unix.Stat_t, err error) {
	fd, name, err := t.openParent(path)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// make makes a node and gives it away, by its descriptor: whoever may write in the directory above could put something else
// under its name.
func (t tree) make(n node) error {
	if n.path == "" {
		if err := makeParents(t.root + t.app.Dir); err != nil {
			return err
		}
	}
	parent, name, err := t.openParent(n.path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if n.file {
		flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL
	} else if err := unix.Mkdirat(parent, name, 0o700); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || n.file && st.Nlink != 1 {
		return errors.New("somebody put another one in its place")
	}
	if err := unix.Fchown(fd, n.owner.UID, n.owner.GID); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, n.mode); err != nil {
		return err
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	return unix.Fsync(parent)
}

// give sets the owner of a node, and its mode where that is exact.
func (t tree) give(n node) error {
	parent, name, err := t.openParent(n.path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return giveAt(parent, name, n.owner, func(st *unix.Stat_t) uint32 {
		if n.exact {
			return n.mode
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return st.Mode & 0o7777
		}
		return st.Mode & 0o777 // no program of the one gets the rights of the other
	})
}

// giveAt sets the owner and mode of the directory or regular file of that name. Other links to a file would be given away
// with it, so that one with several is refused.
func giveAt(parent int, name string, owner Owner, mode func(*unix.Stat_t) uint32) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return errors.New("it is neither a directory nor a regular file")
	case kind == unix.S_IFREG && st.Nlink != 1:
		return errors.New("the file has several names (hard links), and another one may be somewhere else; copy it")
	}
	// First the owner: whoever has lost it cannot change the mode back.
	if err := unix.Fchown(fd, owner.UID, owner.GID); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode(&st)); err != nil {
		return err
	}
	return unix.Fsync(fd)
}

// safeAbove refuses a place whose upper directories the app could exchange, or that the agent cannot see.
func (t tree) safeAbove() error {
	dir := filepath.Dir(t.app.Dir)
	if err := t.seen(t.app.Dir); err != nil {
		return err
	}
	if err := t.safeUp(dir); err != nil {
		return err
	}
	// Links on the way lead to directories with others above them.
	for ; dir != "/"; dir = filepath.Dir(dir) {
		real, err := filepath.EvalSymlinks(t.root + dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // to be made
		}
		if err != nil {
			return fmt.Errorf("app directory %s: %w", t.app.Dir, err)
		}
		inside, ok := strings.CutPrefix(real, t.root)
		if !ok || inside == "" || inside == dir {
			return nil
		}
		if err := t.seen(inside); err != nil {
			return err
		}
		return t.safeUp(inside)
	}
	return nil
}

// seen refuses a path that the agent's sandbox hides.
func (t tree) seen(path string) error {
	// PrivateTmp=yes and ProtectHome=yes of the agent's unit.
	for _, hidden := range []string{"/tmp", "/var/tmp", "/home", "/root", "/run/user"} {
		if strings.HasPrefix(path+"/", hidden+"/") {
			return fmt.Errorf("app directory %s: the agent sees nothing of %s; use /srv/%s", t.app.Dir, hidden, t.app.Key)
		}
	}
	return nil
}

// safeUp is safeAbove for the directories of one path.
func (t tree) safeUp(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(t.root + dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("app directory %s: %w", t.app.Dir, err)
		default:
			var st unix.Stat_t
			if err := unix.Stat(t.root+dir, &st); err != nil {
				return fmt.Errorf("app directory %s: %s: %w", t.app.Dir, dir, err)
			}
			if why := t.exchangeable(info.Mode(), &st); why != "" {
				return fmt.Errorf("app directory %s: %s %s, so that another directory could be put in its place", t.app.Dir, dir, why)
			}
		}
		if dir == "/" {
			return nil
		}
	}
}

// exchangeable says why the app's user could rename what lies in a directory, "" when it could not.
func (t tree) exchangeable(mode fs.FileMode, st *unix.Stat_t) string {
	a := t.app
	wall := a.User.UID != 0 && a.User.UID != a.Agent.UID // between the app and the agent
	switch {
	case wall && int(st.Uid) == a.User.UID:
		return "belongs to " + a.User.User
	case mode&fs.ModeSticky != 0:
	case wall && mode&0o020 != 0 && slices.Contains(a.Groups, int(st.Gid)):
		return "is writable for a group of " + a.User.User
	case mode&0o002 != 0:
		return "is writable for everybody"
	}
	return ""
}
