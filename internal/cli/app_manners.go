package cli

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/service"
)

// restartTime is how long the agent waits for one restart of a unit, its old process's end included.
const restartTime = 2 * time.Minute

// unitPath is a setting of a unit that names a path.
type unitPath struct{ setting, path string }

func (p unitPath) String() string { return p.setting + "=" + p.path }

// places are where a unit runs and what it runs there.
func places(d service.Description) (out []unitPath) {
	if d.WorkingDirectory != "" {
		out = append(out, unitPath{"WorkingDirectory", d.WorkingDirectory})
	}
	for _, p := range d.Programs {
		for i, word := range p.Argv {
			if i == 0 {
				word = p.Path
			}
			if at := strings.Index(word, "/"); at >= 0 {
				out = append(out, unitPath{p.Setting, word[at:]}) // --file=/srv/… too
			}
		}
	}
	return out
}

// judgePlace tells whether the unit follows what is live.
func judgePlace(d service.Description, dir string, adopted []string, say sayer) {
	current, releases := path.Join(dir, "current"), path.Join(dir, "releases")
	follows := false
	var fixed, start []unitPath
	for _, p := range places(d) {
		switch {
		case strings.Contains(p.path, releases+"/"):
			fixed = append(fixed, p)
		case leadsThrough(p.path, current), mentions(p.path, current),
			slices.ContainsFunc(adopted, func(from string) bool { return inside(p.path, from) }):
			follows = true
		}
	}
	for _, p := range d.Programs {
		if p.Setting == "ExecStart" {
			start = append(start, unitPath{p.Setting, p.Path})
		}
	}
	switch {
	case len(fixed) > 0:
		say(warning, "%s of %s names one release: it will start that one for ever; write %s=%s", fixed[0], d.Unit, fixed[0].setting,
			replaced(fixed[0].path, releases, current))
	case !follows && inside(d.WorkingDirectory, dir):
		say(warning, "WorkingDirectory=%s of %s does not mention %s, and nothing else does: what is live is not what it runs; write WorkingDirectory=%s",
			d.WorkingDirectory, d.Unit, current, current)
	case !follows:
		text := make([]string, len(start))
		for i, p := range start {
			text[i] = p.String()
		}
		say(warning, "%s of %s does not mention %s: nothing says that what is live is what it runs; write WorkingDirectory=%s",
			strings.Join(text, ", "), d.Unit, current, current)
	}
}

// mentions reports whether a text has the path in it, as a whole name.
func mentions(text, file string) bool {
	for {
		_, after, found := strings.Cut(text, file)
		if !found {
			return false
		}
		if after == "" || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", rune(after[0])) {
			return true
		}
		text = after
	}
}

// released reports whether a program reaches into releases by another path than that of the app's directory.
func released(d service.Description, p service.Program, dir string, adopted []string) bool {
	return slices.ContainsFunc(append([]string{d.WorkingDirectory, p.Path}, p.Argv...), func(word string) bool {
		return path.IsAbs(word) && (leadsThrough(word, path.Join(dir, "current")) ||
			slices.ContainsFunc(adopted, func(from string) bool { return inside(word, from) }))
	})
}

// replaced is a path of one release as one of the live release.
func replaced(file, releases, current string) string {
	_, rest, _ := strings.Cut(file, releases+"/")
	_, below, deeper := strings.Cut(rest, "/")
	if !deeper || strings.ContainsAny(below, " '\";") {
		return current
	}
	return path.Join(current, below)
}

// inside reports whether a path is dir or lies in it.
func inside(file, dir string) bool { return file == dir || strings.HasPrefix(file, dir+"/") }

// leadsThrough reports whether a path comes by current once its links are followed, as far as there is anything yet.
func leadsThrough(file, current string) bool {
	file = path.Clean(file)
links:
	for range 40 {
		if inside(file, current) {
			return true
		}
		for at := 1; at < len(file); {
			end := at + strings.IndexByte(file[at:]+"/", '/')
			to, err := os.Readlink(file[:end])
			if err == nil {
				if !path.IsAbs(to) {
					to = path.Join(path.Dir(file[:end]), to)
				}
				file = path.Join(to, file[min(end, len(file)):])
				continue links
			}
			at = end + 1
		}
		return false
	}
	return false
}

