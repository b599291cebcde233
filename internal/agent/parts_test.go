package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// puts is a bucket that only takes objects, or refuses them.
type puts struct {
	bucket.Bucket
	mu   sync.Mutex
	took [][]byte
	err  error
}

func (p *puts) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *puts) all() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.took)
}

func (p *puts) Put(_ context.Context, _ string, data []byte, _ string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.took = append(p.took, data)
	return nil
}

func TestReceiptsAreWrittenOnceAndKeptFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &puts{}
		var now atomic.Pointer[deployment.Receipt]
		now.Store(&deployment.Receipt{})
		log := &syncBuffer{}
		r := &receipts{bucket: store, key: "k", current: func() deployment.Receipt { return *now.Load() }, log: slog.New(slog.NewTextHandler(log, nil)), changed: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()
		set := func(f func(*deployment.Receipt)) {
			next := *now.Load()
			f(&next)
			now.Store(&next)
		}
		want := func(n int, what string) {
			t.Helper()
			synctest.Wait()
			time.Sleep(time.Second) // in the bubble: past the gap
			synctest.Wait()
			if len(store.all()) != n {
				t.Errorf("%s: got %d receipts, want %d", what, len(store.all()), n)
			}
		}
		r.poke()
		want(1, "first")
		set(func(r *deployment.Receipt) { r.Seen = "2026-11-23T13:06:43Z" })
		r.poke()
		want(1, "another look")
		set(func(r *deployment.Receipt) { r.Status = "stale" })
		r.poke()
		r.poke()
		want(2, "news")
		time.Sleep(receiptEvery)
		want(3, "after a while")
		if !strings.Contains(string(store.all()[2]), now.Load().Seen) {
			t.Errorf("got %s without the time of the last look", store.all()[2])
		}

		store.refuse(fs.ErrPermission)
		set(func(r *deployment.Receipt) { r.Status = "other" })
		r.poke()
		want(3, "refused")
		if !strings.Contains(r.status(), "receipts: false") {
			t.Errorf("got status %q", r.status())
		}
		time.Sleep(time.Hour)
		if got := strings.Count(log.String(), "cannot be written"); got != 1 {
			t.Errorf("got %d warnings, want 1", got)
		}
		store.refuse(nil)
		time.Sleep(receiptMost)
		want(4, "taken again")
		if r.status() != "" {
			t.Errorf("got status %q", r.status())
		}
		set(func(r *deployment.Receipt) { r.Status = "the last word" })
		cancel()
		<-done
		if len(store.all()) != 5 || !strings.Contains(string(store.all()[4]), "the last word") {
			t.Errorf("got %d receipts, the last %s", len(store.all()), store.all()[len(store.all())-1])
		}
	})
}

func TestReceiptsAreBounded(t *testing.T) {
	r := deployment.Receipt{Deployment: &deployment.Record{Outcome: deployment.RolledBack}}
	for range 3000 {
		r.Deployment.Events = append(r.Deployment.Events, deployment.Event{State: deployment.Progress, Message: strings.Repeat("x", 100)})
	}
	r.Deployment.Events = append(r.Deployment.Events, deployment.Event{Outcome: deployment.RolledBack, Reason: "why"})
	data, err := encodeReceipt(r)
	var back deployment.Receipt
	if err != nil || len(data) > maxReceipt || json.Unmarshal(data, &back) != nil || len(back.Deployment.Events) != 1 || back.Deployment.Events[0].Reason != "why" {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
	if len(r.Deployment.Events) != 3001 {
		t.Error("the receipt itself was changed")
	}
}

func TestNotifications(t *testing.T) {
	var bodies []map[string]string
	status := http.StatusOK
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		bodies = append(bodies, body)
		w.WriteHeader(status)
	}))
	defer hook.Close()
	settings, err := config.Parse("a.yaml", []byte("bucket: abc\ntrust: none\napps: {web: }\nnotify: [{webhook: \""+hook.URL+"\"}]\n"), "h")
	if err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	n := newNotifier(settings.Notify, "web-1", slog.New(slog.NewTextHandler(log, nil)))
	n.remember("web", deployment.Event{Outcome: deployment.Deployed})
	for _, outcome := range []deployment.Outcome{"", deployment.Deployed, deployment.RolledBack, deployment.RolledBack, deployment.Held, deployment.Unchanged, deployment.Deployed, deployment.Failed, deployment.Broken} {
		n.event("web", deployment.Event{App: "web", Hash: "abc", Outcome: outcome, Reason: "because"})
	}
	var got []string
	for len(n.queue) > 0 {
		m := <-n.queue
		got = append(got, m.change)
		n.send(t.Context(), n.hooks[0], m)
	}
	if want := "rolled-back recovered failed broken"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if len(bodies) != 4 || bodies[0]["text"] != "web on web-1: rolled-back abc\nbecause" || bodies[0]["content"] != bodies[0]["text"] {
		t.Errorf("got %v", bodies)
	}
	status = http.StatusNotFound
	n.send(t.Context(), n.hooks[0], notice{"failed", "x"})
	if len(bodies) != 5 || !strings.Contains(log.String(), "404") || strings.Contains(log.String(), hook.URL) {
		t.Errorf("got %d calls and log %s", len(bodies), log)
	}
}

