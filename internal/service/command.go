package service

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/towline/towline/internal/deployment"
)

// Command is a service that one command of the administrator restarts. It knows nothing of the processes behind it:
// Stop does nothing and State is the zero state, so that only a probe can tell whether the app works.
type Command struct {
	Env []string // the command's environment, see Exec

	argv []string
	dir  string

	mu  sync.Mutex
	out *tail // of the last restart
}

// NewCommand returns the service that argv restarts, run in dir (absolute: the app's directory).
func NewCommand(argv []string, dir string) *Command {
	return &Command{argv: slices.Clone(argv), dir: dir}
}

// Restart runs the command as Exec does and waits for its end; the time limit is ctx. A program that it starts in the
// background lives on, and what that writes to the inherited output is kept for Log.
func (c *Command) Restart(ctx context.Context) error {
	out := &tail{max: keepBytes}
	c.mu.Lock()
	c.out = out
	c.mu.Unlock()
	if err := run(ctx, command{argv: c.argv, dir: c.dir, env: c.Env}, out); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}

// Stop does nothing: the command restarts only.
func (c *Command) Stop(context.Context) error { return nil }

// State returns the zero state: no unit.
func (c *Command) State(context.Context) (deployment.UnitState, error) {
	return deployment.UnitState{}, nil
}

// Log returns the last n lines, at most 64 KiB, that the last Restart and what it left running have written.
func (c *Command) Log(_ context.Context, n int) ([]string, error) {
	c.mu.Lock()
	out := c.out
	c.mu.Unlock()
	if out == nil {
		return nil, nil
	}
	return out.lines(n), nil
}
