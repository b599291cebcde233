package bench

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// gateway stands in front of the S3 server, counts what passes and notes when a pointer was moved. Requests keep their
// Host, which their signatures cover.
type gateway struct {
	store *parts.S3Server
	addr  string
	bytes atomic.Int64 // both ways, on the wire between the client and the gateway

	mu       sync.Mutex
	requests map[string]int       // "GET 304 pointer" -> how many
	moved    map[string]time.Time // "/bucket/app/production/version.json" -> when the store last took a new one
}

// newGateway starts one on the loopback; it ends with the benchmark.
func newGateway(b testing.TB, store *parts.S3Server) *gateway {
	b.Helper()
	to, err := url.Parse(store.Endpoint)
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := &gateway{store: store, addr: listener.Addr().String(), requests: map[string]int{}, moved: map[string]time.Time{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Transport:      transport,
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: g.note,
	}}
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(&tapped{Listener: listener, bytes: &g.bytes})
		close(ended)
	}()
	b.Cleanup(func() {
		_ = server.Close()
		<-ended
		transport.CloseIdleConnections()
	})
	return g
}

// note books an answer before it is passed on.
func (g *gateway) note(answer *http.Response) error {
	now := time.Now()
	request := answer.Request
	kind := "other"
	switch {
	case strings.HasSuffix(request.URL.Path, "/version.json"):
		kind = "pointer"
	case strings.Contains(request.URL.Path, "/receipts/"):
		kind = "receipt"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests[strings.Join([]string{request.Method, answer.Status[:3], kind}, " ")]++
	if request.Method == http.MethodPut && answer.StatusCode == http.StatusOK && kind == "pointer" {
		g.moved[request.URL.Path] = now
	}
	return nil
}

// since is when the pointer of an app was last moved.
func (g *gateway) since(bucket, app string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.moved["/"+bucket+"/"+app+"/production/version.json"]
}

// reset forgets what was counted.
func (g *gateway) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.requests)
	g.bytes.Store(0)
}

// counted are the requests and the bytes since reset.
func (g *gateway) counted() (requests map[string]int, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	requests = map[string]int{}
	for kind, n := range g.requests {
		requests[kind] = n
	}
	return requests, g.bytes.Load()
}

// url is the bucket's URL through the gateway.
func (g *gateway) url(bucket string) string { return g.via(g.addr, bucket) }

// via is the bucket's URL through a wire that ends at the gateway.
func (g *gateway) via(addr, bucket string) string {
	through := *g.store
	through.Endpoint = "http://" + addr
	return through.URL(bucket)
}

// tapped is a listener whose connections count their bytes.
type tapped struct {
	net.Listener
	bytes *atomic.Int64
}

func (l *tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tap{Conn: c, bytes: l.bytes}, nil
}

type tap struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *tap) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}
