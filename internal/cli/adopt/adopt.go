// Package adopt turns a directory that an app runs from into the app's first release, while it is in use:
//
//	<from>/<shared>          exchanged with a link to <dir>/shared/<shared>, where the data is then: moved, not copied
//	<dir>/releases/0-<hash>  a copy of all else
//	<dir>/current            leads there
//	<from>                   exchanged with a link to <dir>/current; what it was is <from>.before-towline
//
// Each exchange is one step of the kernel's (RENAME_EXCHANGE): at no point, a crash included, does a path lead to nothing.
// Every step sees what an earlier run has done already, so that running again comes to the end.
//
// Root does all this in places that others may write: <from> is the app's user's, and the journal the agent's. So names are
// reached by descriptors, no link is followed, and nobody gets to read in a release what he could not read before.
package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
)

// before ends the name of what the directory was.
const before = ".before-towline"

// spare is left free beside the copy, in bytes.
const spare = 64 << 20

// Options say what becomes what.
type Options struct {
	Key     string
	From    string // the directory that the app runs from, absolute
	Dir     string // the app's directory
	Shared  []string
	Version string // what the app calls its version; empty: to be found
	State   string // the agent's state directory
	Agent   grant.Owner
	User    grant.Owner // whom the app runs as
}

// Adoption is one directory on its way.
type Adoption struct {
	Options
	Known bool     // the version was found or given
	Notes []string // what a person should know

	version string
	name    string // of the release directory
	done    bool   // From is a link to current already
	made    bool   // the release is there
	live    string // what current leads to
	tree    *appdir.Dir
}

// ErrInTheWay says that something is there which is not to be touched. Its text says what, and what helps.
var ErrInTheWay = errors.New("")

func inTheWay(format string, args ...any) error {
	return fmt.Errorf("%w"+format, append([]any{ErrInTheWay}, args...)...)
}

// Look sees how far things are and what stands in the way. Nothing is changed.
func Look(o Options) (*Adoption, error) {
	a := &Adoption{Options: o}
	if !filepath.IsAbs(o.From) || filepath.Clean(o.From) != o.From || o.From == "/" {
		return nil, inTheWay("%q: want the absolute path of a directory", o.From)
	}
	if within(o.From, o.Dir) || within(o.Dir, o.From) {
		return nil, inTheWay("%s and the app's directory %s: the one must not lie in the other", o.From, o.Dir)
	}
	info, err := os.Lstat(o.From)
	if err != nil {
		return nil, err
	}
	switch to, _ := os.Readlink(o.From); {
	case to == a.current():
		a.done = true
	case info.Mode().Type() == fs.ModeSymlink:
		return nil, inTheWay("%s is a link to %s: name that directory, and lead the link to %s yourself afterwards", o.From, to, a.current())
	case !info.IsDir():
		return nil, inTheWay("%s is not a directory", o.From)
	}
	if err := a.lookAtReleases(); err != nil || a.done {
		return a, err
	}
	if to, err := os.Readlink(o.From + before); err == nil && to != a.current() || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, inTheWay("%s is there already: move it away", o.From+before)
	}
	if info.Mode()&0o005 != 0o005 {
		a.Notes = append(a.Notes, fmt.Sprintf("%s is open to some users only (mode %o), and a release is readable for every user of this server",
			o.From, info.Mode().Perm()))
	}
	if err := a.lookAtShared(); err != nil {
		return nil, err
	}
	if a.made {
		return a, nil
	}
	size, err := a.lookAtFiles()
	if err != nil {
		return nil, err
	}
	return a, a.room(size)
}

