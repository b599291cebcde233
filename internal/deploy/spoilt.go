package deploy

import (
	"context"
	"fmt"
	"strings"

	"github.com/towline/towline/internal/release"
)

// place names the directory that the attempt is unpacked into. It is the one that directory gives, except where a release
// that was changed on this server has that name and is in use: that one stays where it is, and the new one gets a name
// beside it. Another one of that name makes room once the new one is complete.
func (e *Engine) place(ctx context.Context, a *attempt) (string, error) {
	name := e.state.directory(a)
	t, known := e.state.treeNamed(name)
	if !known || t.Drift == nil {
		return name, nil
	}
	live, err := e.Tree.Current()
	if err != nil {
		return "", err
	}
	started, err := e.Service.StartedFrom(ctx)
	if err != nil {
		return "", err
	}
	if name != live && !within(started, e.Tree.ReleasePath(name)) {
		return name, nil
	}
	number, hash, _ := strings.Cut(name, "-")
	for n := 2; n < 10; n++ {
		beside := fmt.Sprintf("%s-%s.%d", number, hash[:min(len(hash), 10)], n)
		if _, known := e.state.treeNamed(beside); !known {
			return beside, nil
		}
	}
	return "", fmt.Errorf("no name is left beside %s, which was changed on this server and is in use", name)
}

// makeRoom deletes what has the name and is not in use: a release that was changed on this server, or what a crash left
// between naming a tree and noting it.
func (e *Engine) makeRoom(name string) error {
	t, known := e.state.treeNamed(name)
	if known && t.Drift == nil {
		return nil // sealing will say that the name is taken
	}
	if known {
		// Out of the ledger first, so that a crash leaves nothing that is believed to be whole.
		if err := e.change(func(l *ledger) { l.dropTree(name) }); err != nil {
			return err
		}
	}
	return e.Tree.Remove(name)
}

// refetch makes an attempt that brings the release of a directory that was changed on this server again. It is an error
// that wraps release.ErrVerify if the bucket does not have it.
func (e *Engine) refetch(ctx context.Context, t tree) (*attempt, error) {
	a := e.attempt(release.Pointer{Release: release.Release{Hash: t.Hash, Msg: t.Msg, Date: t.Date}})
	a.Plain = strings.HasPrefix(t.ID, "plain:")
	var err error
	if !a.Plain {
		var v release.Verified
		if v, err = e.Source.History(ctx, t.Hash); err == nil {
			a.Pointer, a.Plain = v.Pointer(), v.Plain()
		}
	}
	if err == nil {
		err = e.Source.Offers(ctx, a.Pointer)
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: release %s was changed on this server (%s) and cannot be fetched again: %w",
			release.ErrVerify, release.ShortHash(t.Hash), t.Drift, err)
	}
	return a, err
}

// Drift is what a person should know of the release directories and of current, empty when all is as this agent made it.
// It is a part of the receipt's status.
func (e *Engine) Drift() string {
	live, err := e.Tree.Current()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || e.locked != nil {
		return ""
	}
	if a := e.state.Attempt; a != nil && live == a.To {
		live = a.From
	}
	return e.state.driftNote(live)
}

// driftNote is what a person should know of the release directories and of current, in a sentence: of the live release
// first. It is empty when all is as this agent made it.
func (s *ledger) driftNote(live string) string {
	t, known := s.treeNamed(live)
	switch {
	case s.Attempt != nil || s.Live == "" || s.Live == live:
	case live == "":
		return fmt.Sprintf("current is gone, though this agent led it to %s", s.Live)
	case known:
		return fmt.Sprintf("current leads to %s, though this agent led it to %s", live, s.Live)
	}
	if known && t.Drift != nil {
		return fmt.Sprintf("the live release %s was changed on this server: %s", t.Name, t.Drift)
	}
	for i := len(s.Trees) - 1; i >= 0; i-- {
		if t := s.Trees[i]; t.Drift != nil {
			return fmt.Sprintf("release %s was changed on this server and is fetched again before it is used: %s", t.Name, t.Drift)
		}
	}
	return ""
}

// withNote joins the status and a note.
func (s *ledger) withNote(status, note string) string {
	switch {
	case note == "":
		return status
	case status == "", status == "on hold: "+s.Held: // Held says that
		return note
	}
	return status + "; " + note
}
