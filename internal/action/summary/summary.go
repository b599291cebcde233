// Package summary is the page that a run leaves behind: Markdown as GitHub shows it below the job.
//
// Parties: the action hands in the result of a run and what most likely helps; the runner takes the text as it is. Layout:
// the outcome in a heading and in a sentence; on failure the cause, the fix, the probe's answer and the app's last lines of
// each server; the servers with the time of each step; what was deployed; a timeline.
//
// Invariants: at most Max bytes, whatever came in. Everything that a person, a commit or a server wrote is in the type of
// code, so that it shows as it was written and no tag, link, row, mention or reference but ours is on the page; names that
// were checked stand as they are. The timeline, whose language has no escapes, is made of our own words alone.
package summary

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
)

// Max bounds a page, in bytes. The runner drops what is over 1 MiB, and nobody reads as much as that.
const Max = 64 << 10

// What the parts of a page may take, in bytes. Together they stay below Max.
const (
	maxRows     = 10 << 10
	maxFailures = 18 << 10
	maxListing  = 6 << 10
)

const (
	maxText     = 500 // runes of a text
	maxProblems = 10
)

// Page is what a summary is made of.
type Page struct {
	Result     *publish.Result
	Failed     bool                              // the run ended with an error
	Fix        string                            // against that error; empty when nothing general helps
	Problems   []string                          // with the inputs, in place of the reason
	Advice     func(publish.ServerResult) string // what helps on a server that ended so
	Why        string                            // the reason that a person gave
	Repository string                            // https://github.com/owner/name; empty: no links
}

// Markdown is the page.
func (p Page) Markdown() string {
	r := p.Result
	var b strings.Builder
	fmt.Fprintf(&b, "### %s %s: %s on %s\n\n", p.sign(), r.Outcome, cmp.Or(called(r.App), "Towline"), cmp.Or(called(r.Environment), "no environment"))
	for _, problem := range p.Problems[:min(len(p.Problems), maxProblems)] {
		fmt.Fprintf(&b, "- %s\n", quoted(problem, false))
	}
	if text := p.lead(); text != "" && len(p.Problems) == 0 {
		b.WriteString(text + "\n")
	}
	b.WriteString("\n")
	if p.Failed && p.Fix != "" {
		fmt.Fprintf(&b, "**Fix:** %s\n\n", p.Fix)
	}
	p.failures(&b)
	p.servers(&b)
	p.facts(&b)
	p.plan(&b)
	b.WriteString(timeline(r))
	return b.String()
}

func (p Page) sign() string {
	switch {
	case p.Failed:
		return "❌"
	case publish.ToneOf(p.Result.Outcome) == publish.Careful:
		return "⚪"
	}
	return sign(p.Result.Outcome)
}

func sign(o deployment.Outcome) string {
	switch publish.ToneOf(o) {
	case publish.Good:
		return "✅"
	case publish.Bad:
		return "❌"
	}
	return "⚪"
}

// lead is the outcome in a sentence.
func (p Page) lead() string {
	r := p.Result
	good := 0
	for _, s := range r.Servers {
		if publish.ToneOf(s.Outcome) == publish.Good {
			good++
		}
	}
	servers := fmt.Sprintf("%d of %d servers", good, len(r.Servers))
	switch {
	case good == 1 && len(r.Servers) == 1:
		servers = called(name(r.Servers[0]))
	case good == len(r.Servers):
		servers = fmt.Sprintf("all %d servers", good)
	}
	switch {
	case p.Failed || len(r.Servers) == 0 || r.Reason != "" && good == 0 && publish.ToneOf(r.Outcome) == publish.Careful:
		return quoted(r.Reason, false)
	case r.Outcome == deployment.Unchanged:
		return fmt.Sprintf("%s was live and healthy already on %s: nothing was switched and nothing restarted.", p.commit(r.Version), servers)
	}
	return fmt.Sprintf("%s is live and healthy on %s.", p.commit(r.Version), servers)
}

