package grant

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// mend plans to give the agent what others have left in the places that are its own: releases that a script or the app's
// user made, which that user could still change, and what an agent of another user has made.
func (t tree) mend(plan *Plan) error {
	for _, place := range []string{"releases", "incoming", "lock"} {
		count, err := t.foreign(place, false)
		if err != nil {
			return fmt.Errorf("look into %s/%s: %w", t.app.Dir, place, err)
		}
		if count == 0 {
			continue
		}
		c := Change{Action: Give, Path: t.app.Dir + "/" + place + "/*"}
		c.Detail = fmt.Sprintf("of %s, writable for nobody else: %d of them", t.app.Agent.User, count)
		if place == "lock" {
			c.Path, c.Detail = t.app.Dir+"/lock", "of "+t.app.Agent.User
		}
		c.do = func() error {
			_, err := t.foreign(place, true)
			return err
		}
		plan.Changes = append(plan.Changes, c)
	}
	return nil
}

// foreign counts what in the place others own or may write, and gives it to the agent if it is told to.
func (t tree) foreign(place string, give bool) (int, error) {
	st, err := t.stat(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	}
	parent, name, err := t.openParent(place)
	if err != nil {
		return 0, err
	}
	defer unix.Close(parent)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return t.foreignAt(parent, name, give)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return t.foreignIn(fd, give)
}

// foreignIn is foreign for what lies in a directory. It closes fd.
func (t tree) foreignIn(fd int, give bool) (count int, err error) {
	dir := os.NewFile(uintptr(fd), "directory")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := t.foreignAt(fd, name, give)
		if err != nil {
			return count, fmt.Errorf("%s: %w", name, err)
		}
		count += n
	}
	return count, nil
}

func (t tree) foreignAt(parent int, name string, give bool) (count int, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, fs.ErrNotExist) {
		return 0, nil // an agent is at work
	} else if err != nil {
		return 0, err
	}
	kind, agent := st.Mode&unix.S_IFMT, t.app.Agent
	wide := kind != unix.S_IFLNK && st.Mode&0o022 != 0
	if int(st.Uid) != agent.UID || wide {
		count = 1
	}
	if count == 1 && give {
		if kind == unix.S_IFLNK {
			err = unix.Fchownat(parent, name, agent.UID, agent.GID, unix.AT_SYMLINK_NOFOLLOW)
		} else {
			err = giveAt(parent, name, agent, func(st *unix.Stat_t) uint32 { return st.Mode & 0o755 })
		}
		if err != nil {
			return count, err
		}
	}
	if kind != unix.S_IFDIR {
		return count, nil
	}
	// Above before below: what is given away already cannot be exchanged any more.
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return count, err
	}
	below, err := t.foreignIn(fd, give)
	return count + below, err
}
