package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// untouched is a restart that the service manager did not take on.
type untouched string

func (u untouched) Error() string    { return string(u) }
func (untouched) ReleaseFault() bool { return false }
func (untouched) Untouched() bool    { return true }

func TestUnitThatWasNotRestartedIsLeftAlone(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	old, _ := r.tree.Current()
	r.refused = fmt.Errorf("restart: %w", untouched("the unit is masked"))
	r.publish(2, "bbbbbbb")
	r.once(deployment.Failed)
	if now, err := r.tree.Current(); err != nil || now != old {
		t.Errorf("current leads to %q, %v, want %q", now, err, old)
	}
	if got := r.last().Reason; !strings.Contains(got, "the unit is masked") {
		t.Errorf("got reason %q", got)
	}
	if r.engine.state.Settled {
		t.Error("the release is quarantined for the unit's fault")
	}
	r.refused, r.engine.retryAt = nil, time.Time{}
	r.once(deployment.Deployed)
}

func TestFirstReleaseThatWasNotStartedIsNotStopped(t *testing.T) {
	r := newRig(t, nil)
	r.refused = untouched("the unit is masked")
	r.publish(1, "aaaaaaa")
	r.once(deployment.Failed)
	if now, err := r.tree.Current(); err != nil || now != "" || r.stops != 0 {
		t.Errorf("current leads to %q, %v, and it was stopped %d times", now, err, r.stops)
	}
}

func TestHookThatPolkitRefusesIsNotTheReleasesFault(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Hooks = Hooks{"before-activate": func(context.Context, string) ([]string, error) { return nil, untouched("access denied") }}
	})
	r.publish(1, "aaaaaaa")
	r.once(deployment.Failed)
	if r.engine.state.Settled {
		t.Error("the release is quarantined for the server's fault")
	}
}

// outage is a service manager that is not to be seen for a while after it has restarted the second release.
type outage struct {
	*rig
	lasts time.Duration
	ends  time.Time
}

func (o *outage) Restart(ctx context.Context) error {
	err := o.rig.Restart(ctx)
	if len(o.restarts) == 2 {
		o.ends = time.Now().Add(o.lasts)
	}
	return err
}

func (o *outage) State(context.Context) (deployment.UnitState, error) {
	if time.Now().Before(o.ends) {
		return deployment.UnitState{}, errors.New("no answer")
	}
	return deployment.UnitState{}, nil
}

func (o *outage) check(ctx context.Context, before deployment.UnitState, hash string, report func(string)) error {
	if _, err := o.State(ctx); err != nil {
		return err
	}
	return o.rig.check(ctx, before, hash, report)
}

func TestCurrentLeadsBackWhileTheServiceManagerIsAway(t *testing.T) {
	for _, tt := range []struct {
		lasts time.Duration
		want  deployment.Outcome
	}{{20 * time.Second, deployment.Failed}, {time.Hour, deployment.Broken}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(o *Options) {
				out := &outage{rig: o.Service.(*rig), lasts: tt.lasts}
				o.Service, o.Check = out, out.check
			})
			r.publish(1, "aaaaaaa")
			r.once(deployment.Deployed)
			old, _ := r.tree.Current()
			r.publish(2, "bbbbbbb")
			r.once(tt.want)
			if now, err := r.tree.Current(); err != nil || now != old {
				t.Errorf("away for %v: current leads to %q, %v, want %q", tt.lasts, now, err, old)
			}
			if got, want := len(r.restarts), map[deployment.Outcome]int{deployment.Failed: 3, deployment.Broken: 2}[tt.want]; got != want {
				t.Errorf("away for %v: restarted %d times, want %d", tt.lasts, got, want)
			}
		})
	}
}
