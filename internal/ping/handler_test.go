package ping

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// ring sends one request straight to a handler. remote "" is 192.0.2.1.
func ring(h http.Handler, method, remote string, body []byte, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/v1/ping", bytes.NewReader(body))
	if remote != "" {
		r.RemoteAddr = remote
	}
	for key, values := range header {
		r.Header[key] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandlerAnswers(t *testing.T) {
	secret := errors.New("no key has the id 0123456789abcdef")
	for _, c := range []struct {
		name   string
		method string
		body   []byte
		err    error
		want   int
	}{
		{"good", "POST", []byte("{}"), nil, 202},
		{"as large as may be", "POST", make([]byte, 64<<10), nil, 202},
		{"too large", "POST", make([]byte, 64<<10+1), nil, 413},
		{"refused", "POST", nil, fmt.Errorf("%w: %w", ErrRefused, secret), 401},
		{"unknown app", "POST", nil, fmt.Errorf("%w: %w", ErrUnknownApp, secret), 404},
		{"not ready", "POST", nil, secret, 503},
		{"get", "GET", nil, nil, 405},
		{"put", "PUT", nil, nil, 405},
	} {
		calls := 0
		h := NewHandler(HandlerOptions{Ring: func(_ context.Context, body []byte, token string) (Answer, error) {
			calls++
			if !bytes.Equal(body, c.body) || token != "secret" {
				t.Errorf("%s: got %d bytes, token %q, want %d, secret", c.name, len(body), token, len(c.body))
			}
			return Answer{}, c.err
		}})
		w := ring(h, c.method, "", c.body, http.Header{"Authorization": {"Bearer secret"}})
		if w.Code != c.want || w.Body.Len() != 0 {
			t.Errorf("%s: got %d with %q, want %d with an empty body", c.name, w.Code, w.Body, c.want)
		}
		if want := c.want != 413 && c.want != 405; (calls == 1) != want {
			t.Errorf("%s: got %d calls of Ring", c.name, calls)
		}
		if c.want == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: got Allow %q, want POST", c.name, w.Header().Get("Allow"))
		}
	}
}

func TestHandlerStreamsOnlyWhereItMay(t *testing.T) {
	accept := http.Header{"Accept": {"application/x-ndjson"}}
	events := answering(0, tale("a", 7, 3)...)
	nothing := func(context.Context, []byte, string) (Answer, error) { return Answer{}, nil }
	for _, c := range []struct {
		name    string
		ring    func(context.Context, []byte, string) (Answer, error)
		tls     bool
		trusted bool
		header  http.Header
		want    bool
	}{
		{"tls", events, true, false, accept, true},
		{"socket", events, false, true, accept, true},
		{"plain", events, false, false, accept, false},
		{"not asked for", events, true, true, nil, false},
		{"nothing to follow", nothing, true, true, accept, false},
	} {
		r := httptest.NewRequest("POST", "/v1/ping", nil)
		r.Header = c.header
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		NewHandler(HandlerOptions{Ring: c.ring, Trusted: c.trusted}).ServeHTTP(w, r)
		if w.Code != 202 || (w.Body.Len() > 0) != c.want {
			t.Errorf("%s: got %d with %q, want 202, a stream: %t", c.name, w.Code, w.Body, c.want)
		}
		if got := strings.Count(w.Body.String(), "\n"); c.want && (got != 3 || w.Header().Get("Content-Type") != "application/x-ndjson") {
			t.Errorf("%s: got %d lines of %s, want 3 of application/x-ndjson", c.name, got, w.Header().Get("Content-Type"))
		}
	}
}

func TestHandlerHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(HandlerOptions{Trusted: true, Ring: answering(18*time.Second, tale("a", 7, 2)...)})
		w := ring(h, "POST", "", nil, http.Header{"Accept": {"application/x-ndjson"}})
		var got []string
		var last time.Time
		for line := range strings.Lines(w.Body.String()) {
			var e deployment.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s%d", e.State, e.N))
			if e.State != deployment.Heartbeat {
				continue
			}
			at, err := time.Parse(time.RFC3339, e.Time)
			if err != nil || !last.IsZero() && at.Sub(last) > 10*time.Second || e.Server != "web-1" || e.App != "nodeapi" || e.Seq != 7 {
				t.Errorf("got heartbeat %+v after %v", e, at.Sub(last))
			}
			last = at
		}
		want := "heartbeat0 heartbeat0 heartbeat0 heartbeat0 progress1 heartbeat1 heartbeat1 heartbeat1 heartbeat1 done2"
		if strings.Join(got, " ") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
		}
	})
}

func TestHandlerStopsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := false
		h := NewHandler(HandlerOptions{Trusted: true, Ring: func(context.Context, []byte, string) (Answer, error) {
			return Answer{Events: func(ctx context.Context) iter.Seq[deployment.Event] {
				return func(func(deployment.Event) bool) {
					<-ctx.Done()
					stopped = true
				}
			}}, nil
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "POST", "/v1/ping", nil)
		r.Header.Set("Accept", "application/x-ndjson")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if !stopped {
			t.Error("got the handler's return before the follower's, want both gone")
		}
	})
}

func TestHandlerBoundsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(HandlerOptions{Trusted: true, Ring: answering(time.Hour, tale("a", 7, 1)...)})
		accept := http.Header{"Accept": {"application/x-ndjson"}}
		codes := make(chan int)
		for range maxStreams {
			go func() { codes <- ring(h, "POST", "", nil, accept).Code }()
		}
		synctest.Wait()
		if got := ring(h, "POST", "", nil, accept).Code; got != 503 {
			t.Errorf("got %d for stream %d, want 503", got, maxStreams+1)
		}
		if got := ring(h, "POST", "", nil, nil).Code; got != 202 {
			t.Errorf("got %d for a ping without stream, want 202", got)
		}
		for range maxStreams {
			if got := <-codes; got != 202 {
				t.Errorf("got %d, want 202", got)
			}
		}
		if got := ring(h, "POST", "", nil, accept).Code; got != 202 {
			t.Errorf("got %d after the streams ended, want 202", got)
		}
	})
}

func TestHandlerRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rung := 0
		options := HandlerOptions{Ring: func(context.Context, []byte, string) (Answer, error) {
			rung++
			return Answer{}, nil
		}}
		limited := 0
		options.OnLimited = func() { limited++ }
		h := NewHandler(options)
		count := func(n int, remote func(i int) string) (taken int) {
			before := limited
			defer func() {
				if limited-before != n-taken {
					t.Errorf("got %d reported as turned away, want %d", limited-before, n-taken)
				}
			}()
			for i := range n {
				switch w := ring(h, "POST", remote(i), nil, nil); w.Code {
				case 202:
					taken++
				case 429:
					if w.Header().Get("Retry-After") != "1" {
						t.Errorf("got Retry-After %q, want 1", w.Header().Get("Retry-After"))
					}
				default:
					t.Errorf("got %d", w.Code)
				}
			}
			return taken
		}
		one := func(int) string { return "192.0.2.1:1000" }
		if got := count(50, one); got != 5 {
			t.Errorf("got %d taken from one address at once, want 5", got)
		}
		time.Sleep(3 * time.Second)
		if got := count(50, func(i int) string { return fmt.Sprintf("192.0.2.1:%d", i+1) }); got != 3 {
			t.Errorf("got %d taken 3 s later from other ports of it, want 3", got)
		}
		time.Sleep(time.Minute)
		if got := count(50, func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1", i+1) }); got != 5 {
			t.Errorf("got %d taken from one /64, want 5", got)
		}
		time.Sleep(time.Minute)
		many := func(i int) string { return fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255) }
		if got := count(5000, many); got != 20 {
			t.Errorf("got %d taken from many addresses at once, want 20", got)
		}
		if got := len(h.limits.remotes); got != maxRemembered || h.limits.recent.Len() != got {
			t.Errorf("got %d addresses remembered, want %d", got, maxRemembered)
		}
		time.Sleep(time.Second)
		if got := count(5000, many); got != 10 {
			t.Errorf("got %d taken a second later, want 10", got)
		}

		options.Trusted = true
		h = NewHandler(options)
		if got := count(100, func(int) string { return "@" }); got != 100 {
			t.Errorf("got %d taken over the socket, want all 100", got)
		}
	})
}

func TestHandlerCutsASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		s := serve(t, NewHandler(HandlerOptions{Trusted: true, Ring: func(context.Context, []byte, string) (Answer, error) {
			return Answer{Events: func(ctx context.Context) iter.Seq[deployment.Event] {
				return func(yield func(deployment.Event) bool) {
					defer close(ended)
					for n := 1; yield(deployment.Event{N: n, Deployment: "a", State: deployment.Progress}); n++ {
					}
				}
			}}, nil
		}}), true)
		s.unbuffered = true
		conn, err := s.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		fmt.Fprint(conn, "POST /v1/ping HTTP/1.1\r\nHost: web-1\r\nAccept: application/x-ndjson\r\nContent-Length: 0\r\n\r\n")
		<-ended // the client never reads
		if got := time.Since(start); got > writeTimeout+heartbeatEvery {
			t.Errorf("a client that reads nothing was held for %v, want about %v", got, writeTimeout)
		}
	})
}
