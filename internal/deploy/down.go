package deploy

import (
	"context"
	"errors"
	"time"
)

// errDown says that a deployment was left where it is because the machine is being shut down.
var errDown = errors.New("the machine is shutting down; the next agent goes on from here")

// downFor is how long the agent may still run once its machine is being shut down.
const downFor = time.Minute

// awaitStop waits, on a machine that is being shut down, until the agent is told to stop, too: an app's unit may come to its end
// first. There systemd cancels jobs, stops units in an order of its own and refuses to start any: what a unit does says nothing
// about a release, and nothing can be put back.
func (e *Engine) awaitStop(ctx context.Context) {
	if ctx.Err() != nil || !e.Service.GoingDown(ctx) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(downFor):
	}
}
