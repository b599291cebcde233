package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

// settleTime is how long after a look the engine is given to begin a deployment, or to say why not.
const settleTime = 500 * time.Millisecond

// claim is what the body of a ping says of itself, believed by nobody yet.
type claim struct {
	app, environment, prefix string
	plain                    bool // the bare {hash,msg,date} pointer
}

func readClaim(body []byte) (c claim, ok bool) {
	var file struct {
		Hash     string            `json:"hash"`
		Envelope *release.Envelope `json:"envelope"`
	}
	if json.Unmarshal(body, &file) != nil {
		return c, false
	}
	if file.Envelope == nil {
		return claim{plain: true}, file.Hash != ""
	}
	payload, err := base64.StdEncoding.DecodeString(file.Envelope.Payload)
	if err != nil {
		return c, false
	}
	var p release.Pointer
	if json.Unmarshal(payload, &p) != nil {
		return c, false
	}
	prefix, _, _ := strings.Cut(p.Artifact.Key, "/releases/")
	return claim{app: p.App, environment: p.Environment, prefix: prefix}, true
}

// ring is what the bell does: whoever has signed the body, or knows the token of apps without trust, wakes the app that
// it is for. trusted says that the peer came by the agent's own socket and needs no token.
func (a *Agent) ring(trusted bool) func(ctx context.Context, body []byte, token string) (ping.Answer, error) {
	return func(_ context.Context, body []byte, token string) (ping.Answer, error) {
		c, ok := readClaim(body)
		if !ok {
			return ping.Answer{}, ping.ErrRefused
		}
		known := trusted || a.knows(token)
		if c.plain {
			return a.ringPlain(body, known)
		}
		refused := true
		for _, one := range a.apps {
			if one.Trust.None() && !known {
				continue
			}
			want := release.Want{App: c.app, Environment: c.environment, Prefix: c.prefix, Agent: release.Version}
			ours := one.App.App == c.app && one.Environment == c.environment
			if ours {
				want.Prefix = one.Prefix
			}
			v, err := one.Trust.Pointer(body, want)
			switch {
			case errors.Is(err, release.ErrTooOld) && ours:
				// The signature is good, the rest is not for this agent to understand: the app's own look will say so.
				one.bell.pull(release.Verified{}, 0)
				return ping.Answer{App: c.app, Server: a.settings.Server}, nil
			case err != nil:
			case ours:
				return a.answer(one, v), nil
			default:
				refused = false // somebody we trust means an app that is not here
			}
		}
		if refused {
			return ping.Answer{}, ping.ErrRefused
		}
		return ping.Answer{}, ping.ErrUnknownApp
	}
}

// knows compares the token in constant time.
func (a *Agent) knows(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.token))
	return a.token != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// ringPlain wakes every app without trust: a plain pointer names none. The answer follows one when it is the only one.
func (a *Agent) ringPlain(body []byte, known bool) (ping.Answer, error) {
	if !known {
		return ping.Answer{}, ping.ErrRefused
	}
	v, err := release.NoTrust().Pointer(body, release.Want{})
	if err != nil {
		return ping.Answer{}, ping.ErrRefused
	}
	open := slices.DeleteFunc(slices.Clone(a.apps), func(one *app) bool { return !one.Trust.None() })
	switch len(open) {
	case 0:
		return ping.Answer{}, ping.ErrUnknownApp
	case 1:
		return a.answer(open[0], v), nil
	}
	for _, one := range open {
		one.bell.pull(v, 0)
	}
	return ping.Answer{Server: a.settings.Server, Hash: v.Pointer().Release.Hash}, nil
}

// answer wakes the app and lets the caller follow what comes of it, unless the pointer is older than what is followed.
func (a *Agent) answer(one *app, v release.Verified) ping.Answer {
	p := v.Pointer()
	answer := ping.Answer{App: one.App.App, Server: a.settings.Server, Seq: p.Seq, Hash: p.Release.Hash}
	f := &following{agent: a, app: one, pointer: p}
	followed, known := one.followed()
	if engine, source, err := one.now(); err == nil {
		r := engine.Receipt()
		f.looks = source.Looks()
		if f.again = v.Plain() && p.Release.Hash != r.Pointer.Hash; f.again && r.Deployment != nil {
			f.last = r.Deployment.ID
		}
	}
	one.bell.pull(v, followed)
	if !v.Plain() && (!known || p.Seq < followed) {
		return answer // whoever has only an old pointer is told nothing
	}
	answer.Events = func(ctx context.Context) iter.Seq[deployment.Event] {
		return func(yield func(deployment.Event) bool) { f.events(ctx, yield) }
	}
	return answer
}

