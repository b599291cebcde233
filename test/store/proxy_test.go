package store

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// The kinds of objects that a request is about.
const (
	pointer  = "pointer"
	artifact = "artifact"
	manifest = "manifest"
	history  = "history"
	receipt  = "receipt"
	listing  = "listing"
)

// call is one request as the proxy saw it.
type call struct {
	Method, Kind string
	Range        string
	At           time.Time
	Status       int   // 0: none was sent
	Sent         int64 // bytes of the body
}

// fault answers a request in the store's place, or has ask do so. n counts the calls of this method and kind since the fault
// was set, from 1.
type fault func(p *proxy, n int, rw http.ResponseWriter, r *http.Request)

// proxy stands in front of the gateway.
type proxy struct {
	*httptest.Server
	gateway *parts.S3Server
	client  *http.Client

	mu     sync.Mutex
	faults map[string]fault // by "METHOD kind"
	counts map[string]int
	calls  []*call
}

func newProxy(t *testing.T, gateway *parts.S3Server) *proxy {
	t.Helper()
	p := &proxy{gateway: gateway, faults: map[string]fault{}, counts: map[string]int{}}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8}
	p.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	p.Server = httptest.NewUnstartedServer(p)
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.Start()
	t.Cleanup(func() { p.CloseClientConnections(); p.Close(); transport.CloseIdleConnections() })
	return p
}

// kind tells what a request is about.
func kind(r *http.Request) string {
	switch dir, name := path.Split(r.URL.Path); {
	case name == "version.json":
		return pointer
	case strings.HasSuffix(name, ".tar.zst"):
		return artifact
	case strings.HasSuffix(dir, "/releases/"):
		return manifest
	case strings.HasSuffix(dir, "/history/"):
		return history
	case strings.HasSuffix(dir, "/receipts/"):
		return receipt
	}
	return listing
}

// answer notes what was answered.
type answer struct {
	http.ResponseWriter
	p    *proxy
	call *call
}

func (a answer) WriteHeader(status int) {
	a.p.mu.Lock()
	a.call.Status = status
	a.p.mu.Unlock()
	a.ResponseWriter.WriteHeader(status)
}

func (a answer) Write(data []byte) (int, error) {
	n, err := a.ResponseWriter.Write(data)
	a.p.mu.Lock()
	a.call.Sent += int64(n)
	a.p.mu.Unlock()
	return n, err
}

func (a answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (p *proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	name := r.Method + " " + kind(r)
	p.mu.Lock()
	c := &call{Method: r.Method, Kind: kind(r), Range: r.Header.Get("Range"), At: time.Now()}
	p.calls = append(p.calls, c)
	rw = answer{ResponseWriter: rw, p: p, call: c}
	f := p.faults[name]
	if f == nil {
		name = "any"
		f = p.faults[name]
	}
	p.counts[name]++
	n := p.counts[name]
	p.mu.Unlock()
	if f == nil {
		f = well
	}
	f(p, n, rw, r)
}

// set makes the store misbehave from now on: pairs of "METHOD kind", or "any", and a fault. Without any it is well.
func (p *proxy) set(faults map[string]fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.counts, p.calls = faults, map[string]int{}, nil
}

// seen gives the calls since set, of one "METHOD kind" or, with "", all.
func (p *proxy) seen(name string) []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []call
	for _, c := range p.calls {
		if name == "" || name == c.Method+" "+c.Kind {
			out = append(out, *c)
		}
	}
	return out
}

// forward asks the gateway. edit may change the request, which is then signed anew.
func (p *proxy) forward(r *http.Request, edit func(http.Header)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, p.gateway.Endpoint+r.URL.RequestURI(), r.Body)
	if err != nil {
		return nil, err
	}
	req.Header, req.ContentLength, req.Host = r.Header.Clone(), r.ContentLength, r.Host
	if edit != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		req.Body, req.Host = io.NopCloser(bytes.NewReader(body)), ""
		edit(req.Header)
		p.gateway.Sign(req, body)
	}
	return p.client.Do(req)
}

// pass hands on what the gateway says, the body by way of copy.
func (p *proxy) pass(rw http.ResponseWriter, r *http.Request, edit func(http.Header), copy func(io.Writer, *http.Response)) {
	resp, err := p.forward(r, edit)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	for key, values := range resp.Header {
		rw.Header()[key] = values
	}
	rw.WriteHeader(resp.StatusCode)
	copy(rw, resp)
}

func whole(w io.Writer, resp *http.Response) { _, _ = io.Copy(w, resp.Body) }

// flush sends what was written.
func flush(w io.Writer) { _ = http.NewResponseController(w.(http.ResponseWriter)).Flush() }

// drop resets the connection.
func drop(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// refuse answers as stores do.
func refuse(rw http.ResponseWriter, status int, code string) {
	rw.Header().Set("Content-Type", "application/xml")
	rw.WriteHeader(status)
	fmt.Fprintf(rw, "<Error><Code>%s</Code><Message>of the test</Message></Error>", code)
}
