package service

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// Description is what systemd makes of a unit's files: who runs what, and how.
type Description struct {
	Unit        string
	LoadState   string // loaded, not-found, masked, bad-setting, error
	ActiveState string
	FileState   string // enabled, disabled, static, …; empty where there is no file
	Name        string // the unit's own; another one than Unit where that is an alias
	// Files are the unit file and its drop-ins, links followed.
	Files []string
	Stale bool // a file changed on disk since systemd has read it

	User, Group string // as written; empty where nothing is
	Groups      []string
	DynamicUser bool

	Type             string
	WorkingDirectory string
	Programs         []Program
	EnvironmentFiles []string

	KillMode string        // control-group, mixed, process, none
	StopTime time.Duration // that its processes have for ending; 0 where that is not known

	Restart      string
	RestartDelay time.Duration
	StartLimit   time.Duration // 0: the unit may fail as often as it likes
	StartBurst   int
	// OnLimit and OnFailure are what happens to the whole machine then: none, reboot, poweroff, …
	OnLimit, OnFailure string
}

// Program is one command of a unit.
type Program struct {
	Setting string // ExecStart, ExecReload, …
	Path    string
	Argv    []string
	// Prefix is + or ! or !!, with which a program keeps rights that the unit's user does not have; empty otherwise.
	Prefix string
}

// Inspect describes a unit, loading it if need be. A unit that does not exist is no error: its LoadState says so.
func Inspect(ctx context.Context, unit string) (Description, error) {
	b := bus{dial: dial}
	defer b.drop(nil)
	props, err := b.properties(ctx, unit)
	if err != nil {
		return Description{}, fmt.Errorf("inspect %s: %w", unit, err)
	}
	// It is not among all properties, since it is not to be used any more; it still works.
	err = b.call(ctx, true, func(ctx context.Context, c *systemd.Conn) error {
		old, err := c.GetServicePropertyContext(ctx, unit, "PermissionsStartOnly")
		if err == nil {
			props["PermissionsStartOnly"] = old.Value.Value()
		}
		if errorName(err) != "" {
			return nil // a systemd that has forgotten it, or no such unit
		}
		return err
	})
	if err != nil {
		return Description{}, fmt.Errorf("inspect %s: %w", unit, err)
	}
	return describeUnit(unit, props), nil
}

// settings are those of a unit that hold programs.
var settings = []string{"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}

func describeUnit(unit string, props map[string]any) Description {
	text := func(name string) string { s, _ := props[name].(string); return s }
	flag := func(name string) bool { b, _ := props[name].(bool); return b }
	span := func(name string) time.Duration {
		us, _ := props[name].(uint64)
		return time.Duration(min(us, uint64(1<<62/time.Microsecond))) * time.Microsecond
	}
	burst, _ := props["StartLimitBurst"].(uint32)
	groups, _ := props["SupplementaryGroups"].([]string)
	var files []string
	drops, _ := props["DropInPaths"].([]string)
	for _, path := range append([]string{text("FragmentPath")}, drops...) {
		if path == "" {
			continue
		}
		// A unit file may be a link to one that comes with the app.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		files = append(files, path)
	}
	d := Description{
		Unit: unit, LoadState: text("LoadState"), ActiveState: text("ActiveState"), FileState: text("UnitFileState"),
		Name: text("Id"), Files: files, Stale: flag("NeedDaemonReload"),
		User: text("User"), Group: text("Group"), Groups: groups, DynamicUser: flag("DynamicUser"),
		// An exclamation mark is systemd's sign for "may be missing".
		Type: text("Type"), WorkingDirectory: strings.TrimPrefix(text("WorkingDirectory"), "!"),
		Restart: text("Restart"), RestartDelay: span("RestartUSec"), StartLimit: span("StartLimitIntervalUSec"), StartBurst: int(burst),
		OnLimit: text("StartLimitAction"), OnFailure: text("FailureAction"),
		KillMode: text("KillMode"), StopTime: span("TimeoutStopUSec"),
	}
	environment, _ := props["EnvironmentFiles"].([][]any)
	for _, file := range environment {
		if len(file) > 0 {
			if path, ok := file[0].(string); ok {
				d.EnvironmentFiles = append(d.EnvironmentFiles, path)
			}
		}
	}
	for _, setting := range settings {
		// Without Ex there are no prefixes in it; systemd has both since 243.
		list, ok := props[setting+"Ex"].([][]any)
		if !ok {
			list, _ = props[setting].([][]any)
		}
		for _, one := range list {
			p := Program{Setting: setting}
			if len(one) > 2 {
				p.Path, _ = one[0].(string)
				p.Argv, _ = one[1].([]string)
				flags, _ := one[2].([]string)
				p.Prefix = prefix(flags)
			}
			// PermissionsStartOnly= is the old way to write a + before everything but ExecStart.
			if p.Prefix == "" && setting != "ExecStart" && flag("PermissionsStartOnly") {
				p.Prefix = "+"
			}
			d.Programs = append(d.Programs, p)
		}
	}
	return d
}

func prefix(flags []string) string {
	for _, f := range flags {
		switch f {
		case "privileged":
			return "+"
		case "no-setuid":
			return "!"
		case "ambient":
			return "!!"
		}
	}
	return ""
}

// Within reports whether the program, started in the unit's working directory, has to do with what lies in dir: it is named
// in a word, its path is a link to there, or the program starts there and could find its way.
func (d Description) Within(p Program, dir string) bool {
	if wd := d.WorkingDirectory; wd == dir || strings.HasPrefix(wd, dir+"/") {
		return true
	}
	words := append([]string{filepath.Clean(p.Path)}, p.Argv...)
	if real, err := filepath.EvalSymlinks(p.Path); err == nil {
		words = append(words, real)
	}
	for _, word := range words {
		for rest := word; ; {
			_, after, found := strings.Cut(rest, dir)
			if !found {
				break
			}
			// /srv/shop is not in /srv/shopping.
			if after == "" || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", rune(after[0])) {
				return true
			}
			rest = after
		}
	}
	return false
}
