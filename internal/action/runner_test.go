package action

import (
	"slices"
	"strings"
	"unicode"
)

// workflowCommand is one that the runner obeyed.
type workflowCommand struct{ name, properties, data string }

// extensions are the commands that a runner knows; names are compared without regard to case.
var extensions = []string{"add-mask", "add-path", "add-matcher", "remove-matcher", "set-env", "set-output", "save-state", "debug", "warning",
	"error", "notice", "group", "endgroup", "echo", "stop-commands", "internal-set-repo-path"}

// obeyed plays the runner on a step's output, by the rules of its source: lines end at CR, LF or both; leading white
// space, of any script, is taken off; ::name properties::data at the beginning is a command, and so is ##[name
// properties]data anywhere in the line; unknown names are text; after stop-commands only its token is known.
func obeyed(log string) []workflowCommand {
	var out []workflowCommand
	stopped := ""
	for _, line := range strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(log), "\n") {
		c, ok := parseCommand(line, stopped)
		switch {
		case !ok:
		case stopped != "":
			if strings.EqualFold(c.name, stopped) {
				stopped = ""
			}
		case strings.EqualFold(c.name, "stop-commands"):
			stopped = c.data
		default:
			out = append(out, c)
		}
	}
	return out
}

func parseCommand(line, token string) (workflowCommand, bool) {
	known := func(info, data string) (workflowCommand, bool) {
		name, properties, _ := strings.Cut(info, " ")
		is := func(s string) bool { return strings.EqualFold(s, name) }
		return workflowCommand{strings.ToLower(name), properties, data}, slices.ContainsFunc(extensions, is) || token != "" && is(token)
	}
	if rest, ok := strings.CutPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::"); ok {
		if info, data, ok := strings.Cut(rest, "::"); ok {
			if c, ok := known(info, data); ok {
				return c, true
			}
		}
	}
	if _, rest, ok := strings.Cut(line, "##["); ok {
		if info, data, ok := strings.Cut(rest, "]"); ok {
			return known(info, data)
		}
	}
	return workflowCommand{}, false
}
