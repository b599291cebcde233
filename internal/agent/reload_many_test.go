package agent

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// However often the file changes and whoever asks meanwhile, what counts in the end is what it says in the end, and nothing
// is left of what it said before.
func TestManyReloads(t *testing.T) {
	w := newWorld(t)
	files := []string{
		oneApp, oneApp + "    keep: 5\n", oneApp + "  api: {dir: $srv/api}\n", "  api: {dir: $srv/api, keep: 4}\n",
		oneApp + "  bad: {dir: $srv/no/such/place}\n", "  web: {dir: $srv/web, keep: 0}\n",
	}
	w.publish("web", hash("1"), "one")
	w.publish("api", hash("1"), "one")
	r := w.start(w.settings(listening, oneApp))
	r.settled("web", hash("1"))
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		w.must(err)
		return len(list)
	}
	before := fds()
	end := make(chan struct{})
	var others sync.WaitGroup
	for _, path := range []string{"/v1/agent", "/v1/apps", "/metrics", "/", "/readyz"} {
		others.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					r.call(path, nil, nil)
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				r.call("/v1/apps/web/deploy", deployment.Command{}, nil)
			}
		}
	})
	for i := range 60 {
		w.file(listening, files[i%len(files)])
		if err := r.Reload(); (err != nil) != (i%len(files) == 5) {
			t.Errorf("file %d: got %v", i%len(files), err)
		}
	}
	close(end)
	others.Wait()
	w.file(listening, oneApp)
	w.must(r.Reload())
	events, err := r.ring(w.publish("web", hash("2"), "two"), "")
	if err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("got %v and %+v, want deployed", err, last(events))
	}
	r.until("the others have left", func() bool { return len(r.agent().Leaving) == 0 })
	r.until("no descriptor is left open", func() bool { return fds() <= before+2 })
}

// Whoever waits for the release of an app that is taken out of the file is told so, and not left waiting.
func TestReloadAnswersThoseWhoWait(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings(listening, oneApp+"  gone: {dir: $srv/no/such/place}\n"))
	r.settled("web", hash("1"))
	// A signed pointer to a release of which the bucket has nothing yet: what it leads to is still to come.
	one, err := r.find("gone")
	w.must(err)
	f := &following{agent: r.Agent, app: one, pointer: release.Pointer{Seq: 9, Release: release.Release{Hash: hash("9")}}}
	w.file(listening, oneApp)
	w.must(r.Reload())
	told := make(chan deployment.Event, 8)
	go func() {
		defer close(told)
		f.events(t.Context(), func(e deployment.Event) bool { told <- e; return true })
	}()
	var end deployment.Event
	for e := range told {
		end = e
	}
	if end.Outcome != deployment.Failed || !strings.Contains(end.Reason, "not in the configuration any more") {
		t.Errorf("got %+v, want that the app is gone", end)
	}
}
