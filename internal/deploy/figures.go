package deploy

import (
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// Figures are what monitoring wants to know of an app that its receipt says in words, or not at all.
type Figures struct {
	Read    bool      // a pointer was read and verified by this process; without, Expires and Behind say nothing
	Expires time.Time // when the pointer that the bucket shows expires; zero where it does not say
	Behind  bool      // the release that this pointer names is not the one that is live and healthy
	Refused bool      // the bucket shows a pointer, or an artifact, that is not to be trusted

	Held        bool // on hold, or the pointer is overridden by a command on this server
	Quarantined bool // the followed release failed here and is not tried again by itself
	Drifted     bool // a release directory, or current, is not as this agent made it
	Releases    int  // release directories
}

// Figures are those of this moment.
func (e *Engine) Figures() Figures {
	live, err := e.Tree.Current()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.state
	followed := s.followed()
	f := Figures{
		Held:     s.Held != "" || s.Override != "" && s.Override == s.Followed,
		Refused:  strings.HasPrefix(e.status, "refused: ") || followed.Refused,
		Releases: len(s.Trees),
	}
	switch followed.Outcome {
	case deployment.RolledBack, deployment.Broken, deployment.Failed:
		f.Quarantined = s.Settled && s.Attempt == nil
	}
	if a := s.Attempt; a != nil && live == a.To {
		live = a.From
	}
	f.Drifted = err == nil && e.locked == nil && s.driftNote(live) != ""
	if !e.last.Valid() {
		return f
	}
	f.Read = true
	p := e.last.Pointer()
	if at, err := time.Parse(time.RFC3339, p.Expires); err == nil {
		f.Expires = at
	}
	t, known := s.treeNamed(live)
	f.Behind = !known || !t.Healthy || t.ID != identity(p, e.last.Plain())
	return f
}
