package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// bring fetches and unpacks: frame by frame where that can be, else the whole artifact first.
func (e *Engine) bring(ctx context.Context, a *attempt) error {
	begun := time.Now()
	e.fresh = nil
	e.step(a, deployment.Fetch, deployment.Started, sizeText(a.Pointer.Artifact.Size))
	if e.Frames != nil {
		plan, err := e.Frames.Plan(ctx, a.Pointer)
		switch {
		case err == nil:
			return e.bringFrames(ctx, a, plan, begun)
		case !errors.Is(err, errors.ErrUnsupported):
			e.step(a, deployment.Fetch, deployment.StepFail, err.Error())
			return fmt.Errorf("fetch: %w", err)
		}
	}
	e.dropBegun()
	return e.bringWhole(ctx, a, begun)
}

// bringFrames goes on with what an earlier deployment has begun, or brings the release forward from the directory that is recycled, or, where there
// is neither or that does not work, into an empty one.
func (e *Engine) bringFrames(ctx context.Context, a *attempt, plan Plan, begun time.Time) (err error) {
	if err := e.Tree.ClearIncoming(); err != nil { // an agent that fetched it whole may have left a part of it
		return err
	}
	pulled := a.Pulled
	defer func() { a.Pulled = pulled + plan.Pulled() }()
	left, err := e.takeLeft(ctx, a, plan)
	if err != nil {
		return err
	}
	base := tree{Digest: Begun}
	if left == nil {
		base = e.recyclable(ctx, a, plan)
	}
	for {
		err := e.bringOnto(ctx, a, plan, base, left, begun, pulled)
		if err == nil || failing(ctx, base, left, err) == "" {
			return err
		}
		if left != nil { // its space is free now
			left, base = nil, e.recyclable(ctx, a, plan)
		} else {
			base = tree{}
		}
		begun = time.Now()
		e.step(a, deployment.Fetch, deployment.Started, sizeText(a.Pointer.Artifact.Size))
	}
}

// failing says what did not work, where less than what was tried may do: without the stage that was left, or in an empty directory.
func failing(ctx context.Context, base tree, left *stage, err error) string {
	switch {
	case ctx.Err() != nil || !errors.Is(err, ErrBase) && !roomless(err):
		return ""
	case left != nil:
		return "going on where a deployment broke off did not work, fetching it again"
	case base.Name != "":
		return fmt.Sprintf("recycling %s did not work, unpacking into an empty directory", base.Name)
	}
	return ""
}

// bringOnto makes the release's directory out of the stage that was left, or of base, or of nothing if that has no name.
func (e *Engine) bringOnto(ctx context.Context, a *attempt, plan Plan, base tree, left *stage, begun time.Time, pulled int64) (err error) {
	step, made := deployment.Fetch, left
	defer func() {
		if err == nil {
			return
		}
		if made != nil {
			_ = made.close()
			e.leave(ctx, made, err)
		}
		why := err.Error()
		if what := failing(ctx, base, left, err); what != "" { // the deployment goes on: this must not be lost among the progress
			why = what + ": " + why
		}
		e.step(a, step, deployment.StepFail, why)
		err = fmt.Errorf("%s: %w", step, err)
	}()
	name, err := e.place(ctx, a)
	if err != nil {
		return err
	}
	others := e.others(base)
	var digests []string
	for _, o := range others {
		digests = append(digests, o.Digest)
	}
	fetch, write := plan.Lacks(base.Digest, digests)
	entries := a.Pointer.Artifact.Entries
	if base.Digest != "" {
		entries = min(entries, write/512) // an entry takes at least as much of the archive
	}
	if err := e.room(write, entries); err != nil {
		if left != nil { // without it there is more
			err = fmt.Errorf("%w: %w", ErrBase, err)
		}
		return err
	}
	if made, err = e.stageOf(a, base, left); err != nil {
		return err
	}
	brought, err := plan.Bring(ctx, made.root, Bringing{
		Base: base.Digest, Notes: made.notes, Others: others, Progress: e.progress(a, deployment.Fetch, fetch),
		Warn: func(s string) { e.step(a, deployment.Unpack, deployment.Progress, s) },
	})
	if cerr := made.close(); err == nil {
		err = cerr
	}
	var sealed deployment.Sealed
	if err == nil {
		a.Pulled = pulled + plan.Pulled()
		e.emit(a, deployment.Event{
			Step: step, State: deployment.Done, TookMS: time.Since(begun).Milliseconds(), Bytes: a.Pulled, Message: broughtText(a, plan, brought, base, made.had),
		})
		step, begun = deployment.Unpack, time.Now()
		e.step(a, step, deployment.Started, "")
		sealed, err = e.seal(made.name, name)
	}
	if err != nil {
		return e.noSpace(err)
	}
	made = nil
	e.fresh = plan
	if err := e.made(a, tree{Name: name, Digest: brought.Digest, Base: base.Looked}, sealed); err != nil {
		return err
	}
	e.stepTook(a, step, time.Since(begun))
	return nil
}