// failures says for each server that did not end well why, and what helps.
func (p Page) failures(b *strings.Builder) {
	limit := b.Len() + maxFailures
	left := 0
	var bad []publish.ServerResult
	for _, s := range p.Result.Servers {
		if publish.ToneOf(s.Outcome) != publish.Good && s.Outcome != deployment.Published {
			bad = append(bad, s)
		}
	}
	for _, s := range bad {
		text := p.failure(s)
		if b.Len()+len(text) > limit {
			left++
			continue
		}
		b.WriteString(text)
		b.WriteString(p.lastLines(s, limit-b.Len(), len(bad) == 1))
	}
	if left > 0 {
		fmt.Fprintf(b, "The causes of %s more are left out here; the log has them.\n\n", publish.Count(int64(left), "server", "servers"))
	}
}

// failure is why one server did not end well.
func (p Page) failure(s publish.ServerResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#### %s %s: %s\n\n**Cause:** %s\n\n", sign(s.Outcome), called(name(s)), s.Outcome, cmp.Or(quoted(s.Reason, false), "it gave no reason"))
	for _, step := range s.Steps {
		// The reason often quotes it; where it does not, it is the first thing to look at.
		if step.State == deployment.StepFail && step.Message != "" && !strings.Contains(s.Reason, step.Message) {
			fmt.Fprintf(&b, "**%s failed:** %s\n\n", upper(string(step.Step)), quoted(step.Message, false))
		}
	}
	if p.Advice != nil {
		if fix := p.Advice(s); fix != "" {
			fmt.Fprintf(&b, "**Fix:** %s\n\n", fix)
		}
	}
	return b.String()
}

// lastLines are as many of the app's last lines as room, in bytes, is left for.
func (p Page) lastLines(s publish.ServerResult, room int, open bool) string {
	room -= 200 // for the fold
	var lines []string
	for _, line := range slices.Backward(s.Log) {
		text := preformatted([]string{line})
		if room -= len(text); room < 0 {
			break
		}
		lines = append([]string{text}, lines...)
	}
	if len(lines) == 0 {
		return ""
	}
	return fold(fmt.Sprintf("Last %s of the app on %s", publish.Count(int64(len(lines)), "line", "lines"), name(s)), strings.Join(lines, ""), open)
}

// columns are the steps that have a column of their own where a server took them.
var columns = []deployment.Step{deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm, deployment.RollBack}

// worthIt is how long, in milliseconds, a confirmation takes that is worth telling: that of an app with hooks.
const worthIt = 100

// servers is a row for each server.
func (p Page) servers(b *strings.Builder) {
	r := p.Result
	if len(r.Servers) == 0 {
		return
	}
	var shown []deployment.Step
	pulled := false
	for _, step := range columns {
		for _, s := range r.Servers {
			pulled = pulled || s.Pulled > 0
			if ms, ok := took(s, step); ok && (step != deployment.Confirm || ms >= worthIt) {
				shown = append(shown, step)
				break
			}
		}
	}
	head := []string{"Server", "Outcome", "Release"}
	if pulled {
		head = append(head, "Pulled")
	}
	for _, step := range shown {
		head = append(head, upper(string(step)))
	}
	timed := r.Command != publish.Status
	if timed {
		head = append(head, "Total")
	}
	row := func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }
	b.WriteString(row(head))
	b.WriteString("|---|---|---|" + strings.Repeat("--:|", len(head)-3) + "\n")
	limit := b.Len() + maxRows
	for i, s := range r.Servers {
		cells := []string{called(name(s)), sign(s.Outcome) + nbsp + string(s.Outcome), p.commit(s.Hash)}
		if pulled {
			cells = append(cells, unbroken(publish.Bytes(s.Pulled)))
		}
		for _, step := range shown {
			text := "–"
			if ms, ok := took(s, step); ok {
				text = unbroken(millis(ms))
			}
			cells = append(cells, text)
		}
		if timed && s.Outcome == deployment.Published { // nobody asked
			cells = append(cells, "–")
		} else if timed {
			cells = append(cells, unbroken(millis(s.TookMS)))
		}
		text := row(cells)
		if b.Len()+len(text) > limit {
			rest := make([]string, len(head))
			rest[0] = fmt.Sprintf("and %d more", len(r.Servers)-i)
			b.WriteString(row(rest))
			break
		}
		b.WriteString(text)
	}
	b.WriteString("\n")
}

