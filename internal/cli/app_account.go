package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/grant"
)

// systemctl runs systemd's own command.
func systemctl(ctx context.Context, args ...string) error { return run(ctx, "systemctl", args...) }

// useradd makes a user.
func useradd(ctx context.Context, args ...string) error { return run(ctx, "useradd", args...) }

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// account is a user of this machine.
type account struct {
	grant.Owner          // with the group that was asked for, else the user's own
	gids        []int    // of all groups
	groups      []string // their names
}

// lookUp finds a user by name or number, with a group or, when that is empty, the user's own one.
func lookUp(name, group string) (account, error) {
	who, err := user.Lookup(name)
	if _, number := strconv.Atoi(name); err != nil && number == nil {
		who, err = user.LookupId(name)
	}
	if err != nil {
		return account{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	main, err := user.LookupGroupId(who.Gid)
	if group != "" {
		main, err = user.LookupGroup(group)
		if _, number := strconv.Atoi(group); err != nil && number == nil {
			main, err = user.LookupGroupId(group)
		}
	}
	if err != nil {
		return account{}, fmt.Errorf("look up the group of user %s: %w", name, err)
	}
	a := account{Owner: grant.Owner{User: who.Username, Group: main.Name}}
	ids, err := who.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("look up the groups of user %s: %w", name, err)
	}
	if !slices.Contains(ids, main.Gid) {
		ids = append(ids, main.Gid)
	}
	for _, id := range ids {
		gid, err := strconv.Atoi(id)
		if err != nil {
			return account{}, fmt.Errorf("look up the groups of user %s: %q is no number", name, id)
		}
		a.gids = append(a.gids, gid)
		if g, err := user.LookupGroupId(id); err == nil {
			a.groups = append(a.groups, g.Name)
		}
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(main.Gid)
	a.UID, a.GID = uid, gid
	return a, errors.Join(uidErr, gidErr)
}
