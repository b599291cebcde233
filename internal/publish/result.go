package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Errors that decide the exit code, beside *UsageError, release.ErrVerify and fs.ErrPermission.
var (
	// ErrUnknownRelease says that no release of the app has the version asked for.
	ErrUnknownRelease = errors.New("no such release")
	// ErrAmbiguous says that several have the prefix asked for; the text lists them.
	ErrAmbiguous = errors.New("ambiguous version")
)

// ReportType is the type of a report; docs/report.schema.json describes it. Fields are added, never changed.
const ReportType = "report.v1"

// MaxReport bounds Result.Report, in bytes.
const MaxReport = 32 << 10

// Result is everything that a run has to say at its end.
type Result struct {
	Type        string             `json:"type"` // filled in by Report
	Command     Command            `json:"command"`
	App         string             `json:"app"`
	Environment string             `json:"environment"`
	Outcome     deployment.Outcome `json:"outcome"`
	Reason      string             `json:"reason,omitempty"` // one line, untrusted where a server gave it
	Version     string             `json:"version,omitempty"`
	Message     string             `json:"msg,omitempty"`              // untrusted
	Previous    string             `json:"previous_version,omitempty"` // where the pointer stood before
	Seq         uint64             `json:"seq,omitempty"`              // of the pointer written; 0 when none was
	Artifact    release.Artifact   `json:"artifact,omitzero"`
	Uploaded    int64              `json:"uploaded_bytes"`
	URL         string             `json:"url,omitempty"`
	Servers     []ServerResult     `json:"servers"`
	Phases      []Phase            `json:"phases"`
	Warnings    []string           `json:"warnings,omitempty"`
	Took        time.Duration      `json:"-"`
	TookMS      int64              `json:"duration_ms"`
	Truncated   bool               `json:"truncated,omitempty"` // texts were left out to keep the report small
	Status      *EnvironmentStatus `json:"status,omitempty"`    // of command status
	DryRun      bool               `json:"dry_run,omitempty"`
	Plan        *Plan              `json:"plan,omitempty"`      // of a dry run
	Moved       bool               `json:"moved,omitempty"`     // the pointer names Version now
	Cancelled   bool               `json:"cancelled,omitempty"` // by whoever called, before it was over
}

// ServerResult is how one server ended. All of it but Name and URL comes from the server and is untrusted.
type ServerResult struct {
	Name    string             `json:"name"`
	URL     string             `json:"url"`
	Outcome deployment.Outcome `json:"outcome"`
	Seq     uint64             `json:"seq"`
	Hash    string             `json:"hash"`
	Reason  string             `json:"reason"`
	TookMS  int64              `json:"took_ms"` // from the pointer's move to the terminal word

	Pulled int64        `json:"pulled_bytes"` // over the network
	Steps  []StepResult `json:"steps,omitempty"`

	Log     []string `json:"-"` // last lines of the unit's journal, cleaned
	Unknown bool     `json:"-"` // the outcome is our guess: what is live there was not heard

	follows uint64 // the highest seq that it speaks of
}

// Phase is one phase and what it took.
type Phase struct {
	Name    string `json:"name"`
	StartMS int64  `json:"start_ms"` // since the run began
	TookMS  int64  `json:"took_ms"`
}

// ServersJSON is the servers as the output of that name has them.
func (r *Result) ServersJSON() string {
	type output struct {
		Name    string             `json:"name"`
		URL     string             `json:"url"`
		Outcome deployment.Outcome `json:"outcome"`
		Seq     uint64             `json:"seq"`
		Hash    string             `json:"hash"`
		Reason  string             `json:"reason"`
		TookMS  int64              `json:"took_ms"`
	}
	out := []output{}
	for _, s := range r.Servers {
		out = append(out, output{s.Name, s.URL, s.Outcome, s.Seq, s.Hash, s.Reason, s.TookMS})
	}
	return marshal(out)
}

// Report is the result as JSON of at most MaxReport bytes; long texts are left out before servers are.
func (r *Result) Report() string {
	c := *r
	c.Type, c.TookMS = ReportType, r.Took.Milliseconds()
	c.Servers = append([]ServerResult{}, r.Servers...)
	c.Phases = append([]Phase{}, r.Phases...)
	text := marshal(c)
	if len(text) > MaxReport {
		c.Truncated = true
		for i := range c.Servers {
			c.Servers[i].Steps = nil
		}
		text = marshal(c)
	}
	for limit := 200; len(text) > MaxReport && limit > 0; limit -= 100 {
		c.Truncated, c.Status, c.Warnings = true, nil, nil
		for i := range c.Servers {
			c.Servers[i].Reason = release.CleanText(c.Servers[i].Reason, limit-100)
		}
		text = marshal(c)
	}
	for len(text) > MaxReport && len(c.Servers) > 0 {
		c.Servers = c.Servers[:len(c.Servers)/2]
		text = marshal(c)
	}
	return text
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs: cannot happen
	}
	return string(b)
}

// ExitCode is the exit code of a run: of its error, else of its outcome.
func ExitCode(o Options, r *Result, err error) int {
	var usage *UsageError
	switch {
	case err == nil && r.Outcome == deployment.Superseded && o.OnSuperseded == "fail":
		return deployment.ExitError
	case err == nil:
		return r.Outcome.ExitCode()
	case errors.As(err, &usage), errors.Is(err, fs.ErrPermission):
		return deployment.ExitUsage
	case errors.Is(err, ErrUnknownRelease), errors.Is(err, ErrAmbiguous):
		return deployment.ExitUnknown
	case errors.Is(err, release.ErrVerify):
		return deployment.ExitRefused
	}
	return deployment.ExitError
}

// Hint is what most likely helps against an error of Run, empty when nothing general does.
func Hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "let these credentials list the bucket, and read and write below the app's prefix"
	case errors.Is(err, errUnsigns):
		return "pass signing-key; to give signatures up on purpose, change every server first, then delete version.json and history of this environment"
	case errors.Is(err, release.ErrUnsigned):
		return "somebody has published with trust: none; delete that object, or find out who can write to the bucket"
	case errors.Is(err, release.ErrVerify):
		return "if it was signed by a key now replaced, add that public key to trusted-keys; if nobody of yours wrote it, find out who can write to the bucket"
	case errors.Is(err, ErrAmbiguous):
		return "write more of the version"
	case errors.Is(err, ErrUnknownRelease):
		return "towline releases lists what is in the bucket"
	}
	return ""
}

// LastLine is the run in one line.
func (r *Result) LastLine() string {
	if r.App == "" {
		return fmt.Sprintf("%s, in %s", r.Outcome, Took(r.Took)) // the inputs were not even read
	}
	name := strings.TrimSpace(r.App + " " + short(r.Version))
	text := fmt.Sprintf("%s: %s on %s", r.Outcome, name, r.Environment)
	if r.Seq > 0 {
		text += fmt.Sprintf(", seq %d", r.Seq)
	}
	if r.Command == Publish && r.Outcome == deployment.Published {
		text = fmt.Sprintf("%s: %s is in the bucket; no pointer was moved", r.Outcome, name)
	}
	good, awaited := 0, 0
	for _, s := range r.Servers {
		if healthy(s.Outcome) {
			good++
		}
		if s.Outcome != deployment.Published {
			awaited++
		}
	}
	if awaited > 0 {
		text += fmt.Sprintf(", %d of %d servers live and healthy", good, awaited)
	}
	return text + ", in " + Took(r.Took)
}

func healthy(o deployment.Outcome) bool { return o == deployment.Deployed || o == deployment.Unchanged }
