package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/agent"
	"github.com/towline/towline/internal/cli"
	"github.com/towline/towline/internal/release"
)

const (
	product = "towline " + release.Version
	manual  = "Towline"
	home    = "https://github.com/towline/towline"
)

// pages are the manual pages: one for the command, one for each verb, the agent's, and that of its configuration.
func pages(root, dated string) ([]file, error) {
	var out []file
	tree := cli.Tree()
	every(tree, func(c *cobra.Command) {
		out = append(out, file{filepath.Join("man/man1", dashed(c)+".1"), verbPage(c, dated)})
	})
	usage, err := agentUsage()
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile(filepath.Join(root, "packaging/agent.yaml.example"))
	if err != nil {
		return nil, err
	}
	return append(out,
		file{"man/man8/towline-agent.8", agentPage(usage, dated)},
		file{"man/man5/agent.yaml.5", configPage(string(example), dated)}), nil
}

// dashed is a command's path as the name of a page.
func dashed(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func reference(title, section string) string { return bold(title) + "(" + section + ")" }

func verbPage(c *cobra.Command, dated string) string {
	var p page
	p.head(dashed(c), "1", dated, product, manual)
	p.section("NAME")
	p.line(`%s \- %s`, plain(dashed(c)), inline(strings.TrimSuffix(c.Short, ".")))
	p.section("SYNOPSIS")
	name, rest := synopsis(c)
	p.line("%s %s", bold(name), arguments(rest))
	p.section("DESCRIPTION")
	p.text(about(c))

	if c.HasParent() {
		p.commands("COMMANDS", visible(c, func(*cobra.Command) bool { return true }), c.Name() != "completion")
	} else {
		p.section("COMMANDS")
		for _, g := range groups(c) {
			p.subsection(g.title)
			p.commands("", g.verbs, true)
		}
	}
	p.options(append(options(c), common(c.Root())...), !c.HasParent())
	if c.Example != "" {
		p.section("EXAMPLES")
		p.text("  " + strings.TrimLeft(c.Example, " "))
	}
	p.section("EXIT STATUS")
	for _, e := range exitCodes(c.Root()) {
		p.item(bold(e.number), e.meaning)
	}
	if c.HasParent() {
		p.section("SEE ALSO")
		see := []string{reference(dashed(c.Parent()), "1")}
		for _, sub := range below(c) {
			see = append(see, reference(dashed(sub), "1"))
		}
		if c.Parent().HasParent() {
			see = append(see, reference("towline", "1"))
		}
		p.line("%s", strings.Join(append(see, reference("towline-agent", "8")), ",\n"))
		return p.String()
	}
	p.section("ENVIRONMENT")
	for _, v := range environment {
		p.item(bold(v.name), v.meaning)
	}
	p.line(".PP\n%s", inline(credentials))
	p.section("FILES")
	p.item(bold("/run/towline/agent.sock"), "the agent's socket, for root and the group towline")
	p.item(bold("/etc/towline/agent.yaml"), "the agent's configuration")
	p.section("SEE ALSO")
	p.line("%s,\n%s", reference("towline-agent", "8"), reference("agent.yaml", "5"))
	p.line(".PP\n%s", plain(home))
	return p.String()
}

// commands lists verbs. paged: each has a page of its own.
func (p *page) commands(title string, verbs []*cobra.Command, paged bool) {
	if len(verbs) == 0 {
		return
	}
	if title != "" {
		p.section(title)
	}
	for _, sub := range verbs {
		term := bold(sub.Name())
		if paged {
			term = reference(dashed(sub), "1")
		}
		p.item(term, sentence(sub.Short))
	}
}

// options lists flags; of the command itself those that every verb has.
func (p *page) options(list []option, all bool) {
	p.section("OPTIONS")
	if all {
		p.line("Every command has them.")
	}
	for _, o := range list {
		term := bold("--" + o.long)
		if o.short != "" {
			term = bold("-"+o.short) + ", " + term
		}
		if o.value != "" {
			term += " " + italic(o.value)
		}
		p.item(term, sentence(capital(o.text)))
	}
}

// capital makes the first letter a capital one, but of words that are names: true:, none:.
func capital(s string) string {
	word, _, _ := strings.Cut(s, " ")
	if s == "" || strings.HasSuffix(word, ":") || strings.ContainsAny(word, ":./_[") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// arguments sets what follows a command's name.
func arguments(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = italic(w)
	}
	return strings.Join(words, " ")
}

// agentUsage is what towline-agent --help prints.
func agentUsage() (string, error) {
	var out, wrong bytes.Buffer
	if code := agent.Run(context.Background(), agent.Options{Args: []string{"--help"}, Stdout: &out, Stderr: &wrong}); code != 0 {
		return "", fmt.Errorf("towline-agent --help: code %d: %s", code, wrong.String())
	}
	return out.String(), nil
}

// agentPage is the help of the agent as a page, with what the help has no room for.
func agentPage(usage, dated string) string {
	var p page
	p.head("towline-agent", "8", dated, product, manual)
	p.section("NAME")
	p.line(`towline\-agent \- pulls releases to this server, proves them healthy or puts the old ones back`)
	parts := strings.Split(strings.TrimSpace(usage), "\n\n")
	for _, part := range parts {
		switch {
		case strings.HasPrefix(part, "Usage: "):
			p.section("SYNOPSIS")
			name, rest, _ := strings.Cut(strings.TrimPrefix(part, "Usage: "), " ")
			p.line("%s %s", bold(name), arguments(rest))
			p.section("DESCRIPTION")
		case strings.HasPrefix(part, "  --"):
			p.line(".PP\n%s", inline(agentAbout))
			p.section("OPTIONS")
			for _, entry := range regexp.MustCompile(`(?m)^  --`).Split(part, -1)[1:] {
				flag, meaning, _ := strings.Cut(entry, "  ")
				name, value, _ := strings.Cut(strings.TrimSpace(flag), " ")
				term := bold("--" + name)
				if value != "" {
					term += " " + italic(value)
				}
				p.item(term, sentence(capital(strings.Join(strings.Fields(meaning), " "))))
			}
		case strings.HasPrefix(part, "Exit codes: "):
			p.section("EXIT STATUS")
			p.text(strings.TrimPrefix(part, "Exit codes: "))
		case strings.HasPrefix(part, "SIG"): // told below, at more length
		default:
			p.text(part)
		}
	}
	p.section("SIGNALS")
	p.item(bold("SIGHUP"), "Reads the configuration again: systemctl reload towline-agent. When there is something wrong with it, "+
		"the agent says so in its log and runs on by the old one.")
	p.item(bold("SIGTERM")+", "+bold("SIGINT"), "Ends. A deployment that is under way stops at the next point from which it can be taken up, "+
		"and is taken up when the agent starts again; the apps run on.")
	p.section("FILES")
	for _, f := range agentFiles {
		p.item(bold(f.name), f.meaning)
	}
	p.section("REMOVAL")
	p.text(agentRemoval)
	p.section("SEE ALSO")
	p.line("%s,\n%s,\n%s,\n%s", reference("towline", "1"), reference("agent.yaml", "5"), reference("systemctl", "1"), reference("journalctl", "1"))
	p.line(".PP\n%s", plain(home))
	return p.String()
}

const agentAbout = "It looks at the pointer of each app, version.json in the bucket, every 30 seconds and whenever it is pinged. A release that is " +
	"new is fetched, verified and unpacked beside the live one; then current is switched to it, the app's unit is restarted, and the release has to " +
	"prove healthy: otherwise the one before is put back. As towline-agent.service it runs as user towline, which may restart the units " +
	"of its apps and nothing else; towline app add grants it that. Its log is the journal's: journalctl --unit towline-agent."

var agentFiles = []variable{
	{"/etc/towline/agent.yaml", "the configuration; without it the service does not start"},
	{"/etc/towline/access-key-id, /etc/towline/secret-access-key", "the bucket's key, where the configuration names these files"},
	{"/var/lib/towline", "what the agent remembers: what it has followed, what it was at, the certificate of its port"},
	{"/run/towline/agent.sock", "the socket that the command towline talks to, for root and the group towline"},
	{"/srv/APP", "an app: its releases, the link current to the live one, and what is shared between them"},
	{"/etc/systemd/system/towline-agent.service.d/APP.conf, /etc/polkit-1/rules.d/50-towline-APP.rules", "what towline app add has granted"},
}

const agentRemoval = "`apt-get remove towline` takes the programs away; `apt-get purge towline` the configuration, what the agent remembers " +
	"and what towline app add has granted, too. The apps run on either way: their directories with the releases, their units and users stay. So does the user " +
	"towline, whose files the releases are: whoever got its number next could change what the apps run."

func configPage(example, dated string) string {
	var p page
	p.head("agent.yaml", "5", dated, product, manual)
	p.section("NAME")
	p.line(`agent.yaml \- configuration of towline\-agent`)
	p.section("SYNOPSIS")
	p.line("%s", bold("/etc/towline/agent.yaml"))
	p.section("DESCRIPTION")
	p.text(configAbout)
	p.section("EXAMPLE")
	p.line("Every key, as in /etc/towline/agent.yaml.example:")
	p.line(".PP\n.EX\n%s\n.EE", guarded(plain(strings.TrimRight(example, "\n"))))
	p.section("SEE ALSO")
	p.line("%s,\n%s,\n%s,\n%s", reference("towline-agent", "8"),
		reference("towline-init", "1"), reference("towline-config", "1"), reference("towline-app-add", "1"))
	return p.String()
}

// configAbout has a quotation mark where a command is in bold.
var configAbout = strings.ReplaceAll(`What the agent does on this server: the bucket, whose signatures count, and the apps. It is YAML and read strictly:
an unknown key or a value of the wrong kind is an error that shows the line.

"towline init" writes the file, "towline config check" looks at it, "towline config show" prints it with all defaults, and
"towline config schema" prints a JSON schema for editors. A running agent reads it again with "systemctl reload towline-agent";
it keeps the old one when the new one is wrong.

Secrets do not stand in it: the bucket's key and the token of pings are files of user towline with mode 0600, or credentials of
the service, which are named without a slash.`, `"`, "`")
