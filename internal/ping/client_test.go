package ping

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

func quiet() *log.Logger { return log.New(new(bytes.Buffer), "", 0) }

func TestPingDeliversTheDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, NewHandler(HandlerOptions{Ring: answering(time.Second, tale("a", 7, 4)...)}), false)
		events, _, err := s.ping(t, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := numbers(events), "a1 a2 a3 a4"; got != want {
			t.Errorf("got events %s, want %s", got, want)
		}
	})
}

func TestPingTrust(t *testing.T) {
	certificate, key, err := SelfSigned(time.Now(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := SelfSigned(time.Now(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	pin, wrong := Pin(pair.Leaf), strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, url, pin string
		roots          []byte
		want           error
	}{
		{"right pin", "https://web-1:8422", pin, nil, nil},
		{"right pin, name not in the certificate", "https://203.0.113.9:8422/", pin, nil, nil},
		{"right pin, roots of another", "https://web-1:8422", pin, other, nil},
		{"wrong pin", "https://web-1:8422", wrong, nil, ErrUntrusted},
		{"wrong pin, certificate among the roots", "https://web-1:8422", wrong, certificate, ErrUntrusted},
		{"no pin, certificate among the roots", "https://web-1:8422", "", certificate, nil},
		{"no pin, wrong name", "https://web-2:8422", "", certificate, ErrUntrusted},
		{"no pin, unknown authority", "https://web-1:8422", "", nil, ErrUntrusted},
		{"no pin, another authority", "https://web-1:8422", "", other, ErrUntrusted},
	} {
		t.Run(c.name, func(t *testing.T) {
			rung := false
			ring := answering(0, tale("a", 7, 1)...)
			server := httptest.NewUnstartedServer(NewHandler(HandlerOptions{
				Ring: func(ctx context.Context, body []byte, token string) (Answer, error) {
					rung = true
					return ring(ctx, body, token)
				},
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.Config.ErrorLog = quiet()
			server.StartTLS()
			defer server.Close()
			client, err := NewClient(ClientOptions{Roots: c.roots, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			}})
			if err != nil {
				t.Fatal(err)
			}
			err = client.Ping(t.Context(), c.url, c.pin, nil, "", func(deployment.Event) {})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if want := c.want == nil; rung != want {
				t.Errorf("got request sent %t, want %t", rung, want)
			}
		})
	}
}

func TestPingRejectsRootsWithoutCertificate(t *testing.T) {
	if _, err := NewClient(ClientOptions{Roots: []byte("hello")}); err == nil {
		t.Error("got no error for a CA bundle without a certificate")
	}
}

func TestPingSurvivesBrokenStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := tale("a", 7, 5)
		var posts atomic.Int32
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusAccepted)
			switch posts.Add(1) {
			case 1: // cut inside a line
				line(t, w, all[0])
				line(t, w, all[1])
				fmt.Fprint(w, `{"n":3,"deployment":"a","outco`)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			case 2: // ended in good order, without a terminal event, inside a chunk
				line(t, w, all[0])
				line(t, w, all[1])
				line(t, w, all[2])
			case 3: // silent
				line(t, w, all[0])
				<-r.Context().Done()
			default:
				for _, e := range all {
					line(t, w, e)
				}
			}
		}), false)
		start := time.Now()
		events, _, err := s.ping(t, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := numbers(events), "a1 a2 a3 a4 a5"; got != want {
			t.Errorf("got events %s, want %s", got, want)
		}
		if got := posts.Load(); got != 4 {
			t.Errorf("got %d posts, want 4", got)
		}
		if got := time.Since(start); got < silentAfter || got > silentAfter+10*time.Second {
			t.Errorf("got the end after %v, want soon after the silence of %v", got, silentAfter)
		}
	})
}

func TestPingSurvivesARestartOfTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := tale("a", 7, 3)
		cut := true
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			line(t, w, all[0])
			if cut {
				cut = false
				panic(http.ErrAbortHandler)
			}
			line(t, w, all[1])
			line(t, w, all[2])
		}), false)
		start := time.Now()
		s.down = func(dial int) error { // down for 50 s once the first connection broke
			if dial > 1 && time.Since(start) < 50*time.Second {
				return refused
			}
			return nil
		}
		events, _, err := s.ping(t, t.Context())
		if got, want := numbers(events), "a1 a2 a3"; err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}

		cut, start = true, time.Now()
		s.dials = 0
		s.down = func(dial int) error {
			if dial > 1 {
				return refused
			}
			return nil
		}
		_, _, err = s.ping(t, t.Context())
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("got %v, want ErrUnreachable when the agent does not come back", err)
		}
		if got := time.Since(start); got < patience || got > patience+2*backoffTo {
			t.Errorf("gave up after %v, want soon after %v", got, patience)
		}
	})
}

func TestPingShowsTheNextDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := append(tale("a", 7, 3)[:2], tale("b", 8, 2)...)
		s := serve(t, NewHandler(HandlerOptions{Ring: answering(0, events...)}), false)
		got, _, err := s.ping(t, t.Context())
		if want := "a1 a2 b1 b2"; err != nil || numbers(got) != want {
			t.Errorf("got %s, %v, want %s", numbers(got), err, want)
		}
	})
}

func TestPingUnreachable(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	for _, c := range []struct {
		err  error
		hint string
	}{
		{refused, "is towline-agent running there"},
		{timeout, "firewall"},
		{&net.DNSError{Err: "no such host", Name: "web-1", IsNotFound: true}, "host name"},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			m.down = func(int) error { return c.err }
			s := &server{memory: m}
			start := time.Now()
			_, _, err := s.ping(t, t.Context())
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "https://web-1:8422") || !strings.Contains(err.Error(), c.hint) {
				t.Errorf("got %v, want ErrUnreachable naming the server and %q", err, c.hint)
			}
			if got := time.Since(start); m.dials != firstTries || got > 5*time.Second {
				t.Errorf("got %d dials in %v, want %d in at most 5 s", m.dials, got, firstTries)
			}
		})
	}
}

func TestPingStatuses(t *testing.T) {
	for _, c := range []struct {
		status   int
		kind     string
		body     string
		want     error
		text     string
		attempts int32
	}{
		{401, "", "", ErrRefused, "", 1},
		{404, "", "", ErrUnknownApp, "", 1},
		{404, "", "", fs.ErrNotExist, "", 1},
		{202, "", "", ErrNoStream, "", 1},
		{202, "text/html", "<html>", ErrNoStream, "", 1},
		{302, "", "", nil, "redirects are not followed", 1},
		{413, "", "too much", nil, "413", 1},
		{202, "application/x-ndjson", "hello\n", nil, "not an event stream", 1},
		{202, "application/x-ndjson", "{\"n\":0}\n", nil, "number 0", 1},
		{202, "application/x-ndjson", strings.Repeat("x", maxLine+1), nil, "longer than", 1},
		{503, "", "", ErrUnreachable, "503", 0},
		{429, "", "", ErrUnreachable, "429", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var posts atomic.Int32
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				posts.Add(1)
				w.Header().Set("Location", "https://elsewhere/v1/ping")
				w.Header().Set("Content-Type", c.kind)
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}), false)
			_, _, err := s.ping(t, t.Context())
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%d %s: got %v, want %v %q", c.status, c.kind, err, c.want, c.text)
			}
			if got := posts.Load(); c.attempts != 0 && got != c.attempts || c.attempts == 0 && got < 3 {
				t.Errorf("%d: got %d posts, want %d (0: several)", c.status, got, c.attempts)
			}
		})
	}
}

func TestPingHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := tale("a", 7, 1)
		first := true
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if first {
				first = false
				w.Header().Set("Retry-After", "20")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			w.Header().Set("Content-Type", "application/x-ndjson")
			line(t, w, all[0])
		}), false)
		start := time.Now()
		if _, _, err := s.ping(t, t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got < 20*time.Second || got > 25*time.Second {
			t.Errorf("came again after %v, want the 20 s asked for", got)
		}
	})
}

func TestPingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, NewHandler(HandlerOptions{Ring: answering(time.Hour, tale("a", 7, 1)...)}), false)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_, beats, err := s.ping(t, ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's end", err)
		}
		if beats < 120 {
			t.Errorf("got %d heartbeats in ten minutes, want one every 5 s or more", beats)
		}
	})
}

func TestPingOverPlainHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accept, token string
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			accept, token = r.Header.Get("Accept"), r.Header.Get("Authorization")
			w.WriteHeader(http.StatusAccepted)
		}), true)
		err := s.client(t).Ping(t.Context(), "http://web-1:8422", "", nil, "secret", func(deployment.Event) {})
		if !errors.Is(err, ErrNoStream) || accept != "" || token != "Bearer secret" {
			t.Errorf("got %v, Accept %q, Authorization %q, want ErrNoStream, none, the token", err, accept, token)
		}
		err = s.client(t).Ping(t.Context(), "https://web-1:8422", "", nil, "", func(deployment.Event) {})
		if err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
			t.Errorf("got %v, want a word about TLS", err)
		}
	})
}

func TestPingOverRealSockets(t *testing.T) {
	server := httptest.NewTLSServer(NewHandler(HandlerOptions{Ring: answering(0, tale("a", 7, 3)...)}))
	defer server.Close()
	c, err := NewClient(ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []deployment.Event
	err = c.Ping(t.Context(), server.URL, Pin(server.Certificate()), nil, "", func(e deployment.Event) { got = append(got, e) })
	if want := "a1 a2 a3"; err != nil || numbers(got) != want {
		t.Errorf("got %s, %v, want %s", numbers(got), err, want)
	}
}
