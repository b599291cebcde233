package store

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// pollRow is an agent that looks at its pointer in a store that misbehaves.
type pollRow struct {
	name  string
	fault fault
	words string // in the status; "" where nothing is wrong
	each  int    // requests of one look at most
}

var polling = []pollRow{
	{"reset", reset, "connection reset", 6}, // twice each, as below
	{"stall", stall, "gave no answer within 30s", 3},
	{"body stalls", standing, "no bytes for 10s", 3}, // a body that breaks off is asked for three times
	{"truncated", truncated, "unexpected EOF", 3},
	{"drip", drip, "", 1},
	{"503 storm", busy, "503", 3},
	{"429 storm", tooFew, "429", 3},
	{"missing", absent, "nothing is published yet", 1},
	{"403", denied, "access denied", 1},
	{"web page", page(200), "web page", 1},
	{"web page with 502", page(502), "web page", 3},
	{"empty", empty, "refused", 1},
	{"10 GiB", huge, "larger than", 1},
	{"without end", endless, "larger than", 1},
	{"conditions ignored", deaf, "", 1},
}

func (row pollRow) run(t *testing.T, s *site) {
	s.published("v1", small)
	s.start()
	s.settled("v1")
	s.stop() // what is in the memory of the next one it has read through the fault, not before
	s.proxy.set(nil)
	s.start()
	s.until("looked", func() bool { return s.receipt().Seen != "" })
	seen := s.receipt().Seen
	begun := time.Now()
	s.proxy.set(map[string]fault{"GET pointer": row.fault})
	deploys := row.words == "" && row.name != "conditions ignored"
	if row.words != "" || deploys {
		s.published("v2", small) // another pointer than the one that it has read, so that every look is answered with a body
	}
	if row.words == "" {
		s.until("read", func() bool { return len(s.proxy.seen("GET pointer")) >= 3 })
	} else {
		s.until("said "+row.words, func() bool { return strings.Contains(s.receipt().Status, row.words) })
		s.until("looked twice", func() bool { return len(s.proxy.seen("GET pointer")) >= min(2*row.each, 4) })
		r := s.receipt()
		if r.Seen == "" || r.Seen < seen {
			t.Errorf("status: got seen %q, want since when it has not been read, %s or a little later", r.Seen, seen)
		}
		if away := strings.HasPrefix(r.Status, "cannot read"); away != strings.Contains(r.Status, " (since 20") {
			t.Errorf("got status %q, want since when, if it cannot be read", r.Status)
		}
		t.Logf("status: %s, last read %s", r.Status, r.Seen)
	}
	calls := s.proxy.seen("GET pointer")
	if took := time.Since(begun); len(calls) > row.each*(int(took/(800*time.Millisecond))+1) {
		t.Errorf("got %d requests in %v, want at most %d for each look", len(calls), took, row.each)
	}
	if bad := s.live(); bad != "v1" && row.words != "" {
		t.Errorf("live while the store was unwell: got %s, want v1", bad)
	}
	s.wantSmall()
	s.proxy.set(nil)
	if row.words == "" && !deploys {
		s.published("v2", small)
	}
	s.settled("v2")
	s.wantStarted("v1", "v2")
}

// fetchRow is an agent that fetches from a store that misbehaves.
type fetchRow struct {
	name    string
	fault   fault
	most    int    // requests for the artifact at most, its index first, until it is live or the first deployment has failed
	failed  string // reason of the deployment that fails; "" where it takes the trouble in its stride
	resumes bool   // what it has, it does not fetch again
	refused bool   // the failure is what lies there: only another release helps, or
	forced  bool   // a person's word
}

var fetching = []fetchRow{
	{name: "truncated once", fault: first(1, truncated), most: 3, resumes: true},
	{name: "truncated three times", fault: first(3, truncated), most: 5, resumes: true},
	{name: "reset in the middle", fault: first(2, resetting), most: 4, resumes: true},
	{name: "stalled in the middle", fault: first(1, standing), most: 3, resumes: true},
	// A connection that was kept alive and is reset without a byte of an answer costs net/http a second request at once.
	{name: "reset before a byte", fault: first(2, reset), most: 4},
	{name: "drip", fault: drip, most: 2},
	{name: "drips for ever", fault: first(1, dribble), most: 3, resumes: true},
	{name: "503 for a moment", fault: first(2, busy), most: 4},
	{name: "503 storm", fault: busy, most: 3, failed: "503"},
	{name: "429 storm", fault: tooFew, most: 3, failed: "429"},
	{name: "resets all the time", fault: reset, most: 6, failed: "connection reset"},
	{name: "403", fault: denied, most: 1, failed: "access denied"},
	{name: "missing", fault: absent, most: 1, failed: "no such object"},
	{name: "web page", fault: page(200), most: 1, failed: "captive portal"},
	{name: "10 GiB", fault: huge, most: 2, failed: "the pointer says", refused: true, forced: true},
	{name: "without end", fault: endless, most: 2, failed: "the pointer says", refused: true},
	{name: "unquoted etags only", fault: func(p *proxy, n int, rw http.ResponseWriter, r *http.Request) {
		if n == 1 {
			truncated(p, n, rw, r)
			return
		}
		bare(p, n, rw, r)
	}, most: 4, resumes: true},
}

