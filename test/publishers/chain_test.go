package publishers

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// op is one operation of one party, as that party saw it. Its name stands as the reason in every pointer that it wrote.
type op struct {
	name         string
	client       int
	kind         release.Kind // empty: a person put an old version.json back
	version      string       // that was asked for, empty where "previous" was
	invoke, done int64        // on one clock
	outcome      deployment.Outcome
	seq          uint64 // of the pointer that it says that it wrote, or of the one that a person put back
	reason       string
	warnings     []string
	err          error
}

// entry is one of the history, verified.
type entry struct {
	release.Pointer
	digest string
}

// record is everything that can be said of a round when it is over.
type record struct {
	ops     []op
	history []entry          // by rising seq, from 1
	pointer release.Verified // as it lies there at the end
	loose   bool             // the store takes an object that is there already: no guarantee
	quick   bool             // no pointer was left behind the history for long: whoever is behind an entry does not follow it

	behind func(version, than string) bool // a true ancestor
}

var bySeq = regexp.MustCompile(`^seq ([0-9]+), release ([0-9A-Za-z._-]+), is newer`)

// check holds the round against everything that is promised.
func (r record) check(t *testing.T) {
	t.Helper()
	r.chain(t)
	r.outcomes(t)
	r.end(t)
	if !r.loose {
		r.linearises(t)
	}
}

// chain: no gap, and each entry names the one before.
func (r record) chain(t *testing.T) {
	t.Helper()
	prev := ""
	for i, e := range r.history {
		if e.Seq != uint64(i)+1 || e.Prev != prev && !r.loose {
			t.Errorf("history %d: got seq %d, prev %.12q, want prev %.12q", i+1, e.Seq, e.Prev, prev)
		}
		prev = e.digest
		if r.quick && i > 0 && e.Kind == release.KindDeploy && r.behind(e.Release.Hash, r.history[i-1].Release.Hash) {
			t.Errorf("history %d: the deployment of %s, which is behind %s, follows it", e.Seq, e.Release.Hash, r.history[i-1].Release.Hash)
		}
	}
}

// entries are those that an operation wrote.
func (r record) entries(o op) (out []entry) {
	for _, e := range r.history {
		if e.Reason == o.name {
			out = append(out, e)
		}
	}
	return out
}

// outcomes: each is true of the history.
func (r record) outcomes(t *testing.T) {
	t.Helper()
	for _, o := range r.ops {
		if o.kind == "" {
			continue
		}
		wrote := r.entries(o)
		var last uint64
		if n := len(wrote); n > 0 {
			last = wrote[n-1].Seq
		}
		switch {
		case o.err != nil:
			t.Errorf("%s: %v", o.name, o.err)
		case o.outcome == deployment.Published || o.outcome == deployment.Deployed:
			if last != o.seq || o.seq == 0 || o.version != "" && wrote[len(wrote)-1].Release.Hash != o.version {
				t.Errorf("%s: %s as seq %d, its last entry in the history is %d", o.name, o.outcome, o.seq, last)
			}
		case o.outcome == deployment.Superseded:
			by := bySeq.FindStringSubmatch(o.reason)
			if by == nil {
				t.Errorf("%s: superseded for the reason %q, want the winner's seq and release", o.name, o.reason)
				continue
			}
			if r.loose {
				continue // the entry that won may have been overwritten itself
			}
			seq, _ := strconv.ParseUint(by[1], 10, 64)
			if seq <= last || seq > uint64(len(r.history)) {
				t.Errorf("%s: superseded by seq %d, its last entry is %d of %d", o.name, seq, last, len(r.history))
				continue
			}
			winner := r.history[seq-1]
			if got := release.ShortHash(winner.Release.Hash); got != by[2] {
				t.Errorf("%s: superseded by seq %d, release %s, in the history that is %s", o.name, seq, by[2], got)
			}
			if winner.Run != nil && o.reason != bySeq.FindString(o.reason)+": "+winner.Run.URL {
				t.Errorf("%s: reason %q does not name the winner's run %s", o.name, o.reason, winner.Run.URL)
			}
			if last > 0 && r.behind(winner.Release.Hash, o.version) {
				t.Errorf("%s: %s was superseded by %s, which is behind it", o.name, o.version, winner.Release.Hash)
			}
		default:
			t.Errorf("%s: outcome %q", o.name, o.outcome)
		}
	}
}

