package parts

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestPutSeesFailures has wrk meet every kind of failure that a restart makes, so that a zero of it means something.
func TestPutSeesFailures(t *testing.T) {
	var count, mode atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n := count.Add(1); {
		case mode.Load() == 1 && n%50 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case mode.Load() == 1 && n%50 == 1:
			panic(http.ErrAbortHandler) // the connection breaks
		}
	}))
	server.Config.ErrorLog = nil
	until := func(n int64) func() {
		return func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for end, goal := time.After(20*time.Second), count.Load()+n; count.Load() < goal; {
				select {
				case <-tick.C:
				case <-end:
					t.Fatalf("got %d requests, want %d", count.Load(), goal)
				}
			}
		}
	}
	if l := Put(t, server.URL, until(500)); l.Errors() != 0 || l.Requests < 400 || l.PerSecond < 100 {
		t.Errorf("got %+v, want no failures", l)
	}
	mode.Store(1)
	if l := Put(t, server.URL, until(1000)); l.Failed["status"] == 0 || l.Failed["read"] == 0 {
		t.Errorf("got %+v, want answers that are none and connections that break", l)
	}
	l := Put(t, server.URL, func() {
		until(100)()
		_ = server.Listener.Close()
		server.CloseClientConnections()
		<-time.After(200 * time.Millisecond) // long enough for many to find nobody
	})
	if l.Failed["connect"]+l.Failed["read"] == 0 {
		t.Errorf("got %+v, want refused connections", l)
	}
}
