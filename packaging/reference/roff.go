package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// date is the day of a number of seconds as SOURCE_DATE_EPOCH has it; empty of nothing.
func date(epoch string) (string, error) {
	if epoch == "" {
		return "", nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return "", fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly), nil
}

// page is a manual page that is being written, in the man macros.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) head(title, section, dated, version, manual string) {
	p.line(`.TH %s %s "%s" "%s" "%s"`, strings.ToUpper(plain(title)), section, dated, version, manual)
	// Neither hyphens that are not there nor lines stretched to the margin: most of the words are names.
	p.line(".nh\n.ad l")
}

func (p *page) section(title string)    { p.line(".SH %s", title) }
func (p *page) subsection(title string) { p.line(".SS %s", plain(title)) }

// text writes paragraphs and what stays as it is.
func (p *page) text(s string) {
	for i, b := range blocks(s) {
		switch {
		case b.verbatim:
			p.line(".PP\n.RS 4\n.EX\n%s\n.EE\n.RE", guarded(plain(b.text)))
		case i == 0:
			p.line("%s", guarded(inline(b.text)))
		default:
			p.line(".PP\n%s", guarded(inline(b.text)))
		}
	}
}

// item is a term with its meaning. The term is set already, the meaning is not.
func (p *page) item(term, meaning string) {
	p.line(".TP\n%s\n%s", term, guarded(inline(meaning)))
}

func bold(s string) string   { return `\fB` + plain(s) + `\fR` }
func italic(s string) string { return `\fI` + plain(s) + `\fR` }

var roffSpecial = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`)

// plain is a text of names, commands and paths: every character is what it is.
func plain(s string) string { return roffSpecial.Replace(s) }

var (
	roffProse = strings.NewReplacer(`\`, `\e`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)
	// name is what is set in bold within prose: a flag, a variable, something in backquotes.
	name = regexp.MustCompile("`[^`]+`|(^|[\\s(/])(--?[a-z][a-z0-9-]*|[A-Z]+(?:_[A-Z]+)+)\\b")
)

// inline is a paragraph of prose.
func inline(s string) string {
	var out strings.Builder
	for {
		at := name.FindStringSubmatchIndex(s)
		if at == nil {
			out.WriteString(roffProse.Replace(s))
			return out.String()
		}
		out.WriteString(roffProse.Replace(s[:at[0]]))
		word := s[at[0]:at[1]]
		if word[0] == '`' {
			out.WriteString(bold(strings.Trim(word, "`")))
		} else {
			out.WriteString(roffProse.Replace(s[at[2]:at[3]]) + bold(s[at[4]:at[5]]))
		}
		s = s[at[1]:]
	}
}

// guarded keeps lines from being taken for requests.
func guarded(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
