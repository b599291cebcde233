package agent

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towline/towline/internal/agent/outbox"
	"github.com/towline/towline/internal/agent/page"
	"github.com/towline/towline/internal/agent/port"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
)

// life is what the daemon keeps through all its configurations: its listeners, who listens to it, and what is known of
// every app that one of them had.
type life struct {
	log      *slog.Logger
	hub      ping.Hub
	notices  atomic.Pointer[outbox.Notices]
	counts   counts
	board    board // of the status page
	started  time.Time
	patience time.Duration // requestTime
	watching time.Duration // watchTime

	lock   *os.File
	ports  []net.Listener                   // none without a port
	cert   atomic.Pointer[port.Certificate] // nil for plain HTTP
	socket net.Listener

	now  atomic.Pointer[Agent] // the configuration that counts
	over chan struct{}         // closed when Run has ended

	reloads reloading // what of it changes is guarded by mu

	mu          sync.Mutex
	subscribers map[int]func(app string, event deployment.Event)
	next        int
	lanes       map[string]*lane // by key of the configuration
}

func newLife(log *slog.Logger) *life {
	return &life{
		log: log, started: time.Now(), patience: requestTime, watching: watchTime, over: make(chan struct{}), reloads: reloading{asked: make(chan chan error)},
		subscribers: map[int]func(string, deployment.Event){}, lanes: map[string]*lane{},
		board: board{look: func(ctx context.Context, one *app) page.App { return one.look(ctx) }},
	}
}

// lane is the one of a key, made when it is asked for first.
func (l *life) lane(key string) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.lanes[key]
	if one == nil {
		one = &lane{wake: make(chan struct{}, 1), opened: make(chan struct{})}
		l.lanes[key] = one
	}
	return one
}

// Addr is the host:port on which the agent listens, empty without a port.
func (l *life) Addr() string {
	if len(l.ports) == 0 {
		return ""
	}
	return l.ports[0].Addr().String()
}

// Pin is the hex SHA-256 of the public key of the certificate in use, empty without TLS.
func (l *life) Pin() string {
	cert := l.cert.Load()
	if cert == nil {
		return ""
	}
	return cert.Pin()
}

// Subscribe calls on with every event from now on, in the order of each app; app is its key in the configuration. on must
// not block. cancel ends it.
func (l *life) Subscribe(on func(app string, event deployment.Event)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.next
	l.next++
	l.subscribers[id] = on
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subscribers, id)
	}
}

// event takes an engine's event to everyone who wants it.
func (l *life) event(one *app, e deployment.Event) {
	l.hub.Publish(one.Key, e)
	l.notices.Load().Event(one.Key, e)
	l.counts.event(one.Key, e)
	l.board.news(one)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, on := range l.subscribers {
		on(one.Key, e)
	}
}

// replay puts an event of the past where those who ask late find it.
func (l *life) replay(one *app, e deployment.Event) {
	l.hub.Publish(one.Key, e)
	l.notices.Load().Remember(one.Key, e)
}
