package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/towline/towline/internal/deployment"
)

// begun is the stage that a deployment has begun and not finished: its agent died, or the store was away. The next deployment takes it
// up, whichever it is. The ledger does not vouch for what is in it: it says that there may be one, and what it was.
type begun struct {
	SHA256 string `json:"sha256"`         // of the artifact that it was to become
	Base   string `json:"base,omitempty"` // digest of the directory that it was before that
}

// stage is an open stage.
type stage struct {
	name  string
	root  *os.Root
	notes *os.File // nil where none are kept
	had   int64    // bytes of the artifact that were in it when it was taken up
	left  bool     // it was taken up
}

func (s *stage) close() error {
	if s.notes != nil {
		_ = s.notes.Close()
	}
	return s.root.Close()
}

// awaits reports whether a deployment is under way, or will be tried again by itself: only then is a stage of use that is not finished.
func (l *ledger) awaits() bool {
	return l.Attempt != nil || l.Followed != "" && !l.Settled && l.Held == "" && l.Override != l.Followed
}

// open makes a stage, or takes up the one with that name.
func (e *Engine) open(how func() (string, *os.Root, error)) (*stage, error) {
	name, root, err := how()
	if err != nil {
		return nil, err
	}
	s := &stage{name: name, root: root}
	if s.notes, err = e.Tree.Notes(name); err != nil {
		e.Log.Warn("what is fetched now is fetched again if it breaks off", "app", e.Key, "error", err)
	}
	return s, nil
}

// takeLeft opens the stage that an earlier deployment has begun, with all of it removed that is not good for this one. It is nil where there is
// none, or nothing in it, or a directory to recycle that has more.
func (e *Engine) takeLeft(ctx context.Context, a *attempt, plan Plan) (*stage, error) {
	b := e.state.Begun
	if b == nil {
		return nil, nil
	}
	if b.SHA256 != a.Pointer.Artifact.SHA256 && e.recyclable(ctx, a, plan).Name != "" {
		e.dropBegun()
		return nil, nil
	}
	s, err := e.open(e.Tree.Resume)
	if err == nil {
		if s.had, err = plan.TakeUp(ctx, s.root, s.notes, b.Base); err == nil && s.had > 0 {
			s.left = true
			e.step(a, deployment.Fetch, deployment.Progress, fmt.Sprintf("%s of %s were here already, of a deployment that broke off",
				smallSize(s.had), sizeText(a.Pointer.Artifact.Size)))
			return s, nil
		}
		_ = s.close()
	}
	if ctx.Err() != nil {
		e.leave(ctx, s, ctx.Err())
		return nil, ctx.Err()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.Log.Warn("what an earlier deployment has begun cannot be taken up", "app", e.Key, "error", err)
	}
	e.dropBegun()
	return nil, nil
}

// leave is what becomes of a stage after an error: it is for the next deployment if nothing but the agent's time or the store speaks
// against it.
func (e *Engine) leave(ctx context.Context, s *stage, err error) {
	if s != nil && e.state.Begun != nil && (ctx.Err() != nil || errors.Is(err, ErrBrokenOff)) {
		e.Tree.Leave(s.name)
		return
	}
	e.dropBegun()
}

// dropBegun discards the stage that was begun.
func (e *Engine) dropBegun() {
	if e.state.Begun == nil {
		return
	}
	if err := e.Tree.DiscardBegun(); err != nil {
		e.Log.Warn("discard stage", "app", e.Key, "error", err)
		return // the next start sweeps it away
	}
	e.mu.Lock()
	e.state.Begun = nil // written with the next step
	e.mu.Unlock()
}

// tidy discards a stage that nothing will take up.
func (e *Engine) tidy() {
	if !e.state.awaits() {
		e.dropBegun()
	}
}
