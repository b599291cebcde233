package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Integrity reads release directories and knows what was unpacked into them.
type Integrity interface {
	// Compare reads the release whole and compares it with the digest that Unpacker gave. The paths are those that
	// sharing puts there. differ may be nil although the release is not sound, where nothing is kept to name paths by.
	Compare(ctx context.Context, name, digest string, shared []string) (sound bool, differ []deployment.Difference, err error)
	// Fingerprint sums up the release's metadata: while it is the same nobody has touched the release.
	Fingerprint(name string) (string, error)
	// Untouched is Fingerprint of a release that was recycled. It reports whether the times of all entries say that nobody
	// but the agent has changed it: since clean, when what was recycled was looked at last, but for the window.
	Untouched(name, window, clean string) (print string, untouched bool, err error)
	// Keep drops what is kept for trees with other digests.
	Keep(digests []string) error
}

// drift is what was found changed in a release directory.
type drift struct {
	Reason string                  `json:"reason,omitempty"` // where there is no path to name
	Differ []deployment.Difference `json:"differ,omitempty"` // at most deployment.MaxDifferences
	More   int                     `json:"more,omitempty"`   // those beyond
}

// namedPaths is how many paths a sentence names.
const namedPaths = 3

func (d *drift) String() string {
	if d.Reason != "" {
		return d.Reason
	}
	var names []string
	for _, x := range d.Differ[:min(len(d.Differ), namedPaths)] {
		names = append(names, fmt.Sprintf("%s (%s)", release.CleanText(x.Path, 100), x.What))
	}
	text := strings.Join(names, ", ")
	if more := len(d.Differ) - len(names) + d.More; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// finding is what a look at one release directory gave.
type finding struct {
	tree  tree   // as it was in the ledger when the look began
	look  uint64 // looks are numbered as they begin
	at    string // moment when it began
	print string // its fingerprint before it was read; empty when that could not be taken
	read  bool   // it was read whole; else the fingerprint was the one that was known,
	taken bool   // or is the first one, of a release that was recycled and that nobody has touched
	drift *drift // nil: it is sound
	err   error  // it could not be read, which says nothing of it
}

// survey looks at the trees, one after the other, as the ledger had them. It touches nothing of the engine, so that it may
// run beside the loop. Unless whole, only those are read whose fingerprint is another than the known one.
func (e *Engine) survey(ctx context.Context, trees []tree, whole bool) []finding {
	var found []finding
	for _, t := range trees {
		if t.Digest == "" || ctx.Err() != nil {
			continue
		}
		found = append(found, e.examine(ctx, t, whole))
	}
	return found
}

func (e *Engine) examine(ctx context.Context, t tree, whole bool) finding {
	f := finding{tree: t, look: e.looks.Add(1), at: e.Tree.Moment()}
	// Taken before the reading: what is changed while it goes on is seen by the next look.
	if t.Print == "" && t.Window != "" {
		if print, untouched, err := e.Integrity.Untouched(t.Name, t.Window, t.Base); err == nil {
			f.print, f.taken = print, untouched && !whole && t.Drift == nil
		}
	} else if print, err := e.Integrity.Fingerprint(t.Name); err == nil {
		f.print = print
	}
	if f.taken || !whole && f.print != "" && f.print == t.Print {
		f.drift = t.Drift
		return f
	}
	f.read = true
	sound, differ, err := e.Integrity.Compare(ctx, t.Name, t.Digest, t.Shared)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !e.Tree.Has(t.Name):
		f.drift = &drift{Reason: "its directory is gone"}
	case err != nil:
		f.err = err
	case !sound && len(differ) == 0:
		f.drift = &drift{Reason: "its contents are not what was unpacked; which paths differ cannot be told"}
	case !sound:
		n := min(len(differ), deployment.MaxDifferences)
		f.drift = &drift{Differ: slices.Clone(differ[:n]), More: len(differ) - n}
	}
	return f
}

// trees is a copy of what the ledger says of the release directories, for those beside the loop.
func (e *Engine) trees() []tree {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.state.Trees)
}

// learn writes the findings down: each is the verdict on its tree, if that is still the one that was looked at. It must
// run in the loop.
func (e *Engine) learn(found []finding) error {
	news := false
	for _, f := range found {
		if f.err != nil && !errors.Is(f.err, context.Canceled) {
			e.Log.Warn("a release directory cannot be read", "app", e.Key, "release", f.tree.Name, "error", f.err)
		}
		news = news || f.err == nil && (f.read || f.taken)
	}
	e.lookedAt(found)
	if !news {
		return nil // nothing is known that was not known before, but when: that is written with the next change
	}
	var worse, better []tree
	err := e.change(func(l *ledger) {
		for _, f := range found {
			i := slices.IndexFunc(l.Trees, f.tree.same)
			if i < 0 || f.err != nil || !f.read && !f.taken {
				continue
			}
			t := &l.Trees[i]
			if f.look < t.look {
				continue // a later one has been learnt already
			}
			was := t.Drift
			t.Drift, t.Print, t.look, t.Window, t.Base = f.drift, f.print, f.look, "", ""
			if f.read {
				t.Checked = time.Now().UTC()
			}
			switch {
			case f.drift != nil && (was == nil || was.String() != f.drift.String()):
				worse = append(worse, *t)
			case f.drift == nil && was != nil:
				better = append(better, *t)
			}
		}
	})
	for _, t := range worse {
		e.Log.Warn("a release directory was changed on this server", "app", e.Key, "release", t.Name, "what", t.Drift.String())
	}
	for _, t := range better {
		e.Log.Info("a release directory is as it was unpacked again", "app", e.Key, "release", t.Name)
	}
	if err != nil {
		e.Log.Error("write what release directories were found to be", "app", e.Key, "error", err)
	}
	if len(worse)+len(better) > 0 {
		e.receipt()
	}
	return err
}

