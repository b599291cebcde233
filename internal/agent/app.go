package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/agent/outbox"
	"github.com/towline/towline/internal/agent/source"
	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
)

const (
	retryFirst = time.Second // pause after an app could not be opened, doubled up to retryMost
	retryMost  = time.Minute
	readyTime  = 3 * time.Second // for asking an app whether it is ready

	restartTime = 2 * time.Minute // for one restart, at least

	unpublished = "nothing is published yet" // what the status of such an app begins with
)

// errRemoved is the trouble of a key that is not in the configuration any more.
var errRemoved = errors.New("it is not in the configuration any more")

// app is one app as one configuration has it. Its engine, while there is one, is its lane's.
type app struct {
	config.App
	*lane
	server   string
	poll     time.Duration
	state    string // directory for this app
	bucket   bucket.Bucket
	receipts *outbox.Receipts
	on       func(*app, deployment.Event) // of every event as it happens
	news     func(*app)                   // whenever the receipt has changed
	replay   func(*app, deployment.Event) // of those that the journal has kept, when the app is opened
	log      *slog.Logger
	bell     bell             // what pings pull
	offered  release.Verified // what they brought while there was no engine of this app

	leaving context.Context // ends when the app is to leave; see lane.hand
	leave   context.CancelFunc
}

// same reports whether the app would be made of the same parts as another one.
func (a *app) same(as *app) bool {
	receipts := (a.receipts == nil) == (as.receipts == nil) &&
		(a.receipts == nil || a.receipts.Bucket == as.receipts.Bucket && a.receipts.Key == as.receipts.Key)
	return receipts && a.server == as.server && a.poll == as.poll && a.state == as.state && a.bucket == as.bucket &&
		reflect.DeepEqual(a.App, as.App)
}

