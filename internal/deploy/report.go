package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// maxActivations is how often a deployment that failed after the switch, through no fault of the release, is tried again by
// itself: each try restarts the app.
const maxActivations = 5

// maxEvents bounds the story of one deployment; what comes beyond it, but for the terminal event, is dropped.
const maxEvents = 500

// emit numbers, dates and tells an event of the attempt.
func (e *Engine) emit(a *attempt, ev deployment.Event) { e.tell(e.add(a, ev)) }

// add numbers and dates an event and makes it part of the attempt's story.
func (e *Engine) add(a *attempt, ev deployment.Event) deployment.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	a.N++
	ev.N, ev.Time, ev.Deployment = a.N, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), a.ID
	ev.App, ev.Server, ev.Seq, ev.Hash = e.App, e.Server, a.Pointer.Seq, a.Pointer.Release.Hash
	if len(a.Events) < maxEvents || ev.Terminal() {
		a.Events = append(a.Events, ev)
	}
	return ev
}

// tell hands an event to the log, to whoever follows, and into the receipt.
func (e *Engine) tell(ev deployment.Event) {
	e.log(ev)
	e.OnEvent(ev)
	if ev.State != deployment.Progress {
		e.receipt()
	}
}

// log writes the event without the fields that it leaves empty.
func (e *Engine) log(ev deployment.Event) {
	attrs := []slog.Attr{
		slog.String("app", e.Key), slog.String("deployment", ev.Deployment), slog.String("release", release.ShortHash(ev.Hash)),
		slog.Uint64("seq", ev.Seq), slog.String("step", string(ev.Step)), slog.String("state", string(ev.State)),
	}
	for _, field := range []struct{ name, text string }{{"message", ev.Message}, {"outcome", string(ev.Outcome)}, {"reason", ev.Reason}} {
		if field.text != "" {
			attrs = append(attrs, slog.String(field.name, field.text))
		}
	}
	if ev.TookMS > 0 {
		attrs = append(attrs, slog.Int64("took_ms", ev.TookMS))
	}
	level := slog.LevelInfo
	if ev.State == deployment.Progress {
		level = slog.LevelDebug
	}
	e.Log.LogAttrs(context.Background(), level, "deployment", attrs...)
}

func (e *Engine) step(a *attempt, s deployment.Step, state deployment.State, message string) {
	e.emit(a, deployment.Event{Step: s, State: state, Message: message})
}

func (e *Engine) stepTook(a *attempt, s deployment.Step, took time.Duration) {
	ev := deployment.Event{Step: s, State: deployment.Done, TookMS: took.Milliseconds()}
	if s == deployment.Fetch {
		ev.Bytes = a.Pulled
	}
	e.emit(a, ev)
}

// progress returns a function that tells of every tenth of total, at most once a second, and of nothing when total is not
// known.
func (e *Engine) progress(a *attempt, s deployment.Step, total int64) func(int64) {
	told, last := int64(0), time.Now()
	return func(done int64) {
		if total <= 0 {
			return
		}
		if tenth := done * 10 / total; tenth > told && tenth < 10 && time.Since(last) >= time.Second {
			told, last = tenth, time.Now()
			e.emit(a, deployment.Event{Step: s, State: deployment.Progress, Message: fmt.Sprintf("%d %%", tenth*10), Bytes: done})
		}
	}
}

// confirm ends a deployment whose release has proven healthy.
func (e *Engine) confirm(ctx context.Context, a *attempt) (deployment.Outcome, error) {
	begun := time.Now()
	err := e.change(func(l *ledger) {
		a.Phase = deployment.Confirm
		l.arrived(a.To, a.Number, time.Now().UTC())
		l.note(a.Digest, func(x *accepted) { x.Healthy = true })
	})
	if err != nil {
		// It is live and healthy; that this could not be written down costs a repetition after a crash, not the release.
		e.Log.Error("write state after the check", "app", e.Key, "error", err)
	}
	reason := ""
	if a.Digest != "" {
		err := e.hook(ctx, a, "after-healthy")
		switch {
		case err != nil && ctx.Err() != nil:
			return "", ctx.Err() // it was stopped with the agent: the next one goes on from here, and runs it again
		case err != nil:
			reason = "it is live and healthy, but " + err.Error()
		}
	}
	e.stepTook(a, deployment.Confirm, time.Since(begun))
	out, err := e.end(a, deployment.Deployed, reason)
	e.keepFresh()
	e.prune(ctx, e.Keep)
	return out, err
}

