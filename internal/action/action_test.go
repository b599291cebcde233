package action

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const sha = "e02371ab6db3a60c3f9ead35e36187c91155b5a1"

func TestDeploy(t *testing.T) {
	j := newJob(t)
	j.event(map[string]any{"head_commit": map[string]any{"id": sha, "message": "Add the page\n\nand more", "timestamp": "2026-11-23T13:06:43+01:00"}})
	server := j.agent(
		deployment.Event{Step: deployment.Fetch, State: deployment.Done, Bytes: 4096, TookMS: 120},
		deployment.Event{Step: deployment.End, State: deployment.Done, Outcome: deployment.Deployed},
	)
	e := j.with("servers", server, "version-file", "version.js", "environment-url", "https://web.example").run()
	if e.code != 0 {
		t.Fatalf("got exit code %d:\n%s", e.code, e.log)
	}
	p := j.pointer().Pointer()
	if p.Release != (release.Release{Hash: sha, Msg: "Add the page", Date: "2026-11-23T13:06:43+01:00"}) {
		t.Errorf("release: got %+v", p.Release)
	}
	if want := (release.Run{URL: "https://github.com/acme/web/actions/runs/77", Actor: "ada", Repository: "acme/web", Ref: "refs/heads/main"}); p.Run == nil || *p.Run != want {
		t.Errorf("run: got %+v, want %+v", p.Run, want)
	}
	for name, want := range map[string]string{
		"outcome": "deployed", "version": sha, "previous-version": "", "seq": "1", "url": "https://web.example", "deployment-id": "",
		"artifact-key": p.Artifact.Key, "artifact-sha256": p.Artifact.SHA256, "artifact-size": fmt.Sprint(p.Artifact.Size), "uploaded-bytes": fmt.Sprint(p.Artifact.Size),
	} {
		if got := e.outputs[name]; got != want {
			t.Errorf("output %s: got %q, want %q", name, got, want)
		}
	}
	var servers []map[string]any
	if err := json.Unmarshal([]byte(e.outputs["servers"]), &servers); err != nil || len(servers) != 1 || servers[0]["outcome"] != "deployed" || servers[0]["hash"] != sha {
		t.Errorf("output servers: got %s, %v", e.outputs["servers"], err)
	}
	if len(e.outputs) != len(outputs) {
		t.Errorf("outputs: got %d, want %d", len(e.outputs), len(outputs))
	}
	for _, want := range []string{"::group::Pack", "::group::Upload", "::group::Promote", "::endgroup::", "web-1  fetch done, 4.0 KiB, in 120 ms", "web-1  deployed: live and healthy"} {
		if !strings.Contains(e.log, want) {
			t.Errorf("log does not say %q:\n%s", want, e.log)
		}
	}
	if lines := strings.Split(strings.TrimSpace(e.log), "\n"); !strings.HasPrefix(lines[len(lines)-1], "deployed: web e02371ab6db3 on production, seq 1, 1 of 1 servers live and healthy, in ") {
		t.Errorf("last line: got %q", lines[len(lines)-1])
	}
	if !strings.Contains(e.summary, "### ✅ deployed: web on production") || !strings.Contains(e.summary, "| web-1 | ✅\u00a0deployed | [`e02371ab6db3`](https://github.com/acme/web/commit/"+sha+") | 4.0\u00a0KiB | ") {
		t.Errorf("summary: got\n%s", e.summary)
	}
	if _, err := os.Stat(filepath.Join(j.workspace, "dist/version.js")); err == nil {
		t.Error("version.js was written into the workspace")
	}
	// Once more, with a change: bytes, previous version, and the link that compares both.
	next := strings.Repeat("b", 40)
	j.write("dist/index.html", "<h1>bye</h1>")
	e = j.with("servers", server, "GITHUB_SHA", next, "summary", "false").run()
	if e.code != 0 || e.outputs["previous-version"] != sha || e.outputs["seq"] != "2" || e.summary != "" {
		t.Errorf("second: got %d, %v, summary %q", e.code, e.outputs, e.summary)
	}
	if p := j.pointer().Pointer(); p.Release.Date != "1980-01-01T00:00:00Z" || p.Release.Msg != "" {
		t.Errorf("a commit that nobody knows: got %+v", p.Release)
	}
	e = j.with("servers", server, "command", "rollback", "reason", "too sad", "path", "").run()
	if e.code != 0 || e.outputs["outcome"] != "deployed" || e.outputs["version"] != sha || !strings.Contains(e.summary, "/compare/"+sha+"..."+next) {
		t.Errorf("rollback: got %d, %v\n%s", e.code, e.outputs, e.log)
	}
}

func TestRolledBackIsRed(t *testing.T) {
	j := newJob(t)
	e := j.with("servers", j.agent(deployment.Event{Step: deployment.End, State: deployment.Done, Outcome: deployment.RolledBack,
		Reason: "probe answered 503", Log: []string{"Error: the flux capacitor is missing"}})).run()
	if e.code != deployment.ExitUnwell || e.outputs["outcome"] != "rolled-back" {
		t.Errorf("got exit %d, outcome %q, want 3, rolled-back", e.code, e.outputs["outcome"])
	}
	for _, want := range []string{"::error::web-1: rolled-back: probe answered 503%0Ahint: the previous release is live again", "web-1  | Error: the flux capacitor is missing"} {
		if !strings.Contains(e.log, want) {
			t.Errorf("log does not say %q:\n%s", want, e.log)
		}
	}
	if !strings.Contains(e.summary, "### ❌ rolled-back") || !strings.Contains(e.summary, "flux capacitor") {
		t.Errorf("summary: got\n%s", e.summary)
	}
}
