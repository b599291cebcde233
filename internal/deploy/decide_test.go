package deploy

import (
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
)

func TestDecide(t *testing.T) {
	r := newRig(t, nil)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	one, two, three := r.sign(1, "aaaaaaa", "a", nil), r.sign(2, "bbbbbbb", "b", nil), r.sign(3, "ccccccc", "c", nil)
	never := r.sign(2, "eeeeeee", "e", nil)
	base := func() *ledger {
		l := &ledger{}
		l.accept(one, at)
		l.note(one.Digest(), func(a *accepted) { a.Healthy = true })
		l.accept(two, at.Add(time.Minute))
		return l
	}
	sick := func() *ledger { l := base(); l.note(one.Digest(), func(a *accepted) { a.Healthy = false }); return l }
	pinged := func() *ledger { l := base(); l.accept(three, time.Time{}); return l }
	expired := func(p *release.Pointer) { p.Expires = "2026-11-23T11:00:00Z" }
	for name, c := range map[string]struct {
		l        *ledger
		v        release.Verified
		modified time.Time
		refuse   bool
		seen     sighting
		want     verdict
		says     string
	}{
		"followed already":                      {l: base(), v: two, want: nothing},
		"newer":                                 {l: base(), v: three, want: follow},
		"far newer":                             {l: base(), v: r.sign(1<<40, "ccccccc", "c", nil), want: follow},
		"newer with waves":                      {l: base(), v: r.sign(3, "ccccccc", "c", func(p *release.Pointer) { p.Rollout = &release.Rollout{Waves: []string{"100%"}, Open: 1} }), want: refuse, says: "waves"},
		"expired, first install":                {l: &ledger{}, v: r.sign(1, "aaaaaaa", "a", expired), want: refuse, says: "expired"},
		"expired, after a healthy one":          {l: base(), v: r.sign(3, "ccccccc", "c", expired), want: follow},
		"restored, written later":               {l: base(), v: one, modified: at.Add(time.Hour), want: follow},
		"restored, written at the same time":    {l: base(), v: one, modified: at.Add(time.Minute), want: follow},
		"older than followed, first look":       {l: base(), v: one, modified: at, seen: sighting{one.Digest(), 1, at}, want: wait},
		"older than followed, five quick looks": {l: base(), v: one, modified: at, seen: sighting{one.Digest(), 5, at.Add(-59 * time.Second)}, want: wait},
		"older than followed, five slow looks":  {l: base(), v: one, modified: at, seen: sighting{one.Digest(), 5, at.Add(-60 * time.Second)}, want: follow},
		"older than followed, no date":          {l: base(), v: one, seen: sighting{one.Digest(), 1, at}, want: wait},
		"restored, never healthy":               {l: sick(), v: one, modified: at.Add(time.Hour), want: refuse, says: "never healthy"},
		"restored, reverts refused":             {l: base(), v: one, modified: at.Add(time.Hour), refuse: true, want: refuse, says: "reverts are refused"},
		"older than what came by ping, unmoved": {l: pinged(), v: one, modified: at, seen: sighting{one.Digest(), 9, at.Add(-time.Hour)}, want: refuse, says: "freeze suspected"},
		"older than what came by ping, written": {l: pinged(), v: one, modified: at.Add(time.Second), seen: sighting{one.Digest(), 5, at.Add(-time.Hour)}, want: follow},
		"fork":                                  {l: base(), v: never, modified: at.Add(time.Hour), want: refuse, says: "FORK"},
		"old and unknown":                       {l: &ledger{HighSeq: 9}, v: never, modified: at.Add(time.Hour), want: refuse, says: "never accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(c.l, c.v, c.modified, c.refuse, c.seen, at)
			if got.verdict != c.want || !strings.Contains(got.reason, c.says) {
				t.Errorf("got %+v, want verdict %d saying %q", got, c.want, c.says)
			}
			if isFork := c.says == "FORK"; got.fork != isFork {
				t.Errorf("fork: got %v, want %v", got.fork, isFork)
			}
		})
	}
}

func TestAcceptedPointersAreBounded(t *testing.T) {
	r := newRig(t, nil)
	l := &ledger{Accepted: make([]accepted, keepAccepted)}
	for seq := uint64(keepAccepted + 1); seq <= keepAccepted+10; seq++ {
		l.accept(r.sign(seq, "aaaaaaa", "a", nil), time.Time{})
	}
	if got := len(l.Accepted); got != keepAccepted {
		t.Errorf("accepted: got %d, want %d", got, keepAccepted)
	}
	if got := l.HighSeq; got != keepAccepted+10 {
		t.Errorf("high seq: got %d", got)
	}
}
