// Package outbox is what the agent sends without being asked: receipts to the bucket, notices to webhooks. Both go out in
// the background and never hold up a deployment.
package outbox

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

// ReceiptsOptions make Receipts.
type ReceiptsOptions struct {
	App    string // for the log
	Key    string // object key
	Bucket bucket.Bucket
	// Current is what the app says of itself now. With whole false it knows no more than its Status, and of what is live,
	// followed and held the receipt goes on saying what the last one in the bucket said.
	Current func() (r deployment.Receipt, whole bool)
	Log     *slog.Logger
}

// NewReceipts returns Receipts; Run writes them.
func NewReceipts(o ReceiptsOptions) *Receipts {
	return &Receipts{ReceiptsOptions: o, changed: make(chan struct{}, 1)}
}

// Receipts writes one app's receipt to its bucket in the background: whoever changes it only pokes, and what is written
// is the newest. A bucket that does not take it is reported once and asked again, ever more seldom.
type Receipts struct {
	ReceiptsOptions
	changed chan struct{}       // holds one poke
	last    *deployment.Receipt // in the bucket, read when it was needed; nil: not read

	mu      sync.Mutex
	trouble error
}

// Poke says that the receipt may have changed. It never blocks. A nil *Receipts takes none.
func (r *Receipts) Poke() {
	if r == nil {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Status is why receipts are not written, empty when they are.
func (r *Receipts) Status() string {
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

// Run writes until ctx ends, and then once more what is not written yet.
func (r *Receipts) Run(ctx context.Context) {
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
func (r *Receipts) report(err error) {
	r.mu.Lock()
	before := r.trouble
	r.trouble = err
	r.mu.Unlock()
	switch {
	case err != nil && before == nil:
		r.Log.Warn("receipt cannot be written", "app", r.App, "key", r.Key, "error", err)
	case err == nil && before != nil:
		r.Log.Info("receipt is written again", "app", r.App, "key", r.Key)
	}
}

// Write writes the receipt now, whatever was written before.
func (r *Receipts) Write(ctx context.Context) error {
	var written string
	return r.flush(ctx, &written, true)
}

// flush writes the receipt unless it is what was written last; fresh writes it all the same.
func (r *Receipts) flush(ctx context.Context, written *string, fresh bool) error {
	now, whole := r.Current()
	if whole {
		r.last = nil
	} else if err := r.complete(ctx, &now); errors.Is(err, fs.ErrPermission) {
		return nil // rather one that is out of date than one that says nothing
	} else if err != nil {
		return err
	}
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
	if err := r.Bucket.Put(ctx, r.Key, data, "application/json"); err != nil {
		if errors.Is(err, fs.ErrPermission) && !errors.Is(err, bucket.ErrClock) {
			err = fmt.Errorf("%w; write receipts: false, or name a bucket that this server may write to", err)
		}
		return err
	}
	*written = same
	return nil
}

// complete adds to a receipt that is not whole what the last one in the bucket says, if there is one.
func (r *Receipts) complete(ctx context.Context, now *deployment.Receipt) error {
	if r.last == nil {
		last := deployment.Receipt{}
		data, _, err := r.Bucket.Get(ctx, r.Key, 8*maxReceipt)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && json.Unmarshal(data, &last) != nil {
			last = deployment.Receipt{} // whatever lies there is no receipt, and is replaced
		}
		r.last = &last
	}
	now.Seen, now.Pointer, now.Live, now.Held, now.Deployment = r.last.Seen, r.last.Pointer, r.last.Live, r.last.Held, r.last.Deployment
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
