package deploy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// keepToRecycle is how many release directories have to be kept for one of them to be recycled: the live one, the one before it,
// which may have to be gone back to, and one.
const keepToRecycle = 3

// copyFrom is of how many release directories frames are copied, at most: what is known of each takes memory.
const copyFrom = 2

// recyclable is the release directory to bring forward for the attempt: the one that prune would delete once the new release
// is live. It has no name where there is none: the live one, the one before it, the one that the running process was started from,
// and one that was changed on this server, or that nobody has looked at since it was made, are left alone.
func (e *Engine) recyclable(ctx context.Context, a *attempt, plan Plan) tree {
	if e.Keep < keepToRecycle {
		return tree{}
	}
	live, err := e.live()
	if err != nil {
		return tree{}
	}
	started, err := e.Service.StartedFrom(ctx)
	if err != nil {
		return tree{}
	}
	s := &e.state
	before, next := s.previous(live.ID), live.ID
	if id := identity(a.Pointer, a.Plain); slices.Contains(s.Trail, id) { // a person goes back to it, and then the one before is older
		next = s.previous(id)
	}
	for _, f := range s.fates("", next, e.Keep, 1) { // the new one is the first that is kept
		t := f.tree
		switch {
		case f.stays != "", t.Name == live.Name, t.Name == a.From, t.ID == before:
		case t.Drift != nil, t.Looked == "", t.Digest == "", !slices.Equal(t.Shared, e.Shared):
		case started != "" && within(started, e.Tree.ReleasePath(t.Name)):
		case e.Tree.Has(t.Name) && plan.Fits(t.Digest):
			return t
		}
	}
	return tree{}
}

// others are the release directories, beside base, that frames may be copied from, the one that was used last first. What is
// copied is checked, so that a sound one that was not looked at for long does.
func (e *Engine) others(base tree) (out []Directory) {
	trees := slices.Clone(e.state.Trees)
	slices.SortStableFunc(trees, func(a, b tree) int { return cmp.Compare(b.Used, a.Used) })
	for _, t := range trees {
		if len(out) < copyFrom && t.Name != base.Name && t.Drift == nil && t.Digest != "" && e.Tree.Has(t.Name) {
			out = append(out, Directory{Name: t.Name, Digest: t.Digest})
		}
	}
	return out
}

// fate is what prune does with a release directory: it stays for a reason, or it goes.
type fate struct {
	tree
	stays string
}

// fates are those of all directories, the one that was used last first, where live is the directory that is live and before the
// identity of the release before it. So many are kept already that are not among them.
func (l *ledger) fates(live, before string, keep, kept int) (out []fate) {
	trees := slices.Clone(l.Trees)
	slices.SortFunc(trees, func(a, b tree) int { return cmp.Compare(b.Used, a.Used) })
	for _, t := range trees {
		f := fate{tree: t}
		switch sound, _ := l.treeOf(t.ID); {
		case t.Name == live:
			f.stays = "it is live"
		case t.Drift != nil && sound.Drift == nil: // it was fetched again, beside this one
		case t.ID == before:
			f.stays = "it is the one before"
		case t.Healthy && kept < keep:
			f.stays = fmt.Sprintf("it is one of the newest %d that were healthy", keep)
		}
		if f.stays != "" {
			kept++
		}
		out = append(out, f)
	}
	return out
}
