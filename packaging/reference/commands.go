package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/cli"
)

// commands is docs/commands.md.
func commands() string {
	var b strings.Builder
	root := cli.Tree()
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Commands\n")
	line("Every verb of `towline` and its flags, as `towline VERB --help` and the manual pages have them. Made from the command itself by")
	line("`go run ./packaging/reference commands`: what is changed here by hand is lost.\n")
	for _, bl := range blocks(about(root)) {
		line("%s\n", markdown(bl.text))
	}
	for _, g := range groups(root) {
		line("**%s**\n", g.title)
		line("| | |\n|---|---|")
		for _, c := range g.verbs {
			line("| [`%s`](#%s) | %s |", c.Name(), anchor(c), cell(sentence(c.Short)))
		}
		line("")
	}
	line("## Of every verb\n")
	table(&b, common(root))
	line("Exit codes, of `towline`, `towline-agent --once` and the action:\n")
	line("| code | |\n|---|---|")
	for _, e := range exitCodes(root) {
		line("| %s | %s |", e.number, cell(e.meaning))
	}
	line("\nEnvironment:\n")
	line("| variable | |\n|---|---|")
	for _, v := range environment {
		line("| `%s` | %s |", v.name, cell(v.meaning))
	}
	line("\n%s", markdown(credentials))
	for _, g := range groups(root) {
		line("\n## %s", g.title)
		for _, verb := range g.verbs {
			every(verb, func(c *cobra.Command) { verbSection(&b, c) })
		}
	}
	return b.String()
}

func verbSection(b *strings.Builder, c *cobra.Command) {
	level := "###"
	if c.Parent().HasParent() {
		level = "####"
	}
	name, rest := synopsis(c)
	fmt.Fprintf(b, "\n%s %s\n\n", level, name)
	fmt.Fprintf(b, "```text\n%s %s\n```\n\n", name, rest)
	for _, bl := range blocks(about(c)) {
		if bl.verbatim {
			fmt.Fprintf(b, "```text\n%s\n```\n\n", bl.text)
		} else {
			fmt.Fprintf(b, "%s\n\n", markdown(bl.text))
		}
	}
	if verbs := visible(c, func(*cobra.Command) bool { return true }); len(verbs) > 0 {
		b.WriteString("| command | |\n|---|---|\n")
		for _, sub := range verbs {
			fmt.Fprintf(b, "| `%s` | %s |\n", sub.Name(), cell(sentence(sub.Short)))
		}
		b.WriteString("\n")
	}
	table(b, options(c))
	if c.Example != "" {
		fmt.Fprintf(b, "```sh\n%s\n```\n", dedent(strings.Split(strings.Trim(c.Example, "\n"), "\n")))
	}
	// One blank line before the next heading, none at the end.
	text := strings.TrimRight(b.String(), "\n")
	b.Reset()
	b.WriteString(text + "\n")
}

func table(b *strings.Builder, list []option) {
	if len(list) == 0 {
		return
	}
	b.WriteString("| flag | |\n|---|---|\n")
	for _, o := range list {
		flag := "--" + o.long
		if o.short != "" {
			flag = "-" + o.short + ", " + flag
		}
		if o.value != "" {
			flag += " " + strings.ToUpper(o.value)
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", flag, cell(o.text))
	}
	b.WriteString("\n")
}

// anchor is what a link to a verb's heading says.
func anchor(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// marked is what is set as code within prose: something in backquotes, a flag, a variable, an address, a path.
var marked = regexp.MustCompile("`[^`]+`|(?:[a-z0-9]+://|/(?:etc|run|srv|var|usr)/)[^\\s,;)]+|" +
	"--?[a-z][a-z0-9-]*|[A-Z]+(?:_[A-Z]+)+|[a-z]*\\[[^\\]\\s]+\\][^\\s,;]*")

// markdown is prose whose names are set as code and whose other characters mean themselves.
func markdown(s string) string {
	var out strings.Builder
	for {
		at := marked.FindStringIndex(s)
		for at != nil && at[0] > 0 && s[at[0]] == '-' && s[at[0]-1] != ' ' && s[at[0]-1] != '(' && s[at[0]-1] != '\n' {
			next := marked.FindStringIndex(s[at[1]:]) // a hyphen within a word
			if next == nil {
				at = nil
				break
			}
			at = []int{at[1] + next[0], at[1] + next[1]}
		}
		if at == nil {
			out.WriteString(escaped.Replace(s))
			return out.String()
		}
		end := at[0] + len(strings.TrimRight(s[at[0]:at[1]], ".:"))
		out.WriteString(escaped.Replace(s[:at[0]]))
		out.WriteString("`" + strings.Trim(s[at[0]:end], "`") + "`")
		s = s[end:]
	}
}

var escaped = strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`)

// cell is prose in a table.
func cell(s string) string { return strings.ReplaceAll(markdown(s), "|", `\|`) }
