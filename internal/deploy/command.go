package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// minPrefix is the shortest part of a version that may stand for it.
const minPrefix = 7

type command struct {
	ctx   context.Context
	verb  string
	body  deployment.Command
	found []finding // of verify
	reply chan reply
}

type reply struct {
	result deployment.Result
	err    error
}

func (c command) answer(r deployment.Result, err error) { c.reply <- reply{r, err} }

// Do runs a command of the socket: deploy, rollback, hold, resume, prune, verify or recover. It waits for a deployment
// under way to end. Errors: fs.ErrNotExist for a release that is not known, ErrAmbiguous, ErrHeld, ErrLocked,
// release.ErrVerify.
func (e *Engine) Do(ctx context.Context, verb string, body deployment.Command) (deployment.Result, error) {
	if verb == "verify" {
		return e.verify(ctx)
	}
	return e.send(ctx, command{verb: verb, body: body})
}

// send has the loop run a command and waits for the answer.
func (e *Engine) send(ctx context.Context, c command) (deployment.Result, error) {
	c.ctx, c.reply = ctx, make(chan reply, 1)
	select {
	case e.commands <- c:
	case <-e.departure.gone:
		return deployment.Result{}, fmt.Errorf("%s: %w", c.verb, ErrLeft)
	case <-ctx.Done():
		return deployment.Result{}, fmt.Errorf("%s: %w", c.verb, ctx.Err())
	}
	select {
	case r := <-c.reply:
		return r.result, r.err
	case <-ctx.Done():
		return deployment.Result{}, fmt.Errorf("%s: %w", c.verb, ctx.Err())
	}
}

// command runs in the loop. A caller that goes away does not stop what it has begun: a deployment is finished or undone,
// never left.
func (e *Engine) command(ctx context.Context, c command) (deployment.Result, error) {
	if e.locked != nil && c.verb != "recover" {
		return deployment.Result{}, e.locked
	}
	if e.state.Attempt != nil { // an earlier process left it; its outcome comes first
		if _, err := e.finish(ctx); err != nil {
			return deployment.Result{}, err
		}
	}
	switch c.verb {
	case "deploy":
		if c.body.Version == "" {
			return e.deployPointer(ctx, c.body)
		}
		return e.deployVersion(ctx, c.body.Version, c.body.Reason)
	case "rollback":
		return e.rollback(ctx, c.body)
	case "hold":
		why := release.CleanText(c.body.Reason, 200)
		if why == "" {
			why = "no reason given"
		}
		if err := e.change(func(l *ledger) { l.Held = why }); err != nil {
			return deployment.Result{}, err
		}
		e.say("on hold: " + why)
		e.receipt()
		return deployment.Result{Outcome: deployment.Held, Reason: why}, nil
	case "resume":
		return e.resume()
	case "prune":
		keep := e.Keep
		if c.body.Keep > 0 {
			keep = max(c.body.Keep, 1)
		}
		return deployment.Result{Lines: e.prune(ctx, keep)}, nil
	case "verify":
		return e.verified(c.found)
	case "recover":
		return e.unlock(c.body)
	}
	return deployment.Result{}, fmt.Errorf("unknown command %q", c.verb)
}

// deployPointer looks at the pointer now. With force a hold, an override or a quarantine does not stand in its way.
func (e *Engine) deployPointer(ctx context.Context, body deployment.Command) (deployment.Result, error) {
	if e.state.Held != "" && !body.Force {
		return deployment.Result{}, fmt.Errorf("%w: %s", ErrHeld, e.state.Held)
	}
	if body.Force {
		if err := e.change(func(l *ledger) { l.Override, l.Settled = "", false }); err != nil {
			return deployment.Result{}, err
		}
		e.clearRetry()
		// A hold stays for what arrives next.
		e.force = true
		defer func() { e.force = false }()
	}
	out, err := e.ensure(ctx)
	if err != nil {
		return deployment.Result{}, err
	}
	return e.result(out), nil
}

