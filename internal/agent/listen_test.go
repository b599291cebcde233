package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPortRoutes(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		extra string
		want  map[string]int
	}{
		{"tls: off", map[string]int{"/healthz": 200, "/readyz": 503, "/": 404, "/events": 404, "/metrics": 404, "/v1/apps": 404, "/v1/apps/web": 404, "/v1/ping": 405}},
		{"tls: off\nmetrics: true\nstatus_page: true", map[string]int{"/": 200, "/metrics": 200, "/v1/apps": 404, "/x": 404}},
	} {
		r := w.start(w.settings(listening+"\n"+test.extra, "  web: {dir: $srv/no/such/place}\n"))
		for path, want := range test.want {
			resp, err := http.Get("http://" + r.Addr() + path)
			w.must(err)
			body, err := io.ReadAll(resp.Body)
			w.must(err)
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s with %q: got %d, want %d", path, test.extra, resp.StatusCode, want)
			}
			if path == "/readyz" && strings.Contains(string(body), "web") {
				t.Errorf("readyz names an app: %s", body)
			}
		}
		http.DefaultClient.CloseIdleConnections()
		resp, err := http.Post("http://"+r.Addr()+"/v1/apps/web/hold", "application/json", strings.NewReader("{}"))
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("a command on the port: got %d, want 404", resp.StatusCode)
		}
		resp, err = http.Post("http://"+r.Addr()+"/v1/ping", "application/json", strings.NewReader(strings.Repeat(" ", 65<<10)))
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a large ping: got %d, want 413", resp.StatusCode)
		}
		http.DefaultClient.CloseIdleConnections()
		w.must(r.stop())
	}
}

// dial connects to the port from 127.0.0.peer.
func (r *running) dial(peer int) net.Conn {
	r.w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(peer))}}
	c, err := d.DialContext(r.w.t.Context(), "tcp", r.Addr())
	r.w.must(err)
	r.w.t.Cleanup(func() { c.Close() })
	return c
}

const healthz = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"

func TestConnectionsAreLimited(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening+"\ntls: off", oneApp))
	var open []net.Conn
	for i := range maxConnections {
		c := r.dial(2 + i/maxOfOne)
		_, err := io.WriteString(c, healthz)
		w.must(err)
		_, err = c.Read(make([]byte, 1)) // it is being served
		w.must(err)
		open = append(open, c)
	}
	late := r.dial(1)
	_, err := io.WriteString(late, healthz)
	w.must(err)
	w.must(late.SetReadDeadline(time.Now().Add(200 * time.Millisecond)))
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more connection than allowed: got %v, want no answer", err)
	}
	w.must(late.SetReadDeadline(time.Time{}))
	for _, c := range open {
		c.Close()
	}
	if _, err := late.Read(make([]byte, 1)); err != nil {
		t.Errorf("once others have gone: %v", err)
	}
}

// One stranger, however many connections it opens and says nothing on, leaves room for the others.
func TestOnePeerHasItsShareOfTheConnections(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening+"\ntls: off", oneApp))
	for range maxOfOne {
		_, err := io.WriteString(r.dial(2), "POST /v1/ping HTTP/1.1\r\nHost: a\r\nX-Slow: ")
		w.must(err)
	}
	for range maxConnections {
		// Where the first of them is not accepted yet, the write may still succeed.
		c := r.dial(2)
		_, _ = io.WriteString(c, healthz)
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatalf("got %d bytes on one connection more than the share", n)
		}
	}
	other := r.dial(3)
	_, err := io.WriteString(other, healthz)
	w.must(err)
	answer := make([]byte, 15)
	if _, err := io.ReadFull(other, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("another peer got %q, %v, want an answer", answer, err)
	}
}

// Strangers who announce a body, or a header, and never send it must not keep everybody else out.
func TestBodiesThatNeverCome(t *testing.T) {
	w := newWorld(t)
	w.tune = func(a *Agent) { a.patience = 300 * time.Millisecond }
	r := w.start(w.settings(listening+"\ntls: off", oneApp))
	var slow []net.Conn
	for i := range maxConnections {
		c := r.dial(2 + i/maxOfOne)
		text := "GET /healthz HTTP/1.1\r\nHost: a\r\nX-"
		if path := []string{"/healthz", "/v1/ping", "/nowhere", "/v1/apps/web/hold", ""}[i%5]; path != "" {
			text = "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
		}
		_, err := io.WriteString(c, text)
		w.must(err)
		slow = append(slow, c)
	}
	late := r.dial(1)
	_, err := io.WriteString(late, healthz)
	w.must(err)
	w.must(late.SetReadDeadline(time.Now().Add(8 * time.Second)))
	answer := make([]byte, 15)
	if _, err := io.ReadFull(late, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("got %q, %v, want an answer", answer, err)
	}
	for i, c := range slow {
		w.must(c.SetReadDeadline(time.Now().Add(8 * time.Second)))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is still held", i)
		}
	}
}

func TestSocketIsForItsGroup(t *testing.T) {
	w := newWorld(t)
	s := w.settings("", oneApp)
	// A socket that an agent left behind when it died.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Socket, Net: "unix"})
	w.must(err)
	l.SetUnlinkOnClose(false)
	w.must(l.Close())
	r := w.start(s)
	info, err := os.Stat(s.Socket)
	w.must(err)
	if got := info.Mode().Perm(); got != 0o660 {
		t.Errorf("got mode %o, want 660", got)
	}
	if r.Addr() != "" || r.SocketPath() != s.Socket {
		t.Errorf("got address %q and socket %q", r.Addr(), r.SocketPath())
	}
	w.must(r.stop())
	w.must(os.WriteFile(s.Socket, []byte("mine"), 0o600))
	if _, err := New(s, r.Agent.log); err == nil {
		t.Error("a file was taken for a socket")
	}
}

func TestAPortThatTheAgentMayNotOpen(t *testing.T) {
	err := fmt.Errorf("listen on :443: %w", &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EACCES)})
	if got := hint(err); !strings.Contains(got, "towline-agent.socket") {
		t.Errorf("got hint %q, want who can open the port", got)
	}
}
