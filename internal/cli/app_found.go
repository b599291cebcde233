package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"regexp"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/grant/unitfile"
	"github.com/towline/towline/internal/service"
)

// founding is what is made of an app before anything can be granted for it: its entry in the configuration, its user, its
// unit and its socket.
type founding struct {
	plan    grant.Plan
	draft   *config.Draft     // nil: the entry is there
	newUser string            // who is to be made; empty: nobody
	service *unitfile.Service // nil: the unit is somebody else's
	socket  *unitfile.Socket  // nil: there is none, and none is wanted
	unread  bool              // systemd has to read units again
	sound   []string          // what was looked at in the unit and is as it should be
}

// noID is the number of a user who is yet to be made. Nothing belongs to it.
const noID = 1<<31 - 2

// userName is what useradd takes without complaint.
var userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// found plans what comes before the grant.
func (g *granting) found(ctx context.Context, c config.App, draft *config.Draft) (*founding, error) {
	f := &founding{draft: draft}
	fail := func(err error) (*founding, error) {
		known := (*fault)(nil)
		if errors.As(err, &known) {
			return nil, err
		}
		return nil, &fault{err: err, code: deployment.ExitUsage, what: "add app " + c.Key}
	}
	if g.wish.exec != "" {
		if err := g.foundService(ctx, f, c); err != nil {
			return fail(err)
		}
	}
	if err := g.foundSocket(f, c); err != nil {
		return fail(err)
	}
	if draft != nil {
		f.plan.Changes = append(f.plan.Changes, grant.Step(grant.Replace, g.p.config, "entry of app "+c.Key, draft.Write))
	}
	return f, nil
}

// foundService plans the app's user and unit.
func (g *granting) foundService(ctx context.Context, f *founding, c config.App) error {
	words, err := unitfile.Words(g.wish.exec)
	if err != nil {
		return err
	}
	if words[0], err = unitfile.Program(g.root, c.Dir, words[0]); err != nil {
		return err
	}
	s := &unitfile.Service{Key: c.Key, Unit: c.Unit, Dir: c.Dir, User: g.wish.user, Argv: words}
	if s.User == "" {
		s.User = c.Key
	}
	switch {
	case s.User == "root":
		return errors.New("--user root: whoever signs a release would be root on this server")
	case s.User == agentUser:
		return errors.New("--user " + agentUser + ": the app could change its releases and command the agent")
	case !userName.MatchString(s.User):
		return &fault{
			err:  fmt.Errorf("%s cannot be the name of a user", s.User),
			hint: "name one with --user: at most 32 of a-z, 0-9, - and _, and no digit first", code: deployment.ExitUsage, what: "add app " + c.Key,
		}
	}
	who, err := g.account(s.User, "")
	switch {
	case err == nil:
		s.Group = who.Group
	case errors.As(err, new(user.UnknownUserError)):
		f.newUser, s.Group = s.User, s.User
		f.plan.Changes = append(f.plan.Changes, grant.Step(grant.Make, "user "+s.User, "of the system, home "+c.Dir+", no login", func() error {
			return g.useradd(ctx, "--system", "--user-group", "--home-dir", c.Dir, "--no-create-home", "--shell", "/usr/sbin/nologin", s.User)
		}))
	default:
		return err
	}
	plan, err := s.Plan(g.root)
	there := errors.Is(err, fs.ErrExist)
	if err == nil && plan.Todo() > 0 {
		// It may come from a package, or from /run.
		unit, ierr := g.inspect(ctx, c.Unit)
		there, err = ierr == nil && unit.LoadState != "not-found", ierr
	}
	if there {
		return &fault{
			err:  fmt.Errorf("there is a unit %s already, and it is not replaced", c.Unit),
			hint: "leave --exec out, with --unit " + c.Unit + ", to take it as it is", code: deployment.ExitUsage, what: "add app " + c.Key,
		}
	}
	if err != nil {
		return err
	}
	f.service, f.unread = s, plan.Todo() > 0
	f.plan.Changes = append(f.plan.Changes, plan.Changes...)
	return nil
}

// foundSocket plans the socket that is wanted, or finds the one that was written before.
func (g *granting) foundSocket(f *founding, c config.App) error {
	s, err := unitfile.FindSocket(g.root, c.Key)
	if err != nil {
		return err
	}
	if g.wish.socket != "" {
		if c.Unit == "" {
			return errors.New("--socket: app " + c.Key + " has no unit that could take it over")
		}
		if s.Listen, err = unitfile.Address(g.wish.socket); err != nil {
			return err
		}
	}
	if s.Listen == "" {
		return nil
	}
	s.Unit = c.Unit
	plan, err := s.Plan(g.root)
	if err != nil {
		return err
	}
	f.socket, f.unread = &s, f.unread || plan.Todo() > 0
	f.plan.Changes = append(f.plan.Changes, plan.Changes...)
	return nil
}

// unit is what systemd will make of the unit that is to be written, where it is not there yet.
func (f *founding) unit(d service.Description) service.Description {
	if f.service == nil {
		return d
	}
	if d.LoadState != "not-found" {
		d.FileState = "enabled" // at last it is; see starts
		return d
	}
	s := f.service
	return service.Description{
		Unit: s.Unit, Name: s.Unit, LoadState: "loaded", FileState: "enabled", User: s.User, Group: s.Group, Type: "exec",
		WorkingDirectory: s.Dir + "/current", Programs: []service.Program{{Setting: "ExecStart", Path: s.Argv[0], Argv: s.Argv}},
		Restart: "on-failure", RestartDelay: 3 * time.Second, StartLimit: time.Minute, StartBurst: 20, OnLimit: "none", OnFailure: "none",
	}
}

// who is the account, also of the user who is to be made.
func (f *founding) who(name, group string, find func(name, group string) (account, error)) (account, error) {
	if f.newUser == "" || name != f.newUser {
		return find(name, group)
	}
	return account{Owner: grant.Owner{User: name, Group: name, UID: noID, GID: noID}, gids: []int{noID}, groups: []string{name}}, nil
}

// starts are the commands that bring the unit and the socket to where they should be, once systemd has read them, and what
// is left to do then.
func (f *founding) starts(unit service.Description) (run [][]string, next []string) {
	if f.service != nil && unit.FileState != "enabled" {
		run = append(run, []string{"enable", f.service.Unit})
	}
	if f.socket == nil || !f.unread {
		return run, nil
	}
	run = append(run, []string{"enable", f.socket.Name()})
	switch unit.ActiveState {
	case "active", "activating", "reloading", "deactivating":
		// systemd opens no socket for a service that runs: the restart stops it, opens the socket and starts it.
		return run, []string{"systemctl restart " + f.socket.Unit}
	}
	return append(run, []string{"start", f.socket.Name()}), nil
}

// lines tell what an app has to do to take the socket.
func (f *founding) lines() string {
	return strings.ReplaceAll(`  the app takes the socket from systemd, as descriptor 3, and listens itself where there is none:
    node    server.listen(process.env.LISTEN_FDS ? { fd: 3 } : PORT)
    Go      if os.Getenv("LISTEN_FDS") != "" { listener, err = net.FileListener(os.NewFile(3, "socket")) }
    Python  listener = socket.socket(fileno=3) if "LISTEN_FDS" in os.environ else socket.create_server(ADDRESS)
  and ends well: told to stop (SIGTERM), it answers what it has accepted, each answer with Connection: close
  examples/zero-downtime has all three; docs/zero-downtime.md says why
`, "PORT", f.socket.Listen[strings.LastIndex(f.socket.Listen, ":")+1:])
}
