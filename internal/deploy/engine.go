package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

var (
	// ErrNotModified is what Source.Look returns when the ETag it was given is still current.
	ErrNotModified = errors.New("not modified")
	// ErrAmbiguous says that a version prefix fits several releases; the text lists them.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrHeld says that the app is on hold.
	ErrHeld = errors.New("on hold")
	// ErrUnread says that no pointer has been read yet: nothing is published, or the bucket did not answer so far.
	ErrUnread = errors.New("no pointer has been read yet")
	// ErrLocked says that the engine's memory is gone while releases exist: nothing is installed from afar until a person
	// has looked.
	ErrLocked = errors.New("remote installs are locked")
)

// Options are what an engine is made of. All parts but Alive, Hooks, Integrity, Frames and Adopted are needed.
type Options struct {
	Key          string // the app's name in the agent's configuration
	App          string
	Environment  string
	Server       string
	AgentVersion string

	RevertsRefused bool          // never follow a payload that was accepted before
	Poll           time.Duration // between looks; jittered by a fifth
	Keep           int           // release directories to keep, at least 2
	Shared         []string      // paths linked to shared/ in every release
	RestartWithin  time.Duration // for one restart of the unit; 0 means two minutes
	UndoWithin     time.Duration // for putting the previous release back, its check included; 0 means ten minutes

	Source  Source
	Tree    Tree
	Service Service
	Check   Checker
	Alive   Alive // nil: a release that was proven healthy once is taken for well
	Hooks   Hooks
	Journal Journal
	Unpack  Unpacker

	Integrity Integrity // nil: what was unpacked is taken for what is there
	Frames    Frames    // nil: every artifact is fetched whole

	Adopted *deployment.Adopted // a release directory that root has made; nil: none

	OnEvent   func(deployment.Event)   // called in order; must not block
	OnReceipt func(deployment.Receipt) // called when the receipt has changed; must not block
	Log       *slog.Logger
}

// Engine deploys one app on one server.
type Engine struct {
	Options
	wake     chan struct{}
	commands chan command

	etag    string           // of the last pointer that was verified
	last    release.Verified // that pointer
	lastMod time.Time
	errs    int       // looks in a row that failed
	retryAt time.Time // when a failed deployment may be tried again
	retries int
	hurryAt time.Time // when it may be, if somebody rings
	away    time.Time // since when the pointer cannot be read
	force   bool      // the command that runs now overrules a hold
	scrubs  scrubber
	looks   atomic.Uint64 // at release directories
	fresh   Plan          // what the release was brought by that is being made live

	departure departure

	mu      sync.Mutex
	state   ledger
	offered release.Verified // newest pointer that came by ping
	hurry   bool             // the one that is followed came by ping, after its deployment had failed
	looked  time.Time        // when the pointer was read last
	status  string           // what a person should know: refused, stale, not ready
	locked  error
}

