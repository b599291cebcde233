package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
)

// wishes are what the flags of app add say of an app.
type wishes struct {
	unit, exec, user, dir, http, tcp, environment string
	shared                                        []string
	socket                                        string
	adopt, version                                string
	given                                         []string // the flags of an entry that are there
}

// entryFlags are those that make, or must agree with, the app's entry in the configuration.
var entryFlags = []string{"unit", "exec", "dir", "http", "tcp", "environment", "shared"}

func (w *wishes) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&w.unit, "unit", "", "the app's systemd `unit`")
	f.StringVar(&w.exec, "exec", "", "there is no unit yet: write NAME.service, which runs this `command` in the live release")
	f.StringVar(&w.user, "user", "", "with --exec: whom it runs as; made if need be (default NAME)")
	f.StringVar(&w.socket, "socket", "", "have systemd listen on this `port` or host:port while releases change; the app takes descriptor 3")
	f.StringVar(&w.dir, "dir", "", "the app's directory (default /srv/NAME)")
	f.StringVar(&w.http, "http", "", "`URL` that answers 200 when the app is healthy")
	f.StringVar(&w.tcp, "tcp", "", "`host:port` that accepts connections when the app is healthy")
	f.StringArrayVar(&w.shared, "shared", nil, "`path` that outlives releases; directories end in a slash; may be repeated")
	f.StringVar(&w.adopt, "adopt", "", "make the first release out of this `directory`, from which the app runs now; it stays a path to what is live")
	f.StringVar(&w.version, "adopt-version", "", "with --adopt: what the app there calls its `version` (default what version.json, version.js, REVISION or .git say)")
	f.StringVar(&w.environment, "environment", "", "the environment that this server follows (default production)")
}

// note takes down which flags are there, and refuses those that do not go together.
func (w *wishes) note(cmd *cobra.Command) error {
	w.given = nil
	for _, name := range entryFlags {
		if cmd.Flags().Changed(name) {
			w.given = append(w.given, name)
		}
	}
	switch {
	case w.user != "" && w.exec == "":
		return usagef("--user goes with --exec; a unit that is there has its own User=")
	case w.version != "" && w.adopt == "":
		return usagef("--adopt-version goes with --adopt")
	case w.http != "" && w.tcp != "":
		return usagef("--http and --tcp: a health check is the one or the other")
	}
	return nil
}

// unitOf is the unit that the flags name, "" where they name none.
func (w *wishes) unitOf(name string) string {
	if w.unit == "" && w.exec != "" {
		return name + ".service"
	}
	return w.unit
}

// entry is what the file is to say of the app. What is the default is not written.
func (w *wishes) entry(name string) config.Entry {
	e := config.Entry{Environment: w.environment, Dir: w.dir, Unit: w.unitOf(name), HTTP: w.http, TCP: w.tcp, Shared: w.shared}
	if strings.TrimSuffix(e.Dir, "/") == "/srv/"+name {
		e.Dir = ""
	}
	if e.Environment == "production" {
		e.Environment = ""
	}
	return e
}

// against lists where the flags say something else than the file does.
func (w *wishes) against(c config.App) (out []string) {
	differ := func(flag, want, have string) {
		if have == "" {
			have = "none"
		}
		if want != have {
			out = append(out, fmt.Sprintf("--%s says %s, and the file has %s", flag, want, have))
		}
	}
	for _, name := range w.given {
		switch name {
		case "unit":
			differ(name, w.unit, c.Unit)
		case "exec":
			if w.unit == "" && c.Unit != c.Key+".service" {
				differ("exec", "unit "+w.unitOf(c.Key), strings.TrimSpace("unit "+c.Unit))
			}
		case "dir":
			differ(name, strings.TrimSuffix(w.dir, "/"), c.Dir)
		case "http":
			differ(name, w.http, c.Health.HTTP)
		case "tcp":
			differ(name, w.tcp, c.Health.TCP)
		case "environment":
			differ(name, w.environment, c.Environment)
		case "shared":
			if slices.ContainsFunc(w.shared, func(s string) bool { return !slices.Contains(c.Shared, s) }) {
				differ(name, strings.Join(w.shared, ", "), strings.Join(c.Shared, ", "))
			}
		}
	}
	return out
}

// configured is the configuration with the app in it. draft is what is to be written for that, nil where it is there.
func (g *granting) configured(name string) (settings config.Settings, c config.App, draft *config.Draft, err error) {
	draft, err = config.OpenDraft(g.p.config)
	if err != nil {
		_, err = g.p.settings(nil) // it says the same, with a hint
		if f := (*fault)(nil); errors.As(err, &f) && errors.Is(err, fs.ErrNotExist) {
			f.hint = "`towline init` writes it; or name the file with --config"
		}
		return settings, c, nil, err
	}
	switch has := draft.Has(name); {
	case has, len(g.wish.given) == 0:
		draft = nil
		settings, err = g.p.settings(nil)
	default:
		if err = draft.Add(name, g.wish.entry(name)); err == nil {
			settings, err = draft.Settings()
		}
	}
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		return settings, c, nil, g.p.misconfigured(wrong)
	}
	if errors.Is(err, config.ErrByHand) {
		return settings, c, nil, &fault{err: err, code: deployment.ExitUsage, hint: byHand(name), what: "add app " + name}
	}
	if err != nil {
		return settings, c, nil, err
	}
	i := slices.IndexFunc(settings.Apps, func(a config.App) bool { return a.Key == name })
	if i < 0 {
		return settings, c, nil, unknownApp(settings, name)
	}
	c = settings.Apps[i]
	if wrong := g.wish.against(c); draft == nil && len(wrong) > 0 {
		for i := range wrong {
			wrong[i] = fmt.Sprintf("%s for app %s in %s", wrong[i], name, settings.Path)
		}
		return settings, c, nil, &fault{
			err: errors.New(wrong[0]), all: wrong, code: deployment.ExitUsage, what: "add app " + name,
			hint: "leave the flag out, or change the file",
		}
	}
	return settings, c, draft, nil
}