// keepFresh keeps what lets the release that was just brought be recycled. That is for when it is live: nobody waits for it then.
func (e *Engine) keepFresh() {
	if e.fresh == nil {
		return
	}
	if err := e.fresh.Keep(); err != nil {
		e.Log.Warn("the live release will not be recycled", "app", e.Key, "error", err)
	}
	e.fresh = nil
}

// stageOf is the stage that was left, or an empty one, or the directory of base. That is out of the ledger first, durably: until the
// stage is sealed nothing that is found on the disk is taken for a release.
func (e *Engine) stageOf(a *attempt, base tree, left *stage) (*stage, error) {
	now := &begun{SHA256: a.Pointer.Artifact.SHA256}
	if base.Name != "" {
		now.Base = base.Digest
	}
	err := e.change(func(l *ledger) { l.Begun, a.Phase = now, deployment.Unpack; l.dropTree(base.Name) })
	if err != nil && base.Name != "" { // nothing has happened to it
		e.mu.Lock()
		e.state.Trees = append(e.state.Trees, base)
		e.mu.Unlock()
	}
	if err != nil || left != nil {
		return left, err
	}
	if base.Name == "" {
		return e.open(e.Tree.Begin)
	}
	s, err := e.open(func() (string, *os.Root, error) { return e.Tree.Recycle(base.Name) })
	if err != nil {
		if rerr := e.Tree.Remove(base.Name); rerr != nil { // nobody names it any more
			e.Log.Warn("remove release", "app", e.Key, "release", base.Name, "error", rerr)
		}
		return nil, fmt.Errorf("%w: %w", ErrBase, err)
	}
	return s, nil
}

// seal gives a complete stage its name.
func (e *Engine) seal(stage, name string) (sealed deployment.Sealed, err error) {
	if err := e.makeRoom(name); err != nil {
		return sealed, err
	}
	return e.Tree.Seal(stage, name, e.Shared)
}

// made notes the release directory that the attempt has made: t with what the pointer says of it.
func (e *Engine) made(a *attempt, t tree, sealed deployment.Sealed) error {
	p := a.Pointer
	t.ID, t.Seq, t.Hash, t.Msg, t.Date = identity(p, a.Plain), p.Seq, p.Release.Hash, p.Release.Msg, p.Release.Date
	t.SHA256, t.Made, t.Shared = p.Artifact.SHA256, a.Number, e.Shared
	t.Print, t.Looked, t.Window = sealed.Print, sealed.Looked, sealed.Window
	return e.change(func(l *ledger) {
		l.dropTree(t.Name)
		l.Trees, l.Begun = append(l.Trees, t), nil
		a.To, a.Made = t.Name, true
	})
}

// broughtText says what it took: "192 KiB of 36 MiB, 27 of 37,881 files changed, 41-ab12ab12ab12 recycled".
func broughtText(a *attempt, plan Plan, b Brought, base tree, had int64) string {
	text := fmt.Sprintf("%s of %s", smallSize(plan.Pulled()), sizeText(a.Pointer.Artifact.Size))
	if base.Name == "" {
		files := "files"
		if b.Files == 1 {
			files = "file"
		}
		if had > 0 {
			return text + fmt.Sprintf(", %s were here already, of a deployment that broke off; %s %s", smallSize(had), thousands(b.Files), files)
		}
		return text + fmt.Sprintf(", %s %s into an empty directory", thousands(b.Files), files)
	}
	return text + fmt.Sprintf(", %s of %s files changed, %s recycled", thousands(b.Written), thousands(b.Files), base.Name)
}

// smallSize is sizeText of what may be nothing.
func smallSize(n int64) string {
	if n <= 0 {
		return "0 B"
	}
	return sizeText(n)
}

// thousands is a count for people: 37,881.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// bringWhole fetches the artifact and unpacks it then.
func (e *Engine) bringWhole(ctx context.Context, a *attempt, begun time.Time) error {
	p := a.Pointer.Artifact
	if err := e.room(p.Size+p.UnpackedSize, p.Entries); err != nil {
		e.step(a, deployment.Fetch, deployment.StepFail, err.Error())
		return err
	}
	archive, err := e.fetch(ctx, a, begun)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := e.change(func(*ledger) { a.Phase = deployment.Unpack }); err != nil {
		return err
	}
	if err := e.unpack(ctx, a, archive); err != nil {
		if roomless(err) { // the archive can be had again, and others need the space now
			_ = e.Tree.ClearIncoming()
		}
		return err
	}
	return e.Tree.ClearIncoming()
}

// room refuses a release that would not fit, before a byte of it is fetched.
func (e *Engine) room(size, entries int64) error {
	bytes, inodes, err := e.Tree.Space()
	if err != nil {
		return err
	}
	need := size + size/10 + spareSpace
	if bytes < need {
		return fmt.Errorf("not enough space in %s: %d MiB free, %d MiB needed", e.Tree.Path(), bytes>>20, need>>20)
	}
	if want := entries + spareInodes; inodes > 0 && inodes < want {
		return fmt.Errorf("not enough inodes in %s: %d free, %d needed", e.Tree.Path(), inodes, want)
	}
	return nil
}
