package grant

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func (a App) dropInPath() string   { return dropInDir + "/" + a.Key + ".conf" }
func (a App) rulePath() string     { return ruleDir + "/50-towline-" + a.Key + ".rules" }
func (a App) programsUnit() string { return "towline-app-" + a.Key + "@.service" }
func (a App) programsPath() string { return unitDir + "/" + a.programsUnit() }

// program is one of the app's own, under the name of its instance.
type program struct {
	name string
	argv []string
}

func (a App) programs() []program {
	var out []program
	for _, p := range []program{{"before-activate", a.BeforeActivate}, {"after-healthy", a.AfterHealthy}, {"probe", a.Probe}} {
		if len(p.argv) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// DropIn is the text of the agent's drop-in for the app.
func DropIn(a App) string {
	// With the dash, one app's missing directory does not keep the agent, and with it all other apps, from starting.
	return fmt.Sprintf(`# %s %s; what is changed here is lost when it runs again.
# The agent may write in the app's directory.
[Service]
ReadWritePaths=%s
`, mark, a.Key, unitWord("-"+a.Dir))
}

// RootDropIn is the text of the drop-in that makes the agent root.
func RootDropIn() string {
	return "# " + mark + `; what is changed here is lost when it runs again.
# polkit is not there, or older than 0.106, and cannot let a user restart one unit and no other. So the agent runs as root:
# whoever takes it over has taken the server. The app's hooks and probes, which it runs itself then, as the app's user, live
# in its sandbox: what they write outside of the app's directory needs ReadWritePaths= in another drop-in.
[Service]
User=root
# To reach what belongs to other users, to give files to the app's user, and to run and end programs as that user.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
SystemCallFilter=@chown @setuid @resources
# Programs with a compiler of their own, such as node, make pages that they write and then execute.
MemoryDenyWriteExecute=no
`
}

// Rule is the text of the polkit rule for the app's unit and its programs.
func Rule(a App) string {
	units := []string{strconv.Quote(a.Unit)}
	for _, p := range a.programs() {
		units = append(units, strconv.Quote("towline-app-"+a.Key+"@"+p.name+".service"))
	}
	return fmt.Sprintf(`// %s %s; what is changed here is lost when it runs again.
// What the agent may do with the unit of app %s and with the app's own programs, and with nothing else.
polkit.addRule(function (action, subject) {
    if (action.id != "org.freedesktop.systemd1.manage-units" || subject.user != %s) {
        return polkit.Result.NOT_HANDLED;
    }
    var units = [
        %s,
    ];
    var verbs = ["start", "stop", "restart", "reload", "reset-failed"];
    if (units.indexOf(action.lookup("unit")) >= 0 && verbs.indexOf(action.lookup("verb")) >= 0) {
        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
`, mark, a.Key, a.Key, strconv.Quote(a.Agent.User), strings.Join(units, ",\n        "))
}

// Programs is the text of the unit whose instances run the app's own programs.
func Programs(a App) string {
	script := []string{"case $0 in"}
	for _, p := range a.programs() {
		words := make([]string, len(p.argv))
		for i, word := range p.argv {
			words[i] = shellWord(word)
		}
		script = append(script, fmt.Sprintf("%s) exec %s ;;", p.name, strings.Join(words, " ")))
	}
	script = append(script, fmt.Sprintf("*) echo no program for $0 in %s; exit 64 ;;", a.programsUnit()), "esac")
	for i, line := range script {
		script[i] = unitEscape(line)
	}
	return fmt.Sprintf(`# %s %s; what is changed here is lost when it runs again.
# The programs that belong to the app (hooks:, health: exec:), run as the app's own user: the agent, which is another one,
# starts the instance that has the program's name. It leads the link next to the release that the program is for, which for
# before-activate is not the live one, and removes it afterwards: started by hand, an instance finds no working directory.

[Unit]
Description=Program %%i of app %s

[Service]
Type=oneshot
User=%s
Group=%s
WorkingDirectory=%s/next
ExecStart=/bin/sh -c "%s" %%i

# Nothing that a migration needs: it may write wherever its user may, but in the system's own directories.
NoNewPrivileges=yes
ProtectSystem=full
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
`, mark, a.Key, a.Key, a.User.User, a.User.Group, strings.ReplaceAll(a.Dir, "%", "%%"), strings.Join(script, " \\\n    "))
}

// shellWord is a word as the shell reads it back.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) && r != '%' }) && !strings.Contains(s, "=") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// unitEscape is text inside the double quotes of an Exec line: systemd expands % and $, and reads C's escapes.
func unitEscape(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '%' || r == '$':
			out.WriteString(string(r) + string(r))
		case r == '\\' || r == '"':
			out.WriteString(`\` + string(r))
		case unicode.IsControl(r) && r < utf8.RuneSelf:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// unitWord is one word of a setting that takes several, and that expands no $.
func unitWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return `"` + strings.NewReplacer("%", "%%", `\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// plain reports whether a character means nothing to the shell or to systemd.
func plain(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-./:@+,=", r))
}

// text reports whether s is valid UTF-8 without control characters.
func text(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
