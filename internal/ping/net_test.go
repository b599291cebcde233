package ping

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/towline/towline/internal/deployment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a network inside a synctest bubble: pipes, so that waiting on it lets the fake clock run.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	unbuffered bool // a write waits for its reader

	mu    sync.Mutex
	dials int
	down  func(dial int) error // of dial number n, from 1; nil: up
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case conn := <-m.conns:
		return conn, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8422} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	m.mu.Lock()
	m.dials++
	var err error
	if m.down != nil {
		err = m.down(m.dials)
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	here, there := near, far
	if !m.unbuffered {
		here, there = buffer(near), buffer(far)
	}
	select {
	case m.conns <- remoteConn{there}:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.closed:
		return nil, refused
	}
}

var refused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

type remoteConn struct{ net.Conn }

func (remoteConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 40000} }

// buffered is a connection whose writes do not wait for the reader: with two TLS peers on a bare pipe, both may be
// stuck saying goodbye.
type buffered struct {
	net.Conn
	queue chan []byte
	done  chan struct{}
	once  sync.Once
}

func buffer(conn net.Conn) *buffered {
	b := &buffered{Conn: conn, queue: make(chan []byte, 1<<12), done: make(chan struct{})}
	go b.pump()
	return b
}

func (b *buffered) pump() {
	defer b.Conn.Close()
	for {
		select {
		case data := <-b.queue:
			if _, err := b.Conn.Write(data); err != nil {
				return
			}
			continue
		default:
		}
		select {
		case data := <-b.queue:
			if _, err := b.Conn.Write(data); err != nil {
				return
			}
		case <-b.done:
			if len(b.queue) == 0 {
				return
			}
		}
	}
}

func (b *buffered) Write(p []byte) (int, error) {
	select {
	case <-b.done:
		return 0, net.ErrClosed
	case b.queue <- append([]byte(nil), p...):
		return len(p), nil
	}
}

func (b *buffered) Close() error {
	b.once.Do(func() {
		close(b.done)
		_ = b.Conn.SetDeadline(time.Now().Add(time.Second)) // what is queued may still arrive
	})
	return nil
}

func (b *buffered) SetWriteDeadline(time.Time) error     { return nil }
func (b *buffered) SetDeadline(deadline time.Time) error { return b.SetReadDeadline(deadline) }

// server runs handler over the memory network, with TLS unless plain, and ends with the bubble.
type server struct {
	*memory
	pin string
}

func serve(t *testing.T, handler http.Handler, plain bool) *server {
	t.Helper()
	certificate, key, err := SelfSigned(time.Now(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{memory: newMemory(), pin: Pin(pair.Leaf)}
	h := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, ErrorLog: quiet()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if plain {
			_ = h.Serve(s)
		} else {
			_ = h.ServeTLS(s, "", "")
		}
	}()
	t.Cleanup(func() {
		_ = h.Close()
		<-done
		time.Sleep(2 * time.Second) // of the bubble: past the deadline of the last words
		synctest.Wait()
	})
	return s
}

func (s *server) client(t *testing.T) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Dial: s.dial})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ping rings https://web-1:8422 with the right pin and collects what comes, heartbeats apart.
func (s *server) ping(t *testing.T, ctx context.Context) (events []deployment.Event, beats int, err error) {
	t.Helper()
	err = s.client(t).Ping(ctx, "https://web-1:8422", s.pin, []byte(`{"seq":7}`), "", func(e deployment.Event) {
		if e.State == deployment.Heartbeat {
			beats++
			return
		}
		events = append(events, e)
	})
	return events, beats, err
}

// tale is a deployment of n events, the last terminal.
func tale(id string, seq uint64, n int) []deployment.Event {
	var events []deployment.Event
	for i := 1; i <= n; i++ {
		e := deployment.Event{N: i, Deployment: id, App: "nodeapi", Server: "web-1", Seq: seq, Step: deployment.Fetch, State: deployment.Progress}
		if i == n {
			e.Step, e.State, e.Outcome = deployment.End, deployment.Done, deployment.Deployed
		}
		events = append(events, e)
	}
	return events
}

func numbers(events []deployment.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s%d ", e.Deployment, e.N)
	}
	return strings.TrimSpace(b.String())
}

// answering is a Ring that lets everybody follow events, each after a pause.
func answering(pause time.Duration, events ...deployment.Event) func(context.Context, []byte, string) (Answer, error) {
	return func(context.Context, []byte, string) (Answer, error) {
		return Answer{App: "nodeapi", Server: "web-1", Seq: 7, Events: func(ctx context.Context) iter.Seq[deployment.Event] {
			return func(yield func(deployment.Event) bool) {
				for _, e := range events {
					select {
					case <-time.After(pause):
					case <-ctx.Done():
						return
					}
					if !yield(e) {
						return
					}
				}
			}
		}}, nil
	}
}

func line(t *testing.T, w io.Writer, e deployment.Event) {
	data, err := json.Marshal(e)
	if err != nil {
		t.Error(err)
	}
	_, _ = w.Write(append(data, '\n'))
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
