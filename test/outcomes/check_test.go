package outcomes

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/fakegithub"
	"github.com/towline/towline/test/parts"
)

// want is what must come of a step.
type want struct {
	outcome  string
	red      bool
	version  string // "-" for none
	previous string
	moved    bool     // the pointer was moved: seq is one above the one before
	servers  string   // "web-1 deployed, ghost timed-out"; the reason of one is looked for in reason
	states   string   // of the run's GitHub deployment, in their order; empty: GitHub was told nothing
	adopted  *int64   // id of the deployment that is used; nil: one that was made
	inactive int      // older deployments that were made inactive
	live     string   // at the end
	later    bool     // live is reached after the step only
	written  []string // of artifact, release, history and pointer; nil with moved: all of them
	log      []string // lines in the log hold these, without colours
	summary  []string // likewise
	errors   []string // each in an error annotation, and the number of those; every one has a hint
	notice   string
	warning  string
	groups   string // phases, in their order
}

// check looks at everything that one step has left.
type check struct {
	*testing.T
	w             *world
	row           row
	runID         string
	step          parts.ActStep
	before, after *mark
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

func (c *check) all() {
	if c.before == nil || c.after == nil {
		c.Fatal("the job did not call back")
	}
	want := c.row.want
	outcome := map[bool]string{false: "success", true: "failure"}[want.red]
	if c.after.outcome != outcome {
		c.Errorf("step: got %q, want %s", c.after.outcome, outcome)
	}
	c.outputs()
	c.log()
	c.annotations()
	c.summary()
	c.github()
	c.bucket()
	if got := c.after.live[c.row.app]; got != want.live {
		c.Errorf("live at the end: got %q, want %q", got, want.live)
	}
	if c.Failed() {
		c.Logf("the step's log:\n%s\nsummary:\n%s", c.step.Log, c.step.Summary)
	}
}

// declared are the outputs that action.yml names.
func declared(t *testing.T) []string {
	t.Helper()
	var file struct{ Outputs yaml.MapSlice }
	if err := yaml.Unmarshal([]byte(actionFile(t)), &file); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range file.Outputs {
		names = append(names, fmt.Sprint(item.Key))
	}
	return names
}

func (c *check) equal(what, got, want string) {
	c.Helper()
	if got != want {
		c.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (c *check) outputs() {
	want, out := c.row.want, c.step.Outputs
	for _, name := range declared(c.T) {
		if _, ok := out[name]; !ok {
			c.Errorf("output %s is missing", name)
		}
	}
	c.equal("output outcome", out["outcome"], want.outcome)
	c.equal("output version", out["version"], want.version)
	c.equal("output previous-version", out["previous-version"], want.previous)
	if url := address(c.row.app); want.version != "" {
		c.equal("output url", out["url"], url)
	}
	if _, err := strconv.ParseUint(out["duration-ms"], 10, 64); err != nil {
		c.Errorf("output duration-ms: got %q", out["duration-ms"])
	}
	var r publish.Result
	if err := json.Unmarshal([]byte(out["report"]), &r); err != nil || len(out["report"]) > publish.MaxReport {
		c.Fatalf("output report: %v, %d bytes", err, len(out["report"]))
	}
	c.equal("report: outcome", string(r.Outcome), want.outcome)
	c.equal("report: version", r.Version, out["version"])
	c.equal("report: previous version", r.Previous, out["previous-version"])
	c.equal("report: seq", number(int64(r.Seq)), out["seq"])
	c.equal("report: artifact", r.Artifact.Key+" "+r.Artifact.SHA256+" "+number(r.Artifact.Size), out["artifact-key"]+" "+out["artifact-sha256"]+" "+out["artifact-size"])
	c.equal("report: uploaded", strconv.FormatInt(r.Uploaded, 10), out["uploaded-bytes"])
	c.equal("report: url", r.URL, out["url"])
	var servers []publish.ServerResult
	if err := json.Unmarshal([]byte(out["servers"]), &servers); err != nil {
		c.Errorf("output servers: %v in %s", err, out["servers"])
	}
	var got, reported []string
	for _, s := range servers {
		got = append(got, s.Name+" "+string(s.Outcome))
		if good := s.Outcome == deployment.Deployed || s.Outcome == deployment.Unchanged; good && (s.Hash != out["version"] || number(int64(s.Seq)) != out["seq"]) {
			c.Errorf("output servers: %s is well on %s, seq %d, want %s, %s", s.Name, s.Hash, s.Seq, out["version"], out["seq"])
		}
	}
	for _, s := range r.Servers {
		reported = append(reported, s.Name+" "+string(s.Outcome))
	}
	c.equal("output servers", strings.Join(got, ", "), want.servers)
	c.equal("report: servers", strings.Join(reported, ", "), want.servers)
}

// number is n, and nothing for 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// lines are the log's without colours and without the commands that the runner obeyed.
func (c *check) lines() []string {
	var lines []string
	for line := range strings.Lines(colours.ReplaceAllString(c.step.Log, "")) {
		if line = strings.TrimRight(line, "\r\n"); !strings.HasPrefix(line, "::") {
			lines = append(lines, line)
		}
	}
	return lines
}

func (c *check) log() {
	want, lines := c.row.want, c.lines()
	final := want.outcome // where the inputs were not good, nothing more is known
	if want.version != "" {
		final = fmt.Sprintf("%s: %s on production", want.outcome, strings.TrimSpace(c.row.app+" "+release.ShortHash(want.version)))
	}
	if c.row.with["command"] == "publish" {
		final = fmt.Sprintf("published: %s %s is in the bucket; no pointer was moved", c.row.app, release.ShortHash(want.version))
	}
	if n := len(lines); n == 0 || !strings.HasPrefix(lines[n-1], final) {
		c.Errorf("last line: want %q", final)
	}
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, final) }); i != len(lines)-1 {
		c.Errorf("the final line is there more than once, first as line %d of %d", i+1, len(lines))
	}
	text := strings.Join(lines, "\n")
	for _, part := range want.log {
		if !strings.Contains(text, part) {
			c.Errorf("the log does not say %q", part)
		}
	}
	if want.servers != "" && !want.red && !want.later && !strings.Contains(want.servers, "unchanged") && want.moved {
		for _, step := range []string{"fetch", "unpack", "activate", "check", "confirm"} {
			if !slices.ContainsFunc(lines, func(line string) bool {
				return strings.HasPrefix(line, "web-1 ") && strings.Contains(line, step+" done")
			}) {
				c.Errorf("the log does not tell of the server's %s", step)
			}
		}
	}
	// Groups are closed before the next one begins, and in the end.
	var groups []string
	open := false
	for _, command := range c.step.Obeyed {
		switch command.Name {
		case "group":
			if open {
				c.Errorf("group %s begins within another", command.Arg)
			}
			open, groups = true, append(groups, command.Arg)
		case "endgroup":
			open = false
		}
	}
	if open {
		c.Error("a group is left open")
	}
	c.equal("groups", strings.Join(groups, ", "), want.groups)
	for _, secret := range []string{c.w.key.Reveal(), c.w.s3.SecretKey, jobToken} {
		// The log that act keeps has the commands unmasked.
		if strings.Contains(strings.ReplaceAll(c.step.Log, "::add-mask::"+secret+"\n", ""), secret) {
			c.Error("the log shows a secret")
		}
	}
}

