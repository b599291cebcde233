package publishers

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// gate stands in front of the S3 server. Requests keep their Host, which their signatures cover.
type gate struct {
	*httptest.Server
	store  *parts.S3Server
	to     *url.URL
	minds  kind          // conditions that are let through
	jitter time.Duration // the longest that one way takes

	// before is called when a request has arrived, after when its answer is there. False: it goes no further.
	before, after func(*http.Request) bool
}

// newGate begins to pass everything on, until the test ends; set rules what is done to it.
func newGate(t testing.TB, store *parts.S3Server, set func(*gate)) *gate {
	t.Helper()
	g := &gate{store: store, minds: kind{create: true, match: true}}
	set(g)
	var err error
	if g.to, err = url.Parse(store.Endpoint); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: publishers, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = g.to.Scheme, g.to.Host },
		ModifyResponse: func(answer *http.Response) error {
			ctx := answer.Request.Context()
			if g.delay(ctx) != nil || g.after != nil && !g.after(answer.Request) {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.delay(r.Context()) != nil || g.before != nil && !g.before(r) {
			panic(http.ErrAbortHandler)
		}
		if !g.strip(r) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
		transport.CloseIdleConnections()
	})
	return g
}

// delay is one way of a request; one in four is far slower than the others.
func (g *gate) delay(ctx context.Context) error {
	if g.jitter == 0 {
		return nil
	}
	d := rand.N(g.jitter)
	if rand.IntN(4) > 0 {
		d /= 20
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// strip takes the conditions away that this store ignores, and signs again what was signed with them.
func (g *gate) strip(r *http.Request) bool {
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		return true
	}
	stripped := false
	for name, minded := range map[string]bool{"If-None-Match": g.minds.create, "If-Match": g.minds.match} {
		if r.Header.Get(name) != "" && !minded {
			r.Header.Del(name)
			stripped = true
		}
	}
	if !stripped {
		return true
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Del("Authorization")
	r.URL.RawQuery = strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	r.URL.Host, r.Host = g.to.Host, g.to.Host
	g.store.Sign(r, body)
	return true
}
