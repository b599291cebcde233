// Package demo is the whole story in one process: a bucket in a directory, a fresh key, a sample app, the real publisher
// and the real agent.
//
// The story runs the verbs of package cli as a person would type them, against an agent that runs in this process; what it
// prints is what they print. The sample app is this program again (see App). All of it lies in one temporary
// directory, listens on the loopback only, and is gone when Run returns.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/towline/towline/internal/cli"
	"github.com/towline/towline/internal/deployment"
)

// act is one part of the story.
type act struct {
	title    string
	version  string // what is published; empty: a rollback on the server
	message  string
	settings string
	code     int    // the exit code that the command must end with
	live     string // the version that must answer afterwards
}

var acts = []act{
	{
		title: "The first release", version: "v1", message: "Say hello",
		settings: `{"greeting": "Hello"}`, live: "v1",
	},
	{
		title: "A change", version: "v2", message: "Say hello more warmly",
		settings: `{"greeting": "Hello, and welcome"}`, live: "v2",
	},
	{
		title: "A release that does not work: the server takes it back by itself", version: "v3", message: "Say hello in French",
		settings: `{"greeting": "Bonjour"`, code: deployment.ExitUnwell, live: "v2",
	},
	{
		title: "Back to v1 by hand, on the server", code: deployment.ExitOK, live: "v1",
	},
}

// Run plays the story. The error says where it went another way than it should.
func Run(ctx context.Context, o cli.DemoOptions) (err error) {
	started := time.Now()
	s, err := newStage(ctx, o.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	fmt.Fprintf(o.Stdout, `All of this is real, and on this machine only: a bucket in a directory, a key made just now, an agent, and a small
web app that it restarts. Everything lies in %s
`, s.dir)
	for i, a := range acts {
		fmt.Fprintf(o.Stdout, "\n%d. %s\n\n", i+1, a.title)
		if err := s.play(ctx, o, a); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.Stdout, "\nThat was a deployment, a second one, one taken back, and one rolled back, in %.1f s.\n", time.Since(started).Seconds())
	if !o.Keep {
		fmt.Fprintln(o.Stdout, "Everything is removed again; with --keep it stays up to look around.")
		return nil
	}
	return s.keep(ctx, o.Stdout)
}

// play runs the command of one act and looks at what came of it.
func (s *stage) play(ctx context.Context, o cli.DemoOptions, a act) error {
	args := []string{"rollback", "--reason", "v1 was shorter"}
	if a.version != "" {
		dir, err := s.write(a.version, a.settings)
		if err != nil {
			return err
		}
		args = []string{"publish", "--promote", "--app", "hello", "--version", a.version, "--message", a.message,
			"--date", time.Now().UTC().Format(time.RFC3339), "--path", dir, "--version-file", "version.json"}
	}
	show(o.Stdout, args)
	code := s.towline(ctx, o, args...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code != a.code {
		return fmt.Errorf("%s: it ended with exit code %d, not %d", a.title, code, a.code)
	}
	version, err := s.ask(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Stdout, "\n$ curl http://%s/version\n%s\n", s.app, strings.TrimSpace(version))
	if !strings.Contains(version, `"`+a.live+`"`) {
		return fmt.Errorf("%s: %s should be live", a.title, a.live)
	}
	return nil
}

// towline runs a verb in this process, with the environment that a person would have set.
func (s *stage) towline(ctx context.Context, o cli.DemoOptions, args ...string) int {
	color := "never"
	if o.Color {
		color = "always"
	}
	environment := map[string]string{"TOWLINE_SOCKET": s.agent.SocketPath()}
	if args[0] == "publish" {
		environment["TOWLINE_BUCKET"] = "file://" + s.dir + "/bucket"
		environment["TOWLINE_SIGNING_KEY"] = s.key.Reveal()
		args = append(args, "--servers", "demo=https://"+s.agent.Addr()+"#sha256="+s.agent.Pin())
	}
	return cli.Main(ctx, cli.Env{
		Args: append([]string{"--color", color}, args...), Stdin: strings.NewReader(""),
		Stdout: o.Stdout, Stderr: o.Stdout, // one story, in its order
		Getenv: func(name string) string { return environment[name] },
	})
}

// show prints a command as a person would type it. The server's address and the variables are left out: they are this
// run's own.
func show(w io.Writer, args []string) {
	text := "$ towline"
	for _, a := range args {
		if strings.ContainsAny(a, " ") {
			a = `"` + a + `"`
		}
		if a == "--path" {
			text += " \\\n    "
		}
		text += " " + a
	}
	fmt.Fprintln(w, text)
}

// keep leaves the stage up until ctx ends.
func (s *stage) keep(ctx context.Context, w io.Writer) error {
	server, address, err := s.page()
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Fprintf(w, `
It stays up until Ctrl-C:

  status page  %s
  the app      http://%s/
  the agent    TOWLINE_SOCKET=%s towline status
  the bucket   %s/bucket
`, address, s.app, s.agent.SocketPath(), s.dir)
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.ended:
		s.ended <- err
		return errors.Join(errors.New("the agent ended"), err)
	}
}
