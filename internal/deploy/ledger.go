package deploy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// keepAccepted is how many accepted pointers and how many steps of the trail are remembered. The whole state is written at each
// change: full, with messages as people write them, it has some 430 KiB and a save takes some ten milliseconds.
const keepAccepted = 1000

// adopted begins the identity of a directory whose release is not known.
const adopted = "disk:"

// ledger is the engine's durable state.
type ledger struct {
	HighSeq  uint64     `json:"high_seq"`           // highest seq ever followed; raised before anything is activated
	Followed string     `json:"followed,omitempty"` // payload digest of the pointer now followed
	Modified time.Time  `json:"modified,omitzero"`  // its Last-Modified in the bucket, zero if it came by ping
	Seen     sighting   `json:"seen,omitzero"`      // of a pointer that may be a stale read
	Settled  bool       `json:"settled,omitempty"`  // its deployment has ended: nothing to do until another payload arrives
	Accepted []accepted `json:"accepted,omitempty"` // oldest first
	Override string     `json:"override,omitempty"` // payload digest that a command on this server suppresses
	Held     string     `json:"held,omitempty"`     // why the app is on hold; empty when it is not
	Trees    []tree     `json:"trees,omitempty"`    // complete release directories
	Trail    []string   `json:"trail,omitempty"`    // identities of the releases that became live and healthy, oldest first
	Since    time.Time  `json:"since,omitzero"`     // when the live release became live
	Live     string     `json:"live,omitempty"`     // directory that current was led to last; empty when it was removed
	Count    uint64     `json:"count"`              // deployments so far
	Plain    uint64     `json:"plain,omitempty"`    // directories made for plain pointers so far
	Attempt  *attempt   `json:"attempt,omitempty"`  // the deployment under way
	Begun    *begun     `json:"begun,omitempty"`    // a stage that is not finished; nil when there is none
}

// accepted is a pointer that was followed once.
type accepted struct {
	Seq    uint64 `json:"seq"`
	Digest string `json:"digest"`
	ID     string `json:"id"` // identity of its release
	Hash   string `json:"hash"`
	Msg    string `json:"msg,omitempty"`
	Date   string `json:"date,omitempty"`
	// Modified is its newest Last-Modified that was seen in the bucket, zero if it was never seen there.
	Modified time.Time          `json:"modified,omitzero"`
	Healthy  bool               `json:"healthy,omitempty"` // its release has been live and healthy here
	Refused  bool               `json:"refused,omitempty"` // its artifact failed verification
	Outcome  deployment.Outcome `json:"outcome,omitempty"`
}

