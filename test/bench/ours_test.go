package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// oursTurn is Towline's turn: an empty server is given the whole tree, and then, from three releases that differ in one file
// only, each tree that may follow. Three directories are kept, so that there is always one that comes next for pruning.
type oursTurn struct {
	*turn
	w     *world
	f     figures
	yard  *yard
	a     *agent
	ci    *wire    // publisher to store
	net   *wire    // server to store
	ping  *wire    // publisher to server
	fill  int      // releases made of the first tree
	fills []string // versions of such releases, the last ones
}

// newOurs starts the store, the wires and the agent of a turn.
func (w *world) newOurs(t *turn, f figures) *oursTurn {
	t.Helper()
	s3 := parts.S3(t)
	y := &yard{bucket: s3.Bucket(t, "releases"), gateway: newGateway(t, s3), env: s3.Env(), cage: t.cage, settings: []string{"GOMEMLIMIT=40MiB"}}
	y.publisher = newPublisher(t, w.bin, y.env)
	y.plain = true
	o := &oursTurn{turn: t, w: w, f: f, yard: y, ci: newWire(t, y.gateway.addr, t.shape), net: newWire(t, y.gateway.addr, t.shape)}
	y.url, y.below = y.gateway.via(o.ci.addr, y.bucket), y.gateway.via(o.net.addr, y.bucket)
	o.a = newAgent(t, y, t.ground, "web-1", 30*time.Second, true, "web", "cold")
	o.ping = newWire(t, o.a.listen, t.shape)
	o.a.url = fmt.Sprintf("web-1=https://%s#sha256=%s", o.ping.addr, o.a.pin)
	return o
}

func (w *world) oursTurn(t *turn, f figures) {
	o := w.newOurs(t, f)
	if w.plan.warm {
		o.bring("A", "web", o.filled(), false)
		w.same(t, w.fill, o.live("web"))
		o.bring("", "web", o.filled(), false)
		o.bring("", "web", o.filled(), false)
		o.sameContent()
		for i, tree := range w.plan.trees {
			if i > 0 {
				o.refill("web")
			}
			o.bring(tree, "web", w.tree(tree), false)
			w.same(t, w.tree(tree), o.live("web"))
			if tree == "B" {
				o.back()
			}
		}
	}
	if w.plan.cold {
		o.bring("A cold", "cold", o.filled(), true)
		w.same(t, w.fill, o.live("cold"))
		o.bring("", "cold", o.filled(), false)
		o.bring("", "cold", o.filled(), false)
		o.bring("B cold", "cold", w.tree("B"), true)
		w.same(t, w.tree("B"), o.live("cold"))
	}
}

func (o *oursTurn) live(app string) string {
	return filepath.Join(o.a.dir, "srv", app, "current") + "/"
}

// filled is the first tree once more, with another line in one file.
func (o *oursTurn) filled() string {
	o.fill++
	o.write(o.w.fill)
	return o.w.fill
}

func (o *oursTurn) write(tree string) {
	if err := os.WriteFile(filepath.Join(tree, "dist", "RELEASE"), fmt.Appendf(nil, "A, %d\n", o.fill), 0o644); err != nil {
		o.Fatal(err)
	}
}