func TestSourceHistory(t *testing.T) {
	w := newWorld(t)
	a, b := "aaaaaaa1", "aaaaaaa2"
	for _, h := range []string{a, b, a, "ccccccc"} {
		w.publish("web", h, h)
	}
	w.must(w.bucket.Put(t.Context(), release.HistoryKey("web", "production", 9), []byte("{}"), ""))
	s := newSource(w.bucket, w.settings("", oneApp).Apps[0])
	for _, listing := range []bool{true, false} {
		if !listing {
			s.bucket = unlistable{w.bucket}
		}
		for _, test := range []struct {
			version string
			seq     uint64
			err     error
		}{
			{a, 3, nil}, {b, 2, nil}, {"ccccccc", 4, nil}, {"aaaaaaa", 0, deploy.ErrAmbiguous}, {"ccccc", 0, fs.ErrNotExist},
			{"ddddddd", 0, fs.ErrNotExist}, {"../x", 0, fs.ErrNotExist},
		} {
			v, err := s.History(t.Context(), test.version)
			if v.Pointer().Seq != test.seq || !errors.Is(err, test.err) {
				t.Errorf("%s, listing %v: got seq %d, %v, want %d, %v", test.version, listing, v.Pointer().Seq, err, test.seq, test.err)
			}
		}
	}
}

// unlistable is a bucket whose key may not list.
type unlistable struct{ bucket.Bucket }

func (unlistable) List(context.Context, string) ([]string, error) { return nil, fs.ErrPermission }

func TestSourceResumes(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), strings.Repeat("0123456789", 15))
	s := newSource(w.bucket, w.settings("", oneApp).Apps[0])
	look, err := s.Look(t.Context(), "")
	w.must(err)
	if _, err := s.Look(t.Context(), look.ETag); !errors.Is(err, deploy.ErrNotModified) {
		t.Errorf("got %v, want ErrNotModified", err)
	}
	p := look.Pointer.Pointer()
	whole, _, err := w.bucket.Get(t.Context(), p.Artifact.Key, 1<<20)
	w.must(err)
	for _, have := range []int{0, 1, len(whole) / 2, len(whole)} {
		path := filepath.Join(t.TempDir(), "part")
		w.must(os.WriteFile(path, whole[:have], 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		w.must(err)
		told := int64(-1)
		if err := s.Fetch(t.Context(), p, f, int64(have), func(n int64) { told = n }); err != nil {
			t.Errorf("from %d: %v", have, err)
		}
		f.Close()
		if data, err := os.ReadFile(path); err != nil || string(data) != string(whole) || have < len(whole) && told != int64(len(whole)) {
			t.Errorf("from %d: got %d bytes, told %d, want %d", have, len(data), told, len(whole))
		}
	}
	// Too long, and wrong at the start: both must be refused, for the engine to begin again.
	for _, data := range [][]byte{append(whole[:len(whole):len(whole)], 'x'), []byte("wrong")} {
		path := filepath.Join(t.TempDir(), "part")
		w.must(os.WriteFile(path, data, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		w.must(err)
		if err := s.Fetch(t.Context(), p, f, int64(len(data)), func(int64) {}); !errors.Is(err, release.ErrVerify) {
			t.Errorf("%.10q: got %v, want ErrVerify", data, err)
		}
		f.Close()
	}
}

func TestSecretsMustBeSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, test := range []struct {
		text string
		mode os.FileMode
		ok   bool
	}{{"abc\n", 0o600, true}, {"abc", 0o640, true}, {"abc", 0o644, false}, {"", 0o600, false}, {"a\nb", 0o600, false}} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if got, err := readSecret(path); (err == nil) != test.ok || test.ok && got != "abc" {
			t.Errorf("%q, mode %o: got %q, %v", test.text, test.mode, got, err)
		}
	}
}
