package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const defaultConfig = "/etc/towline/agent.yaml"

// Options are the world around the program.
type Options struct {
	Args           []string // without the program's name
	Stdout, Stderr io.Writer
	Journal        bool // standard error goes to a log that keeps the time itself
	// Reload has the daemon read its configuration again with everything that comes; nil: it never does.
	Reload <-chan os.Signal
}

// Run is the program: it reads the flags and the configuration, runs the daemon until ctx ends, or with --once looks at
// every app once, and returns the exit code.
func Run(ctx context.Context, o Options) (code int) {
	flags := flag.NewFlagSet("towline-agent", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	path := flags.String("config", defaultConfig, "")
	once := flags.Bool("once", false, "")
	pin := flags.Bool("pin", false, "")
	version := flags.Bool("version", false, "")
	err := flags.Parse(o.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(o.Stdout, usage)
		return deployment.ExitOK
	case err != nil:
		return o.fail(&usageError{err.Error()})
	case flags.NArg() > 0:
		return o.fail(&usageError{fmt.Sprintf("unexpected argument %q", flags.Arg(0))})
	case *version:
		fmt.Fprintln(o.Stdout, "towline-agent", release.Version)
		return deployment.ExitOK
	}
	settings, err := config.Load(*path)
	if err != nil {
		return o.fail(&configError{err})
	}
	if os.Getenv("GOGC") == "" {
		// The agent is there to be forgotten: a little more collecting for a third less memory at rest.
		debug.SetGCPercent(50)
	}
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{ReplaceAttr: o.trim}))
	switch {
	case *pin:
		return o.pin(settings, log)
	case *once:
		return o.once(ctx, settings, log)
	}
	if problem := exposed(settings); problem != "" {
		log.Warn(problem)
	}
	a, err := New(settings, log)
	if err != nil {
		return o.fail(err)
	}
	a.reloads.signals = o.Reload
	if err := a.Run(ctx); err != nil {
		return o.fail(err)
	}
	return deployment.ExitOK
}

// pin prints the pin of the certificate that the port is served with, and makes a self-signed one that is not there yet.
func (o Options) pin(settings config.Settings, log *slog.Logger) int {
	cert, err := certificate(settings, log)
	if err == nil && cert == nil {
		err = &configError{errors.New("tls: it is off, so that there is no certificate")}
	}
	if err != nil {
		return o.fail(err)
	}
	fmt.Fprintf(o.Stdout, "sha256=%s\n", cert.Pin())
	return deployment.ExitOK
}

const usage = `Usage: towline-agent [--config FILE] [--once | --pin]

Pulls the releases of the apps in FILE, proves them healthy, or puts the old ones back.

  --config FILE   the configuration (default ` + defaultConfig + `)
  --once          look at every app once, finish the deployments that this starts, and exit
  --pin           print the pin of the certificate on the port, for the publisher's list of servers, and exit
  --version       print the version

Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 rolled back or broken, 4 unknown release, 5 held or taken by
another agent, 6 verification failed. With --once the highest over all apps.

SIGHUP has the daemon read FILE again; a file that cannot be used changes nothing. SIGTERM stops it at a safe point.
`

// trim drops the time where the log keeps it.
func (o Options) trim(groups []string, attr slog.Attr) slog.Attr {
	if o.Journal && len(groups) == 0 && attr.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return attr
}

// fail prints the error, its likely fix, and returns its exit code.
func (o Options) fail(err error) int {
	fmt.Fprintf(o.Stderr, "towline-agent: %v\n", err)
	if h := hint(err); h != "" {
		fmt.Fprintf(o.Stderr, "hint: %s\n", h)
	}
	return exitCode(err)
}

// once looks at every app, one after the other.
func (o Options) once(ctx context.Context, settings config.Settings, log *slog.Logger) int {
	a, err := build(settings, log)
	if err != nil {
		return o.fail(err)
	}
	defer a.release()
	worst := deployment.ExitOK
	for _, one := range a.apps {
		outcome, err := a.once(ctx, one)
		code := outcome.ExitCode()
		switch {
		case errors.Is(err, fs.ErrNotExist) && errors.Is(err, errNoPointer):
			fmt.Fprintf(o.Stdout, "%s: nothing is published yet\n", one.Key)
		case err != nil:
			code = exitCode(err)
			fmt.Fprintf(o.Stdout, "%s: %v\n", one.Key, err)
			if h := hint(err); h != "" {
				fmt.Fprintf(o.Stdout, "%s: hint: %s\n", one.Key, h)
			}
		case outcome == "":
			fmt.Fprintf(o.Stdout, "%s: %s\n", one.Key, one.receipt().Status)
		default:
			r := one.receipt()
			line := fmt.Sprintf("%s: %s %s", one.Key, outcome, release.ShortHash(r.Pointer.Hash))
			if d := r.Deployment; d != nil && d.Outcome == outcome && d.Reason != "" {
				line += ": " + d.Reason
			}
			fmt.Fprintln(o.Stdout, strings.TrimSpace(line))
			if engine, _, err := one.now(); err == nil && outcome == deployment.Failed && engine.Refused() {
				code = deployment.ExitRefused
			}
		}
		worst = max(worst, code)
	}
	return worst
}

