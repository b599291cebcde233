package outcomes

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// gate stands in front of the S3 server and slows down or refuses what goes through. Requests keep their Host, which their
// signatures cover.
type gate struct {
	url string // of the bucket, through the gate

	store *parts.S3Server
	host  string // of the store
	rule  atomic.Pointer[rule]
}

// The credentials of the role, which the gate knows and the store does not: versitygw takes no session tokens.
const (
	roleKeyID = "ASIAFAKEROLE"
	roleToken = "session-of-the-role"
)

// admit signs a request that came with the role's session as the store wants it. The secret by which it was signed before
// is not looked at.
func (g *gate) admit(r *http.Request) (status int) {
	token := r.Header.Get("X-Amz-Security-Token")
	if token == "" {
		return 0
	}
	if token != roleToken || !strings.Contains(r.Header.Get("Authorization"), "Credential="+roleKeyID+"/") {
		return http.StatusForbidden
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return http.StatusBadRequest
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	for _, name := range []string{"Authorization", "X-Amz-Security-Token"} {
		r.Header.Del(name)
	}
	r.URL.RawQuery = strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	r.URL.Host, r.Host = g.host, g.host
	g.store.Sign(r, body)
	return 0
}

// rule is what is done to requests; it may be called from several goroutines.
type rule struct {
	refuse func(*http.Request) int // status to answer with instead of passing it on; 0: pass it on
	slow   func(*http.Request) int // bytes of the request's body that pass in a tenth of a second; 0: all
	answer func(*http.Request)     // called before an answer goes back
}

func newGate(t *testing.T, store *parts.S3Server) *gate {
	t.Helper()
	to, err := url.Parse(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{store: store, host: to.Host}
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: func(answer *http.Response) error {
			if rule := g.rule.Load(); rule != nil && rule.answer != nil {
				rule.answer(answer.Request)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rule := g.rule.Load(); rule != nil {
			if rule.refuse != nil {
				if status := rule.refuse(r); status != 0 {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(status)
					return
				}
			}
			if rule.slow != nil {
				if n := rule.slow(r); n > 0 {
					r.Body = &slowed{ReadCloser: r.Body, step: n, gone: r.Context().Done()}
				}
			}
		}
		if status := g.admit(r); status != 0 {
			w.WriteHeader(status)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	through := *store
	through.Endpoint = server.URL
	g.url = through.URL(bucketName)
	return g
}

// with applies a rule until the function that it returns is called.
func (g *gate) with(r rule) (lift func()) {
	g.rule.Store(&r)
	return func() { g.rule.Store(nil) }
}

// slowed is a body of which only so much passes at a time.
type slowed struct {
	io.ReadCloser
	step int
	gone <-chan struct{}
}

func (s *slowed) Read(p []byte) (int, error) {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-s.gone:
		return 0, io.ErrUnexpectedEOF
	}
	return s.ReadCloser.Read(p[:min(len(p), s.step)])
}
