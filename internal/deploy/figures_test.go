package deploy

import (
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func TestFigures(t *testing.T) {
	r := newRig(t, nil)
	expect := func(what string, want Figures) {
		t.Helper()
		if got := r.engine.Figures(); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
		}
	}
	expires := time.Date(2096, 11, 23, 13, 6, 50, 0, time.UTC)
	expect("before the first look", Figures{})
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	well := Figures{Read: true, Expires: expires, Releases: 1}
	expect("deployed", well)

	r.do("hold", deployment.Command{Reason: "inventory"})
	r.publish(2, "bbbbbbb")
	r.once(deployment.Held)
	expect("on hold", Figures{Read: true, Expires: expires, Releases: 1, Held: true, Behind: true})
	r.sick["bbbbbbb"] = true
	r.do("resume", deployment.Command{})
	r.once(deployment.RolledBack)
	expect("rolled back", Figures{Read: true, Expires: expires, Releases: 1, Quarantined: true, Behind: true})
	r.start()
	expect("a new process", Figures{Releases: 1, Quarantined: true})
	r.once(deployment.RolledBack)

	r.sick["bbbbbbb"] = false
	r.publish(3, "bbbbbbb")
	r.once(deployment.Deployed)
	well.Releases = 2
	expect("put right", well)

	if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed {
		t.Fatalf("rollback: got %+v", got)
	}
	expect("overridden", Figures{Read: true, Expires: expires, Releases: 2, Held: true, Behind: true})
	r.do("resume", deployment.Command{})
	r.once(deployment.Deployed)
	expect("resumed", well)

	r.spoil("1-aaaaaaa")
	r.verify()
	drifted := well
	drifted.Drifted = true
	expect("a release was changed", drifted)

	// Another payload of a seq that is known, then a pointer that does not say when it expires.
	r.put(r.sign(3, "ccccccc", "c", nil), r.modified.Add(time.Minute))
	if _, err := r.engine.Once(t.Context()); err == nil {
		t.Fatal("a fork: got no error")
	}
	if f := r.engine.Figures(); !f.Refused || !f.Behind {
		t.Errorf("a fork: got %+v, want refused", f)
	}
	r.put(r.sign(4, "ddddddd", "d", func(p *release.Pointer) { p.Expires = "2020-01-01T00:00:00Z" }), r.modified.Add(time.Minute))
	r.once(deployment.Deployed)
	if f := r.engine.Figures(); f.Refused || f.Behind || f.Expires.Year() != 2020 {
		t.Errorf("an expired one: got %+v, want when", f)
	}
}
