package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	maxReceipt = 256 << 10 // bytes
	maxReason  = 500       // runes
	maxLog     = 40        // lines of a unit's journal
	maxEvents  = 200       // kept for a server
)

// receipt reads what a server last left in the bucket. It is untrusted: sizes are bounded, texts cleaned.
func (r *run) receipt(ctx context.Context, server string) (deployment.Receipt, error) {
	var c deployment.Receipt
	key := release.ReceiptKey(r.Options.Prefix, r.Options.Environment, server)
	data, _, err := r.Bucket.Get(ctx, key, maxReceipt)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: not a receipt: %w", key, err)
	}
	if c.Type != deployment.ReceiptType || c.App != r.Options.App || c.Environment != r.Options.Environment || c.Server != server {
		return deployment.Receipt{}, fmt.Errorf("%s: a receipt of another app, environment or server", key)
	}
	for _, s := range []*string{&c.AgentVersion, &c.Seen, &c.Pointer.Hash, &c.Live.Hash, &c.Live.Since, &c.Held, &c.Status} {
		*s = release.CleanText(*s, maxReason)
	}
	if d := c.Deployment; d != nil {
		d.ID, d.Hash, d.Outcome = release.CleanText(d.ID, 100), release.CleanText(d.Hash, 64), cleanOutcome(d.Outcome)
		d.Reason = release.CleanText(d.Reason, maxReason)
		d.Events = d.Events[:min(len(d.Events), maxEvents)]
		for i := range d.Events {
			d.Events[i] = cleanEvent(d.Events[i])
		}
	}
	return c, nil
}

func cleanEvent(e deployment.Event) deployment.Event {
	e.Deployment, e.Hash = release.CleanText(e.Deployment, 100), release.CleanText(e.Hash, 64)
	e.Step, e.State = deployment.Step(release.CleanText(string(e.Step), 20)), deployment.State(release.CleanText(string(e.State), 20))
	e.Message, e.Reason = release.CleanText(e.Message, maxReason), release.CleanText(e.Reason, maxReason)
	e.Outcome = cleanOutcome(e.Outcome)
	e.Log = append([]string(nil), e.Log[max(0, len(e.Log)-maxLog):]...)
	for i := range e.Log {
		e.Log[i] = release.CleanLine(e.Log[i], 400)
	}
	return e
}

// cleanOutcome lets a server say only what a server can say; anything else counts as failed.
func cleanOutcome(o deployment.Outcome) deployment.Outcome {
	switch o {
	case "", deployment.Deployed, deployment.Unchanged, deployment.RolledBack, deployment.Failed, deployment.Broken, deployment.Superseded, deployment.Held:
		return o
	}
	return deployment.Failed
}

// judgeEvent turns the terminal event of a stream into a result. ok is false when it speaks of an older pointer, so
// that the last word is still to come.
func judgeEvent(e deployment.Event, seq uint64, hash string) (s ServerResult, ok bool) {
	s = ServerResult{Outcome: e.Outcome, Seq: e.Seq, Hash: e.Hash, Reason: e.Reason, Log: e.Log, follows: e.Seq}
	switch {
	case e.Seq > seq:
		s.Outcome, s.Reason = deployment.Superseded, cmp.Or(e.Reason, fmt.Sprintf("it follows the newer seq %d", e.Seq))
	case e.Seq < seq && e.Outcome != deployment.Held:
		return s, false
	case healthy(e.Outcome) && e.Hash != hash:
		s.Unknown = true
		s.Outcome, s.Reason = deployment.Failed, fmt.Sprintf("it says %s of release %q, not of %s", e.Outcome, e.Hash, hash)
	}
	return s, true
}

// judgeReceipt says how the server ended with the pointer of this seq. ok is false while it has not.
func judgeReceipt(c deployment.Receipt, seq uint64, hash string) (s ServerResult, ok bool) {
	s = ServerResult{Seq: c.Live.Seq, Hash: c.Live.Hash}
	d := c.Deployment
	s.follows = max(c.Pointer.Seq, c.Live.Seq)
	if d != nil {
		s.follows = max(s.follows, d.Seq)
	}
	switch {
	case d != nil && d.Seq == seq && d.Outcome != "":
		s.Outcome, s.Reason = d.Outcome, d.Reason
		if n := len(d.Events); n > 0 {
			s.Log = d.Events[n-1].Log
		}
		if healthy(d.Outcome) && (d.Hash != hash || c.Live.Hash != hash) {
			s.Unknown = true
			s.Outcome, s.Reason = deployment.Failed, fmt.Sprintf("it said %s, and now release %q is live", d.Outcome, c.Live.Hash)
		}
	case c.Pointer.Seq > seq || d != nil && d.Seq > seq:
		s.Outcome, s.Reason = deployment.Superseded, fmt.Sprintf("it follows the newer seq %d", s.follows)
	case d != nil && d.Seq == seq:
		return s, false // under way
	case c.Live.Seq == seq && c.Live.Hash == hash:
		s.Outcome = deployment.Deployed
	case c.Held != "" && c.Pointer.Seq == seq:
		s.Outcome, s.Reason = deployment.Held, c.Held
	default:
		return s, false
	}
	return s, true
}

// believe holds a server that says superseded to what the bucket has, whose highest seq is top: where nothing there is
// newer than seq, no server that follows this bucket can be ahead of us.
func believe(s ServerResult, seq, top uint64) ServerResult {
	if s.Outcome == deployment.Superseded && top <= seq {
		s.Outcome, s.Unknown = deployment.Failed, true
		s.Reason = fmt.Sprintf("it follows seq %d, which this bucket does not have; see towline recover on that server", s.follows)
		if s.follows <= seq {
			s.Reason = fmt.Sprintf("it says superseded, and this bucket has nothing newer than seq %d", seq)
		}
	}
	return s
}

// checked is believe against the bucket as it is now. It may be called from several goroutines.
func (r *run) checked(ctx context.Context, s ServerResult, seq uint64) ServerResult {
	if s.Outcome != deployment.Superseded {
		return s
	}
	quiet := &run{Parts: r.Parts, want: r.want}
	quiet.Log = NewTextLog(io.Discard, false, false) // what it looks up is no part of the story
	at, err := quiet.look(ctx)
	if err != nil {
		s.Unknown = true
		s.Outcome, s.Reason = deployment.Failed, release.CleanText(fmt.Sprintf("it says that it follows seq %d, which cannot be looked up: %v", s.follows, err), maxReason)
		return s
	}
	return believe(s, seq, at.top.Pointer().Seq)
}
