package action

import (
	"cmp"
	"errors"
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"

	"github.com/sethvargo/go-githubactions"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

const (
	delimiter  = "_GitHubActionsFileCommandDelimeter_" // the library's constant word around every output
	maxSummary = 64 << 10
)

// outputs are the outputs of action.yml, in its order.
var outputs = []struct{ name, help string }{
	{"outcome", "deployed, unchanged, rolled-back, failed, broken, held, timed-out, superseded, skipped, published or dry-run; over several servers the worst."},
	{"version", "Release that was made, promoted or rolled back to."},
	{"previous-version", "Release that the pointer named before; empty at the first."},
	{"seq", "Sequence number of the pointer that was written; empty when none was."},
	{"artifact-key", "Key of the artifact in the bucket."},
	{"artifact-sha256", "SHA-256 of the artifact, in hex."},
	{"artifact-size", "Size of the artifact in bytes."},
	{"uploaded-bytes", "Bytes of the artifact that were uploaded; 0 when the bucket had them."},
	{"url", "Address of the app, as environment-url says."},
	{"deployment-id", "Id of the GitHub deployment; empty when there is none."},
	{"servers", `JSON list of the servers: [{"name","url","outcome","seq","hash","reason","took_ms"}].`},
	{"report", "The whole result as JSON, at most 32 KiB."},
	{"duration-ms", "How long the run took, in milliseconds."},
}

// annotate puts what a person must see on the run's page.
func (f *face) annotate(o publish.Options, r *publish.Result, err error) {
	var usage *publish.UsageError
	switch {
	case errors.As(err, &usage):
		for i, p := range usage.Problems {
			if i == maxAnnotations-1 && len(usage.Problems) > maxAnnotations {
				f.log.Error(fmt.Sprintf("and %d more problems with the inputs", len(usage.Problems)-i), "")
				break
			}
			f.log.Error(release.CleanText(fmt.Sprintf("input %s: %s", p.Input, p.Text), 1000), "")
		}
	case err != nil:
		f.log.Error(release.CleanText(subject(o)+err.Error(), 2000), hint(err))
	case r.Outcome == deployment.Superseded && o.OnSuperseded == "fail":
		f.log.Error("superseded: "+r.Reason, "on-superseded: skip makes this green")
	case r.Outcome == deployment.Superseded, r.Outcome == deployment.Skipped:
		f.log.Notice(fmt.Sprintf("%s: %s", r.Outcome, r.Reason))
	case r.Outcome.ExitCode() != deployment.ExitOK:
		f.blame(r)
	}
}

// blame is one error for each server that is not live and healthy on the release, and what helps.
func (f *face) blame(r *publish.Result) {
	var bad []publish.ServerResult
	for _, s := range r.Servers {
		if s.Outcome.ExitCode() != deployment.ExitOK || s.Outcome == deployment.Superseded {
			bad = append(bad, s)
		}
	}
	for i, s := range bad {
		if i == maxAnnotations-1 && len(bad) > maxAnnotations {
			f.log.Error(fmt.Sprintf("and %d more servers", len(bad)-i), "")
			return
		}
		f.log.Error(fmt.Sprintf("%s: %s: %s", cmp.Or(s.Name, s.URL), s.Outcome, cmp.Or(s.Reason, "no reason given")), advice(s.Outcome))
	}
}

func advice(o deployment.Outcome) string {
	switch o {
	case deployment.RolledBack:
		return "the previous release is live again; the app's own last lines are in the log above and in the summary"
	case deployment.Broken:
		return "the previous release is not healthy either: look at the server now (towline status, towline logs)"
	case deployment.TimedOut:
		return "is the agent running (systemctl status towline-agent), may it reach the bucket (towline status on the server says), is wait-timeout long enough?"
	case deployment.Held:
		return "a person holds this server: towline resume APP there lets it follow again"
	case deployment.Failed:
		return "nothing live was touched; towline status on the server says more"
	}
	return ""
}

func subject(o publish.Options) string {
	if o.App == "" {
		return ""
	}
	return fmt.Sprintf("cannot %s %s on %s: ", o.Command, o.App, o.Environment)
}

// explainRole prints what helps after a role was refused: the claims of the token, which is not shown itself, and a trust
// policy that they match.
func (f *face) explainRole(role string) {
	token := f.token.Load()
	if token == nil {
		return
	}
	claims, err := github.ParseClaims(*token)
	if err != nil {
		f.log.Line(err.Error())
		return
	}
	f.log.Foreign(github.ExplainRefusal(role, claims))
}

// outputs writes all outputs, also the empty ones.
func (f *face) outputs(r *publish.Result) {
	id := ""
	if f.hub.id != 0 {
		id = strconv.FormatInt(f.hub.id, 10)
	}
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	values := map[string]string{
		"outcome": string(r.Outcome), "version": r.Version, "previous-version": r.Previous, "seq": number(r.Seq),
		"artifact-key": r.Artifact.Key, "artifact-sha256": r.Artifact.SHA256, "artifact-size": number(uint64(r.Artifact.Size)), // #nosec G115 -- a size
		"uploaded-bytes": strconv.FormatInt(r.Uploaded, 10), "url": r.URL, "deployment-id": id, "servers": r.ServersJSON(),
		"report": r.Report(), "duration-ms": strconv.FormatInt(r.Took.Milliseconds(), 10),
	}
	for _, out := range outputs {
		f.output(out.name, values[out.name])
	}
}

func (f *face) output(name, value string) {
	if f.env["GITHUB_OUTPUT"] == "" {
		f.log.Debug(fmt.Sprintf("output %s=%s", name, release.CleanText(value, 300)))
		return
	}
	if strings.Contains(value, delimiter) {
		f.log.Warn(fmt.Sprintf("output %s is left empty: its text holds the word that ends an output", name))
		value = ""
	}
	f.guard("output "+name, func(a *githubactions.Action) { a.SetOutput(name, value) })
}

// guard turns the library's panics about the runner's files into warnings.
func (f *face) guard(what string, do func(*githubactions.Action)) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Warn(release.CleanText(fmt.Sprintf("%s was not written: %v", what, p), 300))
		}
	}()
	do(f.log.action)
}