// followed is the seq of the pointer that the app follows, 0 for none. It is not known where the app's state cannot be read.
func (a *app) followed() (seq uint64, known bool) {
	if engine, _, err := a.now(); err == nil {
		return engine.Receipt().Pointer.Seq, true
	}
	memory, err := journal.Open(filepath.Join(a.state, a.Key))
	if err != nil {
		return 0, false
	}
	state, err := memory.Load()
	if err != nil {
		return 0, errors.Is(err, fs.ErrNotExist)
	}
	seq, err = deploy.Followed(state)
	return seq, err == nil
}

// following is one caller who waits for what a pointer leads to.
type following struct {
	agent   *Agent
	app     *app
	pointer release.Pointer
	looks   int64  // of the app before it was woken
	again   bool   // a plain pointer back to a release whose old story must not be taken for the new one
	last    string // the deployment before
}

// events yields the deployment that the pointer leads to. Where none comes of it, because the app is not ready or the
// engine refuses the pointer, it yields one terminal event that says why.
func (f *following) events(ctx context.Context, yield func(deployment.Event) bool) {
	story, cancel := context.WithCancel(ctx)
	defer cancel()
	verdict := make(chan deployment.Event, 1)
	begun := make(chan struct{})
	go func() {
		if e, none := f.wait(story); none {
			verdict <- e
			cancel()
		}
		close(begun)
	}()
	if f.again {
		select {
		case <-begun:
		case <-ctx.Done():
			return
		}
	}
	p := f.pointer
	for e := range f.agent.hub.Follow(story, f.app.Key, p.Seq, p.Release.Hash) {
		if !yield(e) || e.Terminal() {
			return
		}
	}
	select {
	case e := <-verdict:
		yield(e)
	default:
	}
}

// begun reports whether the deployment has begun.
func (f *following) begun(r deployment.Receipt) bool {
	p := f.pointer
	if !f.again {
		return f.agent.hub.Knows(f.app.Key, p.Seq, p.Release.Hash)
	}
	d := r.Deployment
	return d != nil && d.ID > f.last && d.Hash == p.Release.Hash && (d.Outcome != "" || len(d.Events) > 1)
}

// wait returns when the deployment has begun, or, with none, the event that says why there will be none.
func (f *following) wait(ctx context.Context) (e deployment.Event, none bool) {
	tick := time.NewTicker(settleTime)
	defer tick.Stop()
	select {
	case <-f.app.opened:
	case <-ctx.Done():
		return e, false
	}
	for settled := false; ; {
		select {
		case <-ctx.Done():
			return e, false
		case <-tick.C:
		}
		engine, source, err := f.app.now()
		if err != nil {
			return f.ending(deployment.Failed, err.Error()), true
		}
		r := engine.Receipt()
		if f.begun(r) {
			return e, false
		}
		if source.Looks() == f.looks {
			continue
		}
		if !settled { // the look has just ended: what comes of it may need one more moment
			settled = true
			continue
		}
		if outcome, reason := f.verdict(ctx, r); outcome != "" {
			return f.ending(outcome, reason), true
		}
	}
}

// verdict says how the pointer fared that led to no deployment; no outcome while that is open.
func (f *following) verdict(ctx context.Context, r deployment.Receipt) (outcome deployment.Outcome, reason string) {
	p := f.pointer
	switch followed := r.Pointer.Seq == p.Seq && r.Pointer.Hash == p.Release.Hash; {
	case r.Deployment != nil && r.Deployment.Outcome == "": // busy with another release
		return "", ""
	case strings.HasPrefix(r.Status, "refused: "), strings.HasPrefix(r.Status, "remote installs are locked"):
		return deployment.Failed, r.Status
	case r.Held != "" && !followed:
		return deployment.Held, r.Held
	case p.Seq > 0 && r.Pointer.Seq > p.Seq:
		return deployment.Superseded, "a newer pointer is followed"
	case followed && r.Live.Hash == p.Release.Hash: // followed long ago, and the story is forgotten
		if err := f.app.well(ctx, r.Live.Hash); err != nil {
			if ctx.Err() != nil {
				return "", "" // nobody asks any more
			}
			return deployment.Failed, "it is live already, but not well: " + err.Error()
		}
		return deployment.Unchanged, "it is live already"
	case followed:
		return deployment.Failed, "it is followed but not live; " + r.Status
	}
	return "", ""
}

// ending is the one event of a deployment that never was.
func (f *following) ending(outcome deployment.Outcome, reason string) deployment.Event {
	state := deployment.Done
	if outcome == deployment.Failed {
		state = deployment.StepFail
	}
	now := time.Now().UTC()
	return deployment.Event{
		N: 1, Time: now.Format("2006-01-02T15:04:05.000Z"), Deployment: "none-" + now.Format("20060102T150405.000"),
		App: f.app.App.App, Server: f.app.server, Seq: f.pointer.Seq, Hash: f.pointer.Release.Hash, Step: deployment.End, State: state,
		Outcome: outcome, Reason: reason,
	}
}