// judgeManners tells what is known to make deployments worse.
func judgeManners(d service.Description, say sayer) {
	switch d.Type {
	case "simple":
		say(advice, "Type=simple of %s has started before its program is known to exist, so that the health check alone decides; "+
			"Type=exec tells at once, Type=notify when it is ready", d.Unit)
	case "forking":
		say(advice, "Type=forking of %s: systemd has to find out which process is the app; let it stay in the foreground, with Type=exec", d.Unit)
	case "oneshot":
		say(warning, "Type=oneshot of %s: an app that ends is not found healthy; a unit that stays up has Type=exec", d.Unit)
	}
	limited := d.StartLimit > 0 && d.StartBurst > 0
	switch {
	case d.Restart == "no" || d.Restart == "":
		say(advice, "%s has no Restart=: it stays down when it crashes; Restart=always with RestartSec=1 brings it back", d.Unit)
	case limited && d.RestartDelay*time.Duration(d.StartBurst) < d.StartLimit:
		say(advice, "%s restarts after %v and gives up for good after %d times within %v: a database that is away for a moment "+
			"takes it down, until the next deployment or you start it again; use RestartSec=3, or StartLimitIntervalSec=0",
			d.Unit, d.RestartDelay, d.StartBurst, d.StartLimit)
	}
	for _, a := range []struct{ setting, value string }{{"StartLimitAction", d.OnLimit}, {"FailureAction", d.OnFailure}} {
		if a.value != "" && a.value != "none" {
			say(warning, "%s=%s of %s: a release that crashes does that to the whole server, before it can be taken back",
				a.setting, a.value, d.Unit)
		}
	}
	if d.FileState == "disabled" {
		say(advice, "%s is disabled and will not start with the server: systemctl enable %s", d.Unit, d.Unit)
	}
}

// judgeEnd tells what of an old release may stay, and what a new one may bring along.
func judgeEnd(d service.Description, dir string, say sayer) {
	switch d.KillMode {
	case "process", "none":
		say(warning, "KillMode=%s of %s: processes of the old release go on beside the new one; leave it out, or write KillMode=mixed", d.KillMode, d.Unit)
	}
	if d.StopTime > restartTime {
		say(advice, "TimeoutStopSec= of %s lets an old release take %s to end, and the agent waits %v for a restart; write TimeoutStopSec=15",
			d.Unit, long(d.StopTime), restartTime)
	}
	for _, file := range d.EnvironmentFiles {
		switch {
		case inside(file, path.Join(dir, "releases")):
			say(warning, "EnvironmentFile=%s of %s is of one release: it goes with that one; keep it in /etc, or in %s/shared", file, d.Unit, dir)
		case leadsThrough(file, path.Join(dir, "current")):
			say(warning, "EnvironmentFile=%s of %s comes with the release, and root reads it: a link there could show the app what only root may read; "+
				"keep it in /etc", file, d.Unit)
		}
	}
}

func long(d time.Duration) string {
	if d > 365*24*time.Hour {
		return "for ever"
	}
	return d.String()
}

// judgeGate tells what the health check will not see.
func judgeGate(c config.App, socket bool, say sayer) {
	h := c.Health
	switch {
	case socket && h.TCP != "":
		say(warning, "health: tcp: of app %s proves nothing with a socket unit: systemd takes the connection whatever the release does; use http:", c.Key)
	case h.HTTP == "" && h.TCP == "" && h.Exec == nil:
		say(advice, "app %s has no health check: a release that stays up for %v counts as healthy, whatever it answers; "+
			"write health: {http: URL} for it in the configuration", c.Key, h.Stable)
	}
}

// sound is what was looked at in a unit and found to be as it should.
func sound(d service.Description, who account, c config.App, found []finding) (out []string) {
	quiet := func(words ...string) bool {
		return !slices.ContainsFunc(found, func(f finding) bool {
			return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(f.Text, w) })
		})
	}
	if who.UID != 0 && quiet("User=", "user ", "group ") {
		out = append(out, fmt.Sprintf("%s runs as %s, who is neither root nor the agent", d.Unit, who.User))
	}
	if quiet("names one release", "does not mention") {
		out = append(out, fmt.Sprintf("it runs what %s/current leads to", c.Dir))
	}
	if quiet("Type=") {
		out = append(out, "Type="+d.Type)
	}
	if quiet("Restart=", "gives up") {
		out = append(out, fmt.Sprintf("Restart=%s after %v", d.Restart, d.RestartDelay))
	}
	if quiet("KillMode=", "TimeoutStopSec=") && d.StopTime > 0 {
		out = append(out, fmt.Sprintf("the old release has %v to end, with all its processes (KillMode=%s)", d.StopTime, cmp.Or(d.KillMode, "control-group")))
	}
	return out
}
