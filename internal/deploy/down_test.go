package deploy

import (
	"context"
	"errors"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// sinking is the rig's service on a machine that may be shutting down.
type sinking struct {
	*rig
	down func() bool
}

func (s sinking) GoingDown(context.Context) bool { return s.down() }

// TestShutdownIsNoVerdict shuts the machine down in each step that asks the unit something: the unit, or a hook, fails before
// the agent is told to stop. After the boot the deployment comes to the outcome that it would have had.
func TestShutdownIsNoVerdict(t *testing.T) {
	canceled := errors.New("job canceled")
	for _, test := range []struct {
		name  string
		fails func(r *rig)
		asked int // how often the machine is not going down yet
		want  deployment.Outcome
		live  string
	}{
		{name: "hook", fails: func(r *rig) { r.hookErr = errors.New("stopped") }, want: deployment.Deployed, live: "bbbbbbb"},
		{name: "restart", fails: func(r *rig) { r.refused = canceled }, want: deployment.Deployed, live: "bbbbbbb"},
		{name: "check", fails: func(r *rig) { r.gateErr = unhealthy("unit is inactive") }, want: deployment.Deployed, live: "bbbbbbb"},
		{name: "roll back", fails: func(r *rig) { r.sick["bbbbbbb"], r.onRestart = true, func() { r.refused = canceled } }, asked: 1,
			want: deployment.RolledBack, live: "aaaaaaa"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r *rig
			down := func() bool { return false }
			r = newRig(t, func(o *Options) {
				o.Service = sinking{r, func() bool { return down() }}
				o.Hooks = Hooks{"before-activate": func(_ context.Context, dir string) ([]string, error) { return r.hook("before-activate", dir) }}
			})
			r.start() // with the rig, which there is now
			r.publish(1, "aaaaaaa")
			r.once(deployment.Deployed)

			r.publish(2, "bbbbbbb")
			ctx, stop := context.WithCancel(t.Context())
			test.fails(r)
			asked := 0
			down = func() bool {
				if asked++; asked > test.asked {
					stop() // the agent is told to stop after the unit
					return true
				}
				return false
			}
			if out, err := r.engine.Once(ctx); out != "" || err == nil {
				t.Fatalf("while it shuts down: got %q, %v, want no outcome", out, err)
			}
			down = func() bool { return false }
			r.hookErr, r.refused, r.gateErr, r.onRestart = nil, nil, nil, nil
			r.start()
			r.once(test.want)
			r.live(test.live)
		})
	}
}
