package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
)

const (
	receiptEvery = 5 * time.Minute        // a receipt that has not changed is written again, so that its age says that we live
	receiptGap   = 250 * time.Millisecond // between two writes
	receiptFirst = 2 * time.Second        // pause after a write that failed, doubled up to receiptMost
	receiptMost  = 5 * time.Minute
	receiptLast  = 3 * time.Second // for the last write when the agent stops
	maxReceipt   = 128 << 10       // bytes
)

// receipts writes one app's receipt to its bucket in the background: whoever changes it only pokes, and what is written
// is the newest. A bucket that does not take it is reported once and asked again, ever more seldom.
type receipts struct {
	app     string // for the log
	key     string // object key
	bucket  bucket.Bucket
	current func() deployment.Receipt
	log     *slog.Logger
	changed chan struct{} // holds one poke

	mu      sync.Mutex
	trouble error
}

// poke says that the receipt may have changed. It never blocks. A nil *receipts takes none.
func (r *receipts) poke() {
	if r == nil {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// status is why receipts are not written, empty when they are.
func (r *receipts) status() string {
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble == nil {
		return ""
	}
	return "the receipt cannot be written: " + r.trouble.Error()
}

// run writes until ctx ends, and then once more what is not written yet.
func (r *receipts) run(ctx context.Context) {
	var written string
	due := time.NewTimer(receiptEvery)
	defer due.Stop()
	pause := receiptFirst
	for {
		fresh := false
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiptLast)
			r.report(r.flush(last, &written, false))
			cancel()
			return
		case <-r.changed:
		case <-due.C:
			fresh = true
		}
		err := r.flush(ctx, &written, fresh)
		if ctx.Err() != nil {
			continue
		}
		r.report(err)
		wait := receiptGap
		if err != nil {
			written, wait = "", pause
			pause = min(2*pause, receiptMost)
			due.Reset(wait)
		} else {
			pause = receiptFirst
			due.Reset(receiptEvery)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// report keeps and logs the first of a row of equal troubles, and their end.
func (r *receipts) report(err error) {
	r.mu.Lock()
	before := r.trouble
	r.trouble = err
	r.mu.Unlock()
	switch {
	case err != nil && before == nil:
		r.log.Warn("receipt cannot be written", "app", r.app, "key", r.key, "error", err)
	case err == nil && before != nil:
		r.log.Info("receipt is written again", "app", r.app, "key", r.key)
	}
}

// flush writes the receipt unless it is what was written last; fresh writes it all the same.
func (r *receipts) flush(ctx context.Context, written *string, fresh bool) error {
	now := r.current()
	seen := now.Seen
	now.Seen = "" // it changes with every look and is no news by itself
	data, err := encodeReceipt(now)
	if err != nil {
		return err
	}
	if string(data) == *written && !fresh {
		return nil
	}
	same := string(data)
	now.Seen = seen
	if data, err = encodeReceipt(now); err != nil {
		return err
	}
	if err := r.bucket.Put(ctx, r.key, data, "application/json"); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; write receipts: false, or name a bucket that this server may write to", err)
		}
		return err
	}
	*written = same
	return nil
}

// encodeReceipt is the receipt as it lies in the bucket. When it would be too large it loses what matters least.
func encodeReceipt(r deployment.Receipt) ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil || len(data) <= maxReceipt || r.Deployment == nil {
		return data, err
	}
	d := *r.Deployment
	r.Deployment = &d
	for _, keep := range []func(deployment.Event) bool{
		func(e deployment.Event) bool { return e.State != deployment.Progress || e.Terminal() },
		deployment.Event.Terminal,
		func(deployment.Event) bool { return false },
	} {
		var events []deployment.Event
		for _, e := range d.Events {
			if keep(e) {
				events = append(events, e)
			}
		}
		d.Events = events
		if data, err = json.MarshalIndent(r, "", "  "); err != nil || len(data) <= maxReceipt {
			return data, err
		}
	}
	return nil, fmt.Errorf("receipt: %d bytes without its events", len(data))
}
