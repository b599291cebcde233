package summary

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

var update = flag.Bool("update", false, "write the pages in testdata")

const (
	hash   = "e02371ab6db3a60c3f9ead35e36187c91155b5a1"
	before = "9c1e5a7f00d2b6a1c8e4f3d2b1a09f8e7d6c5b4a"
)

// result is a run with three servers.
func result() *publish.Result {
	step := func(s deployment.Step, start, took int64) publish.StepResult {
		return publish.StepResult{Step: s, State: deployment.Done, StartMS: start, TookMS: took}
	}
	r := &publish.Result{
		Command: publish.Deploy, App: "nodeapi", Environment: "production", Outcome: deployment.Deployed, Version: hash, Message: "Count the page views", Previous: before,
		Seq: 184, Moved: true, URL: "https://nodeapi.example.com", Uploaded: 3 << 20, Took: 9300 * time.Millisecond,
		Artifact: release.Artifact{Key: "nodeapi/releases/" + hash + "-2e19eccba251.tar.zst", SHA256: strings.Repeat("2e19eccb", 8), Size: 3 << 20, UnpackedSize: 17 << 20, Entries: 1204, Format: release.FormatZstd},
		Phases: []publish.Phase{{Name: "Pack", StartMS: 0, TookMS: 640}, {Name: "Upload", StartMS: 640, TookMS: 820}, {Name: "Promote", StartMS: 1460, TookMS: 240},
			{Name: "Ping and wait", StartMS: 1700, TookMS: 7600}},
	}
	for i, name := range []string{"web-1", "web-2", "worker-1"} {
		at := 1750 + int64(i)*90
		r.Servers = append(r.Servers, publish.ServerResult{Name: name, URL: "https://" + name + ".example.com:8422", Outcome: deployment.Deployed, Seq: 184, Hash: hash, TookMS: 7400 + int64(i)*90, Pulled: 412 << 10,
			Steps: []publish.StepResult{step(deployment.Fetch, at, 210), step(deployment.Unpack, at+210, 380), step(deployment.Activate, at+590, 340), step(deployment.Check, at+930, 6200), step(deployment.Confirm, at+7130, 20)}})
	}
	return r
}

// rolledBack is one of which one server did not come up.
func rolledBack() *publish.Result {
	r := result()
	s := &r.Servers[1]
	s.Outcome, s.Seq, s.Hash = deployment.RolledBack, 183, before
	s.Reason = "not healthy within 5s: GET http://127.0.0.1:3000/version: 500: cannot read settings.json"
	s.Steps[3].State, s.Steps[3].Message, s.Steps[3].TookMS = deployment.StepFail, "3 attempts; the last: GET http://127.0.0.1:3000/version: 500: cannot read settings.json", 5000
	s.Steps[4] = publish.StepResult{Step: deployment.RollBack, State: deployment.Done, StartMS: s.Steps[3].StartMS + 5000, TookMS: 420}
	s.Log = []string{"Error: cannot read settings.json", "    at main (/srv/nodeapi/current/server.js:12:9)", "Node.js v20.20.2"}
	r.Outcome, r.Reason = deployment.RolledBack, "web-2: "+s.Reason
	return r
}

func advice(s publish.ServerResult) string {
	if s.Outcome == deployment.RolledBack {
		return "the previous release is live again; mend it and push"
	}
	return ""
}

func pages() map[string]Page {
	const repository = "https://github.com/acme/nodeapi"
	dry := &publish.Result{
		Command: publish.Deploy, App: "nodeapi", Environment: "staging", Outcome: deployment.DryRun, Reason: "nothing was written", Version: hash, Message: "Count the page views",
		Previous: before, DryRun: true, Took: 700 * time.Millisecond, Artifact: result().Artifact, Phases: []publish.Phase{{Name: "Pack", TookMS: 640}, {Name: "Files", StartMS: 640, TookMS: 10}},
		Plan: &publish.Plan{Files: []publish.File{{Path: "server.js", Size: 4100}, {Path: "a | <b>.js", Size: 12}}, Upload: 3 << 20,
			From: publish.PlanPoint{Seq: 183, Hash: before, Artifact: "nodeapi/releases/old.tar.zst"}, To: publish.PlanPoint{Seq: 184, Hash: hash, Artifact: "nodeapi/releases/new.tar.zst"}},
	}
	unchanged := result()
	unchanged.Outcome, unchanged.Uploaded = deployment.Unchanged, 0
	for i := range unchanged.Servers {
		s := &unchanged.Servers[i]
		s.Outcome, s.Steps, s.Pulled = deployment.Unchanged, nil, 0
	}
	back := result()
	back.Command, back.Version, back.Previous, back.Message, back.Servers = publish.Rollback, before, hash, "Say hello", back.Servers[:1]
	back.Servers[0].Hash = before
	back.Phases = []publish.Phase{{Name: "Find the release", TookMS: 1460}, back.Phases[2], back.Phases[3]}
	return map[string]Page{
		"deployed":    {Result: result(), Repository: repository},
		"rolled-back": {Result: rolledBack(), Repository: repository, Advice: advice},
		"unchanged":   {Result: unchanged, Repository: repository},
		"rollback":    {Result: back, Repository: repository, Why: "the page is blank"},
		"dry-run":     {Result: dry, Repository: repository},
		"refused": {Failed: true, Fix: "create the bucket, or correct bucket, aws-region and endpoint-url", Result: &publish.Result{Command: publish.Deploy, App: "nodeapi",
			Environment: "production", Outcome: deployment.Failed, Reason: "bucket my-deploys: there is no such bucket", Took: 90 * time.Millisecond}},
		"inputs": {Failed: true, Problems: []string{"input app: required", "input wait: \"x\": want true or false"}, Result: &publish.Result{Outcome: deployment.Failed, Reason: "input app: required"}},
	}
}