func (c *check) annotations() {
	var errors, warnings, notices []string
	for _, command := range c.step.Obeyed {
		switch text := colours.ReplaceAllString(command.Arg, ""); command.Name {
		case "error":
			errors = append(errors, text)
		case "warning":
			warnings = append(warnings, text)
		case "notice":
			notices = append(notices, text)
		case "add-mask":
			// A token of the job is another secret.
			if !slices.Contains([]string{c.w.key.Reveal(), c.w.s3.SecretKey, jobToken, fakegithub.IDRequestToken}, command.Arg) && !strings.HasPrefix(command.Arg, "ey") {
				c.Errorf("what is no secret was masked: %q", command.Arg)
			}
		case "stop-commands":
			if !strings.HasPrefix(command.Arg, "towline-") {
				c.Errorf("commands were stopped by somebody else's word: %q", command.Arg)
			}
		case "group", "endgroup", "debug":
		default:
			if !strings.HasPrefix(command.Name, "towline-") {
				c.Errorf("the runner obeyed a command that nobody meant: %+v", command)
			}
		}
	}
	if len(errors) > 10 || len(errors) != len(c.row.want.errors) {
		c.Fatalf("got %d error annotations, want %d: %q", len(errors), len(c.row.want.errors), errors)
	}
	for i, part := range c.row.want.errors {
		helps := strings.Contains(errors[i], "\nhint: ") || strings.HasPrefix(errors[i], "input ") // which says what it takes
		if !strings.Contains(errors[i], part) || !helps {
			c.Errorf("error annotation %d: got %q, want %q and a hint", i+1, errors[i], part)
		}
	}
	c.only("notice", notices, c.row.want.notice)
	c.only("warning", warnings, c.row.want.warning)
}

