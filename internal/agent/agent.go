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
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/agent/outbox"
	"github.com/towline/towline/internal/agent/port"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

// ErrTaken says that another agent has the socket, the port or the state directory.
var ErrTaken = errors.New("taken by another agent")

// Agent is the daemon. New opens what it listens on, Run serves it.
type Agent struct {
	settings config.Settings
	token    string // for pings of apps without trust; empty: none are taken
	log      *slog.Logger
	apps     []*app // sorted by key
	hub      ping.Hub
	notices  *outbox.Notices
	counts   counts
	started  time.Time
	patience time.Duration // requestTime

	lock   *os.File
	ports  []net.Listener    // none without a port
	cert   *port.Certificate // nil for plain HTTP
	socket net.Listener

	mu          sync.Mutex
	subscribers map[int]func(app string, event deployment.Event)
	next        int
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
	a := &Agent{settings: s, log: log, started: time.Now(), patience: requestTime, subscribers: map[int]func(string, deployment.Event){}}
	files := secrets(s)
	if s.PingToken != "" {
		token, err := files.Line(s.PingToken)
		if err != nil {
			return nil, secretError("ping_token_file", err)
		}
		a.token = token
	}
	store, receiptStore, err := openBuckets(s, files, log)
	if err != nil {
		return nil, err
	}
	if err := a.takeState(); err != nil {
		return nil, err
	}
	a.notices = outbox.NewNotices(s.Notify, s.Server, log)
	for _, c := range s.Apps {
		one := &app{
			App: c, server: s.Server, poll: s.Poll, state: filepath.Join(s.State, "apps"), bucket: store,
			on: a.event, replay: a.replay, log: log, wake: make(chan struct{}, 1), opened: make(chan struct{}),
		}
		if !s.Receipts.Off {
			one.receipts = outbox.NewReceipts(outbox.ReceiptsOptions{
				App: c.Key, Key: release.ReceiptKey(c.Prefix, c.Environment, s.Server), Bucket: receiptStore,
				Current: one.report, Log: log,
			})
		}
		one.bell.ring = one.ring
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

// Addr is the host:port on which the agent listens, empty without a port.
func (a *Agent) Addr() string {
	if len(a.ports) == 0 {
		return ""
	}
	return a.ports[0].Addr().String()
}

// Pin is the hex SHA-256 of the public key of the certificate in use, empty without TLS.
func (a *Agent) Pin() string {
	if a.cert == nil {
		return ""
	}
	return a.cert.Pin()
}

// SocketPath is where the agent's own socket lies.
func (a *Agent) SocketPath() string { return a.settings.Socket }

// Subscribe calls on with every event from now on, in the order of each app; app is its key in the configuration. on must
// not block. cancel ends it.
func (a *Agent) Subscribe(on func(app string, event deployment.Event)) (cancel func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.next
	a.next++
	a.subscribers[id] = on
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.subscribers, id)
	}
}

// event takes an engine's event to everyone who wants it.
func (a *Agent) event(one *app, e deployment.Event) {
	a.hub.Publish(one.Key, e)
	a.notices.Event(one.Key, e)
	a.counts.event(one.Key, e)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, on := range a.subscribers {
		on(one.Key, e)
	}
}

// replay puts an event of the past where those who ask late find it.
func (a *Agent) replay(one *app, e deployment.Event) {
	a.hub.Publish(one.Key, e)
	a.notices.Remember(one.Key, e)
}

// Run serves until ctx ends, then lets every engine stop at a safe point and returns nil. It returns early only when
// another agent works in an app's directory, or when a socket breaks.
func (a *Agent) Run(ctx context.Context) error {
	defer a.release()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var served, engines, writers sync.WaitGroup
	shut := a.serve(ctx, stop, &served)

	// Receipts and notifications outlive the engines: the last word of an engine is still to be written.
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	writers.Go(func() { a.notices.Run(background) })
	for _, one := range a.apps {
		if one.receipts != nil {
			writers.Go(func() { one.receipts.Run(background) })
		}
		engines.Go(func() {
			if err := one.run(ctx); err != nil {
				stop(fmt.Errorf("app %s: %w", one.Key, err))
			}
		})
	}
	a.log.Info("towline-agent is running", "version", release.Version, "server", a.settings.Server, "apps", len(a.apps),
		"listen", a.Addr(), "pin", a.Pin(), "socket", a.SocketPath())
	if os.Geteuid() == 0 {
		a.log.Warn("the agent runs as root: whoever takes it over has taken the server; " +
			"with polkit 0.106 or newer, towline app add lets it run as its own user")
	}
	a.supervise(ctx)
	a.log.Info("towline-agent is stopping")
	engines.Wait()
	shut()
	served.Wait()
	end()
	writers.Wait()
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
