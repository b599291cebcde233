package bench

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// atRest is how many apps the agent has that is watched at rest.
const atRest = 10

// measureRest watches an agent to which nothing happens: memory, processor time, and what its polls cost.
func measureRest(b testing.TB, t *table, bin string, rest time.Duration) {
	y := newYard(b, bin)
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("hello\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	var apps []string
	for i := range atRest {
		app := fmt.Sprintf("app-%d", i)
		apps = append(apps, app)
		y.publish(b, app, dir, y.url, "--promote")
	}
	const poll = time.Second // thirty times as often as usual, to see anything at all
	a := newAgent(b, y, ground(b, t), "resting", poll, true, apps...)
	eventually(b, "all apps are live", func() bool {
		var o deployment.Overview
		a.get(b, "/v1/apps", &o)
		live := 0
		for _, r := range o.Apps {
			if d := r.Deployment; d != nil && d.Outcome == deployment.Deployed {
				live++
			}
		}
		return live == atRest
	})
	<-time.After(5 * time.Second) // what was deployed and told is let go

	var rss, anon sample
	y.gateway.reset()
	used, began := cpu(b, a.pid), time.Now()
	tick := time.NewTicker(rest / 10)
	defer tick.Stop()
	for range 10 {
		<-tick.C
		all, err := status(a.pid, "VmRSS")
		if err != nil {
			b.Fatal(err)
		}
		own, err := status(a.pid, "RssAnon")
		if err != nil {
			b.Fatal(err)
		}
		rss, anon = append(rss, all), append(anon, own)
	}
	used, took := cpu(b, a.pid)-used, time.Since(began)
	requests, wire := y.gateway.counted()

	var kinds []string
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(requests)) {
		kinds = append(kinds, fmt.Sprintf("%d × %s", requests[kind], kind))
		total += requests[kind]
	}
	polls := requests["GET 304 pointer"]
	if polls == 0 {
		b.Fatalf("no poll within %v; requests were %v", took, kinds)
	}
	// Each app looks once an interval, give or take a fifth.
	due := float64(atRest) * took.Seconds() / poll.Seconds()
	t.add(
		row{what: fmt.Sprintf("agent at rest with %d apps: RSS", atRest), have: rss, format: mebibytes, goal: 20 << 20},
		row{what: "of it anonymous", have: anon, format: mebibytes},
		row{what: "processor, of one core, polling every second", have: sample{used / took.Seconds()}, format: percent},
		row{what: "the same by arithmetic at the usual 30 s", have: sample{used / took.Seconds() * poll.Seconds() / 30}, format: percent, goal: 0.0005},
		row{what: "requests for an app and second, its interval give or take a fifth", have: sample{float64(total) / due}, format: ratio, goal: 1.05,
			promise: "a poll with nothing new: requests, an app and interval"},
		row{what: "a poll with nothing new, on the wire, both ways", have: sample{float64(wire) / float64(polls)}, format: bytes, goal: 1000, promise: "a poll with nothing new: bytes, both ways"},
		row{what: "a poll with nothing new, processor time", have: sample{used / float64(polls)}, format: seconds, goal: 0.002},
	)
	t.note("The agent at rest asked in %.0f s: %s.", took.Seconds(), strings.Join(kinds, ", "))
}
