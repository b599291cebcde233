package threats

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// A store that once shows an older pointer, as stores do whose replicas lag, must not make a server go back; a person who
// restores it must.
func TestStaleReadIsNoRevert(t *testing.T) {
	const waits = "the pointer shows seq 1, older than what is followed; looking again before believing it"
	type scene struct {
		*server
		old, new         []byte
		oldTime, newTime time.Time
	}
	// look looks n times, with a pause before each.
	look := func(c scene, n int, pause time.Duration) {
		for range n {
			time.Sleep(pause)
			c.once().want(c.t, deployment.ExitOK)
		}
	}
	stale := func(c scene) { c.putAt(web.pointer(), c.old, c.oldTime) }
	fresh := func(c scene) { c.putAt(web.pointer(), c.new, c.newTime) }
	for name, test := range map[string]struct {
		reverts string
		play    func(c scene)
		live    string
	}{
		"one stale read": {"follow", func(c scene) {
			stale(c)
			time.Sleep(time.Minute)
			c.untouched(deployment.ExitOK, "web: "+waits, c.once)
		}, "v2"},
		"four in ten minutes":             {"follow", func(c scene) { stale(c); look(c, 4, 150*time.Second) }, "v2"},
		"a hundred in less than a minute": {"follow", func(c scene) { stale(c); look(c, 100, 590*time.Millisecond) }, "v2"},
		"four, then the newer one, and more": {"follow", func(c scene) {
			stale(c)
			look(c, 4, time.Minute)
			fresh(c)
			look(c, 1, time.Minute)
			stale(c)
			look(c, 4, time.Minute)
		}, "v2"},
		"five over a minute":          {"follow", func(c scene) { stale(c); look(c, 5, 15*time.Second) }, "v1"},
		"five over a minute, refused": {"refuse", func(c scene) { stale(c); time.Sleep(time.Hour) }, "v2"},
		"restored, which is a write":  {"follow", func(c scene) { c.putAt(web.pointer(), c.old, c.newTime.Add(time.Second)); look(c, 1, time.Second) }, "v1"},
		"restored in the same second": {"follow", func(c scene) { c.putAt(web.pointer(), c.old, c.newTime); look(c, 1, time.Second) }, "v1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				key := keygen(t)
				ci := s.publisher(web, key)
				v := s.server("web-1", fmt.Sprintf("trust: {keys: [%s], reverts: %s}\n", list(key), test.reverts), oneApp)
				c := scene{server: v, oldTime: time.Now(), newTime: time.Now().Add(time.Hour)}
				c.old = ci.released("v1")
				stale(c)
				v.once().want(t, deployment.ExitOK, "deployed v1")
				c.new = ci.released("v2")
				fresh(c)
				v.once().want(t, deployment.ExitOK, "deployed v2")
				test.play(c)
				v.wantLive(test.live)
				if test.reverts == "refuse" {
					for range 10 {
						time.Sleep(time.Minute)
						v.refused(web, "reverts are refused here")
					}
					return
				}
				if test.live == "v2" && v.says(web) != waits {
					t.Errorf("receipt: got status %q, want %q", v.says(web), waits)
				}
				c.putAt(web.pointer(), c.new, c.newTime.Add(time.Hour))
				v.once().want(t, deployment.ExitOK, "deployed v2")
				v.wantLive("v2")
			})
		})
	}
}
