package action

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sethvargo/go-githubactions"

	"github.com/towline/towline/internal/action/summary"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

const delimiter = "_GitHubActionsFileCommandDelimeter_" // the library's constant word around every output

// outputs are the outputs of action.yml, in its order.
var outputs = []struct{ name, help string }{
	{"outcome", "deployed, unchanged, rolled-back, failed, broken, held, timed-out, superseded, skipped, published or dry-run; over several servers the worst."},
	{"version", "Release that was made, promoted or rolled back to."},
	{"previous-version", "Release that the pointer named before; empty at the first."},
	{"seq", "Sequence number of the pointer that was written, or with status of the one that is there; empty when there is none."},
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
	case r.Cancelled:
		f.log.Error(subject(o)+r.Reason, "")
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
	// The groups are folded when a step is over, and the story with them: what the apps wrote last is said again below.
	for _, s := range bad[:min(len(bad), maxAnnotations)] {
		if name := cmp.Or(s.Name, s.URL); len(s.Log) > 0 {
			f.log.Quote(publish.Plain, name, "the last "+publish.Count(int64(len(s.Log)), "line", "lines")+" of the app:")
			for _, line := range s.Log {
				f.log.Quote(publish.Faint, name, "| "+line)
			}
		}
	}
	for i, s := range bad {
		if i == maxAnnotations-1 && len(bad) > maxAnnotations {
			f.log.Error(fmt.Sprintf("and %d more servers", len(bad)-i), "")
			return
		}
		f.log.Error(fmt.Sprintf("%s: %s: %s", cmp.Or(s.Name, s.URL), s.Outcome, cmp.Or(s.Reason, "no reason given")), advice(s))
	}
}

func advice(s publish.ServerResult) string {
	if s.Unknown {
		return "what is live there is not known: towline status on the server says"
	}
	switch s.Outcome {
	case deployment.RolledBack:
		return "the previous release is live again; see what the app wrote last, mend it and push"
	case deployment.Broken:
		return "the previous release is not healthy either: look at the server now (towline status, towline logs)"
	case deployment.TimedOut:
		return "is the agent running (systemctl status towline-agent), do the firewall and listen let the runner in, may the agent reach the bucket (towline status on the server says), is wait-timeout long enough?"
	case deployment.Held:
		return "a person holds this server: towline resume APP there lets it follow again"
	case deployment.Failed:
		return "what was live before it is live still, if there was anything; towline status on the server says more"
	}
	return ""
}

func subject(o publish.Options) string {
	if o.App == "" {
		return ""
	}
	return fmt.Sprintf("cannot %s %s on %s: ", strings.Replace(string(o.Command), "rollback", "roll back", 1), o.App, o.Environment)
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
		f.log.Line(publish.Plain, err.Error())
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

func (f *face) summarize(o publish.Options, r *publish.Result, err error) {
	if f.env["GITHUB_STEP_SUMMARY"] == "" {
		return
	}
	f.guard("the summary", func(a *githubactions.Action) { a.AddStepSummary(f.summary(o, r, err)) })
}

// summary is the page of the run.
func (f *face) summary(o publish.Options, r *publish.Result, err error) string {
	p := summary.Page{Result: r, Failed: err != nil, Advice: advice, Why: o.Reason}
	var usage *publish.UsageError
	if errors.As(err, &usage) {
		for _, problem := range usage.Problems {
			p.Problems = append(p.Problems, fmt.Sprintf("input %s: %s", problem.Input, problem.Text))
		}
	} else if err != nil {
		p.Fix = hint(err)
	}
	if f.env["GITHUB_SERVER_URL"] != "" && f.env["GITHUB_REPOSITORY"] != "" {
		p.Repository = f.env["GITHUB_SERVER_URL"] + "/" + f.env["GITHUB_REPOSITORY"]
	}
	return p.Markdown()
}
