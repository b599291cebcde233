package endurance

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// shaky stands between the agent and the S3 server. Of each hundred requests it resets some before and some in the midst of
// the answer, answers some with 503 and holds some back. Requests keep their Host, which their signatures cover.
type shaky struct {
	store *parts.S3Server
	addr  string

	mu     sync.Mutex
	random *rand.Rand
	passed int
	done   map[string]int // to how many requests each trouble happened
}

// troubles and how many of a hundred requests have them.
var troubles = []struct {
	name string
	of   int
}{{"reset", 4}, {"broken off", 4}, {"503", 4}, {"delayed", 8}}

// newShaky starts one on the loopback; it ends with the test.
func newShaky(t *testing.T, store *parts.S3Server, seed uint64) *shaky {
	t.Helper()
	to, err := url.Parse(store.Endpoint)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &shaky{store: store, addr: listener.Addr().String(), random: rand.New(rand.NewPCG(seed, 1)), done: map[string]int{}}
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Header.Get(breakOff) != "" {
				r.Body = &half{ReadCloser: r.Body, left: max(r.ContentLength/2, 1)}
			}
			return nil
		},
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(breakOff)
		switch s.trouble() {
		case "reset":
			reset(w)
			return
		case "503":
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
			return
		case "delayed":
			select {
			case <-time.After(200 * time.Millisecond):
			case <-r.Context().Done():
			}
		case "broken off":
			r.Header.Set(breakOff, "1")
			defer func() {
				if recover() != nil { // what the proxy does when a body ends early
					panic(http.ErrAbortHandler)
				}
			}()
		}
		proxy.ServeHTTP(w, r)
	})}
	proxy.ErrorLog, server.ErrorLog = quiet, quiet
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(listener)
		close(ended)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
		transport.CloseIdleConnections()
	})
	return s
}

// breakOff marks, inside of the gateway, a request whose answer is to end early. The store never signs or reads it.
const breakOff = "X-Break-Off"

// trouble draws what happens to the next request; nothing to most.
func (s *shaky) trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	drawn := s.random.IntN(100)
	for _, t := range troubles {
		if drawn < t.of {
			s.done[t.name]++
			return t.name
		}
		drawn -= t.of
	}
	s.passed++
	return ""
}

// said is what has happened to requests so far.
func (s *shaky) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d requests passed", s.passed)
	for _, t := range troubles {
		text += fmt.Sprintf(", %d %s", s.done[t.name], t.name)
	}
	return text
}

// url is the bucket's URL through the gateway.
func (s *shaky) url(bucket string) string {
	through := *s.store
	through.Endpoint = "http://" + s.addr
	return through.URL(bucket)
}

// reset ends a connection as a peer does that has died.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// half is a body that breaks off.
type half struct {
	io.ReadCloser
	left int64
}

func (h *half) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}
