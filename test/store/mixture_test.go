package store

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
)

// moods are what a shaky store does to one request: each is over with the request.
var moods = []struct {
	name  string
	fault fault
}{
	{"reset", reset}, {"lost", lost}, {"truncated", truncated}, {"resetting", resetting}, {"503", busy}, {"429", tooFew},
	{"page", page(http.StatusBadGateway)}, {"deaf", deaf},
}

// mixture publishes and deploys over a store that does something else to every third request, then lets it be well.
func mixture(t *testing.T, s *site, rounds int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	var mu sync.Mutex
	done := map[string]int{}
	shaky := func(p *proxy, n int, rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		f := fault(well)
		if rng.IntN(3) == 0 {
			mood := moods[rng.IntN(len(moods))]
			done[mood.name]++
			f = mood.fault
		}
		mu.Unlock()
		f(p, n, rw, r)
	}
	s.published("v0", small)
	s.start()
	s.settled("v0")
	codes := map[int]int{}
	want := []string{"v0"}
	var peak int64
	for i := 1; i <= rounds; i++ {
		version := fmt.Sprintf("v%d", i)
		s.proxy.set(map[string]fault{"any": shaky})
		code, out := s.publish(s.proxy.URL, version, small)
		codes[code]++
		if code != 0 && code != 1 {
			t.Errorf("round %d: got code %d, want 0, or 1 as for a store that cannot be reached:\n%s", i, code, out)
		}
		s.proxy.set(nil)
		if code != 0 {
			if code, out := s.publish(s.proxy.URL, version, small); code != 0 {
				t.Errorf("round %d: with the store well: got code %d, want 0:\n%s", i, code, out)
			}
		}
		s.settled(version)
		want = append(want, version)
		peak = max(peak, s.peak())
	}
	s.wantStarted(want...)
	s.wantSmall()
	t.Logf("%d deployments, publisher's codes %v, faults %v, agent at most %d MiB", rounds, codes, done, peak>>20)
}
