package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/config/schema"
	"github.com/towline/towline/internal/deployment"
)

const (
	defaultConfig = "/etc/towline/agent.yaml"
	askTime       = 2 * time.Second // for asking an agent that may not be there
)

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check, show or describe the agent's configuration", Args: cobra.ArbitraryArgs}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.PersistentFlags().StringVar(&p.config, "config", defaultConfig, "the configuration `file`")
	cmd.AddCommand(p.configCheckCommand(), p.configShowCommand(), p.configSchemaCommand())
	return cmd
}

func (p *program) configCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Say whether the configuration is right, and where it is not", Args: atMost("FILE"),
		Long: "Say whether the configuration is right, and where it is not. What works and may yet not be meant is a warning, which\n" +
			"changes no exit code. Where the agent runs by this file, it is said whether it has taken up what stands there now.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := p.explained(args)
		var wrong *config.Error
		switch {
		case err != nil && !errors.As(err, &wrong):
			return err
		case *asJSON:
			err := p.printJSON(map[string]any{"config": p.config, "problems": problems(wrong), "warnings": problems(&config.Error{Problems: found.Advice})})
			if err == nil && wrong != nil {
				err = exit(deployment.ExitUsage)
			}
			return err
		case wrong != nil:
			return p.misconfigured(wrong)
		}
		p.printf("%s is right: server %s, %s\n", p.config, found.Server, count(len(found.Apps), "app"))
		rows := tabwriter.NewWriter(p.env.Stdout, 0, 0, 2, ' ', 0)
		for _, a := range found.Apps {
			fmt.Fprintf(rows, "  %s\t%s\t%s\t%s\t%s\n", a.Key, a.Environment, a.Dir, restarts(a), probe(a.Health))
		}
		if err := rows.Flush(); err != nil {
			return err
		}
		for _, line := range p.taken(cmd.Context(), found.Settings) {
			p.printf("%s\n", line)
		}
		on, err := p.painter()
		if err != nil {
			return err
		}
		for _, w := range found.Advice {
			at := p.config
			if w.Line > 0 {
				at += ":" + strconv.Itoa(w.Line)
			}
			p.printf("%s %s: %s\n", on.paint(yellow, "warning:"), at, w.Message)
		}
		return nil
	}
	return cmd
}

// problems are those of a file, for programs; nil has none.
func problems(wrong *config.Error) []map[string]any {
	list := []map[string]any{}
	if wrong != nil {
		for _, w := range wrong.Problems {
			list = append(list, map[string]any{"line": w.Line, "column": w.Column, "message": w.Message})
		}
	}
	return list
}

// restarts says what restarts an app.
func restarts(a config.App) string {
	switch {
	case a.Unit != "":
		return a.Unit
	case a.Restart != nil:
		return strings.Join(a.Restart, " ")
	}
	return "no restart"
}

// probe says what proves an app.
func probe(h config.Health) string {
	switch {
	case h.HTTP != "":
		if u, err := url.Parse(h.HTTP); err == nil {
			return u.Redacted()
		}
	case h.TCP != "":
		return "tcp " + h.TCP
	case h.Exec != nil:
		return strings.Join(h.Exec, " ")
	}
	return "no probe"
}

// taken says whether the agent of this server runs by the file as it is now; nothing where no agent runs by it.
func (p *program) taken(ctx context.Context, s config.Settings) []string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	p.socket = cmp.Or(p.socket, p.env.Getenv("TOWLINE_SOCKET"), s.Socket)
	var running deployment.Agent
	if err := p.agent().get(ctx, "/v1/agent", &running); err != nil || !sameFile(running.Config.Path, p.config) {
		return nil
	}
	if running.Config.SHA256 != s.Digest {
		return []string{"the agent does not run by it yet; run systemctl reload towline-agent"}
	}
	return append([]string{"the agent runs by it since " + running.Config.Loaded}, running.Config.Pending...)
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func (p *program) configShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show [FILE]", Short: "Print the configuration with all defaults and where each value comes from, secrets hidden", Args: atMost("FILE"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		found, err := p.explained(args)
		if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
			return p.misconfigured(wrong)
		}
		if err != nil {
			return err
		}
		if !*asJSON {
			p.printf("%s", found.Annotated())
			return nil
		}
		list := []map[string]any{}
		for _, v := range found.Values {
			one := map[string]any{"path": v.Path, "value": v.Value, "origin": "default"}
			if v.Line > 0 {
				one["origin"], one["line"] = "file", v.Line
			}
			list = append(list, one)
		}
		return p.printJSON(list)
	}
	return cmd
}

func (p *program) configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration, for editors", Args: noArgs,
		RunE: func(*cobra.Command, []string) error { p.printf("%s", schema.Agent()); return nil },
	}
}

// settings reads the file that --config or the positional argument names.
func (p *program) settings(args []string) (config.Settings, error) {
	found, err := p.explained(args)
	return found.Settings, err
}

// explained is settings with all that can be said of them.
func (p *program) explained(args []string) (config.Explained, error) {
	if len(args) == 1 {
		p.config = args[0]
	}
	found, err := config.Explain(p.config)
	if wrong := (*config.Error)(nil); err != nil && !errors.As(err, &wrong) {
		f := &fault{err: err, code: deployment.ExitUsage}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.hint = "name the file with --config"
		case errors.Is(err, fs.ErrPermission):
			f.hint = "use sudo; the file may hold secrets"
		}
		return found, f
	}
	return found, err
}

// misconfigured prints every problem with its line: more than fits one line of an error.
func (p *program) misconfigured(wrong *config.Error) error {
	fmt.Fprintf(p.env.Stderr, "towline: cannot use %s: %s\n\n%s\n", p.config, count(len(wrong.Problems), "problem"), wrong)
	return exit(deployment.ExitUsage)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
