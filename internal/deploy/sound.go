package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/towline/towline/internal/deployment"
)

// What the engine makes names from: a tree is named by directory, an attempt by Engine.attempt. Both become paths.
var (
	treeName  = regexp.MustCompile(`^p?[0-9]+-[A-Za-z0-9][A-Za-z0-9._-]{0,11}$`)
	attemptID = regexp.MustCompile(`^[0-9]{6,20}-[0-9]{8}T[0-9]{6}Z$`)

	treeDigest = regexp.MustCompile(`^t1:[0-9a-f]{64}$`)
)

// readLedger decodes a state and makes sure that it is one that this engine can have written. Fields that it does not know
// are passed over, so that an older agent can take up what a newer one left.
func readLedger(data []byte) (ledger, error) {
	var l *ledger
	if err := json.Unmarshal(data, &l); err != nil {
		return ledger{}, err
	}
	if l == nil {
		return ledger{}, errors.New("it is empty")
	}
	if err := l.check(); err != nil {
		return ledger{}, err
	}
	return *l, nil
}

// check says why no engine can have written l; nil if one can.
func (l *ledger) check() error {
	known := l.Followed == ""
	for _, a := range l.Accepted {
		if a.Seq > l.HighSeq {
			return fmt.Errorf("seq %d was accepted although the highest is %d", a.Seq, l.HighSeq)
		}
		known = known || a.Digest == l.Followed
	}
	if !known {
		return fmt.Errorf("%.20q is followed although it was never accepted", l.Followed)
	}
	for _, t := range l.Trees {
		if !treeName.MatchString(t.Name) {
			return fmt.Errorf("%.40q is not the name of a release directory", t.Name)
		}
		if t.Digest != "" && !treeDigest.MatchString(t.Digest) {
			return fmt.Errorf("%s: %.40q is not the digest of a tree", t.Name, t.Digest)
		}
	}
	if b := l.Begun; b != nil && b.Base != "" && !treeDigest.MatchString(b.Base) {
		return fmt.Errorf("%.40q is not the digest of a tree", b.Base)
	}
	if l.Live != "" && !treeName.MatchString(l.Live) {
		return fmt.Errorf("%.40q is not the name of a release directory", l.Live)
	}
	if l.Attempt == nil {
		return nil
	}
	a := l.Attempt
	for _, name := range []string{a.From, a.To} {
		if name != "" && !treeName.MatchString(name) {
			return fmt.Errorf("deployment %.40q: %.40q is not the name of a release directory", a.ID, name)
		}
	}
	if !attemptID.MatchString(a.ID) || a.N < 0 || a.Interruptions < 0 || a.Pulled < 0 {
		return fmt.Errorf("deployment %.40q: it is not numbered as one", a.ID)
	}
	if a.Made && a.To == "" {
		return fmt.Errorf("deployment %s made a release directory that has no name", a.ID)
	}
	switch a.Phase {
	case deployment.Fetch, deployment.Unpack:
	case deployment.Activate, deployment.Check, deployment.Confirm:
		if a.To == "" {
			return fmt.Errorf("deployment %s is at step %q without a release directory", a.ID, a.Phase)
		}
	default:
		return fmt.Errorf("deployment %s: unknown step %.20q", a.ID, a.Phase)
	}
	return nil
}
