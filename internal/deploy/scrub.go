package deploy

import (
	"context"
	"sync"
	"time"
)

// scrubEvery is how long after one scrub the next one begins, if no deployment makes one due before.
const scrubEvery = 6 * time.Hour

// scrubber looks at the metadata of the release directories beside the loop: what was touched is read, and the loop learns
// the verdict. Deployments read verdicts only. One scrub runs at a time.
type scrubber struct {
	due     bool // a deployment has ended since the last one
	last    time.Time
	running bool
	found   chan []finding
}

// scrub begins a scrub if one is due and none runs. It ends with ctx; work is done when it has.
func (e *Engine) scrub(ctx context.Context, work *sync.WaitGroup) {
	s := &e.scrubs
	if e.Integrity == nil || e.locked != nil || s.running || e.state.Attempt != nil {
		return
	}
	if !s.due && time.Since(s.last) < scrubEvery {
		return
	}
	s.due, s.running, s.last = false, true, time.Now()
	trees := e.trees()
	work.Go(func() {
		select {
		case s.found <- e.survey(ctx, trees, false):
		case <-ctx.Done():
		}
	})
}

// scrubbed takes what a scrub found.
func (e *Engine) scrubbed(found []finding) {
	e.scrubs.running = false
	_ = e.learn(found) // it has said so if it could not write
}

// scrubNow is a scrub for those without a loop, if a deployment made one due.
func (e *Engine) scrubNow(ctx context.Context) {
	if e.Integrity == nil || e.locked != nil || !e.scrubs.due || e.state.Attempt != nil {
		return
	}
	e.scrubs.due = false
	e.scrubbed(e.survey(ctx, e.trees(), false))
}
