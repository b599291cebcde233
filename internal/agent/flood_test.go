package agent

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// caller is one connection of a flood: raw, so that asking costs less than answering.
type caller struct {
	r    *running
	peer int
	conn net.Conn
	in   *bufio.Reader
}

func (c *caller) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// post sends one ping and returns the status of its answer, 0 when the connection was cut.
func (c *caller) post(request []byte) (status int, err error) {
	if c.conn == nil {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(c.peer))}, Timeout: 20 * time.Second}
		conn, err := tls.DialWithDialer(d, "tcp", c.r.Addr(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return 0, err
		}
		c.conn, c.in = conn, bufio.NewReaderSize(conn, 4<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(request); err != nil {
		c.close()
		return 0, nil
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: http.MethodPost})
	if err != nil {
		c.close()
		return 0, nil
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.Close {
		c.close()
	}
	return resp.StatusCode, nil
}

func request(body []byte, header string) []byte {
	return append(fmt.Appendf(nil, "POST /v1/ping HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n", header, len(body)), body...)
}

// memory is what the heap holds and how many goroutines there are, with everything collected that can be.
func memory() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, runtime.NumGoroutine()
}

// A hundred thousand pings of every kind, from 24 addresses over TLS, with slow strangers beside them: the agent looks at
// its bucket once a second at most, holds no more memory than before, and deploys what is published meanwhile.
func TestPingFlood(t *testing.T) {
	const (
		all, peers = 100_000, 24 // two connections each: more than a third of the port is left to others
		slow       = 12          // connections that send a byte of their ping and no more
		mostHeap   = 8 << 20     // bytes more than before, at any time; the callers are in it too
	)
	w := newWorld(t)
	stranger, err := release.GenerateKey(nil)
	w.must(err)
	old := w.publish("web", hash("0"), "zero")
	r := w.start(w.settings(listening, oneApp))
	r.settled("web", hash("0"))
	current := w.publish("web", hash("1"), "one")
	if events, err := r.ring(current, ""); err != nil || last(events).Outcome != deployment.Deployed {
		t.Fatalf("got %+v, %v", last(events), err)
	}
	stream := "Accept: application/x-ndjson\r\n"
	kinds := []struct {
		name     string
		request  []byte
		statuses string // that may answer it, beside 429
	}{
		{"valid", request(current, ""), "202"},
		{"valid, with a stream", request(current, stream), "202 503"},
		{"forged", request(w.pointer("web", "production", hash("f"), "forged", stranger), ""), "401"},
		{"tampered", request(bytes.Replace(current, []byte(hash("1")), []byte(hash("2")), 1), stream), "401"},
		{"replayed", request(old, stream), "202"},
		{"rubbish", request([]byte(strings.Repeat("[", 10_000)), ""), "401"},
		{"oversized", request(bytes.Repeat([]byte(" "), 64<<10+1), ""), "413"},
		{"endless", []byte("POST /v1/ping HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n{"), "400 413"},
	}
	w.seq["web/production"] = 2 // the forged one is none of the app's
	_, source, err := r.apps[0].now()
	w.must(err)

	var still []net.Conn
	for range slow {
		c := r.dial(250)
		_, err := io.WriteString(c, "\x16") // the first byte of a handshake
		w.must(err)
		still = append(still, c)
	}
	heap, goroutines := memory()
	looks, begun := source.Looks(), time.Now()

	var sent, cut atomic.Int64
	var most struct {
		heap       uint64
		goroutines int
	}
	var mu sync.Mutex
	counts := map[string]map[int]int{}
	var callers sync.WaitGroup
	half := make(chan struct{})
	var once sync.Once
	for i := range 2 * peers {
		callers.Go(func() {
			c := &caller{r: r, peer: 10 + i%peers}
			defer c.close()
			own := map[string]map[int]int{}
			for n := i; ; n++ {
				number := sent.Add(1)
				if number > all {
					break
				}
				if number == all/2 {
					once.Do(func() { close(half) })
				}
				kind := kinds[n%7]
				if n%7 == 6 && n%70 != 6 {
					kind = kinds[n%5] // one in a hundred is enough of those that cost the callers most
				}
				if n%2000 == 1 {
					kind = kinds[7]
				}
				status, err := c.post(kind.request)
				if err != nil {
					t.Errorf("ping %d, %s: %v", number, kind.name, err)
					return
				}
				if own[kind.name] == nil {
					own[kind.name] = map[int]int{}
				}
				own[kind.name][status]++
				if kind.name == "endless" {
					c.close() // its body is still to come
				}
				if status == 0 {
					cut.Add(1)
				}
				if number%5000 == 0 {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					mu.Lock()
					most.heap, most.goroutines = max(most.heap, m.HeapAlloc), max(most.goroutines, runtime.NumGoroutine())
					mu.Unlock()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for name, statuses := range own {
				if counts[name] == nil {
					counts[name] = map[int]int{}
				}
				for status, n := range statuses {
					counts[name][status] += n
				}
			}
		})
	}
	<-half
	w.publish("web", hash("2"), "two")
	callers.Wait()
	took := time.Since(begun)
	looked := source.Looks() - looks

	// It was published in the middle of the flood, and every ping about it since was one of an older pointer: they made the
	// agent look all the same.
	if got := r.ended("web", hash("2")).Outcome; got != deployment.Deployed {
		t.Errorf("published during the flood: got %q", got)
	}
	for i, c := range still {
		w.must(c.SetReadDeadline(time.Now().Add(20 * time.Second)))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("slow connection %d is still held: %v", i, err)
		}
	}
	if events, err := r.ring(w.publish("web", hash("3"), "three"), ""); err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("published after the flood: got %+v, %v", last(events), err)
	}
	if got := w.live("web"); got != "three" {
		t.Errorf("got %q live, want three", got)
	}
	if most := int64(took/time.Second) + 3; looked > most || looked < 2 {
		t.Errorf("got %d looks in %v, want at most one a second", looked, took)
	}
	for _, kind := range kinds {
		answered := counts[kind.name]
		got := 0
		for status, n := range answered {
			switch {
			case status == http.StatusTooManyRequests, status == 0:
			case !strings.Contains(kind.statuses, fmt.Sprint(status)):
				t.Errorf("%s: got %d answers of %d, want 429 or %s", kind.name, n, status, kind.statuses)
			default:
				got += n
			}
		}
		// Of what is one in a hundred, chance may let none through: then it is heard now.
		c := &caller{r: r, peer: 9}
		for end := time.Now().Add(20 * time.Second); got == 0 && kind.name != "endless" && time.Now().Before(end); <-time.After(50 * time.Millisecond) {
			status, err := c.post(kind.request)
			w.must(err)
			if status != 0 && strings.Contains(kind.statuses, fmt.Sprint(status)) {
				got++
			}
		}
		c.close()
		if got == 0 && kind.name != "endless" {
			t.Errorf("%s: got %v, want that some are heard", kind.name, answered)
		}
	}
	if n := cut.Load(); n > all/100 {
		t.Errorf("got %d connections cut without an answer", n)
	}
	after, left := memory()
	if over := int64(after) - int64(heap); over > mostHeap/4 {
		t.Errorf("got %d KiB more on the heap than before", over>>10)
	}
	if over := int64(most.heap) - int64(heap); over > 4*mostHeap {
		t.Errorf("got %d KiB more on the heap during the flood, garbage included", over>>10)
	}
	// A connection whose request was refused before it was read stays for half a second, so that the answer arrives.
	for end := time.Now().Add(10 * time.Second); left > goroutines+10 && time.Now().Before(end); _, left = memory() {
		<-time.After(50 * time.Millisecond)
	}
	if left > goroutines+10 || most.goroutines > goroutines+8*(2*peers+maxConnections) {
		t.Errorf("got %d goroutines before, %d at most, %d after", goroutines, most.goroutines, left)
	}
	t.Logf("%d pings in %v, %.0f a second; %d looks; heap %d KiB before, %d at most with garbage, %d after; goroutines %d, %d, %d; %v",
		all, took.Round(time.Millisecond), all/took.Seconds(), looked, heap>>10, most.heap>>10, after>>10, goroutines, most.goroutines, left, counts)
}
