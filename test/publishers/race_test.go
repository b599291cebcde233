package publishers

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// sixteen are the parents of 3 commits in a line and of 16 after them: a line, with branches off it.
var sixteen = []int{-1, 0, 1, 2, 3, 4, 5, 3, 7, 6, 9, 10, 9, 12, 11, 14, 14, 16, 15}

// Publishers are 16 processes at once, on an S3 server with conditions.
func TestSixteenPublishersAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.checkouts(sixteen...)
	count := map[deployment.Outcome]int{}
	for round := range times(2) {
		app := fmt.Sprintf("race-%d", round)
		w.ops = nil
		var all sync.WaitGroup
		for i, n := range rand.Perm(publishers) {
			all.Go(func() { w.deploy(w.s3.Endpoint, app, i, 3+n) })
		}
		all.Wait()
		r := w.record(app)
		r.check(t)
		for _, o := range r.ops {
			count[o.outcome]++
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("%d rounds of %d processes: %v", times(2), publishers, count)
}

// The same through a network with latency, with promote, rollback and a person's restore among the deployments; in every other
// round without the person, whose word may put an older commit before a newer.
func TestSixteenPublishersMixed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.checkouts(sixteen...)
	g := newGate(t, w.s3, func(g *gate) { g.jitter = 150 * time.Millisecond })
	count := map[string]int{}
	for round := range times(2) {
		app := fmt.Sprintf("mix-%d", round)
		w.ops = nil
		for i := range 3 {
			w.deploy(w.s3.Endpoint, app, i, i)
		}
		var all sync.WaitGroup
		for i, n := range rand.Perm(publishers) {
			client := 3 + i
			all.Go(func() {
				switch {
				case i == 0:
					w.publish(g.URL, app, client, release.KindPromote, w.commits[1], "promote", w.commits[1][:9])
				case i == 1:
					w.publish(g.URL, app, client, release.KindRollback, "", "rollback")
				case i == 2 && round%2 == 0:
					entry := filepath.Join("/", bucketName, release.HistoryKey(app, "production", 4))
					for status := 0; status != 200 && time.Since(w.start) < time.Minute; { // in the middle
						status, _ = w.s3.Do(t, "HEAD", entry, nil)
					}
					w.restore(app, client, 2)
				default:
					w.deploy(g.URL, app, client, 3+n)
				}
			})
		}
		all.Wait()
		r := w.record(app)
		r.quick = !slices.ContainsFunc(r.ops, func(o op) bool { return o.kind == "" })
		r.check(t)
		for _, o := range r.ops {
			count[fmt.Sprintf("%s %s", o.kind, o.outcome)]++
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("%d rounds: %v", times(2), count)
}