// errNoPointer marks that an app's pointer is absent, which is a normal state.
var errNoPointer = errors.New("no pointer")

// once opens the app, lets its engine look once, and leaves the receipt.
func (a *Agent) once(ctx context.Context, one *app) (deployment.Outcome, error) {
	engine, done, err := one.open(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	outcome, err := func() (deployment.Outcome, error) {
		unit, err := one.newUnit()
		if err != nil {
			return "", err
		}
		defer unit.close()
		// A unit that is not there would be the reason of a failed deployment; here nothing needs to be begun for it.
		if err := unit.Check(ctx); err != nil {
			return "", &unitError{err}
		}
		return engine.Once(ctx)
	}()
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*unitError)) {
		err = fmt.Errorf("%w: %w", errNoPointer, err)
	}
	if one.receipts != nil {
		if rerr := one.receipts.Write(ctx); rerr != nil {
			a.log.Warn("receipt cannot be written", "app", one.Key, "error", rerr)
		}
	}
	return outcome, err
}

type usageError struct{ text string }

func (u *usageError) Error() string { return strings.ReplaceAll(u.text, " -", " --") }

type configError struct{ err error }

func (c *configError) Error() string { return c.err.Error() }
func (c *configError) Unwrap() error { return c.err }

// unitError is a unit that could not be restarted.
type unitError struct{ err error }

func (u *unitError) Error() string { return u.err.Error() }
func (u *unitError) Unwrap() error { return u.err }

// exitCode maps an error of any room to the table of exit codes.
func exitCode(err error) int {
	switch {
	case errors.As(err, new(*usageError)), errors.As(err, new(*configError)):
		return deployment.ExitUsage
	case errors.Is(err, release.ErrVerify):
		return deployment.ExitRefused
	case errors.Is(err, ErrTaken), errors.Is(err, appdir.ErrLocked), errors.Is(err, deploy.ErrHeld), errors.Is(err, deploy.ErrLocked):
		return deployment.ExitHeld
	case errors.Is(err, bucket.ErrNoBucket), errors.Is(err, bucket.ErrNoCredentials), errors.Is(err, fs.ErrPermission):
		return deployment.ExitUsage
	case errors.As(err, new(*unitError)) && errors.Is(err, fs.ErrNotExist), errors.As(err, new(*os.PathError)):
		return deployment.ExitUsage
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, deploy.ErrAmbiguous):
		return deployment.ExitUnknown
	}
	return deployment.ExitError
}

// hint is what usually helps, empty where the error says it itself.
func hint(err error) string {
	var path *os.PathError
	var port *net.OpError
	switch {
	case errors.As(err, &port) && port.Op == "listen" && errors.Is(err, fs.ErrPermission):
		return "use a port above 1023, or have systemd open it: towline-agent.socket"
	case errors.As(err, new(*configError)) && errors.Is(err, fs.ErrNotExist):
		return "name the file with --config FILE"
	case errors.As(err, new(*usageError)):
		return "towline-agent --help lists the flags"
	case errors.Is(err, ErrTaken), errors.Is(err, appdir.ErrLocked):
		return "is towline-agent.service running? stop it first, or ask it with towline status"
	case errors.Is(err, deploy.ErrHeld):
		return "towline resume ends the hold"
	case errors.Is(err, deploy.ErrLocked):
		return "look at what is live, then run towline recover"
	case errors.Is(err, release.ErrTooOld):
		return "install a newer towline-agent"
	case errors.Is(err, bucket.ErrNoBucket):
		return "check the bucket's name and region"
	case errors.Is(err, bucket.ErrNoCredentials):
		return "write credentials: into the configuration, or give the service AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case errors.Is(err, bucket.ErrUnreachable):
		return "check the endpoint's address and that this server reaches it"
	case errors.Is(err, bucket.ErrClock):
		return "set the clock of this server; timedatectl shows it, and whether something keeps it"
	case errors.As(err, &path) && errors.Is(err, fs.ErrPermission):
		return "give it to the user that towline-agent runs as"
	case errors.Is(err, fs.ErrPermission):
		return "check that the key may read in this bucket"
	}
	return ""
}
