package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// fault is an error whose exit code and likely fix are known here.
type fault struct {
	err  error
	hint string
	code int
	what string   // instead of the verb's own phrase after "cannot"
	all  []string // instead of err, where there are several
}

// phrases are what the verbs could not do, where it is not "run VERB".
var phrases = map[string]string{
	"app add":      "add the app",
	"app remove":   "remove the app",
	"config check": "check the configuration",
	"config show":  "show the configuration",
	"demo":         "run the demonstration",
	"deploy":       "deploy",
	"doctor":       "look at what a deployment needs",
	"gc":           "collect what nothing refers to",
	"hold":         "hold",
	"init":         "print what to set up",
	"keygen":       "make a key pair",
	"logs":         "show the logs",
	"promote":      "promote",
	"prune":        "prune",
	"publish":      "publish",
	"recover":      "recover",
	"releases":     "list the releases",
	"resume":       "resume",
	"rollback":     "roll back",
	"status":       "show the status",
	"verify":       "verify",
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// outcome is the end of a verb that said by itself how it ended: no error line, only the exit code.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit code %d", int(o)) }

// exit turns an exit code into what a verb returns.
func exit(code int) error {
	if code == 0 {
		return nil
	}
	return outcome(code)
}

// usagef is an error in the command line.
func usagef(format string, args ...any) error {
	return &fault{err: fmt.Errorf(format, args...), code: deployment.ExitUsage}
}

// hinted adds the likely fix.
func hinted(err error, format string, args ...any) error {
	f := &fault{err: err, code: exitCode(err)}
	if known := (*fault)(nil); errors.As(err, &known) {
		f.what = known.what
	}
	f.hint = fmt.Sprintf(format, args...)
	return f
}

// report prints the error and returns the exit code.
func (p *program) report(cmd *cobra.Command, err error) int {
	if o := outcome(0); errors.As(err, &o) {
		return int(o)
	}
	verb := strings.TrimPrefix(cmd.CommandPath(), "towline ")
	what := cmp.Or(phrases[verb], "run "+verb)
	hint := likelyFix(err)
	problems := []string{err.Error()}
	if f := (*fault)(nil); errors.As(err, &f) {
		if f.what != "" {
			what = f.what
		}
		if f.hint != "" {
			hint = f.hint
		}
		if f.all != nil {
			problems = f.all
		}
	}
	if errors.Is(err, context.Canceled) {
		problems = []string{"interrupted"}
	}
	for _, problem := range problems {
		fmt.Fprintf(p.env.Stderr, "towline: cannot %s: %s\n", what, oneLine(problem))
	}
	if hint != "" {
		fmt.Fprintf(p.env.Stderr, "hint: %s\n", hint)
	}
	return exitCode(err)
}

// exitCode maps an error of any room to the table of exit codes.
func exitCode(err error) int {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f.code
	case errors.As(err, new(*publish.UsageError)):
		return deployment.ExitUsage
	case errors.Is(err, release.ErrVerify):
		return deployment.ExitRefused
	case errors.Is(err, publish.ErrUnknownRelease), errors.Is(err, publish.ErrAmbiguous):
		return deployment.ExitUnknown
	case errors.Is(err, bucket.ErrNoBucket), errors.Is(err, bucket.ErrNoCredentials), errors.Is(err, fs.ErrPermission),
		errors.Is(err, artifact.ErrSource):
		return deployment.ExitUsage
	default:
		return deployment.ExitError
	}
}

// likelyFix names what usually helps against errors of the rooms below.
func likelyFix(err error) string {
	switch {
	case errors.Is(err, release.ErrTooOld):
		return "install a newer towline"
	case errors.Is(err, release.ErrVerify):
		return "if the key was rotated, name the other one with --trusted-keys; if not, find out who wrote the object"
	case errors.Is(err, bucket.ErrNoBucket):
		return "check the bucket's name and region; towline does not create buckets"
	case errors.Is(err, bucket.ErrNoCredentials):
		return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
	case errors.Is(err, bucket.ErrUnreachable):
		return "check the endpoint's address and that this machine reaches it"
	case errors.Is(err, bucket.ErrRole):
		return "the role's trust policy must match what the job's token says; both are shown above"
	case errors.Is(err, bucket.ErrClock):
		return "set the clock of this machine; timedatectl shows it"
	case errors.Is(err, fs.ErrPermission):
		return "check that these credentials may read and write in this bucket"
	}
	return ""
}

// oneLine keeps an error on its line, whatever a server put into it.
func oneLine(s string) string {
	return release.CleanText(s, 2000)
}

// unknownCommand is the error of a verb that does not exist.
func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	f := &fault{err: errors.New("no such command"), code: deployment.ExitUsage, what: "run " + oneLine(name)}
	f.hint = "`" + cmd.CommandPath() + " --help` lists them"
	if near := closest(name, names); near != "" {
		f.hint = "did you mean `" + cmd.CommandPath() + " " + near + "`?"
	}
	return f
}

// flagError explains an error of the flag parser.
func flagError(cmd *cobra.Command, err error) error {
	f := &fault{err: err, code: deployment.ExitUsage}
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		var names []string
		cmd.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
		if unknown.GetSpecifiedShortnames() == "" {
			f.err = fmt.Errorf("unknown flag --%s", name)
			if near := closest(name, names); near != "" {
				f.hint = "did you mean --" + near + "?"
				return f
			}
		} else {
			f.err = fmt.Errorf("unknown flag -%s", name)
		}
	}
	f.hint = "`" + cmd.CommandPath() + " --help` lists the flags"
	return f
}

// closest returns the candidate that name most likely stands for, or nothing: at most a third of it, and never more
// than three letters, may differ.
func closest(name string, candidates []string) string {
	best, least := "", min(3, 1+len(name)/3)
	for _, c := range candidates {
		d := distance(name, c)
		if strings.HasPrefix(c, name) && len(name) > 1 {
			d = 1
		}
		if d < least || (d == least && best == "") {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their neighbour between a and b.
func distance(a, b string) int {
	row := func() []int { return make([]int, len(b)+1) }
	before, last, now := row(), row(), row()
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		now[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			now[j+1] = min(last[j+1]+1, now[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], before[j-1]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
