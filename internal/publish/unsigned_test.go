package publish

import (
	"errors"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
)

// With trust: none by a slip, nothing would go on afterwards: the servers and the publishers that ask for signatures refuse what
// has none. So it is refused itself, before anything is written.
func TestNothingUnsignedOverWhatIsSigned(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	s.must(commit(2))
	before := s.bucket.writes
	for _, command := range []string{"deploy", "promote", "rollback"} {
		_, err := s.with("signing-key", "", "trust", "none", "command", command, "version", commit(1)).run(commit(3))
		if !errors.Is(err, release.ErrVerify) || ExitCode(Options{}, &Result{}, err) != 6 || !strings.Contains(Hint(err), "pass signing-key") || s.bucket.writes != before {
			t.Errorf("%s: got %v, hint %q, %d writes, want a refusal and none", command, err, Hint(err), s.bucket.writes-before)
		}
	}
	for _, command := range []string{"deploy", "status"} { // looking is free
		if _, err := s.with("signing-key", "", "trust", "none", "command", command, "dry-run", "true").run(commit(3)); err != nil {
			t.Errorf("%s: got %v", command, err)
		}
	}
	// Whoever finds an unsigned one is told of it.
	free := newSite(t).with("signing-key", "", "trust", "none")
	free.must(commit(1))
	_, err := free.with("trust", "", "signing-key", s.key.Reveal()).run(commit(2))
	if !errors.Is(err, release.ErrUnsigned) || !strings.Contains(Hint(err), "trust: none") {
		t.Errorf("got %v, hint %q", err, Hint(err))
	}
}
