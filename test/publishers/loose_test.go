package publishers

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// meet lets the first n requests that it is asked about go on together.
type meet struct {
	mu   sync.Mutex
	left int
	all  chan struct{}
}

func newMeet(n int) *meet { return &meet{left: n, all: make(chan struct{})} }

func (m *meet) wait(r *http.Request) bool {
	m.mu.Lock()
	if m.left--; m.left == 0 {
		close(m.all)
	}
	m.mu.Unlock()
	select {
	case <-m.all:
		return true
	case <-r.Context().Done():
		return false
	}
}

func writes(r *http.Request, key string) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/"+key)
}

// Two publishers take one seq, because the store lets them. One of them finds out, says so and takes another; both say that
// only one run at a time is safe.
func TestStoreThatIgnoresCreateOnly(t *testing.T) {
	t.Parallel()
	for _, minds := range []kind{{match: true}, {}} {
		t.Run(minds.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.checkouts(-1, 0, 0)
			app := "loose"
			w.deploy(w.s3.Endpoint, app, 0, 0)
			both := newMeet(2)
			g := newGate(t, w.s3, func(g *gate) {
				g.minds = minds
				g.before = func(r *http.Request) bool {
					return !writes(r, release.HistoryKey(app, "production", 2)) || both.wait(r)
				}
			})
			var all sync.WaitGroup
			reports := make([]report, 2)
			for i := range reports {
				all.Go(func() { reports[i] = w.deploy(g.URL, app, 1+i, 1+i) })
			}
			all.Wait()
			overwritten := 0
			for i, r := range reports {
				text := strings.Join(r.Warnings, "\n")
				if strings.Count(text, "concurrency: group") != 1 || !strings.Contains(r.log, "concurrency: group") {
					t.Errorf("publisher %d: got warnings %q, want one about concurrency:", i, r.Warnings)
				}
				if strings.Contains(text, "another publisher took seq 2 at the same moment and the store let it") {
					overwritten++
				}
			}
			if overwritten != 1 {
				t.Errorf("found themselves overwritten: got %d of 2, want 1", overwritten)
			}
			r := w.record(app)
			r.loose, r.quick = true, false
			r.check(t)
			if n := len(r.history); n != 3 {
				t.Errorf("history: got %d entries, want 3", n)
			}
		})
	}
}

// A slow publisher moves the pointer after a newer one has, because the store lets it: it finds the newer entry, puts that
// back and ends superseded. When it dies in between, the next run says what it found.
func TestStoreThatIgnoresIfMatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.checkouts(-1, 0, 0, 1)
	for _, tt := range []struct {
		name string
		dies bool
	}{{"finds", false}, {"dies", true}} {
		t.Run(tt.name, func(t *testing.T) {
			app := tt.name
			w.ops = nil
			w.deploy(w.s3.Endpoint, app, 0, 0)
			at, on := make(chan struct{}), make(chan struct{})
			once := sync.OnceFunc(func() { close(at) })
			pointer := release.PointerKey(app, "production")
			g := newGate(t, w.s3, func(g *gate) {
				g.minds = kind{create: true}
				g.before = func(r *http.Request) bool {
					if writes(r, pointer) {
						once()
						<-on
					}
					return true
				}
				g.after = func(r *http.Request) bool { return !tt.dies || !writes(r, pointer) }
			})
			var all sync.WaitGroup
			var slow report
			all.Go(func() {
				if tt.dies {
					// Nobody answers it any more, which is as good as death.
					cmd := w.command(t.Context(), g.URL, app, "publish", "--promote", "--path", filepath.Join(w.dir(1), "dist"), "--reason", "op-1")
					if err := cmd.Start(); err != nil {
						t.Error(err)
						return
					}
					<-at
					<-on
					for over := time.Now().Add(10 * time.Second); w.seq(t, app) != 2 && time.Now().Before(over); {
					}
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
					return
				}
				slow = w.deploy(g.URL, app, 1, 1)
			})
			<-at
			fast := w.deploy(w.s3.Endpoint, app, 2, 2)
			if fast.Outcome != deployment.Published || fast.Seq != 3 {
				t.Errorf("the fast one: got %s, seq %d, want published, 3:\n%s", fast.Outcome, fast.Seq, fast.log)
			}
			close(on)
			all.Wait()
			if !tt.dies {
				if slow.Outcome != deployment.Superseded || !strings.HasPrefix(slow.Reason, "seq 3, release "+release.ShortHash(w.commits[2])) {
					t.Errorf("the slow one: got %s: %s, want superseded by seq 3", slow.Outcome, slow.Reason)
				}
				r := w.record(app)
				r.check(t)
				return
			}
			if got := w.seq(t, app); got != 2 {
				t.Fatalf("pointer: got seq %d, want the store to have let 2 over 3", got)
			}
			next := w.deploy(w.s3.Endpoint, app, 3, 3)
			if next.Seq != 4 || !strings.Contains(next.log, "the history has seq 3, release "+release.ShortHash(w.commits[2])+", and the pointer is at seq 2") {
				t.Errorf("the next run: got seq %d, want 4 and a word about seq 3:\n%s", next.Seq, next.log)
			}
		})
	}
}

// seq is the pointer's.
func (w *world) seq(t *testing.T, app string) uint64 {
	v, err := w.trust.Pointer(w.get(release.PointerKey(app, "production")), release.Want{App: app, Environment: "production", Prefix: app})
	if err != nil {
		t.Error(err)
	}
	return v.Pointer().Seq
}
