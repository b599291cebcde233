// Package agent is the face of the server half: configuration in, wiring, one loop per app, and the sockets on which
// people, publishers and monitors ask.
//
// Parties: publishers ring at the port (POST /v1/ping) and prove themselves by what they sign; whoever may open the unix
// socket may command; everybody else sees two health routes and what the configuration opens up. Each app has its own
// bucket, directory, unit, journal and engine. What is wrong with one of them makes that app "not ready" and is tried
// again; the other apps, and the daemon, go on.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/agent/outbox"
	"github.com/towline/towline/internal/agent/port"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

// ErrTaken says that another agent has the socket, the port or the state directory.
var ErrTaken = errors.New("taken by another agent")

// Agent is the daemon under one configuration. New opens what it listens on, Run serves it. With every configuration that
// it takes up there is another Agent; what they share is in life, so that a request sees one configuration from its
// beginning to its end. The one that New returned stands for them all to the outside.
type Agent struct {
	*life
	settings config.Settings
	token    string // for pings of apps without trust; empty: none are taken
	apps     []*app // sorted by key
	stores   stores

	outside, inside http.Handler // of the port and of the socket, once Run has begun
}

// New makes an agent and opens its port and its socket, so that Addr and SocketPath are known; where systemd holds the
// port for it, it takes that one. Run must follow. Errors: ErrTaken, fs errors of the files that the settings name.
func New(s config.Settings, log *slog.Logger) (*Agent, error) {
	passed, err := port.Passed()
	if err != nil {
		return nil, &configError{err}
	}
	return open(s, log, passed)
}

// open is New with the listeners that were passed to the agent.
func open(s config.Settings, log *slog.Logger, passed []net.Listener) (*Agent, error) {
	a, err := build(s, log)
	if err != nil {
		return nil, err
	}
	if err := a.listen(passed); err != nil {
		a.release()
		return nil, err
	}
	return a, nil
}

// build makes an agent without sockets. release gives back what it took.
func build(s config.Settings, log *slog.Logger) (*Agent, error) {
	a, err := newLife(log).under(s, nil)
	if err != nil {
		return nil, err
	}
	if err := a.takeState(); err != nil {
		return nil, err
	}
	a.notices.Store(outbox.NewNotices(s.Notify, s.Server, log))
	a.reloads.original, a.reloads.loaded = s, a.started
	a.now.Store(a)
	return a, nil
}

// under makes the agent of a configuration, from the one before, which may be nil: buckets and apps that are to be as they
// are go over to it. Nothing is changed but in memory that nobody sees yet.
func (l *life) under(s config.Settings, before *Agent) (*Agent, error) {
	a := &Agent{life: l, settings: s}
	files := secrets(s)
	if s.PingToken != "" {
		token, err := files.Line(s.PingToken)
		if err != nil {
			return nil, secretError("ping_token_file", err)
		}
		a.token = token
	}
	var same stores
	if before != nil {
		same = before.stores
	}
	var err error
	if a.stores, err = openStores(s, files, same, l.log); err != nil {
		return nil, err
	}
	for _, c := range s.Apps {
		one := &app{
			App: c, lane: l.lane(c.Key), server: s.Server, poll: s.Poll, state: filepath.Join(s.State, "apps"), bucket: a.stores.releases,
			on: l.event, news: l.board.news, replay: l.replay, log: l.log,
		}
		one.leaving, one.leave = context.WithCancel(context.Background())
		if !s.Receipts.Off {
			one.receipts = outbox.NewReceipts(outbox.ReceiptsOptions{
				App: c.Key, Key: release.ReceiptKey(c.Prefix, c.Environment, s.Server), Bucket: a.stores.receipts,
				Current: one.report, Log: l.log,
			})
		}
		one.bell.ring = one.ring
		if before != nil {
			if old, there := before.app(c.Key); there && old.same(one) {
				one = old
			}
		}
		a.apps = append(a.apps, one)
	}
	return a, nil
}

// takeState makes the state directory and takes its lock.
func (a *Agent) takeState() error {
	if err := foreignState(a.settings.State, agentName); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.settings.State, "apps"), 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(a.settings.State, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrTaken
		}
		return fmt.Errorf("lock state directory %s: %w", a.settings.State, err)
	}
	a.lock = file
	return nil
}

// release gives back what build and listen took, except what Run has given back already.
func (a *Agent) release() {
	for _, l := range a.ports {
		_ = l.Close()
	}
	if a.socket != nil {
		_ = a.socket.Close()
	}
	_ = a.lock.Close()
}

// SocketPath is where the agent's own socket lies.
func (a *Agent) SocketPath() string { return a.settings.Socket }

// Run serves until ctx ends, then lets every engine stop at a safe point and returns nil. It returns early only when
// another agent works in an app's directory at the very start, or when a socket breaks.
func (a *Agent) Run(ctx context.Context) error {
	defer a.release()
	defer close(a.over)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var served sync.WaitGroup
	shut := a.serve(ctx, stop, &served)

	// Notifications outlive the engines: the last word of an engine is still to be sent.
	c := &crew{ctx: ctx, stop: stop}
	c.notify(a.notices.Load())
	for _, one := range a.apps {
		c.man(one, true)
	}
	a.log.Info("towline-agent is running", "version", release.Version, "server", a.settings.Server, "apps", len(a.apps),
		"listen", a.Addr(), "pin", a.Pin(), "socket", a.SocketPath())
	if os.Geteuid() == 0 {
		a.log.Warn("the agent runs as root: whoever takes it over has taken the server; " +
			"with polkit 0.106 or newer, towline app add lets it run as its own user")
	}
	a.supervise(ctx, c)
	a.log.Info("towline-agent is stopping")
	c.engines.Wait()
	shut()
	served.Wait()
	c.dismiss()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// find returns the app with this key, or the only one with this app name.
func (a *Agent) find(name string) (*app, error) {
	var byName []*app
	var keys []string
	for _, one := range a.apps {
		if one.Key == name {
			return one, nil
		}
		if one.App.App == name {
			byName = append(byName, one)
		}
		keys = append(keys, one.Key)
	}
	switch len(byName) {
	case 0:
	case 1:
		return byName[0], nil
	default:
		return nil, &unknownApp{name: name, known: keys, several: true}
	}
	return nil, &unknownApp{name: name, known: keys}
}
