// Package grant is what root grants the agent for one app: the app's directory, the right to write in it, and the right to
// handle the app's unit. It is the one place that says what `towline app add` writes and `towline app remove` takes away.
//
// Parties: root runs it; the agent, an unprivileged user, gets what it writes; the app, another user yet, gets shared/ and
// nothing else. Neither of the two is trusted: the agent owns the app's directory and the app owns shared/, so everything
// below is reached by descriptors, one name at a time, and no link is followed.
//
//	<dir>/                     the agent's, 755       so that the app can enter and read, and change nothing
//	<dir>/releases/            the agent's, 755
//	<dir>/incoming/            the agent's, 700
//	<dir>/shared/              the app's
//	<dir>/shared/<path>        the app's
//	/etc/systemd/system/towline-agent.service.d/<key>.conf    the agent's sandbox opens for <dir>
//	/etc/polkit-1/rules.d/50-towline-<key>.rules              the agent may start, stop, … the unit
//	/etc/systemd/system/towline-app-<key>@.service            the app's own programs run as its user
//
// Where polkit cannot tell units apart the agent has to be root, and the last two make way for
// /etc/systemd/system/towline-agent.service.d/_root.conf, which all apps share.
//
// Add and Remove only look, and return a Plan: what is as it should be and what is not. Apply does the latter; what it has
// written is durable. The same grant planned again has nothing to do. A file that somebody else wrote is never replaced.
package grant

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towline/towline/internal/durable"
)

// AgentUnit is the unit whose sandbox the grants open.
const AgentUnit = "towline-agent.service"

const (
	unitDir   = "/etc/systemd/system"
	dropInDir = unitDir + "/" + AgentUnit + ".d"
	ruleDir   = "/etc/polkit-1/rules.d"
	// No app's key begins with an underscore.
	rootDropIn = dropInDir + "/_root.conf"

	mark = Mark
)

// Mark is in the first line of every file that app add writes.
const Mark = "Written by towline app add"

// Owner is a user with a group, by name for people and by number for the kernel.
type Owner struct {
	User, Group string
	UID, GID    int
}

// App is what the grant is for.
type App struct {
	Key    string   // in the configuration
	Dir    string   // absolute and clean
	Unit   string   // empty: nothing to restart, no right to
	Agent  Owner    // whom the agent runs as
	User   Owner    // whom the unit runs as; without a unit the agent
	Groups []int    // all groups of User
	Shared []string // paths below shared/; those that end in a slash are directories
	// AsRoot says that polkit cannot tell units apart, so that the agent is root.
	AsRoot bool
	// The app's own programs, each one argv; nil when there is none.
	BeforeActivate, AfterHealthy, Probe []string
}

// Action is what becomes of a thing.
type Action string

// The actions.
const (
	Make    Action = "make"
	Replace Action = "replace" // a file of ours whose text is another one now
	Give    Action = "give"    // change the owner, or the mode
	Delete  Action = "delete"
	Keep    Action = "keep" // it is as it should be
)

// Change is one thing and what becomes of it.
type Change struct {
	Action Action `json:"action"`
	Path   string `json:"path"`
	Detail string `json:"detail,omitempty"`

	do func() error
}

// String is the change for people, in one line.
func (c Change) String() string {
	text := fmt.Sprintf("%-7s  %s", c.Action, c.Path)
	if c.Detail != "" {
		text += "  (" + c.Detail + ")"
	}
	return text
}

// Plan is what Apply would do, in its order.
type Plan struct {
	Changes []Change
}

// Todo counts the changes that are none yet.
func (p Plan) Todo() int {
	n := 0
	for _, c := range p.Changes {
		if c.Action != Keep {
			n++
		}
	}
	return n
}

// EndsRoot reports whether the agent is root so far, and is not any more once the plan is carried out.
func (p Plan) EndsRoot() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Path == rootDropIn && c.Action == Delete })
}

// Apply makes the changes and calls done after each that was not Keep. It ends at the first error; what was done until then
// stays, and planning again shows the rest.
func (p Plan) Apply(done func(Change)) error {
	for _, c := range p.Changes {
		if c.Action == Keep {
			continue
		}
		if err := c.do(); err != nil {
			return fmt.Errorf("%s %s: %w", c.Action, c.Path, err)
		}
		done(c)
	}
	return nil
}

// Add plans what the app lacks. root is put before every path; it is empty on a real machine. An error says what stands in
// the way: a place that the app could reach, two filesystems, a file that somebody else wrote, a program that cannot be
// named.
func Add(root string, app App) (Plan, error) {
	if err := app.check(); err != nil {
		return Plan{}, err
	}
	plan, err := tree{root: root, app: app}.plan()
	if err != nil {
		return Plan{}, err
	}
	return plan.with(root, app.files())
}

