package outcomes

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// object is a part of a workflow, which is written as JSON: every JSON document is one of YAML too.
type object = map[string]any

// row is one step of the action in a workflow, and what comes of it.
type row struct {
	name  string            // the step's id
	app   string            // "web" when empty
	files map[string]string // of dist, besides those that every release has
	with  map[string]string // inputs, besides the usual ones; an empty value takes one of those out
	env   map[string]string // of the step, besides the credentials; likewise

	before func() // what is done before the step while the job waits

	want want
}

// usual are the inputs of every row. The bucket is behind the gate.
func (w *world) usual(app string) map[string]string {
	return map[string]string{
		"app": app, "path": "dist", "bucket": w.gate.url, "version-file": "version.txt", "signing-key": "${{ secrets.TOWLINE_SIGNING_KEY }}",
		"servers": w.server, "wait-timeout": "30s", "environment-url": address(app),
	}
}

func address(app string) string { return "https://" + app + ".example.com" }

func credentials() map[string]string {
	return map[string]string{"AWS_ACCESS_KEY_ID": "${{ secrets.AWS_ACCESS_KEY_ID }}", "AWS_SECRET_ACCESS_KEY": "${{ secrets.AWS_SECRET_ACCESS_KEY }}"}
}

// over lays the second map on the first; an empty value removes.
func over(a, b map[string]string) map[string]string {
	a = maps.Clone(a)
	maps.Copy(a, b)
	maps.DeleteFunc(a, func(_, value string) bool { return value == "" })
	return a
}

// listing prints every file of the workspace with all that an action could change about it.
const listing = `find . -path ./.git -prune -o -printf '%P %y %u:%g %m %s %T@ %C@\n' | LC_ALL=C sort`

// job is a job whose steps are the rows'. Before each of them it makes dist and notes what is in the workspace; after each it
// finds the workspace as it was and calls the test.
func (w *world) job(rows []row) object {
	usual := map[string]string{"before": "#!/bin/sh\ncat notes 2>/dev/null\ntest ! -e refuse\n", "says": "starting\n", "index.html": "<h1>Shop</h1>\n"}
	steps := []any{object{"uses": "actions/checkout@v4"}}
	script := "set -e\n"
	outcome := ""
	previous := "start"
	for _, r := range rows {
		files := over(usual, r.files)
		script += "rm -rf dist && mkdir dist\n"
		for _, name := range slices.Sorted(maps.Keys(files)) {
			script += fmt.Sprintf("echo %s | base64 -d > dist/%s\n", base64.StdEncoding.EncodeToString([]byte(files[name])), name)
		}
		script += "chmod +x dist/before\n" + listing + " > /tmp/before\n" + w.call(previous, outcome)
		step := object{
			"id": r.name, "uses": "towline/towline@v1", "continue-on-error": true,
			"with": over(w.usual(r.app), r.with), "env": over(credentials(), r.env),
		}
		steps = append(steps, object{"run": script}, step)
		if r.before != nil {
			w.marks.before[previous] = r.before
		}
		script = "set -e\n" + listing + " | diff /tmp/before -\n"
		outcome, previous = "?outcome=${{ steps."+r.name+".outcome }}", r.name
	}
	last := object{"run": script + w.call(previous, outcome)}
	if w.fatal {
		delete(steps[len(steps)-1].(object), "continue-on-error")
		last["if"] = "always()"
		steps = append(steps, object{"name": "never", "run": "echo never"},
			object{"id": "after", "if": "always()", "run": "echo the innocent-word is shown; echo '::notice::commands are obeyed'"})
	}
	steps = append(steps, last)
	return object{"runs-on": "ubuntu-latest", "steps": steps}
}

func (w *world) call(name, query string) string {
	return fmt.Sprintf("curl --fail --silent --show-error '%s/mark/%s%s'\n", w.here, name, query)
}

// workflow writes a workflow of one job into the checkout.
func (w *world) workflow(name, on string, job object) {
	w.t.Helper()
	text, err := json.MarshalIndent(object{"name": strings.TrimSuffix(name, ".yml"), "on": on, "jobs": object{"it": job}}, "", "  ")
	w.must(err)
	w.must(os.MkdirAll(filepath.Join(w.repo, ".github/workflows"), 0o755))
	w.must(os.WriteFile(filepath.Join(w.repo, ".github/workflows", name), text, 0o644))
}

// run runs a workflow whose only job consists of the rows, and checks each of them.
func (w *world) run(name string, o parts.ActOptions, rows ...row) parts.ActResult {
	w.t.Helper()
	*w.marks = marks{w: w, before: map[string]func(){}, later: map[string]func() bool{}, at: map[string]*mark{}, next: map[string]*mark{}}
	for i, r := range rows {
		if r.app == "" {
			rows[i].app = "web"
		}
		if r.want.later {
			w.marks.later[r.name] = func() bool { return w.live(rows[i].app) == rows[i].want.live }
		}
	}
	o.Workflow = name + ".yml"
	job := w.job(rows)
	maps.Copy(job, w.more)
	w.workflow(o.Workflow, cmp.Or(o.Event, "push"), job)
	began := time.Now()
	result := parts.Act(w.t, w.engine, o)
	w.t.Logf("%s: %d steps of the action in %.1f s", name, len(rows), time.Since(began).Seconds())
	if result.ExitCode != 0 && !w.fatal {
		w.t.Fatalf("%s: got exit code %d: a step between those of the action failed:\n%s", name, result.ExitCode, result.Log)
	}
	previous := "start"
	for _, r := range rows {
		w.t.Run(r.name, func(t *testing.T) {
			(&check{T: t, w: w, row: r, runID: o.Env["GITHUB_RUN_ID"], step: result.Step(t, r.name), before: w.marks.next[previous], after: w.marks.at[r.name]}).all()
		})
		previous = r.name
	}
	return result
}