// tree is a complete release directory.
type tree struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Seq     uint64 `json:"seq"`
	Hash    string `json:"hash"`
	Msg     string `json:"msg,omitempty"`
	Date    string `json:"date,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	Healthy bool   `json:"healthy,omitempty"`
	Used    uint64 `json:"used"` // number of the deployment that activated it last

	Made    uint64    `json:"made,omitempty"`   // number of the deployment that unpacked it; 0 for an adopted directory
	Digest  string    `json:"digest,omitempty"` // of what was unpacked; empty where that is not known
	Shared  []string  `json:"shared,omitempty"` // paths that the digest leaves out
	Print   string    `json:"print,omitempty"`  // fingerprint of the metadata when Drift was found, or nothing was
	Looked  string    `json:"looked,omitempty"` // moment when the last look began that found nothing; empty after one that did
	Window  string    `json:"window,omitempty"` // while Print is not known: when the agent worked on it
	Base    string    `json:"base,omitempty"`   // likewise: Looked of the directory that was recycled for it
	Checked time.Time `json:"checked,omitzero"` // when it was read whole last
	Drift   *drift    `json:"drift,omitempty"`  // what is not as it was unpacked; nil when nothing is known to be
	look    uint64    // of this process, that Drift comes from
}

// attempt is the deployment under way.
type attempt struct {
	ID        string          `json:"id"`
	Number    uint64          `json:"number"`
	Digest    string          `json:"digest,omitempty"` // payload that asked for it; empty for a command on this server
	Plain     bool            `json:"plain,omitempty"`
	Pointer   release.Pointer `json:"pointer"`
	From      string          `json:"from,omitempty"` // directory that was live before
	To        string          `json:"to,omitempty"`   // directory to make live, once it is known
	Made      bool            `json:"made,omitempty"` // To was made by this attempt, so undoing deletes it
	Phase     deployment.Step `json:"phase"`
	Failure   string          `json:"failure,omitempty"`   // why the release is being undone
	Blameless bool            `json:"blameless,omitempty"` // the failure says nothing about the release
	// Untouched says that the unit was not restarted for this release; Invocation is what it ran then, empty where that was
	// not to be seen.
	Untouched     bool               `json:"untouched,omitempty"`
	Invocation    string             `json:"invocation,omitempty"`
	Guilty        bool               `json:"guilty,omitempty"` // the release itself failed: it is not tried again by itself
	Log           []string           `json:"log,omitempty"`
	Interruptions int                `json:"interruptions,omitempty"`
	Started       time.Time          `json:"started"`
	Pulled        int64              `json:"pulled,omitempty"`
	N             int                `json:"n,omitempty"`       // number of the last event
	Refused       bool               `json:"refused,omitempty"` // the artifact failed verification
	Note          string             `json:"note,omitempty"`    // said after the reason, whatever the outcome
	Events        []deployment.Event `json:"events,omitempty"`

	begun time.Time // Started, as a clock that nobody sets has it; zero in an agent that took the attempt up
}

// identity is what makes two releases the same one: the artifact's digest. A plain pointer has none, so there it is the
// version.
func identity(p release.Pointer, plain bool) string {
	if plain {
		return "plain:" + p.Release.Hash
	}
	return p.Artifact.SHA256
}

// sha256 is the digest of the artifact that the pointer named; empty if it was a plain one. It is not kept beside the identity,
// which it is: states that older agents wrote have it twice.
func (a accepted) sha256() string {
	if strings.HasPrefix(a.ID, "plain:") {
		return ""
	}
	return a.ID
}

func (l *ledger) accept(v release.Verified, modified time.Time) {
	p := v.Pointer()
	if !slices.ContainsFunc(l.Accepted, func(a accepted) bool { return a.Digest == v.Digest() }) {
		l.Accepted = append(l.Accepted, accepted{
			Seq: p.Seq, Digest: v.Digest(), ID: identity(p, v.Plain()), Hash: p.Release.Hash, Msg: p.Release.Msg, Date: p.Release.Date,
		})
		if n := len(l.Accepted) - keepAccepted; n > 0 {
			l.Accepted = slices.Delete(l.Accepted, 0, n)
		}
	}
	l.HighSeq = max(l.HighSeq, p.Seq)
	l.saw(v.Digest(), modified)
	l.Followed, l.Modified, l.Settled, l.Override = v.Digest(), modified, false, ""
}

// rewind makes seq the mark and forgets the pointers above it, how many it says, and that what they named was ever live:
// none of them is followed again as a restored one, nor gone back to as the previous release.
func (l *ledger) rewind(seq uint64) (forgotten int) {
	kept, ids := l.Accepted[:0:0], map[string]bool{}
	for _, a := range l.Accepted {
		if a.Seq <= seq {
			kept = append(kept, a)
		} else {
			ids[a.ID] = true
		}
	}
	for _, a := range kept {
		delete(ids, a.ID)
	}
	forgotten = len(l.Accepted) - len(kept)
	l.Accepted, l.HighSeq, l.Seen = kept, seq, sighting{}
	l.Trail = slices.DeleteFunc(l.Trail, func(id string) bool { return ids[id] })
	if l.followed() == (accepted{}) {
		// Modified stays: it still tells a restored pointer from a stale read of an older one.
		l.Followed, l.Settled, l.Override = "", false, ""
	}
	return forgotten
}

// followed returns the pointer now followed, the zero value when there is none.
func (l *ledger) followed() accepted {
	for _, a := range slices.Backward(l.Accepted) {
		if a.Digest == l.Followed {
			return a
		}
	}
	return accepted{}
}

func (l *ledger) note(digest string, change func(*accepted)) {
	for i := range l.Accepted {
		if l.Accepted[i].Digest == digest {
			change(&l.Accepted[i])
		}
	}
}

// saw notes that the bucket showed the accepted payload, written at modified.
func (l *ledger) saw(digest string, modified time.Time) {
	l.note(digest, func(a *accepted) {
		if modified.After(a.Modified) {
			a.Modified = modified
		}
	})
}

func (l *ledger) healthyOnce(id string) bool {
	return slices.ContainsFunc(l.Accepted, func(a accepted) bool { return a.ID == id && a.Healthy })
}

func (l *ledger) treeNamed(name string) (tree, bool) {
	for _, t := range l.Trees {
		if t.Name == name && name != "" {
			return t, true
		}
	}
	return tree{}, false
}

// treeOf returns the directory of the release, one that was changed on this server only when there is no other.
func (l *ledger) treeOf(id string) (found tree, ok bool) {
	for _, t := range l.Trees {
		if t.ID == id && (!ok || found.Drift != nil) {
			found, ok = t, true
		}
	}
	return found, ok
}

func (l *ledger) dropTree(name string) {
	l.Trees = slices.DeleteFunc(l.Trees, func(t tree) bool { return t.Name == name })
}

// adopt notes the directories that are on disk although nothing is remembered of them. What they hold is not known until
// a pointer names the same seq and hash; see known.
func (l *ledger) adopt(names []string) {
	slices.Sort(names)
	for _, name := range names {
		number, hash, _ := strings.Cut(name, "-")
		t := tree{Name: name, ID: adopted + name, Hash: hash}
		if n, plain := strings.CutPrefix(number, "p"); plain {
			count, _ := strconv.ParseUint(n, 10, 64)
			l.Plain = max(l.Plain, count)
		} else {
			t.Seq, _ = strconv.ParseUint(number, 10, 64)
		}
		l.Trees = append(l.Trees, t)
	}
}

// known gives an adopted directory of the attempt's name its identity. A name is a seq and the beginning of a hash, which
// one history uses once.
func (l *ledger) known(a *attempt) {
	for i := range l.Trees {
		if t := &l.Trees[i]; t.Name == l.directory(a) && t.ID == adopted+t.Name {
			p := a.Pointer
			t.ID, t.Hash, t.SHA256 = identity(p, a.Plain), p.Release.Hash, p.Artifact.SHA256
			t.Msg, t.Date = p.Release.Msg, p.Release.Date
		}
	}
}

// arrived notes that the release of the tree is live and healthy.
func (l *ledger) arrived(name string, number uint64, now time.Time) {
	for i := range l.Trees {
		t := &l.Trees[i]
		if t.Name != name {
			continue
		}
		t.Healthy, t.Used = true, number
		if len(l.Trail) == 0 || l.Trail[len(l.Trail)-1] != t.ID {
			l.Trail = append(l.Trail, t.ID)
		}
		if n := len(l.Trail) - keepAccepted; n > 0 {
			l.Trail = slices.Delete(l.Trail, 0, n)
		}
	}
	l.Since = now
}

// unwell notes that the release of the tree, healthy once, is not now.
func (l *ledger) unwell(name string) {
	for i := range l.Trees {
		if l.Trees[i].Name == name {
			l.Trees[i].Healthy = false
		}
	}
}

// previous is the identity of the release that was live before the release id first became live here, "" when there was
// none: going back twice goes back two releases, not back and forth.
func (l *ledger) previous(id string) string {
	if all := l.earlier(id); len(all) > 0 {
		return all[0]
	}
	return ""
}

// earlier are the identities of the releases that were live before the release id first became live here, newest first.
func (l *ledger) earlier(id string) []string {
	var out []string
	for i := slices.Index(l.Trail, id) - 1; i >= 0; i-- {
		if !slices.Contains(out, l.Trail[i]) {
			out = append(out, l.Trail[i])
		}
	}
	return out
}

// directory names the tree of an attempt.
func (l *ledger) directory(a *attempt) string {
	if a.Plain {
		return fmt.Sprintf("p%d-%s", l.Plain, release.ShortHash(a.Pointer.Release.Hash))
	}
	return fmt.Sprintf("%d-%s", a.Pointer.Seq, release.ShortHash(a.Pointer.Release.Hash))
}