func (row fetchRow) run(t *testing.T, s *site) {
	s.published("v1", small)
	s.start()
	s.settled("v1")
	s.proxy.set(map[string]fault{"GET artifact": row.fault})
	s.published("v2", medium)
	if row.failed != "" {
		s.until("failed", func() bool {
			d := s.receipt().Deployment
			return d != nil && d.Hash == "v2" && d.Outcome == deployment.Failed
		})
		if d := s.receipt().Deployment; !strings.Contains(d.Reason, row.failed) {
			t.Errorf("got reason %q, want %q in it", d.Reason, row.failed)
		}
		s.wantStarted("v1")
	} else {
		s.settled("v2")
	}
	calls := s.proxy.seen("GET artifact")
	if len(calls) == 0 || len(calls) > row.most {
		t.Errorf("got %d requests for the artifact, want 1 to %d: %v", len(calls), row.most, calls)
	}
	if row.resumes {
		wantResumed(t, calls)
	}
	s.wantSmall()
	if row.refused {
		s.until("said what helps", func() bool {
			return strings.HasPrefix(s.receipt().Status, "release v2 was refused as it lies in the store; it is not tried again until another pointer arrives or a person forces it")
		})
	}
	s.proxy.set(nil)
	if row.forced {
		s.force()
		s.settled("v2")
		s.wantStarted("v1", "v2")
		return
	}
	if row.refused {
		s.published("v3", small)
		s.settled("v3")
		s.wantStarted("v1", "v3")
		return
	}
	s.settled("v2")
	s.wantStarted("v1", "v2")
}

// wantResumed demands that each transfer goes on where the one before broke off: no byte is fetched twice. An artifact is two
// stretches, the index at its end first, then the frames.
func wantResumed(t *testing.T, calls []call) {
	t.Helper()
	type stretch struct{ begin, got int64 }
	stretches := map[int64]*stretch{} // by their last byte
	for i, c := range calls {
		var from, to int64
		if n, _ := fmt.Sscanf(c.Range, "bytes=%d-%d", &from, &to); n != 2 {
			t.Errorf("transfer %d: got range %q, want a part", i+1, c.Range)
			continue
		}
		s := stretches[to]
		if s == nil {
			s = &stretch{from, from}
			stretches[to] = s
		} else {
			if from == s.begin && s.got > from {
				t.Errorf("transfer %d: got range %q, want one from where the one before broke off, at %d", i+1, c.Range, s.got)
			}
			if from > s.got {
				t.Errorf("transfer %d begins at %d although only what is before %d was sent", i+1, from, s.got)
			}
			t.Logf("transfer %d from %d, %d bytes again", i+1, from, s.got-from)
		}
		if c.Status == http.StatusOK || c.Status == http.StatusPartialContent {
			s.got = from + c.Sent
		}
	}
	if len(stretches) != 2 {
		t.Errorf("got %d stretches, want two", len(stretches))
	}
}

// staleReads is a store that shows the old pointer half of the time.
func staleReads(t *testing.T, s *site) {
	s.published("v1", small)
	s.start()
	s.settled("v1")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	old := &stale{rng: rand.New(rand.NewPCG(seed, 1))}
	s.proxy.set(map[string]fault{"GET pointer": old.keep})
	s.until("looked", func() bool { return len(s.proxy.seen("GET pointer")) > 1 })
	s.proxy.set(map[string]fault{"GET pointer": old.ask})
	s.published("v2", small)
	s.until("live as v2", func() bool { return s.live() == "v2" })
	s.until("read often", func() bool { fresh, stale := old.shown(); return fresh >= 3 && stale >= 4 })
	s.published("v3", small)
	s.until("live as v3", func() bool { return s.live() == "v3" })
	fresh, bad := old.shown()
	t.Logf("%d fresh, %d stale", fresh, bad)
	s.proxy.set(nil)
	s.settled("v3")
	s.wantStarted("v1", "v2", "v3")
}

// storeAway is a store that is down, as it is for hours: the looks get rarer.
func storeAway(t *testing.T, s *site) {
	s.published("v1", small)
	s.start()
	s.settled("v1")
	s.proxy.set(map[string]fault{"any": reset})
	begun := time.Now()
	s.until("looked four times", func() bool { return len(s.proxy.seen("")) >= 12 })
	took := time.Since(begun)
	r := s.receipt()
	if !strings.HasPrefix(r.Status, "cannot read the pointer: ") || !strings.Contains(r.Status, " (since 20") || r.Seen == "" {
		t.Errorf("got status %q, seen %q, want why it cannot be read and since when, and when it was last", r.Status, r.Seen)
	}
	t.Logf("%d requests in %.1f s; status: %s; last read %s", len(s.proxy.seen("")), took.Seconds(), r.Status, r.Seen)
	s.wantStarted("v1")
	s.published("v2", small)
	s.proxy.set(nil)
	s.settled("v2")
	s.wantStarted("v1", "v2")
}
