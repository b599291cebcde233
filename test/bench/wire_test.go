package bench

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// shape is what a wire does to what passes. The zero shape passes everything on at once.
type shape struct {
	rate float64       // bytes a second, of all connections together, each way
	rtt  time.Duration // there and back
}

// firstWindow is what a connection may have under way in its first round trip; every full one after it doubles that.
const firstWindow = 16 << 10

// wire is a line in front of a listener of this machine. It counts what passes, and delays it as its shape says: a new connection
// pays a round trip for its opening and begins slowly, as TCP does. No byte is lost, none overtakes another.
type wire struct {
	addr     string
	shape    shape
	up, down way
}

// way is one direction.
type way struct {
	passed atomic.Int64
	mu     sync.Mutex
	free   time.Time // when the line can take the next byte
}

// book takes the line for n bytes that are there at the moment ready, and returns when the last of them has left.
func (w *way) book(ready time.Time, n int, rate float64) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.free.Before(ready) {
		w.free = ready
	}
	w.free = w.free.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	return w.free
}

// newWire listens on the loopback until the measurement ends.
func newWire(b testing.TB, to string, s shape) *wire {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	w := &wire{addr: listener.Addr().String(), shape: s}
	var open sync.WaitGroup
	var mu sync.Mutex
	ends := map[net.Conn]bool{}
	open.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			ends[near], ends[far] = true, true
			mu.Unlock()
			open.Go(func() {
				var both sync.WaitGroup
				both.Go(func() { w.carry(far, near, &w.up, s.rtt) })
				both.Go(func() { w.carry(near, far, &w.down, 0) })
				both.Wait()
				mu.Lock()
				defer mu.Unlock()
				for _, c := range []net.Conn{near, far} {
					delete(ends, c)
					_ = c.Close()
				}
			})
		}
	})
	b.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for c := range ends {
			_ = c.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return w
}

// parcel is what arrives at the other end at a moment.
type parcel struct {
	data []byte
	due  time.Time
}

// carry passes on what comes, first of all after so much more time, until it ends, and says that it has ended.
func (w *wire) carry(to, from net.Conn, along *way, opening time.Duration) {
	parcels := make(chan parcel, 64)
	go func() {
		defer close(parcels)
		slow := window{size: firstWindow, rtt: w.shape.rtt}
		for {
			data := make([]byte, firstWindow)
			n, err := from.Read(data)
			if n > 0 {
				along.passed.Add(int64(n))
				p := parcel{data: data[:n]}
				if w.shape != (shape{}) {
					ready := slow.admit(time.Now().Add(opening), n)
					opening = 0
					p.due = along.book(ready, n, w.shape.rate).Add(w.shape.rtt / 2)
				}
				parcels <- p
			}
			if err != nil {
				return
			}
		}
	}()
	var err error
	for p := range parcels {
		if err != nil {
			continue // the reader must not wait for ever
		}
		time.Sleep(time.Until(p.due))
		if _, err = to.Write(p.data); err != nil {
			_ = from.Close()
		}
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}

// window is how a connection begins.
type window struct {
	size, used int
	rtt        time.Duration
	began      time.Time
}

// admit returns when n bytes that are there now may be sent.
func (w *window) admit(now time.Time, n int) time.Time {
	if now.Sub(w.began) >= w.rtt {
		w.began, w.used = now, 0
	}
	if w.used+n > w.size {
		w.began, w.used = w.began.Add(w.rtt), 0
		w.size *= 2
	}
	w.used += n
	if w.began.After(now) {
		return w.began
	}
	return now
}

// both is what passed since reset, there and back.
func (w *wire) both() float64 { return float64(w.up.passed.Load() + w.down.passed.Load()) }

func (w *wire) reset() {
	w.up.passed.Store(0)
	w.down.passed.Store(0)
}

// A wire counts and delays, and no byte is lost or changed.
func TestWire(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	message := strings.Repeat("0123456789abcdef", 1<<16) // a mebibyte
	for _, test := range []struct {
		shape shape
		least time.Duration // that the message takes there and back
	}{
		{shape{}, 0},
		// Opening, there and back: two round trips. The first 64 windows' worth of sending: six more.
		{shape{rate: 100e6, rtt: 20 * time.Millisecond}, 8 * 20 * time.Millisecond},
		{shape{rate: 5e6, rtt: time.Millisecond}, 200 * time.Millisecond},
	} {
		w := newWire(t, listener.Addr().String(), test.shape)
		began := time.Now()
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.WriteString(c, message)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		took := time.Since(began)
		_ = c.Close()
		if err != nil || string(got) != message {
			t.Errorf("%+v: got %d bytes, want %d unchanged: %v", test.shape, len(got), len(message), err)
		}
		if took < test.least {
			t.Errorf("%+v: took %v, want at least %v", test.shape, took, test.least)
		}
		if up, down := w.up.passed.Load(), w.down.passed.Load(); up != int64(len(message)) || down != up {
			t.Errorf("%+v: counted %d up and %d down, want %d each", test.shape, up, down, len(message))
		}
	}
}
