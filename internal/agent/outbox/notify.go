package outbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	notifyTime  = 10 * time.Second
	notifyTries = 3
	notifyQueue = 32
	notifyMost  = 30 * time.Second // that a receiver is given when it says to come again later
)

// Notices tells webhooks when an app's state changes: when it turns bad, when it gets worse, when it is well again.
type Notices struct {
	hooks  []config.Notify
	server string
	client *http.Client
	log    *slog.Logger
	queue  chan notice

	sent, failed, dropped atomic.Int64

	mu   sync.Mutex
	last map[string]standing // of every app
}

// standing is how the last deployment of an app ended that says anything about it.
type standing struct {
	outcome deployment.Outcome
	hash    string
}

// notice is one message on its way.
type notice struct{ change, text string }

// NewNotices returns Notices; Run sends them.
func NewNotices(hooks []config.Notify, server string, log *slog.Logger) *Notices {
	return &Notices{
		hooks: hooks, server: server, log: log, queue: make(chan notice, notifyQueue), last: map[string]standing{},
		client: &http.Client{
			Timeout:       notifyTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Remember takes in how things stood before, without telling anyone.
func (n *Notices) Remember(key string, e deployment.Event) { n.change(key, e) }

// Counts are the messages that were taken, those that were not in spite of all tries, and those that were never sent because
// there were too many at once.
func (n *Notices) Counts() (sent, failed, dropped int64) {
	return n.sent.Load(), n.failed.Load(), n.dropped.Load()
}

// Event queues a message if e changes the state of the app. It never blocks: what does not fit is dropped.
func (n *Notices) Event(key string, e deployment.Event) {
	change := n.change(key, e)
	if change == "" || len(n.hooks) == 0 {
		return
	}
	text := fmt.Sprintf("%s on %s: %s %s", e.App, n.server, change, release.ShortHash(e.Hash))
	if e.Reason != "" {
		text += "\n" + e.Reason
	}
	select {
	case n.queue <- notice{change, text}:
	default:
		n.dropped.Add(1)
		n.log.Warn("notification dropped: too many at once", "app", key, "change", change)
	}
}

// change notes the outcome and names what it changed; empty when nothing. A release that fails again and again is told of
// once, another one that fails too is told of again.
func (n *Notices) change(key string, e deployment.Event) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, now := n.last[key], standing{e.Outcome, e.Hash}
	bad := func(o deployment.Outcome) bool {
		return o == deployment.RolledBack || o == deployment.Failed || o == deployment.Broken
	}
	switch {
	case bad(e.Outcome):
		n.last[key] = now
		if now != before {
			return string(e.Outcome)
		}
	case e.Outcome == deployment.Deployed || e.Outcome == deployment.Unchanged:
		n.last[key] = now
		if bad(before.outcome) {
			return "recovered"
		}
	}
	return ""
}

// Run sends until ctx ends.
func (n *Notices) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-n.queue:
			for _, hook := range n.hooks {
				if slices.Contains(hook.On, m.change) {
					n.send(ctx, hook, m)
				}
			}
		}
	}
}

// send posts one message. The address is a secret: it appears in no error.
func (n *Notices) send(ctx context.Context, hook config.Notify, m notice) {
	body := encodeNotice(m.text)
	trouble, pause := "", time.Duration(0)
	for try := range notifyTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(pause, time.Second<<try)):
			}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.Webhook.Reveal(), bytes.NewReader(body))
		if err != nil {
			trouble = "not an address"
			break
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := n.client.Do(req)
		if err != nil {
			trouble = "no answer"
			continue
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		resp.Body.Close()
		if resp.StatusCode < 300 {
			n.sent.Add(1)
			return
		}
		pause = later(resp.Header.Get("Retry-After"))
		if trouble = resp.Status; resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			break
		}
	}
	n.failed.Add(1)
	n.log.Warn("notification not taken", "change", m.change, "error", trouble)
}

// later is how long a receiver wants to be left alone, as far as it gets its way.
func later(retryAfter string) time.Duration {
	seconds, err := strconv.ParseFloat(retryAfter, 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, notifyMost.Seconds()) * float64(time.Second))
}
