package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status [APP]", Short: "What is live, since when, and how the last deployment went", Args: atMost("APP"),
		Long: `What is live on this server, since when, and how the last deployment went. With APP, its last deployments too. With
--bucket, what every server has left in the bucket.`,
	}
	p.socketFlags(cmd)
	in := p.readInputs(cmd)
	asJSON := jsonFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, "on a terminal, keep it up to date; piped, print what changes; until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		look := p.serverStatus
		if bucket, err := in.bucket(); err != nil {
			return err
		} else if bucket {
			look = in.status
		}
		return p.show(cmd.Context(), look, *asJSON, *watch)
	}
	return cmd
}

// eventless copies receipts without the events of their deployments.
func eventless(receipts []deployment.Receipt) deployment.Overview {
	out := deployment.Overview{Apps: []deployment.Receipt{}}
	for _, r := range receipts {
		if r.Deployment != nil {
			d := *r.Deployment
			d.Events = nil
			r.Deployment = &d
		}
		out.Apps = append(out.Apps, r)
	}
	return out
}

// serverStatus asks the agent for all apps, or for the one that was named.
func (p *program) serverStatus(ctx context.Context) (view, error) {
	agent := p.agent()
	if p.app != "" {
		detail, err := agent.detail(ctx, p.app)
		if err != nil {
			return view{}, err
		}
		return view{
			object: eventless([]deployment.Receipt{detail.Receipt}),
			text:   func(w *bytes.Buffer, on painter) { p.detail(w, on, detail) },
		}, nil
	}
	all, err := agent.overview(ctx)
	if err != nil {
		return view{}, err
	}
	return view{object: eventless(all.Apps), text: func(w *bytes.Buffer, on painter) {
		if len(all.Apps) == 0 {
			fmt.Fprintln(w, "no app is configured")
			return
		}
		var t table
		t.add("STATE", "APP", "ENVIRONMENT", "LIVE", "SINCE", "HEALTH", "LAST DEPLOYMENT")
		for _, r := range all.Apps {
			t.add(state(r), r.App, r.Environment, named(r.Live.Seq, r.Live.Hash), p.ago(r.Live.Since), health(r), p.last(r.Deployment))
		}
		t.print(w, on, 0, 5)
		for _, r := range all.Apps {
			notes(w, r.App, r)
		}
	}}, nil
}

// state is a server's state in one word, an outcome where one fits.
func state(r deployment.Receipt) string {
	d := r.Deployment
	switch {
	case d != nil && d.Outcome == "":
		return "deploying"
	case r.Held != "":
		return string(deployment.Held)
	case d == nil && r.Live.Hash == "":
		return "empty"
	case d == nil:
		return "live"
	}
	return string(d.Outcome)
}

// health is how the live release is now in one word, nothing where nobody looked.
func health(r deployment.Receipt) string {
	switch {
	case strings.HasPrefix(r.Status, "not ready: "):
		return "not ready"
	case r.Health == "" || r.Health == "ok":
		return r.Health
	}
	return "ailing"
}

// last is a deployment in a few words.
func (p *program) last(d *deployment.Record) string {
	if d == nil {
		return "none yet"
	}
	how := ""
	if d.Outcome != "" && d.Outcome != deployment.Deployed {
		how = string(d.Outcome) + " "
	}
	return how + named(d.Seq, d.Hash) + " " + p.ago(cmp.Or(d.Finished, d.Started))
}

// notes are the sentences below a table: what a person should know of one app or server.
func notes(w *bytes.Buffer, name string, r deployment.Receipt) {
	note := func(format string, args ...any) {
		fmt.Fprintf(w, "%s: %s\n", release.CleanText(name, 63), release.CleanText(fmt.Sprintf(format, args...), 600))
	}
	if r.Held != "" {
		note("on hold: %s", r.Held)
	}
	if d := r.Deployment; d != nil && d.Reason != "" && d.Outcome != deployment.Unchanged && d.Outcome != deployment.Held {
		note("%s: %s", d.Outcome, d.Reason)
	}
	if r.Status != "" && r.Status != "on hold: "+r.Held {
		note("%s", r.Status)
	}
	if health(r) == "ailing" {
		note("ailing: %s", r.Health)
	}
	if r.Pointer.Hash != "" && r.Pointer.Hash != r.Live.Hash {
		note("the pointer says %s", named(r.Pointer.Seq, r.Pointer.Hash))
	}
}