// However long an app's lines are, the cause and the fix are there, and as many of the last lines as there is room for.
func TestLongLinesHideNoCause(t *testing.T) {
	r := rolledBack()
	s := &r.Servers[1]
	s.Log = nil
	for i := range 40 {
		s.Log = append(s.Log, fmt.Sprintf("%d %s", i, strings.Repeat("\"", 390)))
	}
	page := Page{Result: r, Advice: advice}.Markdown()
	for _, want := range []string{"**Cause:**", "**Fix:**", "<details open><summary>Last ", "39 &#34;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(page, "left out here") || strings.Contains(page, "\n<pre>0 ") {
		t.Error("want the cause, and the last lines rather than the first")
	}
}

// What somebody wrote is in a fence that its own backticks do not end.
func TestQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "`plain`", "a ` b": "``a ` b``", "`a`": "`` `a` ``", "``": "` `` `", "` ``": "``` ` `` ```", "a | b": "`a \\| b`", "a\nb": "`a b`",
	} {
		if got := quoted(text, true); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got, want := quoted("a | b", false), "`a | b`"; got != want {
		t.Errorf("outside of a table: got %q, want %q", got, want)
	}
}

func TestPages(t *testing.T) {
	for name, page := range pages() {
		path := filepath.Join("testdata", name+".md")
		got := page.Markdown()
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s (-update writes it): got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// A page says all that it is for: what went well or wrong, why, what helps, what the probe and the app said.
func TestPageOfAFailureSaysWhatHelps(t *testing.T) {
	page := pages()["rolled-back"].Markdown()
	for _, want := range []string{"### ❌ rolled-back: nodeapi on production", "is live and healthy on 2 of 3 servers", "#### ❌ web-2: rolled-back", "**Cause:** `not healthy within 5s",
		"**Check failed:** `3 attempts", "**Fix:** the previous release is live again", "Last 3 lines of the app on web-2", "Error: cannot read settings.json",
		"/compare/" + before + "..." + hash, "| web-1 | ✅\u00a0deployed |", "| web-2 | ❌\u00a0rolled-back |", "```mermaid", "check 5.0 s :crit, "} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	if cause, table := strings.Index(page, "**Cause:**"), strings.Index(page, "| Server |"); cause > table {
		t.Error("the cause stands below the table")
	}
}

// Whatever comes in, the page stays small and whole.
func TestPageStaysSmall(t *testing.T) {
	r := rolledBack()
	r.Message, r.Reason, r.URL = strings.Repeat("&", 1000), strings.Repeat("|", 1000), "https://"+strings.Repeat("&", 2000)
	r.Plan = &publish.Plan{To: publish.PlanPoint{Seq: 1, Artifact: strings.Repeat("<", 1000)}}
	for range 500 {
		r.Plan.Files = append(r.Plan.Files, publish.File{Path: strings.Repeat("&", 1024)})
	}
	one := r.Servers[1]
	one.Reason, one.Log = strings.Repeat("&", 500), nil
	for range 40 {
		one.Log = append(one.Log, strings.Repeat("<", 400))
		one.Steps = append(one.Steps, publish.StepResult{Step: deployment.Check, State: deployment.StepFail, Message: strings.Repeat("|", 500)})
	}
	for i := range 500 {
		one.Name = fmt.Sprintf("web-%d", i)
		r.Servers = append(r.Servers, one)
	}
	page := Page{Result: r, Failed: true, Fix: strings.Repeat("|", 1000), Why: strings.Repeat("|", 500), Repository: "https://github.com/acme/web", Advice: func(publish.ServerResult) string { return strings.Repeat("|", 1000) }}.Markdown()
	if len(page) > Max {
		t.Errorf("got %d bytes, want at most %d", len(page), Max)
	}
	for _, want := range []string{" more are left out here", "| and ", "and 12", "<details>", "```\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Count(page, "<details>") != strings.Count(page, "</details>") || strings.Count(page, "```")%2 != 0 {
		t.Error("something is not closed")
	}
}
