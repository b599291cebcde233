package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("PORT_TEST_PASSED") != "" {
		os.Exit(answer())
	}
	goleak.VerifyTestMain(m)
}

// answer is a process that systemd has started: it says who it is to everyone who waits at its sockets.
func answer() int {
	listeners, err := Passed()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, l := range listeners {
		c, err := l.Accept()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Fprintf(c, "%s of %d, %q left", l.Addr(), len(listeners), os.Getenv("LISTEN_FDS"))
		_ = c.Close()
		_ = l.Close()
	}
	again, err := Passed()
	fmt.Printf("%d the second time, %v", len(again), err)
	return 0
}

// pass starts answer with the files as its sockets, and returns what it prints.
func pass(t *testing.T, files ...*os.File) string {
	t.Helper()
	// The process id is part of the protocol, so that it must be told by the process itself.
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "PORT_TEST_PASSED=1", fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES=towline")
	cmd.ExtraFiles = files
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func file(t *testing.T, l interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestPassed(t *testing.T) {
	if got, err := Passed(); len(got) > 0 || err != nil {
		t.Errorf("without systemd: got %v, %v", got, err)
	}
	var files []*os.File
	var waiting []net.Conn
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		files = append(files, file(t, l.(*net.TCPListener)))
		c, err := net.Dial("tcp", l.Addr().String()) // nobody serves it yet
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		waiting = append(waiting, c)
	}
	if got := pass(t, files...); got != "0 the second time, <nil>" {
		t.Errorf("got %q", got)
	}
	for _, c := range waiting {
		text, err := io.ReadAll(c)
		if want := c.RemoteAddr().String() + ` of 2, "" left`; err != nil || string(text) != want {
			t.Errorf("got %q, %v, want %q", text, err, want)
		}
	}
}

func TestPassedOfAnotherKind(t *testing.T) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	unix, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	got := pass(t, file(t, udp), file(t, unix.(*net.UnixListener)))
	for _, want := range []string{"socket 1 passed by systemd: want one that listens", "socket 2 passed by systemd: it is unix", "want TCP"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// queue is a listener whose connections come from where the test says.
type queue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

type from struct {
	net.Conn
	address string
	closed  chan struct{}
}

func (f from) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", f.address)
	return a
}
func (f from) Close() error { close(f.closed); return nil }

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}
func (q *queue) Close() error   { q.once.Do(func() { close(q.closed) }); return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := NewGate(6, 2)
		queues := [2]*queue{}
		accepted := make(chan net.Conn, 100)
		for i := range queues {
			queues[i] = &queue{conns: make(chan net.Conn, 100), closed: make(chan struct{})}
			l := gate.Listener(queues[i])
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
					accepted <- c
				}
			}()
			defer l.Close()
		}
		connect := func(i int, address string) from {
			c := from{address: address, closed: make(chan struct{})}
			queues[i].conns <- c
			synctest.Wait()
			return c
		}
		refused := func(c from) bool {
			select {
			case <-c.closed:
				return true
			default:
				return false
			}
		}
		for i, c := range []struct {
			queue   int
			address string
			refused bool
		}{
			{0, "192.0.2.1:1", false}, {1, "192.0.2.1:2", false}, {0, "192.0.2.1:3", true}, {1, "192.0.2.1:4", true},
			{0, "[2001:db8::1]:1", false}, {0, "[2001:db8::2]:1", false}, {0, "[2001:db8::3]:1", true}, {1, "[2001:db8:0:1::3]:1", false},
		} {
			if got := refused(connect(c.queue, c.address)); got != c.refused {
				t.Errorf("connection %d from %s: got refused %t, want %t", i+1, c.address, got, c.refused)
			}
		}
		if got := len(accepted); got != 5 {
			t.Errorf("got %d accepted, want 5", got)
		}
		connect(0, "192.0.2.9:1")
		late := connect(1, "192.0.2.10:1")
		if got := len(accepted); got != 6 || refused(late) {
			t.Errorf("got %d accepted and the seventh refused %t, want it to wait", got, refused(late))
		}
		for range 6 {
			_ = (<-accepted).Close()
		}
		synctest.Wait()
		if got := len(accepted); got != 1 {
			t.Errorf("got %d accepted once others have gone, want the one that waited", got)
		}
		_ = (<-accepted).Close()
		if len(gate.peers) > 0 {
			t.Errorf("got %v, want that nobody is remembered who has no connection", gate.peers)
		}
	})
}

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		h := Recent(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			if r.Context().Err() != nil {
				t.Error("whoever comes first may go away and spoil the answer of all")
			}
			w.Header().Set("Content-Type", "text/x")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "answer %d", calls)
		}), time.Second)
		ask := func(ctx context.Context) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
			if want := fmt.Sprintf("answer %d", calls); w.Code != http.StatusTeapot || w.Body.String() != want || w.Header().Get("Content-Type") != "text/x" {
				t.Errorf("got %d %q of %q, want %q", w.Code, w.Body, w.Header().Get("Content-Type"), want)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		ask(gone)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { ask(t.Context()) })
		}
		all.Wait()
		if calls != 1 {
			t.Errorf("got %d calls within a second, want 1", calls)
		}
		time.Sleep(time.Second)
		for range 50 {
			all.Go(func() { ask(t.Context()) })
		}
		all.Wait()
		if calls != 2 {
			t.Errorf("got %d calls, want 2", calls)
		}
	})
}
