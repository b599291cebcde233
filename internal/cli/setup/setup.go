// Package setup is the guided part of towline init: it asks a newcomer for what has to be known, shows what it would write,
// writes it, and says what to paste where.
//
// Parties: the person at the terminal, or the flags in their place; this machine; the repository, which gets a workflow.
// There are two halves. The server's is the agent's configuration, the key for the bucket and, with a port, the agent's
// certificate; only root on the server can do it. CI's half is the key pair and the workflow; it can be done anywhere.
//
// Invariants. Nothing is written before all answers are there, have been checked, and the configuration has passed the
// agent's own reader. Files appear whole or not at all, and all of them or none; one that is there already is not touched
// without force, and then kept under another name. The private key is printed once, after everything is written, and is in
// no file. The configuration comes last of the files: the agent starts once it is there.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/setup/draft"
	"github.com/towline/towline/internal/cli/setup/place"
	"github.com/towline/towline/internal/cli/setup/prompt"
	"github.com/towline/towline/internal/release"
)

const (
	stateDir  = "/var/lib/towline"
	agentUser = "towline"
	none      = "none" // what is said for an app without a unit, or a server without a port

	// What stands where a dry run does not know yet.
	madeKey    = "ed25519:MADE WHEN IT IS WRITTEN"
	unknownPin = "MADE-WHEN-IT-IS-WRITTEN"
)

// World is the machine, and who sits at it.
type World struct {
	In        io.Reader
	Out       io.Writer // questions and the story
	Getenv    func(string) string
	Terminal  bool   // somebody can be asked
	Root      string // before every path of the server's half
	Euid      int
	Host      string                                             // what the machine calls itself
	Dir       string                                             // the current directory
	Addresses func() []string                                    // of this machine, those that others reach first
	Account   func(name string) (uid, gid int, err error)        // of the agent's user
	Git       func(dir string, args ...string) (string, error)   // runs git
	Check     func(context.Context, bucket.Options, string) Look // nil: LookAt
}

// Flags are what was said on the command line. Given holds, by the flag's name, what answers a question.
type Flags struct {
	Given                       map[string]string
	Half                        string // agent, ci or both; empty: what this machine can do
	Prefix, Workflow, Branch    string
	Yes, Force, DryRun, NoCheck bool
}

// answers are what the questions were answered with.
type answers struct {
	App, Kind, Bucket, Environment, Server string
	AccessKeyID, Secret                    string
	Listen, Address                        string // empty: no port
	Unit, Exec, HTTP                       string // empty: none
	Repository, PublicKey                  string
}

// UsageError is something that the person has to say in another way.
type UsageError struct {
	Err  error
	Hint string
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(hint, format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...), Hint: hint}
}

// ErrDeclined says that the person did not want the files.
var ErrDeclined = errors.New("not confirmed; nothing was written")

// session is one run.
type session struct {
	World
	Flags
	answers
	ctx        context.Context // for the checks of answers
	server, ci bool            // the halves
	checkout   checkout
	kind       string // that the checkout looks like; empty: none
	project    draft.Project
	key        release.PrivateKey // zero: a public key was given
	dialogue   *prompt.Dialogue
	asking     bool
	missing    []string
	result     *Result
}

// Run does all of it. The result is what was done, or with DryRun would be.
func Run(ctx context.Context, w World, f Flags) (*Result, error) {
	s := &session{ctx: ctx, World: w, Flags: f, dialogue: prompt.New(ctx, w.In, w.Out), result: &Result{DryRun: f.DryRun}}
	if s.World.Check == nil {
		s.World.Check = LookAt
	}
	if err := s.halves(); err != nil {
		return nil, err
	}
	s.look()
	if err := s.inTheWay(); err != nil {
		return nil, err
	}
	err := s.interview(ctx)
	if err == nil {
		err = s.carryOut(ctx)
	}
	if errors.Is(err, prompt.ErrEnded) {
		err = usagef("with --yes nothing is asked: answer by flags", "%w; nothing was written", err)
	}
	return s.result, err
}

// halves decides which halves are done here.
func (s *session) halves() error {
	_, err := os.Stat(s.Root + draft.ConfigDir)
	able := s.Euid == 0
	switch s.Half {
	case "":
		s.server, s.ci = able && err == nil, true
	case "agent", "both":
		s.server, s.ci = true, s.Half == "both"
		if !able && !s.DryRun {
			return usagef("use sudo; on a laptop, --for ci makes the key pair and the workflow", "only root may set up a server")
		}
	case "ci":
		s.ci = true
	default:
		return usagef("", "--for %q: want ci, agent or both", s.Half)
	}
	return nil
}

// carryOut does what was answered: look at the bucket, show what will be written, ask whether to, write, and say what is next.
func (s *session) carryOut(ctx context.Context) error {
	if err := s.keys(); err != nil {
		return err
	}
	if s.server && !s.NoCheck && !s.DryRun {
		s.lookAtBucket(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	pin, err := s.knownPin()
	if err != nil {
		return err
	}
	changes, err := s.prepare(pin)
	if err != nil {
		return err
	}
	s.summary(changes)
	if s.DryRun {
		s.texts(changes)
		s.next()
		return nil
	}
	if s.asking && len(changes) > 0 {
		yes, err := s.dialogue.Confirm("Write these?")
		if err != nil {
			return err
		}
		if !yes {
			s.printf("\nNothing was written. Most of the same answers again:\n\n  %s\n", s.again())
			return ErrDeclined
		}
	}
	if pin == unknownPin { // the certificate is made only now, and with it the pin that the workflow names
		if pin, err = s.makePin(); err != nil {
			return err
		}
		if changes, err = s.prepare(pin); err != nil {
			return err
		}
	}
	if err := place.Write(changes); err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	s.finish(changes)
	return nil
}

// prepare makes the texts, compares them with what is there, and fills in the result.
func (s *session) prepare(pin string) ([]place.Change, error) {
	files, err := s.files(pin)
	if err != nil {
		return nil, err
	}
	changes, err := place.Plan(files, s.Force)
	if taken := (*place.ThereError)(nil); errors.As(err, &taken) {
		return nil, there(taken.Path)
	}
	if err != nil {
		return nil, err
	}
	s.result.take(s, pin, changes)
	return changes, nil
}

// keys makes the key pair where no public key was given. A dry run makes none: what it shows is nobody's key.
func (s *session) keys() error {
	if s.PublicKey != "" {
		s.result.Public = s.PublicKey
		return nil
	}
	key, err := release.GenerateKey(nil)
	if err != nil {
		return err
	}
	if s.DryRun {
		s.result.Public = madeKey
		s.key = key // only so that the configuration can be checked
		return nil
	}
	s.key, s.PublicKey = key, key.Public().String()
	s.result.Public, s.result.Private = s.PublicKey, key.Reveal()
	return nil
}

func (s *session) printf(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }
