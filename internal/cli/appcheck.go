package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/service"
)

// The levels of findings.
const (
	refusal = "refused"
	warning = "warning"
	advice  = "advice"
)

// finding is something about an app's unit that the administrator should know.
type finding struct {
	Level string `json:"level"`
	Text  string `json:"text"`
}

// only returns the texts of one level.
func only(findings []finding, level string) (texts []string) {
	for _, f := range findings {
		if f.Level == level {
			texts = append(texts, f.Text)
		}
	}
	return texts
}

// plan looks at the machine and says what the grant is for. With refusals among the findings the app is not whole.
func (g *granting) plan(ctx context.Context, settings config.Settings, c config.App, f *founding) (grant.App, []finding, error) {
	app := grant.App{
		Key: c.Key, Dir: c.Dir, Unit: c.Unit, Shared: c.Shared,
		BeforeActivate: c.Hooks.BeforeActivate, AfterHealthy: c.Hooks.AfterHealthy, Probe: c.Health.Exec,
	}
	findings := []finding{}
	agent, err := g.account(agentUser, "")
	if err != nil {
		return app, nil, &fault{err: err, code: deployment.ExitUsage, hint: makeUser("/var/lib/towline", agentUser)}
	}
	if slices.ContainsFunc(settings.Apps, func(a config.App) bool { return a.Unit != "" }) {
		version, able, err := g.polkit(ctx)
		if err != nil {
			return app, nil, err
		}
		if !able {
			app.AsRoot = true
			agent = account{Owner: grant.Owner{User: "root", Group: "root"}, gids: []int{0}}
			findings = append(findings, finding{warning, asRoot(version)})
		}
	}
	app.Agent, app.User = agent.Owner, agent.Owner
	if c.Unit == "" {
		return app, findings, nil
	}
	unit, err := g.inspect(ctx, c.Unit)
	if err == nil && unit.Stale && !g.dryRun {
		if err = g.systemctl(ctx, "daemon-reload"); err == nil {
			unit, err = g.inspect(ctx, c.Unit)
		}
	}
	if err != nil {
		return app, nil, err
	}
	unit = f.unit(unit)
	name := unit.User
	if name == "" {
		name = "root"
	}
	var who account
	if unit.LoadState == "loaded" && !unit.DynamicUser {
		if who, err = f.who(name, unit.Group, g.account); err != nil {
			err = fmt.Errorf("%s has User=%s: %w", c.Unit, name, err)
			return app, nil, &fault{err: err, code: deployment.ExitUsage, hint: makeUser(c.Dir, name)}
		}
	}
	app.User, app.Groups = who.Owner, who.gids
	var adopted []string
	if g.wish.adopt != "" {
		adopted = []string{g.wish.adopt}
	}
	found := judge(unit, who, c.Dir, g.allowRoot, adopted...)
	if len(only(found, refusal)) == 0 {
		judgeGate(c, f.socket != nil, func(level, format string, args ...any) {
			found = append(found, finding{level, fmt.Sprintf(format, args...)})
		})
		f.sound = sound(unit, who, c, found)
	}
	return app, append(findings, found...), nil
}

func makeUser(home, name string) string {
	return "make it: useradd --system --home-dir " + home + " --shell /usr/sbin/nologin " + name
}

func asRoot(version string) string {
	why, mend := "polkit "+version+" is older than 0.106", "Debian 12 and Ubuntu 24.04 have a newer one"
	if version == "" {
		why, mend = "polkit is not installed", "after apt-get install polkitd, run towline app add again for every app"
	}
	return "THE AGENT RUNS AS ROOT on this server: " + why + " and cannot let it restart one unit and no other. " +
		"Whoever takes the agent over has taken the server; " + mend
}

