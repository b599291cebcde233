// Package port is what stands between the agent and the strangers at its port.
//
// Parties: strangers connect; Passed and Gate give the agent's server as many of them as it can bear, whoever they are;
// Certificate is what it shows to them; Recent keeps what is dear to find out from being asked for all the time.
//
// Invariants: memory and threads are bounded by the number of connections, and no peer has more than its share of them.
package port

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/towline/towline/internal/ping"
)

// Passed returns the listeners that systemd holds for this process (socket activation): none when it holds none. They
// stay bound when the process ends. It may be called once; the variables that tell of them are removed.
func Passed() ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets passed by systemd: %w", err)
	}
	for i, l := range passed {
		if l == nil {
			err = errors.Join(err, fmt.Errorf("socket %d passed by systemd: want one that listens", i+1))
		} else if l.Addr().Network() != "tcp" {
			err = errors.Join(err, fmt.Errorf("socket %d passed by systemd: it is %s %s, want TCP (ListenStream=8422)",
				i+1, l.Addr().Network(), l.Addr()))
		}
	}
	if err != nil {
		for _, l := range passed {
			if l != nil {
				_ = l.Close()
			}
		}
		return nil, err
	}
	return passed, nil
}

// Gate bounds the connections of the listeners that share it.
type Gate struct {
	tokens chan struct{}
	share  int
	mu     sync.Mutex
	peers  map[string]int // connections of those who have any
}

// NewGate lets all connections in at a time, and share of one peer (see ping.Peer).
func NewGate(all, share int) *Gate {
	return &Gate{tokens: make(chan struct{}, all), share: share, peers: map[string]int{}}
}

// Listener returns l behind the gate: when the gate is full, connections wait in the kernel's queue; those of a peer that
// has its share already are closed.
func (g *Gate) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, gate: g, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	gate   *Gate
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.gate.tokens <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.gate.tokens
			return nil, err
		}
		peer := ping.Peer(c.RemoteAddr().String())
		if l.gate.enter(peer) {
			return &conn{Conn: c, leave: sync.OnceFunc(func() { l.gate.leave(peer) })}, nil
		}
		_ = c.Close()
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (g *Gate) enter(peer string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peers[peer] >= g.share {
		return false
	}
	g.peers[peer]++
	return true
}

func (g *Gate) leave(peer string) {
	g.mu.Lock()
	if g.peers[peer]--; g.peers[peer] == 0 {
		delete(g.peers, peer)
	}
	g.mu.Unlock()
	<-g.tokens
}

// conn is a connection that leaves the gate when it is closed.
type conn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
