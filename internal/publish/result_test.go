package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/schema"
)

func TestReportStaysSmall(t *testing.T) {
	r := &Result{App: "web", Outcome: deployment.Failed}
	for i := range 2000 {
		r.Servers = append(r.Servers, ServerResult{Name: fmt.Sprintf("web-%d", i), Outcome: deployment.Failed, Reason: strings.Repeat("ä", 500)})
	}
	text := r.Report()
	var back Result
	if err := json.Unmarshal([]byte(text), &back); err != nil || len(text) > MaxReport || !back.Truncated || len(back.Servers) == 0 {
		t.Errorf("got %d bytes, %d servers, truncated %v, %v", len(text), len(back.Servers), back.Truncated, err)
	}
	if got := len(r.Servers); got != 2000 || len([]rune(r.Servers[0].Reason)) != 500 {
		t.Errorf("the result itself was changed: %d servers", got)
	}
}

// Whatever makes a report long, it comes to an end.
func TestReportOfLongTexts(t *testing.T) {
	r := whole()
	r.URL, r.Servers = "https://web.example/"+strings.Repeat("x", 60<<10), r.Servers[:1]
	for range 500 {
		r.Warnings = append(r.Warnings, strings.Repeat("careful", 20))
	}
	if text := r.Report(); !strings.Contains(text, `"truncated":true`) {
		t.Errorf("got %d bytes, not truncated", len(text))
	}
	r.URL = ""
	var back Result
	if err := json.Unmarshal([]byte(r.Report()), &back); err != nil || len(back.Servers) != 1 {
		t.Errorf("warnings: got %d servers, %v, want the server kept and the warnings left out", len(back.Servers), err)
	}
}

// whole is a result in which every field says something.
func whole() *Result {
	sum := strings.Repeat("a", 64)
	return &Result{
		Command: Deploy, App: "web", Environment: "production", Outcome: deployment.RolledBack, Reason: "web-1: said no",
		Version: commit(2), Message: "say hello", Previous: commit(1), Seq: 2, Uploaded: 9, URL: "https://web.example",
		Artifact: release.Artifact{Key: "web/releases/x.tar.zst", SHA256: sum, Size: 9, UnpackedSize: 20, Entries: 2, Format: release.FormatZstd,
			Index: &release.Index{Offset: 5, Size: 4, SHA256: sum}},
		Servers: []ServerResult{{Name: "web-1", URL: one, Outcome: deployment.RolledBack, Seq: 2, Hash: commit(2), Reason: "said no", TookMS: 7, Pulled: 9,
			Steps: []StepResult{{Step: deployment.Check, State: deployment.StepFail, StartMS: 3, TookMS: 2, Bytes: 1, Message: "503"}}}},
		Phases: []Phase{{Name: "Pack", StartMS: 0, TookMS: 1}}, Warnings: []string{"careful"}, Took: time.Second, Truncated: true, DryRun: true,
		Plan: &Plan{Upload: 9, From: PlanPoint{1, commit(1), "a"}, To: PlanPoint{2, commit(2), "b"}}, Moved: true, Cancelled: true,
		Status: &EnvironmentStatus{Pointer: &release.Pointer{}, Receipts: []deployment.Receipt{{}}},
	}
}

// The schema says what is in a report: each field of one is in the other, and what is empty is allowed to be.
func TestReportIsAsItsSchemaSays(t *testing.T) {
	schema.Check(t, "report", whole().Report())
	schema.Check(t, "report", (&Result{Outcome: deployment.Failed}).Report())

	data, err := os.ReadFile(schema.Path("report"))
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties map[string]object
		Items      *object
		Defs       map[string]object `json:"$defs"`
	}
	var described object
	if err := json.Unmarshal(data, &described); err != nil {
		t.Fatal(err)
	}
	var report map[string]any
	if err := json.Unmarshal([]byte(whole().Report()), &report); err != nil {
		t.Fatal(err)
	}
	same := func(what string, got any, want object) {
		t.Helper()
		got, want2 := slices.Sorted(maps.Keys(got.(map[string]any))), slices.Sorted(maps.Keys(want.Properties))
		if !reflect.DeepEqual(got, want2) {
			t.Errorf("%s: a report has %q, the schema %q", what, got, want2)
		}
	}
	server := report["servers"].([]any)[0].(map[string]any)
	same("report", report, described)
	same("server", server, described.Defs["server"])
	same("step", server["steps"].([]any)[0], *described.Defs["server"].Properties["steps"].Items)
	same("phase", report["phases"].([]any)[0], *described.Properties["phases"].Items)
	same("plan", report["plan"], described.Properties["plan"])
	same("artifact", report["artifact"], described.Properties["artifact"])
}

// The output of that name has the fields that the contract gives it, and no others.
func TestServersOutput(t *testing.T) {
	want := fmt.Sprintf(`[{"name":"web-1","url":%q,"outcome":"rolled-back","seq":2,"hash":%q,"reason":"said no","took_ms":7}]`, one, commit(2))
	if got := whole().ServersJSON(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := (&Result{}).ServersJSON(); got != "[]" {
		t.Errorf("no servers: got %s", got)
	}
}

// A run that is told to end says how far it came.
func TestCancelledSaysHowFarItCame(t *testing.T) {
	for name, tt := range map[string]struct {
		at    string // the key before whose writing the run is cancelled
		want  string
		moved bool
	}{
		"packed":   {release.ArtifactKey("web", commit(1), "", release.FormatGzip)[:13], "cancelled before the pointer was touched", false},
		"promoted": {"web/production/version.json", "cancelled while the pointer was moved to seq 1: the next run says whether it was", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.bucket.beforePut = func(b *memory, key string) {
				if strings.HasPrefix(key, tt.at) {
					cancel()
					b.mu.Lock()
					b.fail = func(string, string) error { return context.Canceled }
					b.mu.Unlock()
				}
			}
			r, err := Run(ctx, s.parts(commit(1)))
			if err == nil || !r.Cancelled || r.Reason != tt.want || r.Moved != tt.moved || r.Outcome != deployment.Failed {
				t.Errorf("got %v, %+v, want reason %q", err, r, tt.want)
			}
		})
	}
}

// A pointer that stays behind the history is said, and gone on from: of a run that was killed between the two.
func TestNextRunSaysWhatItFound(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	s.bucket.place(release.HistoryKey("web", "production", 2), s.pointerFile(2, s.pointer().Digest(), commit(2)))
	r := s.must(commit(3))
	if want := "the history has seq 2, release " + release.ShortHash(commit(2)) + ", and the pointer is at seq 1"; r.Seq != 3 || strings.Count(s.log.text(), want) != 1 {
		t.Errorf("got seq %d, want 3 and once %q:\n%s", r.Seq, want, s.log.text())
	}
	s.linear()
}

func TestPlanOfADryRun(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	before := s.bucket.writes
	r := s.with("dry-run", "true").must(commit(2))
	artifact := r.Artifact
	want := Plan{Files: []File{{"index.html", 90}, {"version.js", 10}}, Upload: artifact.Size,
		From: PlanPoint{1, commit(1), s.pointer().Pointer().Artifact.Key}, To: PlanPoint{2, commit(2), artifact.Key}}
	if !reflect.DeepEqual(*r.Plan, want) || s.bucket.writes != before {
		t.Errorf("got %+v, %d writes, want %+v and none", *r.Plan, s.bucket.writes-before, want)
	}
	if r = s.with("dry-run", "true").must(commit(1)); r.Plan.Upload != 0 {
		t.Errorf("what is there already: got %d bytes to upload", r.Plan.Upload)
	}
}
