package deploy

import (
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// A deployment says who had its pointer written, in which run and why, under way and afterwards; one that a command on
// this server began is nobody's run.
func TestOrigin(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	if got := r.engine.Receipt().Deployment.Origin; got != nil {
		t.Errorf("without a run: got %+v, want nothing", got)
	}
	run := release.Run{URL: "https://github.com/acme/shop/actions/runs/1", Actor: "ada"}
	v := r.sign(2, "bbbbbbb", "b", func(p *release.Pointer) { p.Run, p.Kind, p.Reason = &run, release.KindRollback, "yen" })
	r.put(v, r.modified.Add(time.Minute))
	r.once(deployment.Deployed)
	want := deployment.Origin{Kind: "rollback", Reason: "yen", Actor: "ada", Run: run.URL}
	if got := r.engine.Detail().Deployments[0].Origin; got == nil || *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
