package agent

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestPortRoutes(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		extra string
		want  map[string]int
	}{
		{"tls: off", map[string]int{"/healthz": 200, "/readyz": 503, "/": 404, "/metrics": 404, "/v1/apps": 404, "/v1/apps/web": 404, "/v1/ping": 405}},
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

func TestConnectionsAreLimited(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening+"\ntls: off", oneApp))
	var open []net.Conn
	for range maxConnections {
		c, err := net.Dial("tcp", r.Addr())
		w.must(err)
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		w.must(err)
		_, err = c.Read(make([]byte, 1)) // it is being served
		w.must(err)
		open = append(open, c)
	}
	late, err := net.Dial("tcp", r.Addr())
	w.must(err)
	defer late.Close()
	_, err = io.WriteString(late, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
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

// Strangers who announce a body and never send it must not keep everybody else out.
func TestBodiesThatNeverCome(t *testing.T) {
	w := newWorld(t)
	w.tune = func(a *Agent) { a.patience = 300 * time.Millisecond }
	r := w.start(w.settings(listening+"\ntls: off", oneApp))
	for i := range maxConnections {
		c, err := net.Dial("tcp", r.Addr())
		w.must(err)
		defer c.Close()
		path := []string{"/healthz", "/v1/ping", "/nowhere", "/v1/apps/web/hold"}[i%4]
		_, err = io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
		w.must(err)
	}
	late, err := net.Dial("tcp", r.Addr())
	w.must(err)
	defer late.Close()
	_, err = io.WriteString(late, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
	w.must(err)
	w.must(late.SetReadDeadline(time.Now().Add(8 * time.Second)))
	answer := make([]byte, 15)
	if _, err := io.ReadFull(late, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("got %q, %v, want an answer", answer, err)
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