// deployVersion makes a release live by a person's word: one on disk, or one that the verified history names.
func (e *Engine) deployVersion(ctx context.Context, version, reason string) (deployment.Result, error) {
	t, err := e.onDisk(version)
	if errors.Is(err, fs.ErrNotExist) {
		v, herr := e.Source.History(ctx, version)
		if herr != nil {
			return deployment.Result{}, herr
		}
		a := e.attempt(v.Pointer())
		a.Plain = v.Plain()
		return e.local(ctx, a, reason)
	}
	if err != nil {
		return deployment.Result{}, err
	}
	a := e.attemptOn(t)
	if t.Drift != nil {
		if a, err = e.refetch(ctx, t); err != nil {
			return deployment.Result{}, err
		}
	}
	return e.local(ctx, a, reason)
}

// rollback goes back to the previous release. One that was changed on this server is fetched again; where that cannot be,
// the next older one that is on disk and sound is taken.
func (e *Engine) rollback(ctx context.Context, body deployment.Command) (deployment.Result, error) {
	if body.Version != "" && body.Version != "previous" {
		return e.deployVersion(ctx, body.Version, body.Reason)
	}
	live, err := e.live()
	if err != nil {
		return deployment.Result{}, err
	}
	earlier := e.state.earlier(live.ID)
	if len(earlier) == 0 {
		return deployment.Result{}, unknown(fmt.Sprintf("there is no release before %s", orNone(release.ShortHash(live.Hash))))
	}
	if t, ok := e.state.treeOf(earlier[0]); ok && t.Drift != nil {
		a, err := e.refetch(ctx, t)
		if err == nil {
			return e.local(ctx, a, body.Reason)
		}
		for _, id := range earlier[1:] {
			if older, ok := e.state.treeOf(id); ok && older.Drift == nil && e.Tree.Has(older.Name) && ctx.Err() == nil {
				a := e.attemptOn(older)
				a.Note = fmt.Sprintf("it is older than the previous release: %v", err)
				return e.local(ctx, a, body.Reason)
			}
		}
		return deployment.Result{}, err
	}
	if t, ok := e.state.treeOf(earlier[0]); ok && e.Tree.Has(t.Name) {
		return e.local(ctx, e.attemptOn(t), body.Reason)
	}
	for _, a := range slices.Backward(e.state.Accepted) {
		if a.ID == earlier[0] {
			return e.deployVersion(ctx, a.Hash, body.Reason)
		}
	}
	return deployment.Result{}, unknown("the previous release is neither on disk nor in the history")
}

// attemptOn makes an attempt for a release that is on disk.
func (e *Engine) attemptOn(t tree) *attempt {
	a := e.attempt(release.Pointer{
		Seq:      t.Seq,
		Release:  release.Release{Hash: t.Hash, Msg: t.Msg, Date: t.Date},
		Artifact: release.Artifact{SHA256: t.SHA256},
	})
	a.Plain = strings.HasPrefix(t.ID, "plain:")
	a.To, a.Phase = t.Name, deployment.Activate
	return a
}

// local runs a deployment that a command on this server asked for. It overrides the pointer that is followed now, durably
// and before anything is activated.
func (e *Engine) local(ctx context.Context, a *attempt, reason string) (deployment.Result, error) {
	live, err := e.live()
	if err != nil {
		return deployment.Result{}, err
	}
	a.From = e.before(live)
	before := e.state.Override
	e.mu.Lock()
	e.state.Override = e.state.Followed // written with the attempt
	e.mu.Unlock()
	if err := e.take(a); err != nil {
		e.mu.Lock()
		e.state.Override = before
		e.mu.Unlock()
		return deployment.Result{}, err
	}
	message := "asked for on this server"
	if why := release.CleanText(reason, 200); why != "" {
		message += ": " + why
	}
	e.step(a, a.Phase, deployment.Progress, message)
	out, err := e.finish(ctx)
	if err != nil {
		return deployment.Result{}, err
	}
	return e.result(out), nil
}

// resume ends a hold and an override; the followed pointer counts again.
func (e *Engine) resume() (deployment.Result, error) {
	was := e.state.Held
	live, err := e.live()
	if err != nil {
		return deployment.Result{}, err
	}
	err = e.change(func(l *ledger) {
		// A release that failed here stays quarantined: resuming is not forcing.
		if f := l.followed(); l.Override != "" && f.ID != live.ID && f.Healthy {
			l.Settled = false
		}
		l.Held, l.Override = "", ""
	})
	if err != nil {
		return deployment.Result{}, err
	}
	e.clearRetry()
	e.say("")
	e.receipt()
	e.Wake()
	if was == "" {
		return deployment.Result{Reason: "the pointer is followed"}, nil
	}
	return deployment.Result{Reason: "the pointer is followed again; it was on hold: " + was}, nil
}