// only makes sure that there is one annotation with the text, or none where want is empty.
func (c *check) only(kind string, got []string, want string) {
	c.Helper()
	if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
		c.Errorf("%s annotations: got %q, want %q alone", kind, got, want)
	}
}

func (c *check) summary() {
	want, page := c.row.want, readable(c.step.Summary)
	parts := append([]string{want.outcome, release.ShortHash(want.version)}, want.summary...)
	for _, server := range strings.Split(want.servers, ", ") {
		parts = append(parts, strings.Fields(server)...)
	}
	for _, part := range parts {
		if !strings.Contains(page, part) {
			c.Errorf("the summary does not say %q", part)
		}
	}
	if len(c.step.Summary) > 64<<10 {
		c.Errorf("the summary has %d bytes", len(c.step.Summary))
	}
}

var reference = regexp.MustCompile(`&#(\d+);`)

// readable is a summary with its character references as a person reads them.
func readable(page string) string {
	page = reference.ReplaceAllStringFunc(page, func(s string) string {
		n, _ := strconv.Atoi(s[2 : len(s)-1])
		return string(rune(n))
	})
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&amp;", "&").Replace(page)
}

func (c *check) github() {
	want := c.row.want
	if n := c.after.requests - c.before.requests; n > maxRequests {
		c.Errorf("%d calls to GitHub, want at most %d", n, maxRequests)
	}
	c.Logf("%d calls to GitHub", c.after.requests-c.before.requests)
	ids, statuses := told(c.before, c.after)
	var own string
	inactive := 0
	for _, id := range ids {
		var states []string
		for _, s := range statuses[id] {
			states = append(states, s.State)
			if n := utf8.RuneCountInString(s.Description); n == 0 || n > 140 {
				c.Errorf("deployment %d, %s: a description of %d runes: %q", id, s.State, n, s.Description)
			}
		}
		if text := strings.Join(states, " "); text == "inactive" && number(id) != c.step.Outputs["deployment-id"] {
			inactive++
			continue
		} else if own != "" {
			c.Errorf("two deployments were told of: %d", ids)
		} else {
			own = text
		}
		c.equal("output deployment-id", c.step.Outputs["deployment-id"], number(id))
		for _, s := range statuses[id] {
			c.equal("log_url", s.LogURL, "https://github.com/"+repository+"/actions/runs/"+c.runID)
			c.equal("environment_url", s.EnvironmentURL, address(c.row.app))
		}
		last := statuses[id][len(statuses[id])-1]
		if !strings.HasPrefix(last.Description, want.outcome) {
			c.Errorf("description: got %q, want it to begin with %s", last.Description, want.outcome)
		}
		if want.adopted != nil && id != *want.adopted {
			c.Errorf("deployment %d was told of, want %d", id, *want.adopted)
		}
	}
	c.equal("states on GitHub", own, want.states)
	if own == "" {
		c.equal("output deployment-id", c.step.Outputs["deployment-id"], "")
	}
	if inactive != want.inactive {
		c.Errorf("%d older deployments became inactive, want %d", inactive, want.inactive)
	}
	made := len(c.after.deployments) - len(c.before.deployments)
	if need := map[bool]int{true: 1}[own != "" && want.adopted == nil]; made != need {
		c.Errorf("%d deployments were made, want %d", made, need)
	}
}

// bucket looks at what was written.
func (c *check) bucket() {
	want := c.row.want
	kinds := want.written
	if want.moved && kinds == nil {
		kinds = []string{"artifact", "release", "history", "pointer"}
	}
	var got []string
	for _, key := range written(c.before, c.after) {
		switch rest := strings.TrimPrefix(key, c.row.app+"/"); {
		case rest == "production/version.json":
			got = append(got, "pointer")
		case strings.HasPrefix(rest, "production/history/"):
			got = append(got, "history")
		case strings.HasPrefix(rest, "releases/") && strings.HasSuffix(rest, ".tar.zst"):
			got = append(got, "artifact")
		case strings.HasPrefix(rest, "releases/") && strings.HasSuffix(rest, ".json"):
			got = append(got, "release")
		default:
			got = append(got, key)
		}
	}
	slices.Sort(got)
	slices.Sort(kinds)
	c.equal("written", strings.Join(got, " "), strings.Join(kinds, " "))
	if want.moved != (c.step.Outputs["seq"] != "") && c.row.with["command"] != "status" {
		c.Errorf("output seq: got %q, pointer moved: %v", c.step.Outputs["seq"], want.moved)
	}
}