// end: the pointer is the top of the history, or what a person put back when nobody published later.
func (r record) end(t *testing.T) {
	t.Helper()
	if len(r.history) == 0 {
		t.Error("nothing was published")
		return
	}
	top := r.history[len(r.history)-1]
	if r.pointer.Digest() == top.digest {
		return
	}
	var restore op
	for _, o := range r.ops {
		if o.kind == "" && o.seq == r.pointer.Pointer().Seq && o.done > restore.done {
			restore = o
		}
	}
	if restore.name == "" {
		t.Errorf("pointer: got seq %d, want the top of the history, %d", r.pointer.Pointer().Seq, top.Seq)
	}
	for _, o := range r.ops {
		if o.kind != "" && o.invoke > restore.done && (o.outcome == deployment.Published || o.outcome == deployment.Deployed) {
			t.Errorf("pointer: got seq %d, which a person put back before %s began and published seq %d", restore.seq, o.name, o.seq)
		}
	}
}

// write is an operation on the chain: an entry, or the look that found a newer one.
type write struct {
	entry entry
	by    uint64 // of the newer one that superseded; 0: the entry was written
}

// state is what the next write sees of the chain.
type state struct {
	seq             uint64
	digest, version string
}

// linearises: there is an order of all operations, in which each took place between its beginning and its end, and in which
// each entry was put on the top that it names.
func (r record) linearises(t *testing.T) {
	t.Helper()
	var ops []porcupine.Operation
	add := func(o op, w write) {
		ops = append(ops, porcupine.Operation{ClientId: o.client, Input: w, Call: o.invoke, Return: o.done})
	}
	known := 0
	for _, o := range r.ops {
		if o.kind == "" {
			continue
		}
		for _, e := range r.entries(o) {
			known++
			add(o, write{entry: e})
		}
		if by := bySeq.FindStringSubmatch(o.reason); by != nil && o.outcome == deployment.Superseded {
			seq, _ := strconv.ParseUint(by[1], 10, 64)
			add(o, write{by: seq})
		}
	}
	if known != len(r.history) {
		t.Errorf("history: %d entries, %d of them written by an operation", len(r.history), known)
	}
	model := porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, input, _ any) (bool, any) {
			now, w := s.(state), input.(write)
			if w.by > 0 {
				return now.seq >= w.by, now
			}
			ok := w.entry.Seq == now.seq+1 && w.entry.Prev == now.digest
			if r.quick && w.entry.Kind == release.KindDeploy && r.behind(w.entry.Release.Hash, now.version) {
				ok = false
			}
			return ok, state{w.entry.Seq, w.entry.digest, w.entry.Release.Hash}
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
	}
	if got := porcupine.CheckOperationsTimeout(model, ops, 20*time.Second); got != porcupine.Ok {
		t.Errorf("%d operations, %d entries: linearizable: %s", len(ops), len(r.history), got)
		for _, o := range r.ops {
			t.Logf("%-8s %-8s %s [%d, %d] %s seq %d %s", o.name, o.kind, o.version, o.invoke, o.done, o.outcome, o.seq, o.reason)
		}
	}
}

// verified reads and verifies a history from 1 to its first gap, and the pointer.
func (r *record) read(t *testing.T, trust release.Trust, app string, get func(key string) []byte) {
	t.Helper()
	want := release.Want{App: app, Environment: "production", Prefix: app}
	for seq := uint64(1); ; seq++ {
		file := get(release.HistoryKey(app, "production", seq))
		if file == nil {
			break
		}
		v, err := trust.Pointer(file, want)
		if err != nil {
			t.Fatalf("history %d: %v", seq, err)
		}
		r.history = append(r.history, entry{v.Pointer(), v.Digest()})
	}
	v, err := trust.Pointer(get(release.PointerKey(app, "production")), want)
	if err != nil {
		t.Fatalf("pointer: %v", err)
	}
	r.pointer = v
}