// refill brings the server back to where it has nothing but the first tree, from releases that are in the store.
func (o *oursTurn) refill(app string) {
	for _, version := range o.fills {
		o.promote(app, version)
		o.settle(app)
	}
	names, err := os.ReadDir(filepath.Join(o.a.dir, "srv", app, "releases"))
	if err != nil {
		o.Fatal(err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(o.fills, func(version string) bool { return strings.HasSuffix(name.Name(), "-"+version[:12]) }) {
			o.Fatalf("the server still has %s, want nothing but the first tree: %s", name.Name(), o.fills)
		}
	}
}

// promote has the pointer moved and the server pinged, and waits for the server.
func (o *oursTurn) promote(app, version string) deployment.Record {
	y := o.yard
	run(o, y.publisher.env, y.program, "promote", version, "--json", "--app", app, "--bucket", y.url, "--servers", o.a.url, "--wait-timeout", "3m")
	return o.a.last(o, app, version)
}

// bring publishes a tree, then has the pointer moved and the server pinged, and waits for the server. The figures get the key before
// their names; without a key the release is made only to be there.
func (o *oursTurn) bring(key, app, tree string, cold bool) {
	y := o.yard
	o.ci.reset()
	version, report, c := y.publish(o, app, tree, y.url)
	up := o.ci.both()
	if cold {
		o.w.empty(o)
	}
	o.a.forgetPeak(o)
	o.net.reset()
	record := o.promote(app, version)
	at, _ := ended(o, record)
	down := o.net.both()
	peak, err := status(o.a.pid, "VmHWM")
	if err != nil {
		o.Fatal(err)
	}
	if key != "" {
		steps := map[deployment.Step]float64{}
		for _, e := range record.Events {
			if e.State == deployment.Done && !e.Terminal() {
				steps[e.Step] += float64(e.TookMS) / 1e3
			}
		}
		o.f[key+" publish"], o.f[key+" up"], o.f[key+" publisher"] = c.wall, up, c.peak
		o.f[key+" size"] = artifactSize(o, report)
		o.f[key+" pull"] = steps[deployment.Fetch] + steps[deployment.Unpack]
		o.f[key+" unpack"] = steps[deployment.Unpack]
		o.f[key+" down"], o.f[key+" server"] = down, peak
		o.f[key+" live"] = at.Sub(y.gateway.since(y.bucket, app)).Seconds()
		o.f[key+" all"] = c.wall + o.f[key+" live"]
	}
	if tree == o.w.fill {
		o.fills = append(o.fills, version)
	}
	o.settle(app)
}

// settle waits until the old releases are pruned and the agent has nothing more to do.
func (o *oursTurn) settle(app string) {
	within(o, 2*time.Minute, "old releases are pruned", func() bool {
		names, err := os.ReadDir(filepath.Join(o.a.dir, "srv", app, "releases"))
		return err == nil && len(names) <= 3
	})
	quiet, last := 0, cpu(o, o.a.pid)
	within(o, 2*time.Minute, "the agent is at rest", func() bool {
		now := cpu(o, o.a.pid)
		if now > last {
			quiet = 0
		}
		quiet, last = quiet+1, now
		return quiet == 15
	})
}

// sameContent publishes what is live once more, from files that were all made anew: nothing is to travel, nothing to be restarted.
func (o *oursTurn) sameContent() {
	y := o.yard
	o.write(o.w.fresh)
	o.ci.reset()
	o.net.reset()
	y.made-- // the same version: a run that is repeated
	_, _, c := y.publish(o, "web", o.w.fresh, y.url, "--promote", "--servers", o.a.url)
	var d deployment.Detail
	eventually(o, "the same content is unchanged", func() bool {
		o.a.get(o, "/v1/apps/web", &d)
		return d.Deployments[0].Outcome == deployment.Unchanged
	})
	if up := o.ci.both(); up > sameContentMost {
		o.Fatalf("the same content, with fresh times: %.0f bytes went to the store, want nothing but a pointer", up)
	}
	o.f["fresh publish"], o.f["fresh up"] = c.wall, o.ci.both()
	o.f["fresh down"] = o.net.both()
}

// back goes to the release before and forth again.
func (o *oursTurn) back() {
	var d deployment.Detail
	o.a.get(o, "/v1/apps/web", &d)
	to, before := d.Deployments[0].Hash, d.Deployments[1].Hash
	_, c := run(o, nil, filepath.Join(o.w.bin, "towline"), "rollback", "--socket", o.a.socket, "--app", "web", "--json")
	_, took := ended(o, o.a.last(o, "web", before))
	o.f["rollback"], o.f["rollback command"] = took, c.wall
	run(o, nil, filepath.Join(o.w.bin, "towline"), "resume", "--socket", o.a.socket, "--app", "web", "--json")
	o.a.last(o, "web", to)
	o.settle("web")
}

// forgetPeak begins the process's high-water mark anew.
func (a *agent) forgetPeak(b testing.TB) {
	b.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", a.pid), []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}
