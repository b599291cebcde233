package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		log := &parts.Buffer{}
		r := NewReceipts(ReceiptsOptions{Bucket: store, Key: "k", Current: func() (deployment.Receipt, bool) { return *now.Load(), true }, Log: slog.New(slog.NewTextHandler(log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
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
		r.Poke()
		want(1, "first")
		set(func(r *deployment.Receipt) { r.Seen = "2026-11-23T13:06:43Z" })
		r.Poke()
		want(1, "another look")
		set(func(r *deployment.Receipt) { r.Status = "stale" })
		r.Poke()
		r.Poke()
		want(2, "news")
		time.Sleep(receiptEvery)
		want(3, "after a while")
		if !strings.Contains(string(store.all()[2]), now.Load().Seen) {
			t.Errorf("got %s without the time of the last look", store.all()[2])
		}

		store.refuse(fs.ErrPermission)
		set(func(r *deployment.Receipt) { r.Status = "other" })
		r.Poke()
		want(3, "refused")
		if !strings.Contains(r.Status(), "receipts: false") {
			t.Errorf("got status %q", r.Status())
		}
		time.Sleep(time.Hour)
		if got := strings.Count(log.String(), "cannot be written"); got != 1 {
			t.Errorf("got %d warnings, want 1", got)
		}
		store.refuse(nil)
		time.Sleep(receiptMost)
		want(4, "taken again")
		if r.Status() != "" {
			t.Errorf("got status %q", r.Status())
		}
		set(func(r *deployment.Receipt) { r.Status = "the last word" })
		cancel()
		<-done
		if len(store.all()) != 5 || !strings.Contains(string(store.all()[4]), "the last word") {
			t.Errorf("got %d receipts, the last %s", len(store.all()), store.all()[len(store.all())-1])
		}
	})
}

func (p *puts) Get(context.Context, string, int64) ([]byte, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return nil, "", p.err
	case len(p.took) == 0:
		return nil, "", fs.ErrNotExist
	}
	return p.took[len(p.took)-1], "", nil
}

func TestReceiptsOfAnAppThatIsNotReadyKeepWhatIsLive(t *testing.T) {
	store := &puts{}
	now, whole := deployment.Receipt{App: "web", AgentVersion: "2", Status: "not ready: no such unit"}, false
	r := NewReceipts(ReceiptsOptions{Bucket: store, Key: "k", Current: func() (deployment.Receipt, bool) { return now, whole }, Log: slog.New(slog.DiscardHandler)})
	last := func() (last deployment.Receipt) {
		t.Helper()
		if err := r.Write(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := store.all()
		if err := json.Unmarshal(all[len(all)-1], &last); err != nil {
			t.Fatal(err)
		}
		return last
	}
	if got := last(); got != now {
		t.Errorf("without one before it: got %+v, want %+v", got, now)
	}
	was := deployment.Receipt{
		App: "web", AgentVersion: "1", Seen: "2026-11-23T13:06:43Z", Held: "lunch", Status: "on hold: lunch",
		Pointer: deployment.ReceiptPointer{Seq: 4, Hash: "d"}, Live: deployment.ReceiptLive{Seq: 3, Hash: "c", Since: "2026-11-22T13:06:43Z"},
	}
	notReady := now
	now, whole = was, true
	if got := last(); got != was {
		t.Errorf("ready: got %+v, want %+v", got, was)
	}
	now, whole = notReady, false
	want := was
	want.AgentVersion, want.Status = now.AgentVersion, now.Status
	for _, again := range []string{"no such unit", "no such user"} {
		now.Status = "not ready: " + again
		want.Status = now.Status
		if got := last(); got != want {
			t.Errorf("not ready: got %+v, want %+v", got, want)
		}
	}

	// A new process that may not read its receipts leaves the last one alone.
	fresh := NewReceipts(r.ReceiptsOptions)
	store.refuse(fs.ErrPermission)
	before := len(store.all())
	if err := fresh.Write(t.Context()); err != nil || len(store.all()) != before {
		t.Errorf("forbidden: got %v and %d receipts, want none", err, len(store.all())-before)
	}
	store.refuse(errors.New("no route"))
	if err := fresh.Write(t.Context()); err == nil {
		t.Error("unreachable: got no error")
	}
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
	var bodies []message
	status := http.StatusOK
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body message
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v, %s", err, r.Header.Get("Content-Type"))
		}
		bodies = append(bodies, body)
		w.WriteHeader(status)
	}))
	defer hook.Close()
	settings, err := config.Parse("a.yaml", []byte("bucket: abc\ntrust: none\napps: {web: }\nnotify: [{webhook: \""+hook.URL+"\"}]\n"), "h")
	if err != nil {
		t.Fatal(err)
	}
	log := &parts.Buffer{}
	n := NewNotices(settings.Notify, "web-1", slog.New(slog.NewTextHandler(log, nil)))
	n.Remember("web", deployment.Event{Outcome: deployment.Deployed})
	for _, outcome := range []deployment.Outcome{"", deployment.Deployed, deployment.RolledBack, deployment.RolledBack, deployment.Held, deployment.Unchanged, deployment.Deployed, deployment.Failed, deployment.Broken} {
		n.Event("web", deployment.Event{App: "web", Hash: "abc", Outcome: outcome, Reason: "because"})
	}
	var got []string
	for _, hash := range []string{"def", "def"} { // another release that fails too, and is tried again
		n.Event("web", deployment.Event{App: "web", Hash: hash, Outcome: deployment.Broken})
	}
	for len(n.queue) > 0 {
		m := <-n.queue
		got = append(got, m.change)
		n.send(t.Context(), n.hooks[0], m)
	}
	if want := "rolled-back recovered failed broken broken"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if len(bodies) != 5 || bodies[0].Text != "web on web-1: rolled-back abc\nbecause" {
		t.Errorf("got %v", bodies)
	}
	status = http.StatusNotFound
	n.send(t.Context(), n.hooks[0], notice{"failed", "x"})
	if len(bodies) != 6 || !strings.Contains(log.String(), "404") || strings.Contains(log.String(), hook.URL) {
		t.Errorf("got %d calls and log %s", len(bodies), log)
	}
	for range notifyQueue + 1 {
		n.Event("web", deployment.Event{Outcome: deployment.Deployed})
		n.Event("web", deployment.Event{Outcome: deployment.Failed})
	}
	if sent, failed, dropped := n.Counts(); sent != 5 || failed != 1 || dropped != notifyQueue+2 {
		t.Errorf("counted: got %d sent, %d failed, %d dropped", sent, failed, dropped)
	}
}
