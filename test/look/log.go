package look

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Line is one line of a step's log as the page shows it.
type Line struct {
	Kind   string // "" for text, "group", "error", "warning", "notice", "debug" or "command"
	Text   string // with colours still in it
	Inside bool   // of a group
}

// commands are those that a runner knows; names are compared without regard to case.
var commands = []string{"add-mask", "add-path", "add-matcher", "remove-matcher", "set-env", "set-output", "save-state", "debug", "warning",
	"error", "notice", "group", "endgroup", "echo", "stop-commands", "internal-set-repo-path"}

// Lines plays the runner and then the page on a step's output. The runner obeys commands, and writes a mark such as
// ##[error] for those that show something; it shows a line that stops commands, and the one that starts them again, as it
// is; masked text becomes ***. The page then obeys the marks at the beginnings of lines, whoever wrote them: it does not
// know that commands were stopped. Obeyed are the commands that show nothing and do something, "name data".
func Lines(output string, debug bool) (lines []Line, obeyed []string) {
	stopped := ""
	var masks []string
	inside := false
	show := func(text string) {
		for _, mask := range masks {
			text = strings.ReplaceAll(text, mask, "***")
		}
		for i, part := range strings.Split(text, "\n") {
			kind, rest := mark(part)
			switch {
			case i > 0 || kind == "":
				lines = append(lines, Line{"", part, inside})
			case kind == "endgroup":
				inside = false
			case kind == "group":
				inside = false
				lines = append(lines, Line{kind, rest, false})
				inside = true
			case kind == "debug" && !debug:
			default:
				lines = append(lines, Line{kind, rest, inside})
			}
		}
	}
	output = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(output)
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		name, data, ok := command(line, stopped)
		switch {
		case !ok || stopped != "" && !strings.EqualFold(name, stopped):
			show(line)
		case stopped != "":
			stopped = ""
			show(line)
		case name == "stop-commands":
			stopped = data
			show(line)
		case name == "add-mask":
			masks = append(masks, data)
			obeyed = append(obeyed, name+" "+data)
		case slices.Contains([]string{"group", "endgroup", "error", "warning", "notice", "debug"}, name):
			show("##[" + name + "]" + data)
		default:
			obeyed = append(obeyed, name+" "+data)
		}
	}
	return lines, obeyed
}

// command reads a line as the runner does: ::name properties::data at the beginning, white space aside, or
// ##[name properties]data anywhere.
func command(line, token string) (name, data string, ok bool) {
	known := func(info string) bool {
		name, _, _ = strings.Cut(info, " ")
		is := func(s string) bool { return strings.EqualFold(s, name) }
		ok := slices.ContainsFunc(commands, is) || token != "" && is(token)
		name = strings.ToLower(name)
		return ok
	}
	if rest, found := strings.CutPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::"); found {
		if info, data, found := strings.Cut(rest, "::"); found && known(info) {
			return name, strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(data), true
		}
	}
	if _, rest, found := strings.Cut(line, "##["); found {
		if info, data, found := strings.Cut(rest, "]"); found && known(info) {
			return name, strings.NewReplacer("%3B", ";", "%0D", "\r", "%0A", "\n", "%5D", "]", "%25", "%").Replace(data), true
		}
	}
	return "", "", false
}

var marks = regexp.MustCompile(`^##\[(group|endgroup|error|warning|notice|debug|command)\](.*)$`)

func mark(line string) (kind, rest string) {
	if m := marks.FindStringSubmatch(line); m != nil {
		return m[1], m[2]
	}
	return "", line
}

// LogPage is the page of a job with one step and its log, groups open, as GitHub draws it in either theme: dark.
func LogPage(step, took string, failed bool, lines []Line) string {
	var b strings.Builder
	sign := `<span class="good">✓</span>`
	if failed {
		sign = `<span class="bad">✗</span>`
	}
	fmt.Fprintf(&b, `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Log</title><style>%s</style>
<main><header><span>▾</span>%s<b>%s</b><time>%s</time></header><ol>
`, logStyle, sign, html.EscapeString(step), html.EscapeString(took))
	for i, line := range lines {
		class, before := line.Kind, ""
		switch line.Kind {
		case "group":
			before = "▾ "
		case "error", "warning", "notice":
			before = strings.ToUpper(line.Kind[:1]) + line.Kind[1:] + ": "
		case "debug":
			before = "##[debug]"
		}
		if line.Inside {
			class += " inside"
		}
		if before != "" {
			before = "<b>" + before + "</b>"
		}
		fmt.Fprintf(&b, "<li class=%q><i>%d</i><span>%s%s</span></li>\n", strings.TrimSpace(class), i+1, before, coloured(line.Text))
	}
	b.WriteString("</ol></main></html>\n")
	return b.String()
}