// judge finds what in an app's unit would let a release out of its place, and what would make its deployments worse. adopted
// are directories that will lead to the live release.
func judge(d service.Description, who account, dir string, allowRoot bool, adopted ...string) []finding {
	var out []finding
	say := func(level, format string, args ...any) {
		out = append(out, finding{level, fmt.Sprintf(format, args...)})
	}
	switch d.LoadState {
	case "loaded":
	case "not-found":
		say(refusal, "there is no unit %s: write /etc/systemd/system/%s first", d.Unit, d.Unit)
		return out
	case "masked":
		say(refusal, "%s is masked: systemctl unmask %s", d.Unit, d.Unit)
		return out
	default:
		say(refusal, "systemd cannot load %s (%s): systemd-analyze verify %s", d.Unit, d.LoadState, d.Unit)
		return out
	}
	if d.Name != d.Unit {
		say(refusal, "%s is only another name of %s, by which the agent's right goes: write unit: %s", d.Unit, d.Name, d.Name)
		return out
	}
	if d.DynamicUser {
		say(refusal, "%s has DynamicUser=yes: nothing can belong to a user that comes and goes; give it a user of its own with User=", d.Unit)
		return out
	}
	reach := refusal
	override := ", or take that upon you with --allow-root"
	if allowRoot {
		reach, override = warning, ""
	}
	switch {
	case d.User == "":
		say(reach, "%s has no User=, so that it runs as root: whoever signs a release is root on this server; "+
			"give it a user of its own%s", d.Unit, override)
	case who.UID == 0:
		say(reach, "%s has User=%s, which is root: whoever signs a release is root on this server; "+
			"give it a user of its own%s", d.Unit, d.User, override)
	case who.User == agentUser:
		say(refusal, "%s has User=%s, as the agent: the app could change its releases and command the agent; "+
			"give it a user of its own", d.Unit, d.User)
	default:
		judgeGroups(d, who, say)
	}
	real := resolved(dir) // by which systemd, or another unit, may name it
	for _, p := range d.Programs {
		if p.Prefix != "" && who.UID != 0 && (d.Within(p, dir) || d.Within(p, real) || released(d, p, dir, adopted)) {
			say(reach, "%s=%s%s of %s runs with more rights than its user and reaches into %s, where releases lie: "+
				"whoever signs a release gets these rights; put it into a unit of its own, away from there%s",
				p.Setting, p.Prefix, strings.Join(p.Argv, " "), d.Unit, dir, override)
		}
	}
	for _, file := range d.Files {
		if slices.ContainsFunc(append([]string{dir, real}, adopted...), func(at string) bool { return strings.HasPrefix(file, at+"/") }) {
			say(reach, "%s of %s lies in the app's directory: a release could write User=root into it; copy it to /etc/systemd/system%s",
				file, d.Unit, override)
		}
	}
	judgeOwners(d, who, reach, override, say)
	judgePlace(d, dir, adopted, say)
	judgeManners(d, say)
	judgeEnd(d, dir, say)
	return out
}

// judgeOwners looks for what systemd does as root and the app's user may change.
func judgeOwners(d service.Description, who account, reach, override string, say sayer) {
	if who.UID == 0 {
		return
	}
	for _, file := range d.Files {
		if changeable(file, who) {
			say(reach, "%s of %s may be changed by user %s: a release could write User=root into it; chown root %s and chmod go-w%s",
				file, d.Unit, who.User, file, override)
		}
	}
	for _, p := range d.Programs {
		if p.Prefix != "" && changeable(p.Path, who) {
			say(reach, "%s=%s%s of %s runs with more rights than user %s, who may change it; chown root %s and chmod go-w%s",
				p.Setting, p.Prefix, p.Path, d.Unit, who.User, p.Path, override)
		}
	}
}

// changeable reports whether the user may write the file.
func changeable(file string, who account) bool {
	info, err := os.Stat(file)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	return mode&0o002 != 0 || ok && (int(st.Uid) == who.UID || mode&0o020 != 0 && slices.Contains(who.gids, int(st.Gid)))
}

// resolved is dir with the links on the way to it followed, as far as there is anything yet.
func resolved(dir string) string {
	for at, rest := dir, ""; at != "/"; at, rest = path.Dir(at), path.Join(path.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return path.Join(real, rest)
		}
	}
	return dir
}

// groupName is the name of a group that may be written as a number.
func groupName(group string) string {
	if g, err := user.LookupGroupId(group); err == nil {
		return g.Name
	}
	return group
}

type sayer func(level, format string, args ...any)

// judgeGroups looks for groups that open a door.
func judgeGroups(d service.Description, who account, say sayer) {
	const why = "whose members may command the agent through its socket"
	var groups []string
	for _, g := range d.Groups {
		groups = append(groups, groupName(g))
	}
	switch {
	case d.Group == agentUser || slices.Contains(groups, agentUser):
		say(refusal, "%s runs in group %s, %s: remove it from Group= or SupplementaryGroups=", d.Unit, agentUser, why)
	case slices.Contains(who.groups, agentUser):
		say(refusal, "user %s is in group %s, %s: gpasswd --delete %s %s", who.User, agentUser, why, who.User, agentUser)
	}
	for _, group := range []string{"docker", "lxd", "incus", "libvirt", "disk", "shadow", "sudo", "wheel"} {
		if slices.Contains(who.groups, group) || slices.Contains(groups, group) {
			say(warning, "user %s is in group %s, which is as good as root", who.User, group)
		}
	}
}
