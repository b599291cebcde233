package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/health"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
)

const (
	hookTime = 5 * time.Minute // for one hook
	reserve  = 64 << 20        // bytes left free where nothing says what an archive unpacks to
)

// unit is what the app runs as, and as whom its own programs run.
type unit struct {
	deploy.Service
	systemd *service.Systemd // nil without a unit
	dir     *appdir.Dir
	turn    chan struct{} // holds one token while an instance runs: they share the link next
}

// unmanaged completes a service that no service manager watches.
type unmanaged struct {
	restarter
}

type restarter interface {
	Restart(context.Context) error
	Stop(context.Context) error
	State(context.Context) (deployment.UnitState, error)
	Log(context.Context, int) ([]string, error)
}

// Check finds nothing to object to.
func (unmanaged) Check(context.Context) error { return nil }

// StartedFrom does not know.
func (unmanaged) StartedFrom(context.Context) (string, error) { return "", nil }

// GoingDown does not know.
func (unmanaged) GoingDown(context.Context) bool { return false }

func (a *app) newUnit() (*unit, error) {
	switch {
	case a.Restart != nil:
		return &unit{Service: unmanaged{service.NewCommand(a.Restart, a.Dir)}}, nil
	case a.Unit == "":
		return &unit{Service: unmanaged{service.None{}}}, nil
	}
	s, err := service.NewSystemd(a.Unit, a.log)
	if err != nil {
		return nil, err
	}
	return &unit{Service: s, systemd: s, turn: make(chan struct{}, 1)}, nil
}

func (u *unit) close() {
	if u.systemd != nil {
		u.systemd.Close()
	}
}

// user is whom the app's own programs run as: "" is the agent's own user. Only root can, and must, run them as another.
func (u *unit) user(ctx context.Context) (string, error) {
	if u.systemd == nil || os.Geteuid() != 0 {
		return "", nil
	}
	return u.systemd.User(ctx)
}

// owner is whom files under shared/ are given to; 0, 0 leaves them to the agent.
func (u *unit) owner(ctx context.Context) (uid, gid int, err error) {
	name, err := u.user(ctx)
	if err != nil || name == "" {
		return 0, 0, err
	}
	who, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(who.Gid)
	return uid, gid, errors.Join(uidErr, gidErr)
}

// exec runs a program of the app's in the directory of a release: as the unit's user, never as the agent. An agent that
// is not root leaves that to systemd, by the instance of the app's oneshot unit that has the program's name.
func (a *app) exec(ctx context.Context, u *unit, name string, argv []string, release string) ([]string, error) {
	if u.systemd != nil && os.Geteuid() != 0 {
		return u.instance(ctx, "towline-app-"+a.Key+"@"+name+".service", release)
	}
	user, err := u.user(ctx)
	if err != nil {
		return nil, err
	}
	return service.Exec(ctx, argv, u.dir.ReleasePath(release), nil, user)
}

// instance runs an instance of the app's oneshot unit, whose working directory is the link next: it leads to the release
// as long as the instance runs.
func (u *unit) instance(ctx context.Context, name, release string) (out []string, err error) {
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("run %s: another one still runs: %w", name, ctx.Err())
	}
	if err := u.dir.Next(release); err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	defer func() {
		if cerr := u.dir.ClearNext(); err == nil {
			err = cerr
		}
	}()
	return u.systemd.RunInstance(ctx, name)
}

func (a *app) hooks(u *unit) deploy.Hooks {
	hooks := deploy.Hooks{}
	for name, argv := range map[string][]string{"before-activate": a.Hooks.BeforeActivate, "after-healthy": a.Hooks.AfterHealthy} {
		if argv == nil {
			continue
		}
		hooks[name] = func(ctx context.Context, dir string) ([]string, error) {
			limited, cancel := context.WithTimeout(ctx, hookTime)
			defer cancel()
			out, err := a.exec(limited, u, name, argv, filepath.Base(dir))
			if err != nil && limited.Err() != nil && ctx.Err() == nil {
				err = fmt.Errorf("not finished within %v: %w", hookTime, err)
			}
			return out, err
		}
	}
	return hooks
}

// gate is the health gate of the release with this hash, which is the one that is live.
func (a *app) gate(u *unit, hash string) health.Gate {
	gate := health.Gate{Unit: u.State, Within: a.Health.Within, Stable: a.Health.Stable, Passes: a.Health.Passes}
	switch h := a.Health; {
	case h.HTTP != "":
		gate.Probe = health.HTTP{URL: h.HTTP, Expect: strings.ReplaceAll(h.Expect, "{{hash}}", hash)}
	case h.TCP != "":
		gate.Probe = health.TCP{Addr: h.TCP}
	case h.Exec != nil:
		gate.Probe = health.Exec{Run: func(ctx context.Context) (string, error) {
			live, err := u.dir.Current()
			if err == nil && live == "" {
				err = errors.New("no release is live")
			}
			if err != nil {
				return "", err
			}
			out, err := a.exec(ctx, u, "probe", h.Exec, live)
			return strings.Join(out, "\n"), err
		}}
	}
	return gate
}

// checker proves a release that was just made live.
func (a *app) checker(u *unit) deploy.Checker {
	return func(ctx context.Context, before deployment.UnitState, hash string, report func(string)) error {
		return a.gate(u, hash).Wait(ctx, before, report)
	}
}

// aliver looks at the release that has been live for a while.
func (a *app) aliver(u *unit) deploy.Alive {
	return func(ctx context.Context, hash string) error { return a.gate(u, hash).Alive(ctx) }
}

// unpacker unpacks, and keeps the listing of what it has unpacked.
func (a *app) unpacker(dir *appdir.Dir, memory *journal.Journal) deploy.Unpacker {
	return func(ctx context.Context, archive *os.File, stage *os.Root, p release.Pointer, warn func(string), progress func(int64)) (string, error) {
		if _, err := archive.Seek(0, 0); err != nil {
			return "", err
		}
		o := artifact.UnpackOptions{Want: p.Artifact, Skip: a.Shared, Warn: warn}
		if date, err := time.Parse(time.RFC3339, p.Release.Date); err == nil {
			o.Mtime = date
		}
		if size := p.Artifact.Size; size > 0 {
			// The engine counts what comes out, the archive what goes in.
			o.Progress = func(read int64) {
				progress(int64(float64(read) / float64(size) * float64(p.Artifact.UnpackedSize)))
			}
		} else {
			free, _, err := dir.Space()
			if err != nil {
				return "", err
			}
			o.MaxBytes = max(free-reserve, 1)
			o.Want.Format = release.FormatGzip
			if strings.HasSuffix(a.Artifact, ".tar.zst") {
				o.Want.Format = release.FormatZstd
			}
		}
		tree, err := artifact.Unpack(ctx, stage, archive, o)
		if err != nil {
			return "", err
		}
		if err := memory.KeepListing(tree.Digest, tree.Listing); err != nil {
			a.log.Warn("changed paths of this release will not be named", "app", a.Key, "error", err)
		}
		return tree.Digest, nil
	}
}
