package agent

import (
	"context"
	"fmt"
	"sync"

	"github.com/towline/towline/internal/agent/outbox"
	"github.com/towline/towline/internal/agent/source"
	"github.com/towline/towline/internal/deploy"
)

// lane is what one key of the configuration stands for through all of them: one app at a time, the next one when the one
// before has left. Whoever holds an app of an older configuration finds the engine of today here.
type lane struct {
	wake chan struct{} // for an app without an engine: try again now

	mu      sync.Mutex
	runs    *app // nil: none
	waits   *app // takes over when runs has left; nil: none does
	engine  *deploy.Engine
	source  *source.Source
	alive   deploy.Alive
	trouble error
	opened  chan struct{} // closed when the first attempt to open an app has ended
}

// hand makes one the app of the lane. One that runs leaves first, after its deployment; nil has it leave for good. idle says
// that nothing runs, so that the lane must be set going.
func (l *lane) hand(one *app) (idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.runs != nil {
		l.waits = one
		l.runs.leave()
		return false
	}
	l.runs, l.trouble = one, nil
	return one != nil
}

// turn ends the app that ran and begins the one that waits; nil when none does.
func (l *lane) turn() *app {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs, l.waits = l.waits, nil
	l.engine, l.source, l.alive, l.trouble = nil, nil, nil, nil
	if l.runs == nil {
		l.trouble = errRemoved
	}
	return l.runs
}

// busy reports whether an app runs, or is still to leave.
func (l *lane) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs != nil
}

// knock has an app that is not ready try again.
func (l *lane) knock() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// crew is everything that works for the daemon beside its servers.
type crew struct {
	ctx     context.Context         // of the daemon
	stop    context.CancelCauseFunc // ends it
	engines sync.WaitGroup
	writers sync.WaitGroup
	ends    []context.CancelFunc // of the notices of the configuration now and of the one before
}

// man has one run in its lane. strict says that the daemon ends if another agent has the app's directory.
func (c *crew) man(one *app, strict bool) {
	if !one.hand(one) {
		return
	}
	c.engines.Go(func() {
		for at := one; at != nil && c.ctx.Err() == nil; at = at.turn() {
			if err := at.run(c.ctx, strict); err != nil {
				c.stop(fmt.Errorf("app %s: %w", at.Key, err))
			}
			strict = false
		}
	})
}

// notify sends notices from now on. Those of the configuration before the one before have had their time.
func (c *crew) notify(n *outbox.Notices) {
	ctx, end := context.WithCancel(context.WithoutCancel(c.ctx))
	c.writers.Go(func() { n.Run(ctx) })
	c.ends = append(c.ends, end)
	if len(c.ends) > 2 {
		c.ends[0]()
		c.ends = c.ends[1:]
	}
}

// dismiss ends what outlives the engines.
func (c *crew) dismiss() {
	for _, end := range c.ends {
		end()
	}
	c.writers.Wait()
}
