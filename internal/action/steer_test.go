package action

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

// evil is what an app might log to have the runner do something, in all the ways that a runner or a page may take text for
// more than text. Whatever is obeyed has boom in it.
var evil = []string{
	"::error::boom", "::error file=boom,line=1::boom", "::set-output name=boom::boom", "::save-state name=boom::boom", "::set-env name=boom::boom",
	"::add-path::/boom", "::add-mask::boom", "::debug::boom", "::group::boom", "::endgroup::boom", "::echo::boom", "::add-matcher::boom.json", "::STOP-COMMANDS::boom",
	"::stop-commands::boom", "::boom::", "::towline-::boom", "::pause-logging::boom", "  ::warning::boom", "\t::warning::boom", "\u00a0\u3000::warning::boom",
	"##[error]boom", "##[group]boom", "##[add-mask]boom", "##[set-output name=boom]boom", "x ##[add-path]/boom", "##[STOP-COMMANDS]boom",
	"\r::error::boom", "\r\n::error::boom", "x\r::error::boom", "x\n::error::boom", "x\n\n::error::boom", "\x1b[31m::error::boom\x1b[0m", "\x1b]0;boom\x07", "\x1b[2K\r::error::boom",
	"\x00::error::boom", "\u0085::error::boom", "\u2028::error::boom", "\u2029##[error]boom", "\v::error::boom", "\f::error::boom", "\xff\xfe::error::boom", "%0A::error::boom",
	"</pre></details><script>boom</script>", "<img src=x onerror=boom>", "| a | boom | [c](javascript:boom) ![d](https://boom.example) @everyone #1 `x` **x**", "\n\n# boom\n\n---\n",
	"<!-- boom", "]]> boom", delimiter, "\n" + delimiter + "\nboom=1\nboom<<x", "boom=1",
}

// rotated is evil with another one first, as one text: only one can stand at the beginning.
func rotated(i int) string {
	i %= len(evil)
	return strings.Join(slices.Concat(evil[i:], evil[:i]), "\n")
}

// steady checks that a run was steered by nobody: all commands are ours, the files are whole, the summary is one page.
func (j *job) steady(what string, e ended) {
	j.t.Helper()
	own := map[string]*regexp.Regexp{
		"group":    regexp.MustCompile(`^(Pack|Upload|Promote|Ping and wait|Find the release|Files|Pointer|Status)$`),
		"endgroup": regexp.MustCompile(`^$`),
		"add-mask": regexp.MustCompile("^" + regexp.QuoteMeta(j.key.Reveal()) + "$"),
		"error":    regexp.MustCompile(`^(web-[12]: (rolled-back|failed|timed-out|held): |cannot [a-z]+ web on production: |superseded: )`),
		"warning":  regexp.MustCompile(`^(output |GitHub deployment: |GitHub: |promoted, and nobody is awaited|web-[12]: |left out )`),
		"notice":   regexp.MustCompile(`^(superseded|skipped): `),
		"debug":    regexp.MustCompile(`.`),
	}
	for _, c := range obeyed(e.raw) {
		if rule := own[c.name]; rule == nil || !rule.MatchString(c.data) || c.properties != "" {
			j.t.Errorf("%s: the runner obeyed %+v", what, c)
		}
	}
	if strings.ContainsAny(e.log, "\x00\x07\v\f\r\x1b\u0085\u2028\u2029") {
		j.t.Errorf("%s: control characters in the log: %q", what, e.log)
	}
	stops := regexp.MustCompile(`(?m)^::stop-commands::(.*)$`).FindAllStringSubmatch(e.raw, -1)
	for i, stop := range stops {
		if !regexp.MustCompile(`^towline-[A-Z2-7]{26}$`).MatchString(stop[1]) || i > 0 && stop[1] == stops[i-1][1] {
			j.t.Errorf("%s: commands are stopped until %q, which can be guessed", what, stop[1])
		}
	}
	j.wholeOutputs(what)
	wholeSummary(j.t, what, e.summary)
}

