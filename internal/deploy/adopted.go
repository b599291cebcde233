package deploy

import (
	"errors"
	"slices"
	"time"
)

// adopts reports whether a memory that is gone, although these directories exist, is none that was lost: the only one was made
// out of what ran here before, nothing was ever deployed, and it is what is live.
func (e *Engine) adopts(names []string) bool {
	if e.Adopted == nil || !slices.Equal(names, []string{e.Adopted.Name}) {
		return false
	}
	live, err := e.Tree.Current()
	return err == nil && live == e.Adopted.Name
}

// takeUp notes the release that was made out of what ran here before, which is older than all others, and which nobody needs
// to have proven: it has run.
func (e *Engine) takeUp() error {
	a := e.Adopted
	if a == nil || e.locked != nil || !e.Tree.Has(a.Name) {
		return nil
	}
	if _, known := e.state.treeNamed(a.Name); known {
		return nil
	}
	if !treeName.MatchString(a.Name) || !treeDigest.MatchString(a.Digest) {
		return errors.New("what was adopted is no release directory")
	}
	live, err := e.Tree.Current()
	if err != nil {
		return err
	}
	return e.change(func(l *ledger) {
		t := tree{
			Name: a.Name, ID: adopted + a.Name, Hash: a.Hash, Msg: a.Msg, Date: a.Date, Healthy: true, Digest: a.Digest, Shared: a.Shared,
		}
		l.Trees = slices.Insert(l.Trees, 0, t)
		if !slices.Contains(l.Trail, t.ID) {
			l.Trail = slices.Insert(l.Trail, 0, t.ID)
		}
		if live == a.Name && l.Live == "" {
			l.Live = a.Name
			l.Since, _ = time.Parse(time.RFC3339, a.Date)
		}
	})
}