var escapes = regexp.MustCompile("\x1b(?:\\[([0-9;?]*)([@-~])|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|.?)")

// coloured is a line with its colours, weights and slants; other sequences are dropped.
func coloured(text string) string {
	var b strings.Builder
	var s style
	write := func(part string) {
		if css := s.css(); css != "" && part != "" {
			fmt.Fprintf(&b, "<span style=%q>%s</span>", css, html.EscapeString(part))
			return
		}
		b.WriteString(html.EscapeString(part))
	}
	at := 0
	for _, m := range escapes.FindAllStringSubmatchIndex(text, -1) {
		write(text[at:m[0]])
		at = m[1]
		if m[4] >= 0 && text[m[4]:m[5]] == "m" {
			s.apply(text[m[2]:m[3]])
		}
	}
	write(text[at:])
	return b.String()
}

// palette is the page's sixteen colours.
var palette = [16]string{"#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
	"#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff"}

type style struct {
	colour, ground                  string
	bold, faint, slanted, underline bool
}

func (s style) css() string {
	var out []string
	add := func(on bool, text string) {
		if on {
			out = append(out, text)
		}
	}
	add(s.colour != "", "color:"+s.colour)
	add(s.ground != "", "background:"+s.ground)
	add(s.bold, "font-weight:600")
	add(s.faint, "opacity:.7")
	add(s.slanted, "font-style:italic")
	add(s.underline, "text-decoration:underline")
	return strings.Join(out, ";")
}

func (s *style) apply(parameters string) {
	var n []int
	for part := range strings.SplitSeq(parameters, ";") {
		v, _ := strconv.Atoi(part)
		n = append(n, v)
	}
	for i := 0; i < len(n); i++ {
		switch v := n[i]; {
		case v == 0:
			*s = style{}
		case v == 1:
			s.bold = true
		case v == 2:
			s.faint = true
		case v == 3:
			s.slanted = true
		case v == 4:
			s.underline = true
		case v == 22:
			s.bold, s.faint = false, false
		case v == 23:
			s.slanted = false
		case v == 24:
			s.underline = false
		case v >= 30 && v <= 37:
			s.colour = palette[v-30]
		case v >= 90 && v <= 97:
			s.colour = palette[v-90+8]
		case v == 39:
			s.colour = ""
		case v >= 40 && v <= 47:
			s.ground = palette[v-40]
		case v >= 100 && v <= 107:
			s.ground = palette[v-100+8]
		case v == 49:
			s.ground = ""
		case v == 38 || v == 48:
			colour, used := extended(n[i+1:])
			if i += used; v == 38 {
				s.colour = colour
			} else {
				s.ground = colour
			}
		}
	}
}

// extended reads 5;N and 2;R;G;B.
func extended(n []int) (colour string, used int) {
	switch {
	case len(n) >= 2 && n[0] == 5:
		v := n[1] & 255
		level := func(x int) int { return []int{0, 95, 135, 175, 215, 255}[x] }
		switch {
		case v < 16:
			return palette[v], 2
		case v < 232:
			v -= 16
			return fmt.Sprintf("#%02x%02x%02x", level(v/36), level(v/6%6), level(v%6)), 2
		}
		grey := 8 + 10*(v-232)
		return fmt.Sprintf("#%02x%02x%02x", grey, grey, grey), 2
	case len(n) >= 4 && n[0] == 2:
		return fmt.Sprintf("#%02x%02x%02x", n[1]&255, n[2]&255, n[3]&255), 4
	}
	return "", len(n)
}

const logStyle = `
:root { color-scheme: dark; }
body { margin: 0; background: #0d1117; color: #e6edf3; font: 12px/20px "DejaVu Sans Mono", "Noto Color Emoji", monospace; }
main { padding: 8px 0 16px; }
header { display: flex; gap: 8px; padding: 8px 16px; font: 14px/20px "Liberation Sans", "Noto Color Emoji", sans-serif; background: #161b22; margin: 0 8px 8px; border-radius: 6px; }
header time { margin-left: auto; color: #9198a1; }
.good { color: #3fb950; } .bad { color: #f85149; }
ol { list-style: none; margin: 0; padding: 0; }
li { display: flex; padding: 0 16px 0 0; }
li i { flex: 0 0 48px; padding-right: 12px; box-sizing: border-box; text-align: right; color: #6e7681; font-style: normal; user-select: none; }
li > span { flex: 1; min-width: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
li.inside > span { padding-left: 16px; }
li b { font-weight: 600; }
li.error { background: #f851491a; } li.error b { color: #f85149; }
li.warning { background: #bb800926; } li.warning b { color: #d29922; }
li.notice b { color: #58a6ff; }
li.debug > span { color: #bc8cff; } li.command > span { color: #58a6ff; }
`