func (f *face) summarize(r *publish.Result, err error) {
	if f.env["GITHUB_STEP_SUMMARY"] == "" {
		return
	}
	f.guard("the summary", func(a *githubactions.Action) { a.AddStepSummary(f.summary(r, err)) })
}

// summary is the run in Markdown, at most 64 KiB. Everything that is not ours is escaped.
func (f *face) summary(r *publish.Result, err error) string {
	var b strings.Builder
	sign := "❌"
	switch {
	case err == nil && (r.Outcome == deployment.Deployed || r.Outcome == deployment.Unchanged):
		sign = "✅"
	case err == nil && r.Outcome.ExitCode() == deployment.ExitOK:
		sign = "⚪"
	}
	fmt.Fprintf(&b, "### %s %s: %s on %s\n\n", sign, r.Outcome, escape(cmp.Or(r.App, "Towline")), escape(cmp.Or(r.Environment, "no environment")))
	if r.Reason != "" {
		fmt.Fprintf(&b, "%s\n\n", escape(r.Reason))
	}
	if err != nil {
		if text := hint(err); text != "" {
			fmt.Fprintf(&b, "**Hint:** %s\n\n", escape(text))
		}
	}
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", name, value)
		}
	}
	b.WriteString("| | |\n|---|---|\n")
	row("Version", f.commitLink(r.Version)+" "+escape(r.Message))
	row("Previous", f.compareLink(r.Previous, r.Version))
	if r.Seq > 0 {
		row("Seq", strconv.FormatUint(r.Seq, 10))
	}
	if a := r.Artifact; a.Size > 0 {
		row("Artifact", fmt.Sprintf("%s, %s uploaded, %s, sha256 <code>%s</code>", publish.Bytes(a.Size), publish.Bytes(r.Uploaded), publish.Count(int64(a.Entries), "entry", "entries"), a.SHA256))
	}
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, fmt.Sprintf("%s %s", p.Name, publish.Took(time.Duration(p.TookMS)*time.Millisecond)))
	}
	row("Time", publish.Took(r.Took)+": "+strings.Join(phases, ", "))
	row("Address", escape(r.URL))
	if len(r.Servers) > 0 {
		b.WriteString("\n| Server | Outcome | Release | Time | Reason |\n|---|---|---|---|---|\n")
	}
	for i, s := range r.Servers {
		if b.Len() > maxSummary/2 {
			fmt.Fprintf(&b, "| and %d more | | | | |\n", len(r.Servers)-i)
			break
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", escape(cmp.Or(s.Name, s.URL)), s.Outcome, escape(release.ShortHash(s.Hash)),
			publish.Took(time.Duration(s.TookMS)*time.Millisecond), escape(s.Reason))
	}
	for _, s := range r.Servers {
		if len(s.Log) == 0 {
			continue
		}
		tail := fmt.Sprintf("\n<details><summary>Last lines of the app on %s</summary>\n<pre>%s</pre>\n</details>\n",
			html.EscapeString(cmp.Or(s.Name, s.URL)), preformatted(s.Log))
		if b.Len()+len(tail) > maxSummary-1024 {
			b.WriteString("\nFurther logs were left out to keep this page small.\n")
			break
		}
		b.WriteString(tail)
	}
	return b.String()
}

// preformatted is text for inside <pre>: no tag can end it, and no empty line ends the block of HTML that it is in.
func preformatted(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(html.EscapeString(release.CleanText(line, 400)))
		b.WriteString("&#10;")
	}
	return b.String()
}

// escape writes every ASCII character that Markdown or HTML may take for a sign as a character reference, so that it
// stands for itself.
func escape(s string) string {
	var b strings.Builder
	for _, r := range release.CleanText(s, 1000) {
		if r < 128 && r != ' ' && r != '.' && r != '-' && !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// commitLink names a version, with a link where it is a commit of this repository.
func (f *face) commitLink(version string) string {
	text := "<code>" + escape(release.ShortHash(version)) + "</code>"
	if version == "" || !commitHash.MatchString(version) || f.env["GITHUB_REPOSITORY"] == "" {
		return text
	}
	return fmt.Sprintf(`<a href="%s/commit/%s">%s</a>`, html.EscapeString(f.repository()), version, text)
}

func (f *face) compareLink(from, to string) string {
	if from == "" {
		return ""
	}
	link := f.commitLink(from)
	if f.env["GITHUB_REPOSITORY"] != "" && from != to && commitHash.MatchString(from) && commitHash.MatchString(to) {
		link += fmt.Sprintf(` (<a href="%s/compare/%s...%s">what changed</a>)`, html.EscapeString(f.repository()), from, to)
	}
	return link
}

func (f *face) repository() string {
	return f.env["GITHUB_SERVER_URL"] + "/" + f.env["GITHUB_REPOSITORY"]
}