// unchanged records a pointer whose release is live and healthy already.
func (e *Engine) unchanged(a *attempt, live tree) (deployment.Outcome, error) {
	err := e.change(func(l *ledger) {
		l.Count++
		l.note(a.Digest, func(x *accepted) { x.Healthy = true })
	})
	if err != nil {
		return "", err
	}
	return e.end(a, deployment.Unchanged, "the same artifact is live already, as "+live.Name)
}

// reportHeld tells, once for each payload, that it is not followed because of a hold.
func (e *Engine) reportHeld(v release.Verified, why string) (deployment.Outcome, error) {
	records, err := e.Journal.Records(1)
	if err != nil {
		return "", err
	}
	if len(records) == 1 && records[0].Outcome == deployment.Held && records[0].Seq == v.Pointer().Seq && records[0].Hash == v.Pointer().Release.Hash {
		return deployment.Held, nil
	}
	a := e.attempt(v.Pointer())
	if err := e.change(func(l *ledger) { l.Count++ }); err != nil {
		return "", err
	}
	return e.end(a, deployment.Held, why)
}

// end gives the attempt its outcome: state, terminal event, record, receipt.
func (e *Engine) end(a *attempt, out deployment.Outcome, reason string) (deployment.Outcome, error) {
	// Trouble of the server, the bucket or the network is tried again; a release that was at fault is not.
	settled := out != deployment.Superseded
	touched := a.Phase != deployment.Fetch && a.Phase != deployment.Unpack
	if out == deployment.Failed && a.Digest != "" && !a.Guilty && !(touched && e.retries >= maxActivations) {
		settled = false
		e.retryLater(touched)
	}
	if a.Note != "" {
		reason = strings.TrimPrefix(reason+"; "+a.Note, "; ")
	}
	var log []string
	if out != deployment.Deployed && out != deployment.Unchanged {
		log = a.Log
	}
	// The event is told once everything is written: whoever hears it and asks for the status is shown what it says.
	ev := e.add(a, deployment.Event{Step: deployment.End, State: endState(out), Outcome: out, Reason: reason, Log: log, Bytes: a.Pulled, TookMS: a.took().Milliseconds()})
	rec := e.record(a, out, reason)
	rec.Finished = time.Now().UTC().Format(time.RFC3339)
	err := e.Journal.Add(rec)
	e.scrubs.due = true
	if cerr := e.change(func(l *ledger) {
		l.Attempt = nil
		if a.Digest != "" && a.Digest == l.Followed {
			l.Settled = settled
			l.note(a.Digest, func(x *accepted) { x.Outcome, x.Refused = out, a.Refused })
		}
	}); err == nil {
		err = cerr
	}
	if err != nil {
		e.Log.Error("write the end of a deployment", "app", e.Key, "deployment", a.ID, "error", err)
	}
	e.say("")
	e.tell(ev)
	e.tidy()
	return out, nil
}

func endState(out deployment.Outcome) deployment.State {
	switch out {
	case deployment.Deployed, deployment.Unchanged, deployment.Superseded, deployment.Held:
		return deployment.Done
	}
	return deployment.StepFail
}

func (e *Engine) record(a *attempt, out deployment.Outcome, reason string) deployment.Record {
	return deployment.Record{
		ID: a.ID, Seq: a.Pointer.Seq, Hash: a.Pointer.Release.Hash, Outcome: out, Reason: reason,
		Started: a.Started.UTC().Format(time.RFC3339), Origin: a.origin(), Events: slices.Clone(a.Events),
	}
}

// receipt tells the face that the receipt has changed.
func (e *Engine) receipt() { e.OnReceipt(e.Receipt()) }