// lookedAt notes of each tree when the last look began that found nothing.
func (e *Engine) lookedAt(found []finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range found {
		i := slices.IndexFunc(e.state.Trees, f.tree.same)
		if i < 0 || f.err != nil || f.look < e.state.Trees[i].look {
			continue
		}
		t := &e.state.Trees[i]
		t.Looked = ""
		if f.drift == nil && f.print != "" && (f.read || f.taken || f.print == t.Print) {
			t.Looked = f.at
		}
	}
}

// same reports whether o is this directory, not another one that took its name.
func (t tree) same(o tree) bool { return t.Name == o.Name && t.Made == o.Made }

// verify reads every release directory whole, beside the loop, and has the loop write down what was found.
func (e *Engine) verify(ctx context.Context) (deployment.Result, error) {
	e.mu.Lock()
	locked := e.locked
	e.mu.Unlock()
	if locked != nil {
		return deployment.Result{}, locked
	}
	if e.Integrity == nil {
		return deployment.Result{}, errors.New("nothing here can read releases")
	}
	found := e.survey(ctx, e.trees(), true)
	if err := ctx.Err(); err != nil {
		return deployment.Result{}, fmt.Errorf("verify: %w", err)
	}
	return e.send(ctx, command{verb: "verify", found: found})
}

// verified writes findings down and answers with them.
func (e *Engine) verified(found []finding) (deployment.Result, error) {
	if err := e.learn(found); err != nil {
		return deployment.Result{}, err
	}
	return deployment.Result{Releases: e.verifications(found)}, nil
}

// verifications is what the findings say of the release directories that there are now, the live one first, then the
// newest first.
func (e *Engine) verifications(found []finding) []deployment.Verification {
	live, _ := e.Tree.Current()
	names, _ := e.Tree.Names()
	e.mu.Lock()
	trees := slices.Clone(e.state.Trees)
	e.mu.Unlock()
	for _, name := range names {
		if !slices.ContainsFunc(trees, func(t tree) bool { return t.Name == name }) {
			trees = append(trees, tree{Name: name})
		}
	}
	out := []deployment.Verification{}
	for _, t := range trees {
		i := slices.IndexFunc(found, func(f finding) bool { return f.tree.same(t) })
		v := t.verification(live)
		switch {
		case t.ID == "":
			v.State, v.Reason = deployment.Unknown, "this agent did not put it there"
		case t.Digest == "":
			v.State = deployment.Unknown
			v.Reason = "recover found it here, or an older agent made it, and nothing says what was unpacked"
		case i < 0:
			continue // made since
		case found[i].err != nil && t.Drift == nil:
			v.State, v.Reason, v.Differ, v.More, v.Checked = deployment.Unread, found[i].err.Error(), nil, 0, ""
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b deployment.Verification) int {
		switch {
		case a.Live != b.Live && a.Live, a.Live == b.Live && a.Seq > b.Seq:
			return -1
		case a.Live != b.Live || a.Seq < b.Seq:
			return 1
		}
		return 0
	})
	return out
}

// verification is what the ledger knows of the tree.
func (t tree) verification(live string) deployment.Verification {
	v := deployment.Verification{Name: t.Name, Seq: t.Seq, Hash: t.Hash, Live: t.Name == live, State: deployment.Sound}
	if !t.Checked.IsZero() {
		v.Checked = t.Checked.UTC().Format(time.RFC3339)
	}
	if d := t.Drift; d != nil {
		v.State, v.Reason, v.Differ, v.More = deployment.Drifted, d.Reason, d.Differ, d.More
	}
	return v
}

// keepListings drops what is kept of trees that are gone.
func (e *Engine) keepListings() {
	if e.Integrity == nil {
		return
	}
	var digests []string
	for _, t := range e.state.Trees {
		digests = append(digests, t.Digest)
	}
	if b := e.state.Begun; b != nil && b.Base != "" {
		digests = append(digests, b.Base)
	}
	if err := e.Integrity.Keep(digests); err != nil {
		e.Log.Warn("drop listings of releases that are gone", "app", e.Key, "error", err)
	}
}
