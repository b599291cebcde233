package deploy

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// A hook that is cut short because the agent is stopped has not run: the deployment does not end there, and the next agent runs
// it again. Before activate that is one more unpacked release that goes on; after it the release is proven and stays live.
func TestHooksCutShortRunAgain(t *testing.T) {
	for _, name := range []string{"before-activate", "after-healthy"} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			ctx, stop := context.WithCancel(t.Context())
			r = newRig(t, func(o *Options) {
				o.Hooks = Hooks{name: func(ctx context.Context, dir string) ([]string, error) {
					if len(r.hooks) == 0 {
						stop()
					}
					out, _ := r.hook(name, dir)
					return out, ctx.Err()
				}}
			})
			r.publish(1, "aaaaaaa")
			if out, err := r.engine.Once(ctx); out != "" || !errors.Is(err, context.Canceled) {
				t.Fatalf("stopped in the hook: got %q, %v, want no outcome and the stop", out, err)
			}
			if last := r.last(); last.Outcome != "" || r.engine.state.Attempt == nil {
				t.Fatalf("got %+v last, want a deployment that is still under way", last)
			}
			r.start()
			r.once(deployment.Deployed)
			if want := []string{name + " 1-aaaaaaa", name + " 1-aaaaaaa"}; !slices.Equal(r.hooks, want) {
				t.Errorf("got hooks %q, want %q", r.hooks, want)
			}
			if got := r.last(); got.Reason != "" {
				t.Errorf("got reason %q, want none", got.Reason)
			}
			r.live("aaaaaaa")
			if got := len(r.restarts); got != 1 {
				t.Errorf("got %d restarts of the app, want one", got)
			}
		})
	}
}