// detail shows one app of this server with its last deployments.
func (p *program) detail(w *bytes.Buffer, on painter, d deployment.Detail) {
	const shown = 10
	r := d.Receipt
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %-9s%s\n", name, release.CleanText(text, 600))
		}
	}
	fmt.Fprintf(w, "%s in %s on %s: %s\n", r.App, r.Environment, r.Server, on.outcome(deployment.Outcome(state(r)), state(r)))
	live := "nothing"
	if r.Live.Hash != "" {
		live = named(r.Live.Seq, r.Live.Hash)
		if r.Live.Since != "" {
			live += ", since " + day(r.Live.Since) + " (" + p.ago(r.Live.Since) + ")"
		}
	}
	line("live", live)
	if r.Pointer.Hash != "" {
		line("pointer", named(r.Pointer.Seq, r.Pointer.Hash)+", looked at "+p.ago(r.Seen))
	}
	line("health", r.Health)
	line("held", r.Held)
	if r.Status != "on hold: "+r.Held {
		line("note", r.Status)
	}
	line("unit", d.Unit)
	line("dir", d.Dir)
	for _, v := range d.Drift {
		fmt.Fprintln(w)
		for _, text := range whyNot(v) {
			fmt.Fprintln(w, text)
		}
	}
	if len(d.Deployments) == 0 {
		return
	}
	fmt.Fprintln(w)
	var t table
	t.add("OUTCOME", "RELEASE", "STARTED", "TOOK", "REASON")
	for _, rec := range d.Deployments[:min(len(d.Deployments), shown)] {
		t.add(cmp.Or(string(rec.Outcome), "running"), named(rec.Seq, rec.Hash), day(rec.Started), span(rec), rec.Reason)
	}
	t.print(w, on, 0)
	// The last words of an app that did not come up are what a person looks for next.
	for _, e := range d.Deployments[0].Events {
		if e.Terminal() && len(e.Log) > 0 {
			fmt.Fprintln(w, "\nThe unit's last lines:")
			(&story{w: w}).log(e.Log)
		}
	}
}

// span is how long a deployment took.
func span(rec deployment.Record) string {
	for _, e := range rec.Events {
		if e.Terminal() {
			return took(e.TookMS)
		}
	}
	return ""
}

// environment is the view of an environment in a bucket: its pointer, and what each server left.
func (p *program) environment(o publish.Options, r *publish.Result) view {
	var receipts []deployment.Receipt
	if r.Status != nil {
		receipts = r.Status.Receipts
	}
	return view{object: eventless(receipts), text: func(w *bytes.Buffer, on painter) {
		if r.Status == nil || r.Status.Pointer == nil {
			fmt.Fprintf(w, "%s in %s: nothing has been published yet\n", o.App, o.Environment)
			return
		}
		pointer := r.Status.Pointer
		fmt.Fprintf(w, "%s in %s: %s, %s %s", o.App, o.Environment, named(pointer.Seq, pointer.Release.Hash), past(pointer.Kind), p.ago(pointer.Created))
		for _, more := range []string{pointer.Release.Msg, pointer.Reason} {
			if more != "" {
				fmt.Fprintf(w, ": %s", release.CleanText(more, 200))
			}
		}
		fmt.Fprintln(w)
		if len(receipts) == 0 {
			fmt.Fprintln(w, "no server has left a receipt")
			return
		}
		fmt.Fprintln(w)
		var t table
		t.add("STATE", "SERVER", "LIVE", "SINCE", "LAST DEPLOYMENT", "SEEN")
		for _, c := range receipts {
			t.add(state(c), c.Server, named(c.Live.Seq, c.Live.Hash), p.ago(c.Live.Since), p.last(c.Deployment), p.ago(c.Seen))
		}
		t.print(w, on, 0)
		for _, c := range receipts {
			notes(w, c.Server, c)
		}
	}}
}

// past says how a pointer came about.
func past(k release.Kind) string {
	switch k {
	case release.KindPromote:
		return "promoted"
	case release.KindRollback:
		return "rolled back"
	}
	return "published"
}