// wholeOutputs reads the file of outputs as the runner does: only ours are in it, each once.
func (j *job) wholeOutputs(what string) {
	j.t.Helper()
	data, err := os.ReadFile(j.env["GITHUB_OUTPUT"])
	if err != nil {
		j.t.Fatal(err)
	}
	var names, want []string
	end := ""
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		at, equals := strings.Index(line, "<<"), strings.Index(line, "=")
		switch {
		case end != "" && line == end:
			end = ""
		case end != "":
		case at >= 0 && (equals < 0 || at < equals):
			names, end = append(names, line[:at]), line[at+2:]
		default:
			names = append(names, line)
		}
	}
	for _, out := range outputs {
		want = append(want, out.name)
	}
	if end != "" || !slices.Equal(names, want) {
		j.t.Errorf("%s: outputs: got %q, unfinished %q, want %q", what, names, end, want)
	}
}

// bare is a line of Markdown without what stands in the type of code.
func bare(t *testing.T, line string) string {
	t.Helper()
	var b strings.Builder
	for rest := line; rest != ""; {
		before, after, found := strings.Cut(rest, "`")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n := 1 + len(after) - len(strings.TrimLeft(after, "`"))
		rest = after[n-1:]
		for { // the next run of the same length ends it
			text, tail, found := strings.Cut(rest, "`")
			if !found {
				t.Errorf("the type of code does not end in %q", line)
				return b.String()
			}
			m := 1 + len(tail) - len(strings.TrimLeft(tail, "`"))
			if strings.Contains(strings.ReplaceAll(text, `\|`, ""), "|") && strings.HasPrefix(line, "| ") {
				t.Errorf("a bar in the type of code ends a cell in %q", line)
			}
			if rest = tail[m-1:]; m == n {
				break
			}
		}
	}
	return b.String()
}

// wholeSummary checks that a summary has no tag, link, heading or row but ours.
func wholeSummary(t *testing.T, what, summary string) {
	t.Helper()
	columns, timeline := 0, false
	for i, line := range strings.Split(summary, "\n") {
		switch {
		case line == "```mermaid" && !timeline, line == "```" && timeline:
			timeline = !timeline
			continue
		case timeline:
			if !ownBar.MatchString(line) {
				t.Errorf("%s: the timeline has a line %q", what, line)
			}
			continue
		}
		if fold, ok := strings.CutPrefix(line, "<pre>"); ok { // where nothing but tags counts
			if strings.Contains(strings.TrimSuffix(fold, "</pre>"), "<") {
				t.Errorf("%s: the log has a tag: %q", what, line)
			}
			continue
		}
		ours := bare(t, line)
		bars := strings.Count(ours, "|")
		switch {
		case columns == 0 || bars == 0:
			columns = bars
		case bars != columns:
			t.Errorf("%s: a row of %d columns in a table of %d: %q", what, bars, columns, line)
		}
		if !ownFold.MatchString(ours) && strings.ContainsAny(ours, "<>") || strings.HasPrefix(ours, "#") && !ownHeading.MatchString(ours) ||
			regexp.MustCompile("[*@\x00-\x1f\\[\\]]").MatchString(ownLink.ReplaceAllString(ownWords.ReplaceAllString(ours, ""), "")) {
			t.Errorf("%s: line %d of the summary is %q", what, i+1, line)
		}
	}
	if timeline {
		t.Errorf("%s: the timeline is not closed:\n%s", what, summary)
	}
}

// What our own lines of a summary look like.
var (
	ownFold    = regexp.MustCompile(`^(<details( open)?><summary>Last [0-9]+ lines? of the app on web-[12]</summary>|<details><summary>What would be packed; [0-9.]+ [KM]?i?B of it would be uploaded</summary>|</details>)$`)
	ownLink    = regexp.MustCompile(`\[(what changed)?\]\(https://github.com/acme/web/(commit|compare)/[0-9a-f.]+\)`)
	ownHeading = regexp.MustCompile(`^(### (✅|❌|⚪) [a-z-]+: web on production|#### (❌|⚪) web-[12]: [a-z-]+)$`)
	ownWords   = regexp.MustCompile(`^\*\*(Cause|Fix|(Fetch|Unpack|Activate|Check|Confirm|Prune|Roll back) failed):\*\*`)
	ownBar     = regexp.MustCompile(`^(gantt|    dateFormat x|    axisFormat %(s s|Q ms)|    tickInterval [0-9]+[a-z]+|    todayMarker off|    section (CI|web-[12])|` +
		`    (Pack|Upload|Promote|Ping and wait|Find the release|Files|Pointer|fetch|unpack|activate|check|confirm|prune|roll back) [0-9.]+ m?s :(active, |crit, )?[0-9]+, [0-9]+)$`)
)