// took is what a server took for a step, in milliseconds, all its times together.
func took(s publish.ServerResult, step deployment.Step) (ms int64, ok bool) {
	for _, one := range s.Steps {
		if one.Step == step {
			ms, ok = ms+one.TookMS, true
		}
	}
	return ms, ok
}

// facts are what was deployed, and from where to where.
func (p Page) facts(b *strings.Builder) {
	r := p.Result
	if r.App == "" {
		return
	}
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "| %s | %s |\n", name, value)
		}
	}
	fmt.Fprintf(b, "| App | %s on %s |\n|---|---|\n", called(r.App), called(r.Environment))
	if r.Version != "" {
		row("Release", strings.TrimSpace(p.commit(r.Version)+" "+quoted(r.Message, true)))
	}
	row("Before", p.compare(r))
	if r.Command != publish.Deploy || p.Why != "" {
		row("Command", strings.TrimSuffix(string(r.Command)+": "+quoted(p.Why, true), ": "))
	}
	if r.Seq > 0 {
		row("Pointer", fmt.Sprintf("seq %d", r.Seq))
	}
	if a := r.Artifact; a.Size > 0 {
		row("Artifact", fmt.Sprintf("%s, unpacked %s in %s; sha256 `%s`", publish.Bytes(a.Size), publish.Bytes(a.UnpackedSize),
			publish.Count(a.Entries, "entry", "entries"), a.SHA256[:min(len(a.SHA256), 12)]))
	}
	row("Network", p.network())
	if r.URL != "" && len(r.URL) <= maxText {
		row("Address", address(r.URL))
	}
	row("Took", publish.Took(r.Took))
	b.WriteString("\n")
}

// network is what went to the bucket and what came from it.
func (p Page) network() string {
	r := p.Result
	var out []string
	if r.Artifact.Size > 0 && !r.DryRun && (r.Command == publish.Deploy || r.Command == publish.Publish) {
		out = append(out, publish.Bytes(r.Uploaded)+" uploaded")
	}
	pulled, by := int64(0), int64(0)
	for _, s := range r.Servers {
		if s.Pulled > 0 {
			pulled, by = pulled+s.Pulled, by+1
		}
	}
	if pulled > 0 {
		out = append(out, fmt.Sprintf("%s pulled by %s", publish.Bytes(pulled), publish.Count(by, "server", "servers")))
	}
	return strings.Join(out, ", ")
}

// plan is what a dry run would have done.
func (p Page) plan(b *strings.Builder) {
	plan := p.Result.Plan
	if plan == nil {
		return
	}
	if plan.To.Seq > 0 {
		b.WriteString("| Pointer | Seq | Release | Artifact |\n|---|--:|---|---|\n")
		for _, point := range []struct {
			name string
			publish.PlanPoint
		}{{"now", plan.From}, {"then", plan.To}} {
			seq := "–"
			if point.Seq > 0 {
				seq = fmt.Sprint(point.Seq)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", point.name, seq, cmp.Or(p.commit(point.Hash), "none"), cmp.Or(quoted(point.Artifact, true), "none"))
		}
		b.WriteString("\n")
	}
	if len(plan.Files) == 0 {
		return
	}
	var listing strings.Builder
	for i, f := range plan.Files {
		line := preformatted([]string{fmt.Sprintf("%10s  %s", publish.Bytes(f.Size), f.Path)})
		if listing.Len()+len(line) > maxListing {
			listing.WriteString(preformatted([]string{fmt.Sprintf("and %d more", int(p.Result.Artifact.Entries)-i)}))
			break
		}
		listing.WriteString(line)
	}
	b.WriteString(fold("What would be packed; "+publish.Bytes(plan.Upload)+" of it would be uploaded", listing.String(), false))
}