// run keeps the app open, and its receipt written, until ctx ends or the app is to leave. With strict it returns early when
// another agent holds the app's directory at the very start; any other trouble is waited out.
func (a *app) run(ctx context.Context, strict bool) error {
	if a.receipts != nil {
		background, end := context.WithCancel(context.WithoutCancel(ctx))
		var writer sync.WaitGroup
		writer.Go(func() { a.receipts.Run(background) })
		defer func() { end(); writer.Wait() }() // the last word of the engine is still to be written
	}
	pause := retryFirst
	for first := true; ; first = false {
		engine, done, err := a.open(ctx)
		if err == nil {
			defer done()
			defer context.AfterFunc(a.leaving, engine.Leave)()
			return engine.Run(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if first && strict && errors.Is(err, appdir.ErrLocked) {
			return err
		}
		a.log.Warn("app is not ready", "app", a.Key, "error", err, "again_in", pause)
		a.receipts.Poke()
		select {
		case <-ctx.Done():
			return nil
		case <-a.leaving.Done():
			return nil
		case <-a.wake:
		case <-time.After(pause/2 + rand.N(pause)): // #nosec G404 -- jitter
		}
		pause = min(2*pause, retryMost)
	}
}

// open makes the engine out of its parts. done gives them back.
func (a *app) open(ctx context.Context) (engine *deploy.Engine, done func(), err error) {
	from, engine, done, err := a.assemble(ctx)
	a.mu.Lock()
	a.engine, a.source, a.trouble = engine, from, err
	if engine != nil {
		a.alive = engine.Alive
		if a.offered.Valid() {
			engine.Offer(a.offered)
		}
	}
	select {
	case <-a.opened:
	default:
		close(a.opened)
	}
	a.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	// What is told of a deployment outlives the agent that ran it.
	records := engine.Detail().Deployments
	for i := len(records) - 1; i >= 0; i-- {
		for _, event := range records[i].Events {
			a.replay(a, event)
		}
	}
	a.receipts.Poke()
	return engine, done, nil
}

func (a *app) assemble(ctx context.Context) (_ *source.Source, _ *deploy.Engine, done func(), err error) {
	unit, err := a.newUnit()
	if err != nil {
		return nil, nil, nil, err
	}
	uid, gid, err := unit.owner(ctx)
	if err != nil {
		unit.close()
		return nil, nil, nil, err
	}
	dir, err := appdir.Open(appdir.Options{Path: a.Dir, UID: uid, GID: gid})
	if err != nil {
		unit.close()
		return nil, nil, nil, err
	}
	unit.dir = dir
	giveBack := func() {
		if err := dir.Close(); err != nil {
			a.log.Warn("close app directory", "app", a.Key, "error", err)
		}
		unit.close()
	}
	defer func() {
		if err != nil {
			giveBack()
		}
	}()
	memory, err := journal.Open(filepath.Join(a.state, a.Key))
	if err != nil {
		return nil, nil, nil, err
	}
	before, err := memory.Adopted()
	if err != nil {
		return nil, nil, nil, err
	}
	from := source.New(a.bucket, a.App, dir.Space)
	// A unit of Type=notify is up when the app says so, which may take as long as its health check allows.
	restart := max(restartTime, a.Health.Within)
	engine, err := deploy.New(deploy.Options{
		Key: a.Key, App: a.App.App, Environment: a.Environment, Server: a.server, AgentVersion: release.Version,
		RevertsRefused: a.RevertsRefused, Poll: a.poll, Keep: a.Keep, Shared: a.Shared,
		RestartWithin: restart, UndoWithin: restart + a.Health.Within + a.Health.Stable + time.Minute,
		Source: from, Tree: dir, Service: unit, Check: a.checker(unit), Alive: a.aliver(unit), Hooks: a.hooks(unit),
		Journal: memory, Adopted: before, Unpack: a.unpacker(dir, memory), Integrity: integrity{dir: dir, memory: memory, log: a.log, turn: make(chan struct{}, 1)},
		Frames:    frames{app: a, source: from, dir: dir, memory: memory},
		OnEvent:   func(e deployment.Event) { a.on(a, e) },
		OnReceipt: func(deployment.Receipt) { a.receipts.Poke(); a.news(a) },
		Log:       a.log,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return from, engine, giveBack, nil
}

// now returns the engine and its source, or why there is none.
func (a *app) now() (*deploy.Engine, *source.Source, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.engine != nil:
		return a.engine, a.source, nil
	case a.trouble != nil:
		return nil, nil, fmt.Errorf("not ready: %w", a.trouble)
	}
	return nil, nil, errors.New("not ready: the agent is starting")
}

// ready is nil when the app could be deployed now.
func (a *app) ready(ctx context.Context) error {
	engine, _, err := a.now()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	err = engine.Ready(ctx)
	if errors.Is(err, deploy.ErrUnread) && strings.HasPrefix(engine.Receipt().Status, unpublished) {
		return nil // it could be deployed, were there anything
	}
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	return nil
}

// well is nil when the live release, whose hash this is, works now.
func (a *app) well(ctx context.Context, hash string) error {
	a.mu.Lock()
	alive := a.alive
	a.mu.Unlock()
	if alive == nil {
		return errors.New("not ready: the agent is starting")
	}
	return alive(ctx, hash)
}

// receipt is what the app has to say of itself now.
func (a *app) receipt() deployment.Receipt {
	r, _ := a.report()
	return r
}

// report is the receipt, and whether it is whole: an app that could not be opened knows nothing but why.
func (a *app) report() (r deployment.Receipt, whole bool) {
	engine, _, err := a.now()
	if err != nil {
		return deployment.Receipt{
			Type: deployment.ReceiptType, App: a.App.App, Environment: a.Environment, Server: a.server,
			AgentVersion: release.Version, Status: err.Error(),
		}, false
	}
	return engine.Receipt(), true
}

// summary is the receipt without its events, with everything that a person should know in Status.
func (a *app) summary(ctx context.Context) deployment.Receipt {
	r := a.receipt()
	if r.Deployment != nil {
		d := *r.Deployment
		d.Events = nil
		r.Deployment = &d
	}
	drift := ""
	if engine, _, err := a.now(); err == nil {
		drift = engine.Drift()
	}
	if r.Status == "" || r.Status == drift || strings.HasPrefix(r.Status, unpublished) {
		if err := a.ready(ctx); err != nil {
			r.Status = strings.TrimSuffix(err.Error()+"; "+drift, "; ")
		}
	}
	if r.Status == "" {
		r.Status = a.receipts.Status()
	}
	r.Health = a.health(ctx, r)
	return r
}

// health is how the live release is now. A program of the app's own is not run for everybody who looks.
func (a *app) health(ctx context.Context, r deployment.Receipt) string {
	busy := r.Deployment != nil && r.Deployment.Outcome == ""
	if looks := a.Unit != "" || a.Health.HTTP != "" || a.Health.TCP != ""; !looks || busy || r.Live.Hash == "" || a.Health.Exec != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if err := a.well(ctx, r.Live.Hash); err != nil {
		return release.CleanText(err.Error(), 300)
	}
	return "ok"
}

// detail is everything about the app.
func (a *app) detail(ctx context.Context) deployment.Detail {
	d := deployment.Detail{Key: a.Key, Dir: a.Dir}
	if engine, _, err := a.now(); err == nil {
		d = engine.Detail()
	}
	d.Unit, d.Receipt = a.Unit, a.summary(ctx)
	if d.Releases == nil {
		d.Releases = []deployment.Release{}
	}
	if d.Deployments == nil {
		d.Deployments = []deployment.Record{}
	}
	return d
}

// ring makes the app look at its pointer now. What is rung for while the app has no engine yet is kept for it; an app of an
// older configuration, whose trust may not be that of today, only has the one of today look.
func (a *app) ring(v release.Verified) {
	a.mu.Lock()
	engine, mine := a.engine, a.runs == a
	if v.Valid() && !v.Plain() && !(engine != nil && mine) {
		a.offered = v
	}
	a.mu.Unlock()
	switch {
	case engine != nil && mine:
		engine.Offer(v)
	case engine != nil:
		engine.Wake()
	default:
		a.knock()
	}
}