// New loads the app's state. It is an error if the state cannot be read; a state that is missing or corrupt although
// releases exist locks the app instead (see ErrLocked).
func New(o Options) (*Engine, error) {
	if o.RestartWithin == 0 {
		o.RestartWithin = 2 * time.Minute
	}
	if o.UndoWithin == 0 {
		o.UndoWithin = 10 * time.Minute
	}
	e := &Engine{Options: o, wake: make(chan struct{}, 1), commands: make(chan command)}
	e.scrubs.found = make(chan []finding)
	e.departure.told, e.departure.gone = make(chan struct{}), make(chan struct{})
	data, err := o.Journal.Load()
	switch {
	case err == nil:
		if e.state, err = readLedger(data); err != nil {
			e.state, e.locked = ledger{}, fmt.Errorf("%w: the state cannot be read: %w", ErrLocked, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		names, err := o.Tree.Names()
		if err != nil {
			return nil, err
		}
		if len(names) > 0 && !e.adopts(names) {
			e.locked = fmt.Errorf("%w: the state is gone although releases exist", ErrLocked)
		}
	case errors.As(err, new(*fs.PathError)): // the disk, or another owner: the state may be as good as ever
		return nil, err
	default:
		e.locked = fmt.Errorf("%w: %w", ErrLocked, err)
	}
	if err := e.takeUp(); err != nil {
		return nil, fmt.Errorf("take up release %s: %w", o.Adopted.Name, err)
	}
	return e, nil
}

// Wake makes the loop look at the pointer now. Many calls are one look.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Offer hands over a verified pointer that came by ping and wakes the loop. Only a seq above everything followed so far is
// believed from a ping; anything else is just a reason to look. The pointer that is followed already, sent again, is a reason to
// try it again: whoever repairs what it failed for runs the job once more.
func (e *Engine) Offer(v release.Verified) {
	e.mu.Lock()
	if v.Valid() && !v.Plain() && v.Pointer().Seq > e.state.HighSeq &&
		(!e.offered.Valid() || v.Pointer().Seq > e.offered.Pointer().Seq) {
		e.offered = v
	}
	e.hurry = e.hurry || v.Valid() && v.Digest() == e.state.Followed
	e.mu.Unlock()
	e.Wake()
}

// Run finishes what an earlier process left, then looks at the pointer whenever the timer fires or Wake is called, until
// ctx ends. It returns nil then; a deployment under way stops at a safe point and is taken up by the next Run. After Leave
// it returns nil once the deployment under way has ended.
func (e *Engine) Run(ctx context.Context) error {
	e.recover()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var work sync.WaitGroup
	defer work.Wait()
	beside, stop := context.WithCancel(ctx)
	defer stop()
	e.scrubs.due = true // nobody has watched while no agent ran
	for {
		if e.left() {
			close(e.departure.gone)
			return nil
		}
		e.scrub(beside, &work)
		select {
		case <-ctx.Done():
			return nil
		case <-e.departure.told:
			if e.left() {
				continue
			}
		case found := <-e.scrubs.found:
			e.scrubbed(found)
			continue
		case c := <-e.commands:
			c.answer(e.command(ctx, c))
			continue
		case <-e.wake:
		case <-timer.C:
		}
		_, err := e.ensure(ctx)
		timer.Reset(e.pause(err))
	}
}

// Once looks at the pointer once and finishes the deployment that this starts, or that an earlier process left. The outcome
// is empty when nothing is followed yet. A pointer that was rolled back before keeps its outcome; one that is refused is an
// error.
func (e *Engine) Once(ctx context.Context) (deployment.Outcome, error) {
	e.recover()
	out, err := e.ensure(ctx)
	e.scrubNow(ctx)
	return out, err
}

// ensure brings the app to where the pointer says it should be: one look and at most one deployment, unless a newer pointer
// overtakes it on the way.
func (e *Engine) ensure(ctx context.Context) (deployment.Outcome, error) {
	if e.locked != nil {
		e.say(e.locked.Error())
		return "", e.locked
	}
	if e.state.Attempt != nil {
		if out, err := e.finish(ctx); err != nil || out != deployment.Superseded {
			return out, err
		}
	}
	for {
		out, err := e.lookAndAct(ctx)
		if err != nil || out != deployment.Superseded || ctx.Err() != nil || e.last.Digest() == e.state.Followed {
			return out, err
		}
	}
}

func (e *Engine) lookAndAct(ctx context.Context) (deployment.Outcome, error) {
	e.tidy() // a person may have said meanwhile that nothing is to be tried again
	v, modified, err := e.look(ctx)
	now := time.Now()
	if err != nil {
		e.unread(err, now)
		return "", err
	}
	e.away = time.Time{}
	seen := e.state.Seen.again(v.Digest(), now)
	d := decide(&e.state, v, modified, e.RevertsRefused, seen, now)
	if d.verdict != wait {
		seen = sighting{}
	}
	if seen != e.state.Seen {
		if err := e.change(func(l *ledger) { l.Seen = seen }); err != nil {
			e.say("cannot write the state: " + err.Error())
			return "", err
		}
	}
	switch d.verdict {
	case wait:
		e.say(d.reason)
		return "", nil
	case refuse:
		e.say("refused: " + d.reason)
		return "", fmt.Errorf("pointer: %w: %s", release.ErrVerify, d.reason)
	case nothing:
		return e.again(ctx, v, modified)
	}
	return e.pursue(ctx, v, modified)
}

// again deals with a look that saw the payload that is followed already.
func (e *Engine) again(ctx context.Context, v release.Verified, modified time.Time) (deployment.Outcome, error) {
	s := &e.state
	if modified.After(s.Modified) {
		// It came by ping first and now it is known when it was written, or it was written again.
		if err := e.change(func(l *ledger) { l.Modified = modified; l.saw(v.Digest(), modified) }); err != nil {
			return "", err
		}
	}
	switch {
	case s.Held != "" && !e.force:
		e.say("on hold: " + s.Held)
	case s.Override == v.Digest():
		e.say("a command on this server overrides the pointer; resume follows it again")
		return deployment.Held, nil
	case !s.Settled && !time.Now().Before(e.retry()):
		return e.begin(ctx, v)
	case !s.Settled:
		e.say("the last deployment failed; it is tried again")
	case s.followed().Refused:
		e.say(fmt.Sprintf("release %s was refused as it lies in the store; it is not tried again until another pointer arrives or a person forces it", release.ShortHash(s.followed().Hash)))
	case s.followed().Outcome == deployment.RolledBack || s.followed().Outcome == deployment.Broken || s.followed().Outcome == deployment.Failed:
		e.say(fmt.Sprintf("release %s did not become healthy; it is not tried again until another pointer arrives or a person forces it", release.ShortHash(s.followed().Hash)))
	case v.Expired(time.Now()):
		e.say("stale: the pointer expired at " + v.Pointer().Expires)
	default:
		e.say("")
	}
	return s.followed().Outcome, nil
}

// pursue takes up a payload that is to be followed.
func (e *Engine) pursue(ctx context.Context, v release.Verified, modified time.Time) (deployment.Outcome, error) {
	if held := e.state.Held; held != "" && !e.force {
		e.say("on hold: " + held)
		return e.reportHeld(v, held)
	}
	e.clearRetry()
	if err := e.change(func(l *ledger) { l.accept(v, modified) }); err != nil {
		e.say("cannot write the state: " + err.Error())
		return "", err
	}
	return e.begin(ctx, v)
}

// begin starts the deployment of the followed pointer, unless its release is live and healthy already.
func (e *Engine) begin(ctx context.Context, v release.Verified) (deployment.Outcome, error) {
	p := v.Pointer()
	live, err := e.live()
	a := e.attempt(p)
	a.Digest, a.Plain, a.From = v.Digest(), v.Plain(), e.before(live)
	if err == nil && live.Healthy && live.Drift == nil && live.ID == identity(p, v.Plain()) {
		var unwell error
		if e.Alive != nil {
			unwell = e.Alive(ctx, live.Hash)
		}
		if unwell == nil {
			return e.unchanged(a, live)
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		e.Log.Warn("the same artifact is live but not well; it is activated again", "app", e.Key, "reason", unwell)
	}
	if err := e.take(a); err != nil {
		return "", err
	}
	return e.finish(ctx)
}

// take writes the attempt down. When that fails it is not begun, now or later.
func (e *Engine) take(a *attempt) error {
	err := e.change(func(l *ledger) { l.Count++; l.Attempt = a; l.known(a) })
	if err != nil {
		e.mu.Lock()
		e.state.Attempt = nil
		e.mu.Unlock()
	}
	return err
}

// attempt makes a new, empty attempt.
func (e *Engine) attempt(p release.Pointer) *attempt {
	n := e.state.Count + 1
	now := time.Now()
	return &attempt{
		ID: fmt.Sprintf("%06d-%s", n, now.UTC().Format("20060102T150405Z")), Number: n,
		Pointer: p, Phase: deployment.Fetch, Started: now.UTC(), begun: now,
	}
}

// live is the release that current leads to. A release that is not in the ledger was put there by somebody else; it has a
// name and nothing more.
func (e *Engine) live() (tree, error) {
	name, err := e.Tree.Current()
	if err != nil || name == "" {
		return tree{}, err
	}
	t, ok := e.state.treeNamed(name)
	if !ok {
		t = tree{Name: name}
	}
	return t, nil
}

// change applies f to the state and makes it durable. When that fails the state in memory has changed all the same: the
// caller must not go on to do what it wrote down.
func (e *Engine) change(f func(*ledger)) error {
	e.mu.Lock()
	f(&e.state)
	data, err := json.Marshal(&e.state)
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("internal error: encode state: %w", err)
	}
	return e.Journal.Save(data)
}

// say keeps the line that status shows and logs it when it is a new one.
func (e *Engine) say(line string) {
	e.mu.Lock()
	changed := e.status != line
	e.status = line
	e.mu.Unlock()
	if !changed {
		return
	}
	if line != "" {
		e.Log.Warn(line, "app", e.Key)
	}
	e.receipt()
}
