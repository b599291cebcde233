package appdir

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// private is an error if the agent is root and the app's user could put something else in the place of what lies in dir,
// or of dir itself: root would make, give away and delete files wherever that leads. An agent that is not root can do no
// more there than the user that it runs as.
func (d *Dir) private(dir string) error {
	if os.Geteuid() != 0 || d.uid == 0 {
		return nil
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if err := d.privateUp(dir); err != nil || real == dir {
		return err
	}
	return d.privateUp(real)
}

// privateUp is private for the directories of one path, which has no say about where links on it lead from.
func (d *Dir) privateUp(dir string) error {
	for {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		why := ""
		switch {
		case int(st.Uid) == d.uid:
			why = "belongs to the user that the app runs as"
		case st.Mode&unix.S_ISVTX != 0: // there everyone exchanges only what is his own
		case st.Mode&0o020 != 0 && int(st.Gid) == d.gid:
			why = "is writable for the group of the user that the app runs as"
		case st.Mode&0o002 != 0:
			why = "is writable for everybody"
		}
		if why != "" {
			return fmt.Errorf("%s %s, and the agent is root: the app could lead it anywhere; towline app add sets that right, or "+
				"chown root and chmod go-w", dir, why)
		}
		if dir == "/" {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}
