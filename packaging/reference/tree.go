package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// group is the verbs under one heading of towline --help.
type group struct {
	title string
	verbs []*cobra.Command
}

// groups are the verbs in the order of towline --help.
func groups(root *cobra.Command) []group {
	var out []group
	ids := []cobra.Group{}
	for _, g := range root.Groups() {
		ids = append(ids, *g)
	}
	for _, g := range append(ids, cobra.Group{Title: "Besides:"}) {
		if verbs := visible(root, func(c *cobra.Command) bool { return c.GroupID == g.ID }); len(verbs) > 0 {
			out = append(out, group{strings.TrimSuffix(g.Title, ":"), verbs})
		}
	}
	return out
}

// visible are the verbs below a command that are for people.
func visible(c *cobra.Command, also func(*cobra.Command) bool) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && also(sub) {
			out = append(out, sub)
		}
	}
	return out
}

// below are the verbs that have a page of their own below a command. The shells of completion have none: each would say
// the same.
func below(c *cobra.Command) []*cobra.Command {
	if c.Name() == "completion" {
		return nil
	}
	return visible(c, func(*cobra.Command) bool { return true })
}

// every calls do with a command and all those below it, in the order of their names.
func every(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range below(c) {
		every(sub, do)
	}
}

// synopsis is how a command is called: its name, and what may follow.
func synopsis(c *cobra.Command) (name, rest string) {
	name = c.CommandPath()
	rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimSuffix(c.UseLine(), " [flags]"), name))
	if c.HasAvailableSubCommands() {
		rest += " COMMAND"
	}
	return name, strings.TrimSpace(rest + " [OPTION…]")
}

// about is the text of a command: the long one where there is one.
func about(c *cobra.Command) string {
	if c.Long != "" {
		return strings.TrimSpace(c.Long)
	}
	return sentence(c.Short)
}

func sentence(s string) string { return strings.TrimSuffix(strings.TrimSpace(s), ".") + "." }

// option is a flag as it is told.
type option struct {
	short, long string // without dashes; short may be empty
	value       string // what stands for its value; empty: it may stand alone
	text        string // with its default
}

// options are the flags of a command: its own, then those that it has from the ones above it, but for those of the root.
func options(c *cobra.Command) []option {
	var out []option
	add := func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" && c.Root().PersistentFlags().Lookup(f.Name) == nil {
			out = append(out, told(f))
		}
	}
	c.NonInheritedFlags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	return out
}

// common are the flags that every command has.
func common(root *cobra.Command) []option {
	var out []option
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { out = append(out, told(f)) })
	return append(out, option{short: "h", long: "help", text: "show the help of a command"})
}

func told(f *pflag.Flag) option {
	value, text := pflag.UnquoteUsage(f)
	switch value {
	case "stringArray", "strings", "stringSlice":
		value = "string"
	}
	if f.NoOptDefVal != "" {
		value = ""
	}
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
	default:
		text += " (default " + f.DefValue + ")"
	}
	return option{short: f.Shorthand, long: f.Name, value: value, text: text}
}

// code is one exit code and its meaning.
type code struct{ number, meaning string }

// exitCodes are those that the help of every command ends with.
func exitCodes(root *cobra.Command) []code {
	_, list, _ := strings.Cut(root.UsageTemplate(), "\nExit codes:\n")
	var out []code
	for line := range strings.Lines(list) {
		if number, meaning, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			out = append(out, code{number, meaning})
		}
	}
	return out
}

// variable is an environment variable that the command reads.
type variable struct{ name, meaning string }

var environment = []variable{
	{"TOWLINE_SOCKET", "the agent's socket, as --socket"},
	{"TOWLINE_BUCKET", "the bucket, as --bucket: rollback, releases and status then ask it and not the agent of this server"},
	{"TOWLINE_SIGNING_KEY", "the private key that signs: the one line that keygen printed; several, one a line, sign together"},
	{"TOWLINE_PING_TOKEN", "the token of pings, for servers without trust"},
	{"NO_COLOR", "set to anything: no colours, as --color never"},
}

// credentials is the rest of the environment, in a sentence.
const credentials = "Credentials and region of the bucket come from where the AWS SDK finds them: AWS_ACCESS_KEY_ID, " +
	"AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_PROFILE and so on."

// block is a piece of a text: a paragraph, or lines that stay as they are.
type block struct {
	verbatim bool
	text     string
}

// blocks divides a text. What is indented stays as it is, without the indent that all its lines share.
func blocks(text string) []block {
	var out []block
	for part := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n\n") {
		lines := strings.Split(strings.Trim(strings.ReplaceAll(part, "\t", "    "), "\n"), "\n")
		if strings.TrimSpace(part) == "" {
			continue
		}
		// A paragraph may lead to its example without a blank line between them.
		at := 0
		for at < len(lines) && !strings.HasPrefix(lines[at], "  ") {
			at++
		}
		if at > 0 {
			out = append(out, block{false, strings.Join(lines[:at], "\n")})
		}
		if at < len(lines) {
			out = append(out, block{true, dedent(lines[at:])})
		}
	}
	return out
}

func dedent(lines []string) string {
	indent := len(lines[0])
	for _, l := range lines {
		if strings.TrimSpace(l) != "" {
			indent = min(indent, len(l)-len(strings.TrimLeft(l, " ")))
		}
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.TrimRight(l[min(indent, len(l)):], " ")
	}
	return strings.Join(out, "\n")
}