// evilServer answers a ping with events that say evil in every field, ending with outcome.
func (j *job) evilServer(n int, outcome deployment.Outcome) string {
	j.t.Helper()
	return j.server(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p := j.verify(body).Pointer()
		text := rotated(n)
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusAccepted)
		out := json.NewEncoder(w)
		for i, e := range []deployment.Event{
			{Step: deployment.Fetch, State: deployment.Progress, Message: evil[n]},
			{Step: deployment.Step(evil[n]), State: deployment.State(evil[n]), Message: text},
			{Step: deployment.Check, State: deployment.StepFail, Message: text, Log: evil},
			{Step: deployment.Check, State: deployment.Heartbeat, Message: text},
			{Step: deployment.End, State: deployment.Done, Outcome: outcome, Reason: text, Log: append([]string{evil[n], text}, evil[:30]...), Message: text},
		} {
			e.N, e.Seq, e.Hash, e.Time, e.App, e.Server, e.Deployment = i+1, p.Seq, p.Release.Hash, text, text, text, text
			if i == 1 {
				e.Hash = text
			}
			_ = out.Encode(e)
		}
	})
}

// server is a TLS server in the form of the input servers.
func (j *job) server(handle http.HandlerFunc) string {
	j.t.Helper()
	server := httptest.NewTLSServer(handle)
	j.t.Cleanup(server.Close)
	return "web-1=" + server.URL + "#sha256=" + ping.Pin(server.Certificate())
}

