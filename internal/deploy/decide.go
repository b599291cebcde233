package deploy

import (
	"fmt"
	"time"

	"github.com/towline/towline/internal/release"
)

// verdict is what a look at the pointer calls for.
type verdict int

const (
	nothing verdict = iota // the payload is followed already
	follow                 // it is new, or an accepted one that was restored
	wait                   // a restore that may be a stale read: look again
	refuse
)

// A restored pointer whose Last-Modified is older than what is followed may be a stale read of the store. It is followed
// after this many looks in a row that saw it, over at least this long.
const (
	staleLooks = 5
	staleAfter = 60 * time.Second
)

// sighting counts the looks in a row that saw the same old payload. It is part of the state: an agent that is started for
// every look counts them too.
type sighting struct {
	Digest string    `json:"digest"`
	Looks  int       `json:"looks"`
	First  time.Time `json:"first"`
}

// again is the sighting after one more look, which saw the payload.
func (s sighting) again(digest string, now time.Time) sighting {
	if s.Digest != digest || s.First.After(now) { // or the clock was put back
		return sighting{Digest: digest, Looks: 1, First: now.UTC().Round(0)}
	}
	s.Looks++
	return s
}

type decision struct {
	verdict verdict
	reason  string // for wait and refuse
	fork    bool   // two payloads with one seq: somebody else signs with the key, or history was rewritten
	revert  bool   // follow goes back to a payload that was followed before
}

// decide says which pointer is followed. l is not changed. The rules and their order are the contract's: the followed
// payload, a seq above the mark, a restored payload, a fork, anything else.
func decide(l *ledger, v release.Verified, modified time.Time, revertsRefused bool, seen sighting, now time.Time) decision {
	p := v.Pointer()
	if v.Digest() == l.Followed {
		return decision{verdict: nothing}
	}
	if p.Rollout != nil {
		return decision{verdict: refuse, reason: "the pointer asks for a rollout in waves, which this agent does not know"}
	}
	if v.Plain() {
		return decision{verdict: follow}
	}
	if p.Seq > l.HighSeq {
		if v.Expired(now) && !anyHealthy(l) {
			return decision{verdict: refuse, reason: fmt.Sprintf("the pointer expired at %s, and an expired one is no ground for a first install", p.Expires)}
		}
		return decision{verdict: follow}
	}
	for _, a := range l.Accepted {
		if a.Digest == v.Digest() {
			return decideRevert(l, a, modified, revertsRefused, seen, now)
		}
	}
	for _, a := range l.Accepted {
		if a.Seq == p.Seq {
			return decision{verdict: refuse, fork: true, reason: fmt.Sprintf("FORK: seq %d was accepted with another payload before; two publishers sign the same history", p.Seq)}
		}
	}
	return decision{verdict: refuse, reason: fmt.Sprintf("seq %d is not above %d, and this payload was never accepted here", p.Seq, l.HighSeq)}
}

func decideRevert(l *ledger, a accepted, modified time.Time, refused bool, seen sighting, now time.Time) decision {
	switch {
	case refused:
		return decision{verdict: refuse, reason: fmt.Sprintf("the pointer went back to seq %d, and reverts are refused here", a.Seq)}
	case !l.healthyOnce(a.ID):
		return decision{verdict: refuse, reason: fmt.Sprintf("the pointer went back to seq %d, whose release was never healthy on this server", a.Seq)}
	case l.Followed != "" && l.Modified.IsZero() && !a.Modified.IsZero() && !modified.After(a.Modified):
		// What is followed came by ping, and the bucket shows what it showed before: nobody restored that. (Nothing is
		// followed once a person has rewound the mark past it.)
		return decision{verdict: refuse, reason: fmt.Sprintf("freeze suspected: a newer pointer came by ping, and the bucket "+
			"still shows seq %d as it was before; a mirror that lags, or one that is held back", a.Seq)}
	case !modified.IsZero() && !l.Modified.IsZero() && !modified.Before(l.Modified):
		return decision{verdict: follow, revert: true}
	case seen.Digest == a.Digest && seen.Looks >= staleLooks && now.Sub(seen.First) >= staleAfter:
		return decision{verdict: follow, revert: true}
	default:
		return decision{verdict: wait, reason: fmt.Sprintf("the pointer shows seq %d, older than what is followed; looking again before believing it", a.Seq)}
	}
}

func anyHealthy(l *ledger) bool {
	for _, a := range l.Accepted {
		if a.Healthy {
			return true
		}
	}
	return false
}