// unlock starts a new memory on what is on disk, after a person has looked. A memory that is sound is only rewound, and
// only when a seq is named.
func (e *Engine) unlock(body deployment.Command) (deployment.Result, error) {
	name, err := e.Tree.Current()
	if err != nil {
		return deployment.Result{}, err
	}
	if e.locked == nil && body.AcceptSeq == 0 {
		return deployment.Result{Reason: "the state is sound; there is nothing to recover"}, nil
	}
	if e.locked == nil {
		return e.rewind(body.AcceptSeq)
	}
	names, err := e.Tree.Names()
	if err != nil {
		return deployment.Result{}, err
	}
	// Numbers go on after the records that are still there: the newest of them must stay the newest.
	count := uint64(0)
	if records, err := e.Journal.Records(1); err == nil && len(records) == 1 {
		number, _, _ := strings.Cut(records[0].ID, "-")
		count, _ = strconv.ParseUint(number, 10, 64)
	}
	err = e.change(func(l *ledger) { *l = ledger{HighSeq: body.AcceptSeq, Count: count, Live: name}; l.adopt(names) })
	if err != nil {
		return deployment.Result{}, err
	}
	e.mu.Lock()
	e.locked = nil
	e.mu.Unlock()
	e.say("")
	e.Wake()
	return deployment.Result{Reason: fmt.Sprintf("recovered; live is %s, pointers above seq %d are followed", orNone(name), body.AcceptSeq)}, nil
}

// rewind sets the high-water mark by a person's word: down again after a stolen key had driven it up, or up past pointers
// that must not be followed. Nothing live is touched.
func (e *Engine) rewind(seq uint64) (deployment.Result, error) {
	was, forgotten := uint64(0), 0
	if err := e.change(func(l *ledger) { was = l.HighSeq; forgotten = l.rewind(seq) }); err != nil {
		return deployment.Result{}, err
	}
	e.mu.Lock()
	e.offered = release.Verified{}
	e.mu.Unlock()
	e.clearRetry()
	e.say("")
	e.receipt()
	e.Wake()
	return deployment.Result{Reason: fmt.Sprintf("pointers above seq %d are followed, before it was %d; %d accepted above it forgotten", seq, was, forgotten)}, nil
}

// onDisk finds a release on disk by its version, exactly first, then by a unique prefix. One that was changed on this
// server is found only where there is no other.
func (e *Engine) onDisk(version string) (tree, error) {
	var exact, fits []tree
	for _, t := range e.state.Trees {
		if sound, _ := e.state.treeOf(t.ID); !e.Tree.Has(t.Name) || sound.Name != t.Name {
			continue
		}
		if t.Hash == version {
			exact = append(exact, t)
		}
		if len(version) >= minPrefix && strings.HasPrefix(t.Hash, version) {
			fits = append(fits, t)
		}
	}
	if len(exact) > 0 {
		return exact[max(slices.IndexFunc(exact, func(t tree) bool { return t.Drift == nil }), 0)], nil
	}
	switch len(fits) {
	case 0:
		return tree{}, unknown("no release " + version + " on this server")
	case 1:
		return fits[0], nil
	}
	var names []string
	for _, t := range fits {
		names = append(names, t.Hash)
	}
	slices.Sort(names)
	return tree{}, fmt.Errorf("release %s: %w: %s", version, ErrAmbiguous, strings.Join(names, ", "))
}

// result is the answer to a command that ended with an outcome.
func (e *Engine) result(out deployment.Outcome) deployment.Result {
	r := deployment.Result{Outcome: out}
	if records, err := e.Journal.Records(1); err == nil && len(records) == 1 {
		r.Record, r.Reason = &records[0], records[0].Reason
	}
	return r
}

// unknown is an error for a release that there is not. It is fs.ErrNotExist, without that one's talk of files.
type unknown string

func (u unknown) Error() string        { return string(u) }
func (u unknown) Is(target error) bool { return target == fs.ErrNotExist }

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