// lookAtReleases finds the version, and what of the app's directory is there.
func (a *Adoption) lookAtReleases() error {
	word, err := a.word()
	if err != nil {
		return err
	}
	if word != nil {
		a.version, a.name = word.Hash, word.Name
	} else if a.version = a.Version; a.version == "" {
		a.version = versionOf(a.From)
	}
	if a.Version != "" && a.version != a.Version {
		return inTheWay("it was adopted as version %s before, not %s", a.version, a.Version)
	}
	a.Known = a.version != "" && a.version != deployment.AdoptedHash
	if a.version == "" {
		a.version = deployment.AdoptedHash
	}
	if err := release.CheckVersion(a.version); err != nil {
		return inTheWay("%v", err)
	}
	if a.name == "" {
		a.name = "0-" + release.ShortHash(a.version)
	}
	entries, err := os.ReadDir(path.Join(a.Dir, "releases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	others := false
	for _, e := range entries {
		if e.Name() == a.name {
			a.made = word != nil && e.IsDir()
		} else if !strings.HasPrefix(e.Name(), ".") {
			others = true
		}
	}
	to, err := os.Readlink(path.Join(a.Dir, "current"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return inTheWay("%s is not a link: move it away", path.Join(a.Dir, "current"))
	}
	a.live = strings.TrimPrefix(to, "releases/")
	if !a.made && !a.done && (others || a.live != "") {
		return inTheWay("%s has releases already: what it runs is one of them", a.Dir)
	}
	return nil
}

// word is what an earlier run has left in the journal, nil where there is none.
func (a *Adoption) word() (*deployment.Adopted, error) {
	dir, err := os.OpenRoot(a.State)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	defer dir.Close()
	home, err := dir.OpenRoot(path.Join("apps", a.Key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer home.Close()
	return journal.ReadAdopted(home)
}

// room sees that the copy will fit.
func (a *Adoption) room(size int64) error {
	at := a.Dir
	for ; at != "/"; at = path.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", at, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < size+spare { // #nosec G115 -- no disk has 2^63 bytes
		return inTheWay("not enough space in %s: %d MiB free, %d MiB needed", a.Dir, free>>20, (size+spare)>>20)
	}
	return nil
}

func (a *Adoption) current() string { return path.Join(a.Dir, "current") }

// Name is the name of the release directory.
func (a *Adoption) Name() string { return a.name }

// Undo is the command that leads everything back.
func (a *Adoption) Undo() string {
	return fmt.Sprintf("rm %[1]s && mv %[1]s%[2]s %[1]s", a.From, before)
}

// Plan is what is to be done, in its order. Close follows its Apply, whatever became of it.
func (a *Adoption) Plan(ctx context.Context) grant.Plan {
	var plan grant.Plan
	step := func(todo bool, action grant.Action, path, detail string, do func() error) {
		if !todo {
			action = grant.Keep
		}
		plan.Changes = append(plan.Changes, grant.Step(action, path, detail, do))
	}
	step(!a.done, grant.Make, a.Dir+"/lock", "no agent is at work here", a.open)
	for _, s := range a.Shared {
		if todo, there := a.sharing(s); there {
			rel := strings.TrimSuffix(s, "/")
			step(todo && !a.done, "move", a.From+"/"+rel, "to "+a.shared(rel)+", and a link stays", func() error { return a.share(rel) })
		}
	}
	step(!a.made && !a.done, grant.Make, path.Join(a.Dir, "releases", a.name)+"/", "a copy of "+a.From, func() error { return a.copy(ctx) })
	step(a.live == "" && !a.done, grant.Make, a.current(), "leads there", func() error { return a.tree.Switch(a.name) })
	step(!a.done, "switch", a.From, "leads to "+a.current()+" then; what it was is "+a.From+before, a.exchange)
	return plan
}

// open makes what is missing of the app's directory, root's for now, and takes its lock.
func (a *Adoption) open() error {
	if err := os.MkdirAll(path.Dir(a.Dir), 0o755); err != nil {
		return err
	}
	if err := unlocked(path.Join(a.Dir, "lock")); err != nil {
		return err
	}
	// As long as root works there nobody else renames things. What comes after the adoption gives it back to the agent.
	for _, dir := range []string{a.Dir, path.Join(a.Dir, "releases")} {
		if err := take(dir); err != nil {
			return err
		}
	}
	tree, err := appdir.Open(appdir.Options{Path: a.Dir, UID: a.User.UID, GID: a.User.GID})
	if err != nil {
		return err
	}
	a.tree = tree
	return nil
}

// unlocked is appdir.ErrLocked if an agent holds the lock: nothing is taken from it while it works.
func unlocked(file string) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s: %w", file, appdir.ErrLocked)
	}
	return nil
}

// take makes a directory root's, if it is there.
func take(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, os.Geteuid(), os.Getegid()); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return unix.Fchmod(fd, 0o755)
}

// Close gives the app's directory back.
func (a *Adoption) Close() {
	if a.tree != nil {
		_ = a.tree.Close()
		a.tree = nil
	}
}

// copy makes the release, and leaves word of it for the agent before it has its name.
func (a *Adoption) copy(ctx context.Context) error {
	stage, root, err := a.tree.Stage()
	if err != nil {
		return err
	}
	defer root.Close()
	fail := func(err error) error {
		return errors.Join(err, a.tree.Discard(stage))
	}
	from, err := os.OpenRoot(a.From)
	if err != nil {
		return fail(err)
	}
	defer from.Close()
	if err := (copier{from: from, to: root, skip: a.skips()}).run(ctx); err != nil {
		return fail(err)
	}
	listing, err := artifact.ListTree(ctx, root, a.Shared)
	if err != nil {
		return fail(err)
	}
	word := deployment.Adopted{
		Name: a.name, Hash: a.version, Msg: "what ran in " + a.From + " before", Date: time.Now().UTC().Format(time.RFC3339),
		Digest: listing.Digest(), Shared: a.Shared,
	}
	state, err := a.state()
	if err != nil {
		return fail(err)
	}
	defer state.Close()
	if err := journal.LeaveAdopted(state, a.Key, a.Agent.UID, a.Agent.GID, word, listing); err != nil {
		return fail(err)
	}
	if _, err := a.tree.Seal(stage, a.name, a.Shared); err != nil {
		return fail(err)
	}
	return nil
}

// state opens the agent's state directory, made as its unit makes it.
func (a *Adoption) state() (*os.Root, error) {
	if err := os.MkdirAll(path.Dir(a.State), 0o755); err != nil {
		return nil, err
	}
	err := os.Mkdir(a.State, 0o700)
	if err == nil {
		err = os.Lchown(a.State, a.Agent.UID, a.Agent.GID)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.OpenRoot(a.State)
}

// skips are the shared paths as they are named in a tree.
func (a *Adoption) skips() []string {
	var out []string
	for _, s := range a.Shared {
		out = append(out, strings.TrimSuffix(s, "/"))
	}
	return out
}

func (a *Adoption) isShared(rel string) bool {
	return slices.ContainsFunc(a.skips(), func(s string) bool { return within(rel, s) })
}

// within reports whether p is dir or lies in it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