// Receipt is what the server has to say of the app now, with the events of its last deployment.
func (e *Engine) Receipt() deployment.Receipt {
	live, liveErr := e.Tree.Current()
	records, _ := e.Journal.Records(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.state
	r := deployment.Receipt{
		Type: deployment.ReceiptType, App: e.App, Environment: e.Environment, Server: e.Server, AgentVersion: e.AgentVersion,
		Status: e.status,
	}
	if !e.looked.IsZero() {
		r.Seen = e.looked.UTC().Format(time.RFC3339)
	}
	f := s.followed()
	r.Pointer = deployment.ReceiptPointer{Seq: f.Seq, Hash: f.Hash}
	if a := s.Attempt; a != nil && live == a.To {
		live = a.From // a release counts as live once it has proven healthy, and nobody must be told so before
	}
	if liveErr != nil {
		r.Status = liveErr.Error()
	} else if live != "" {
		t, known := s.treeNamed(live)
		r.Live = deployment.ReceiptLive{Seq: t.Seq, Hash: t.Hash}
		if f.ID == t.ID && known && t.Healthy {
			r.Live.Seq = f.Seq // the same artifact under a later seq
		}
		if !s.Since.IsZero() && t.Healthy {
			r.Live.Since = s.Since.UTC().Format(time.RFC3339)
		}
		if !known && e.locked == nil {
			r.Status = "current leads to " + live + ", which this agent did not put there"
		}
	}
	if liveErr == nil && e.locked == nil {
		r.Status = s.withNote(r.Status, s.driftNote(live))
	}
	switch {
	case s.Held != "":
		r.Held = s.Held
	case s.Override != "" && s.Override == s.Followed:
		r.Held = "overridden by a command on this server"
	}
	if a := s.Attempt; a != nil {
		rec := e.record(a, "", "")
		r.Deployment = &rec
	} else if len(records) == 1 {
		r.Deployment = &records[0]
	}
	return r
}

// Detail is everything about the app that the socket shows.
func (e *Engine) Detail() deployment.Detail {
	d := deployment.Detail{Key: e.Key, Dir: e.Tree.Path(), Receipt: e.Receipt(), Releases: e.releases()}
	d.Deployments, _ = e.Journal.Records(20)
	live, _ := e.Tree.Current()
	for _, t := range e.trees() {
		if t.Drift != nil {
			d.Drift = append(d.Drift, t.verification(live))
		}
	}
	return d
}

// releases lists what was accepted here, newest first: one row for each release, however many pointers named it.
func (e *Engine) releases() []deployment.Release {
	live, _ := e.Tree.Current()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.state
	current, _ := s.treeNamed(live)
	var out []deployment.Release
	listed := map[string]bool{}
	for _, a := range slices.Backward(s.Accepted) {
		if listed[a.ID] {
			continue
		}
		listed[a.ID] = true
		_, onDisk := s.treeOf(a.ID)
		out = append(out, deployment.Release{
			Seq: a.Seq, Hash: a.Hash, Msg: a.Msg, Date: a.Date, SHA256: a.sha256(),
			Live: a.ID == current.ID, OnDisk: onDisk, Outcome: a.Outcome,
		})
	}
	for _, t := range s.Trees {
		if !listed[t.ID] {
			out = append(out, deployment.Release{Seq: t.Seq, Hash: t.Hash, Msg: t.Msg, Date: t.Date, SHA256: t.SHA256, Live: t.Name == live, OnDisk: true})
		}
	}
	return out
}

// Refused reports whether the artifact of the followed pointer failed verification here.
func (e *Engine) Refused() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.followed().Refused
}

// Ready is nil when the app could be deployed now, else why not.
func (e *Engine) Ready(ctx context.Context) error {
	e.mu.Lock()
	locked := e.locked
	e.mu.Unlock()
	if locked != nil {
		return locked
	}
	if _, err := e.Tree.Current(); err != nil {
		return err
	}
	if err := e.Service.Check(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.looked.IsZero() {
		if e.status != "" {
			return fmt.Errorf("%w: %s", ErrUnread, e.status)
		}
		return ErrUnread
	}
	return nil
}

func tail(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

// sizeText is a size for people, "" when it is not known.
func sizeText(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
