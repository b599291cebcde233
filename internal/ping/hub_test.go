package ping

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/deployment"
)

func publish(h *Hub, app string, events ...deployment.Event) {
	for _, e := range events {
		h.Publish(app, e)
	}
}

func collect(t *testing.T, h *Hub, seq uint64, hash string) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	return numbers(slices.Collect(h.Follow(ctx, "nodeapi", seq, hash)))
}

func TestHubReplaysAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		if h.Knows("nodeapi", 7, "") {
			t.Error("an empty hub knows a deployment")
		}
		a := tale("a", 7, 3)
		publish(&h, "nodeapi", a[0])
		go func() {
			time.Sleep(time.Minute)
			publish(&h, "nodeapi", a[1])
			publish(&h, "other", tale("x", 9, 1)...)
			time.Sleep(time.Minute)
			publish(&h, "nodeapi", a[0], a[1], a[2], a[2]) // repeated ones are dropped
		}()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, want := collect(t, &h, 7, ""), "a1 a2 a3"; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
		all.Wait()
		if got, want := collect(t, &h, 7, ""), "a1 a2 a3"; got != want {
			t.Errorf("late: got %s, want %s", got, want)
		}
		if got, want := collect(t, &h, 6, ""), "a1 a2 a3"; got != want {
			t.Errorf("lower seq: got %s, want %s", got, want)
		}
		if got := collect(t, &h, 8, ""); got != "" {
			t.Errorf("higher seq: got %s, want nothing until it begins", got)
		}
		if !h.Knows("nodeapi", 7, "") || h.Knows("nodeapi", 8, "") || h.Knows("other", 10, "") {
			t.Error("Knows differs from what a follower would be shown")
		}
	})
}

func TestHubGoesOverToTheNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		a, b := tale("a", 7, 3), tale("b", 9, 2)
		publish(&h, "nodeapi", a[0])
		go func() {
			time.Sleep(time.Second)
			publish(&h, "nodeapi", b[0]) // cuts a short
			publish(&h, "nodeapi", a[1]) // too late
			time.Sleep(time.Second)
			publish(&h, "nodeapi", b[1])
		}()
		var both sync.WaitGroup
		both.Go(func() {
			if got, want := collect(t, &h, 7, ""), "a1 b1 b2"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
		both.Go(func() {
			if got, want := collect(t, &h, 8, ""), "b1 b2"; got != want {
				t.Errorf("waiting for 8: got %s, want %s", got, want)
			}
		})
		both.Wait()
	})
}

func TestHubKeepsTheLastFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		publish(&h, "nodeapi", tale("a", 9, 2)...)
		publish(&h, "nodeapi", tale("b", 5, 1)...) // a person went back
		if got, want := collect(t, &h, 9, ""), "a1 a2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for i := range 20 {
			publish(&h, "nodeapi", tale(fmt.Sprint("c", i), 5, 1)...)
		}
		if got := len(h.apps["nodeapi"].deployments); got != maxKept {
			t.Errorf("got %d deployments kept, want %d", got, maxKept)
		}
	})
}

func TestHubTellsPlainPointersByHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		for _, hash := range []string{"one", "two"} {
			e := tale(hash, 0, 1)[0]
			e.Hash = hash
			h.Publish("nodeapi", e)
		}
		for _, hash := range []string{"one", "two"} {
			if got, want := collect(t, &h, 0, hash), hash+"1"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		if got := collect(t, &h, 0, "three"); got != "" {
			t.Errorf("got %s, want nothing", got)
		}
	})
}

func TestHubIsBounded(t *testing.T) {
	var h Hub
	events := tale("a", 7, 3*maxEvents)
	events[2*maxEvents].State = deployment.StepFail
	publish(&h, "nodeapi", events...)
	kept := h.apps["nodeapi"].deployments[0].events
	if got, want := len(kept), maxEvents+2; got != want {
		t.Errorf("got %d events kept, want %d: progress beyond is dropped, a failed step and the end are not", got, want)
	}
	if !kept[len(kept)-1].Terminal() {
		t.Error("the terminal event was dropped")
	}
}

// A follower sees, wherever it comes in, whole deployments or the beginnings of ones cut short, in their order, and
// last a terminal event.
func TestHubFollowersSeeTheTruth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var h Hub
		published := map[string]int{}
		for i := range rapid.IntRange(1, 5).Draw(rt, "deployments") {
			n := rapid.IntRange(1, 5).Draw(rt, "events")
			upTo := rapid.IntRange(1, n).Draw(rt, "published")
			id := fmt.Sprint("d", i)
			publish(&h, "nodeapi", tale(id, uint64(i+1), n)[:upTo]...)
			published[id] = upTo
		}
		publish(&h, "nodeapi", tale("z", 100, 2)...)
		published["z"] = 2
		seq := uint64(rapid.IntRange(1, 5).Draw(rt, "seq"))
		got := slices.Collect(h.Follow(rt.Context(), "nodeapi", seq, ""))
		if len(got) == 0 || !got[len(got)-1].Terminal() {
			rt.Fatalf("got %s, want a terminal event last", numbers(got))
		}
		next := map[string]int{}
		for _, e := range got {
			next[e.Deployment]++
			if e.N != next[e.Deployment] || e.N > published[e.Deployment] || e.Seq < seq {
				rt.Fatalf("seq %d: got %s", seq, numbers(got))
			}
		}
	})
}