func TestAppLogCannotSteerTheRunner(t *testing.T) {
	t.Run("stream", func(t *testing.T) {
		j := newJob(t)
		for n := range evil {
			e := j.with("version", fmt.Sprint("v", n), "servers", j.evilServer(n, deployment.RolledBack), "NO_COLOR", strings.Repeat("1", n%2)).run()
			if painted := e.raw != e.log; painted != (n%2 == 0) {
				t.Errorf("%q: got colours %v, want them unless NO_COLOR is set: %q", evil[n], painted, e.raw)
			}
			j.steady(fmt.Sprintf("%q", evil[n]), e)
			if e.code != deployment.ExitUnwell || !strings.Contains(e.log, "web-1  ") || !strings.Contains(e.log, "::error::web-1: rolled-back: ") {
				t.Fatalf("%q: got exit %d, want 3 and the app's lines:\n%s", evil[n], e.code, e.log)
			}
		}
	})
	t.Run("outcome", func(t *testing.T) {
		j := newJob(t)
		for n := range evil[:20] {
			j.steady(evil[n], j.with("version", fmt.Sprint("v", n), "servers", j.evilServer(n, deployment.Outcome(evil[n]))).run())
		}
	})
	t.Run("receipt", func(t *testing.T) {
		j := newJob(t)
		if e := j.run(); e.code != 0 {
			t.Fatal(e.log)
		}
		path := filepath.Join(j.bucket, release.ReceiptKey("web", "production", "web-1"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		for n := range evil {
			text := rotated(n)
			c := deployment.Receipt{Type: deployment.ReceiptType, App: "web", Environment: "production", Server: "web-1",
				AgentVersion: text, Seen: text, Held: text, Status: "refused " + text, Pointer: deployment.ReceiptPointer{Seq: 1, Hash: text},
				Live: deployment.ReceiptLive{Seq: 1, Hash: text, Since: text},
				Deployment: &deployment.Record{ID: text, Seq: 1, Hash: text, Outcome: deployment.Outcome([]string{"rolled-back", text}[n%2]), Reason: text, Started: text,
					Events: []deployment.Event{{N: 1, Step: deployment.Step(text), State: deployment.State(text), Message: text, Outcome: "rolled-back", Reason: text, Log: evil}}}}
			data, err := json.Marshal(c)
			if err == nil {
				err = os.WriteFile(path, data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			e := j.with("command", "status", "path", "").run()
			j.steady(fmt.Sprintf("status %q", evil[n]), e)
			if n < 5 {
				j.steady(fmt.Sprintf("wait %q", evil[n]), j.with("version", "v1", "expect-servers", "web-1", "wait-timeout", "1s").run())
			}
		}
	})
	t.Run("answer to the ping", func(t *testing.T) {
		j := newJob(t)
		for n := 0; n < len(evil); n += 13 {
			servers := j.server(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "https://boom.example/::error::boom")
				w.WriteHeader([]int{400, 302, 404, 418}[n/13])
				_, _ = io.WriteString(w, rotated(n))
			})
			j.steady(fmt.Sprintf("%q", evil[n]), j.with("version", fmt.Sprint("v", n), "servers", servers, "wait-timeout", "1s").run())
		}
	})
	t.Run("commit, actor, reason and ref", func(t *testing.T) {
		j := newJob(t)
		for n := range evil {
			text := rotated(n)
			j.event(map[string]any{"head_commit": map[string]any{"id": sha, "message": text, "timestamp": "2026-11-23T13:06:43+01:00"}, "sender": map[string]any{"login": text}})
			c := j.with("reason", strings.TrimSpace(strings.ReplaceAll(evil[n], "\n", " ")), "GITHUB_ACTOR", text, "GITHUB_REF", text)
			j.steady(fmt.Sprintf("deploy %q", evil[n]), c.run())
			if n%10 == 0 { // what it wrote into the pointer comes back
				j.with("version", fmt.Sprint("v", n), "message", "m").run()
				for _, command := range []string{"rollback", "status"} {
					j.steady(fmt.Sprintf("%s %q", command, evil[n]), j.with("command", command, "path", "").run())
				}
			}
		}
	})
	t.Run("names of files", func(t *testing.T) {
		j := newJob(t)
		for i, name := range evil {
			if name = strings.NewReplacer("/", "_", "\x00", "").Replace(name); name != "" && len(name) < 200 {
				j.write(filepath.Join("dist", fmt.Sprint(name, i)), "x")
			}
		}
		j.steady("dry run", j.with("dry-run", "true").run())
		j.steady("deploy", j.run())
	})
	t.Run("answers of GitHub and of the store", func(t *testing.T) {
		j := newJob(t)
		for n := 0; n < len(evil); n += 3 {
			text := rotated(n)
			hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader([]int{422, 403, 404}[n%3])
				_ = json.NewEncoder(w).Encode(map[string]any{"message": text, "errors": []map[string]string{{"field": text, "code": text, "message": text}}})
			}))
			j.steady(fmt.Sprintf("GitHub %q", evil[n]), j.with("version", fmt.Sprint("v", n), "GITHUB_API_URL", hub.URL, "github-token", "***").run())
			hub.Close()
			t.Setenv("AWS_ACCESS_KEY_ID", "id")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "https://boom.example/::error::boom")
				w.WriteHeader([]int{400, 307, 403}[n%3])
				_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message><![CDATA[%s]]></Message></Error>", "Boom", strings.ReplaceAll(text, "]]>", ""))
			}))
			j.steady(fmt.Sprintf("store %q", evil[n]), j.with("bucket", "s3://deploys?region=x&endpoint="+store.URL).run())
			store.Close()
		}
	})
}

// What is masked is hidden wherever the same characters occur, and is missing from the outputs of the job: so only what is
// secret is masked, first of all, and neither hashes nor names are.
func TestMasksSecretsAndNothingElse(t *testing.T) {
	j := newJob(t)
	secrets := map[string]string{"ping-token": "the-ping-token", "github-token": "the-github-token", "AWS_SECRET_ACCESS_KEY": "the-secret-access-key",
		"AWS_SESSION_TOKEN": "the-session-token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "the-request-token"}
	c := j.with("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE", "AWS_REGION", "eu-west-3", "GITHUB_REPOSITORY", "")
	want := []string{j.key.Reveal()}
	for name, value := range secrets {
		c = c.with(name, value)
		want = append(want, value)
	}
	e := c.run()
	var got []string
	commands := obeyed(e.raw)
	for i, command := range commands {
		if command.name == "add-mask" {
			got = append(got, command.data)
			if i != len(got)-1 {
				t.Errorf("a mask comes after %+v", commands[i-1])
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("masked: got %q, want %q", got, want)
	}
	if e.code != 0 || !strings.Contains(e.log, sha[:12]) || e.outputs["artifact-sha256"] == "" {
		t.Errorf("got exit %d, outputs %q:\n%s", e.code, e.outputs, e.log)
	}
}