// Remove plans to take away the files that Add wrote for the app with this key, and nothing else: its directory with all
// that is in it stays. What makes the agent root goes with the last app.
func Remove(root, key string) (Plan, error) {
	app := App{Key: key}
	gone := []File{{Path: app.dropInPath()}, {Path: app.rulePath()}, {Path: app.programsPath()}}
	others, err := filepath.Glob(root + dropInDir + "/*.conf")
	if err != nil {
		return Plan{}, err
	}
	last := true
	for _, path := range others {
		text, err := os.ReadFile(path)
		own := path == root+app.dropInPath() || path == root+rootDropIn
		if err == nil && ours(string(text)) && !own {
			last = false
		}
	}
	if last {
		gone = append(gone, File{Path: rootDropIn})
	}
	return Plan{}.with(root, gone)
}

// Files plans what becomes of files of the administrator's: those of root's that begin with Mark and the app's key, as all
// that Add writes. root is as for Add.
func Files(root string, files ...File) (Plan, error) { return Plan{}.with(root, files) }

// Step is a change of another kind, for a Plan that tells all that is done for an app.
func Step(action Action, path, detail string, do func() error) Change {
	return Change{Action: action, Path: path, Detail: detail, do: do}
}

// with adds what becomes of the files.
func (p Plan) with(root string, files []File) (Plan, error) {
	for _, f := range files {
		c, err := f.change(root)
		if err != nil {
			return Plan{}, err
		}
		if c.Action != "" {
			p.Changes = append(p.Changes, c)
		}
	}
	return p, nil
}

// check refuses what cannot be written down safely.
func (a App) check() error {
	clean := filepath.IsAbs(a.Dir) && filepath.Clean(a.Dir) == a.Dir && strings.TrimSpace(a.Dir) == a.Dir
	if !clean || a.Dir == "/" || !text(a.Dir) {
		return fmt.Errorf("app directory %q: want an absolute path without control characters or spaces around it", a.Dir)
	}
	for _, p := range a.programs() {
		for i, word := range p.argv {
			switch {
			case strings.ContainsRune(word, 0):
				return fmt.Errorf("program %s: word %d holds a NUL character", p.name, i+1)
			case i == 0 && strings.HasPrefix(word, "-"):
				return fmt.Errorf("program %s: %q is an option, not a program", p.name, word)
			}
		}
	}
	return nil
}

// File is a file of root's with this text; without text it is not to be there.
type File struct {
	Path, Text, Detail string
	// Once: a person may have changed it since, so that one with another text is neither replaced nor deleted.
	Once bool
}

func (a App) files() []File {
	dropIn := File{Path: a.dropInPath(), Text: DropIn(a), Detail: "the agent may write in " + a.Dir}
	asRoot := File{Path: rootDropIn}
	rule := File{Path: a.rulePath()}
	programs := File{Path: a.programsPath()}
	switch {
	case a.AsRoot:
		asRoot.Text, asRoot.Detail = RootDropIn(), "the agent runs as root"
	case a.Unit != "":
		rule.Text, rule.Detail = Rule(a), "the agent may start, stop, restart and reload "+a.Unit
		if len(a.programs()) > 0 {
			programs.Text, programs.Detail = Programs(a), "hooks and probe run as "+a.User.User
		}
	}
	return []File{dropIn, asRoot, rule, programs}
}

// change compares the file with what is there. The zero Change: it is not there, as it should be.
func (f File) change(root string) (Change, error) {
	path := root + f.Path
	c := Change{Path: f.Path, Detail: f.Detail}
	have, info, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.Text == "":
		return Change{}, nil
	case errors.Is(err, fs.ErrNotExist):
		c.Action = Make
	case err != nil:
		return Change{}, fmt.Errorf("look at what is granted: %w", err)
	case have == f.Text && info.Mode().Perm() == fileMode:
		c.Action = Keep
		return c, nil
	case f.Once && f.Text != "":
		return Change{}, fmt.Errorf("%s is there already, with another text: %w", f.Path, fs.ErrExist)
	case !ours(have):
		return Change{}, fmt.Errorf("%s was not written by towline app add: move it away first", f.Path)
	case f.Text == "":
		c.Action = Delete
		c.do = func() error { return durable.Remove(path) }
		return c, nil
	default:
		c.Action = Replace
	}
	c.do = func() error {
		if err := makeParents(path); err != nil {
			return err
		}
		return durable.WriteFile(path, []byte(f.Text), fileMode)
	}
	return c, nil
}

const fileMode fs.FileMode = 0o644

// read returns the text of a regular file.
func read(path string) (string, fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := os.ReadFile(path)
	return string(data), info, err
}

// ours reports whether the text is one that this package writes.
func ours(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	return strings.Contains(first, mark)
}

// makeParents makes the directories above path, root's, mode 755 whatever the umask, durably.
func makeParents(path string) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeParents(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}
