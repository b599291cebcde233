package outcomes

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/towline/towline/test/fakegithub"
	"github.com/towline/towline/test/fakests"
	"github.com/towline/towline/test/parts"
)

// withoutSecrets is what Dependabot's runs and those of forks meet.
func (w *world) withoutSecrets() {
	skipped := want{outcome: "skipped", version: w.head, notice: "skipped: no credentials", summary: []string{"no credentials"}}
	refused := want{outcome: "failed", red: true, version: w.head, errors: []string{"input signing-key: "}}
	o := w.runOptions("201")
	o.Secrets = map[string]string{"GITHUB_TOKEN": jobToken}
	o.Actor = "dependabot[bot]"
	w.run("dependabot", o, row{name: "dependabot", app: "site", want: skipped})

	o = w.runOptions("202")
	o.Secrets = map[string]string{"GITHUB_TOKEN": jobToken}
	o.Event, o.Actor = "pull_request", "eve"
	o.Payload = map[string]any{"pull_request": map[string]any{
		"number": 7, "head": map[string]any{"ref": "patch-1", "sha": w.head, "repo": map[string]any{"fork": true, "full_name": "eve/shop"}},
		"base": map[string]any{"ref": "main", "sha": w.head, "repo": map[string]any{"full_name": repository}},
	}}
	w.run("fork", o,
		row{name: "fork", app: "site", want: skipped},
		row{name: "fork-red", app: "site", with: map[string]string{"on-missing-credentials": "fail"}, want: refused},
	)
}

// environment is a job with an `environment:` line, for which GitHub itself makes a deployment.
func (w *world) environment() {
	c := w.history("Move house", "Move again")
	w.more = object{"environment": "production"}
	defer func() { w.more = nil }()
	job := new(int64)
	w.run("environment", w.runOptions("301"),
		row{name: "created", app: "site", want: want{
			outcome: "deployed", version: w.head, moved: true, servers: "web-1 deployed", states: "queued in_progress success", live: w.head, groups: deploys,
		}},
		row{name: "adopted", app: "site", with: map[string]string{"version": c[0]}, before: func() {
			*job = w.github.AddDeployment(fakegithub.Deployment{SHA: w.head, Ref: "main", Environment: "production", Production: true},
				fakegithub.Status{State: "in_progress", Description: "by the job", LogURL: "https://github.com/" + repository + "/actions/runs/301/job/9"})
		}, want: want{
			outcome: "deployed", version: c[0], previous: w.head, moved: true, servers: "web-1 deployed", states: "in_progress success", adopted: job,
			inactive: 1, live: c[0], groups: deploys, log: []string{"of this job is adopted"},
		}},
		row{name: "off", app: "site", with: map[string]string{"version": c[1], "deployment": "off"}, want: want{
			outcome: "deployed", version: c[1], previous: c[0], moved: true, servers: "web-1 deployed", live: c[1], groups: deploys,
		}},
	)
}

// role is a job without any key of the bucket: it takes a role with its token.
func (w *world) role() {
	c := w.history("Take the role", "Take it again")
	const arn = "arn:aws:iam::123456789012:role/deploys"
	sts := fakests.New(w.t, fakests.Options{
		Role: arn, Issuer: fakegithub.Issuer, KeysURL: w.github.KeysURL, Subject: w.github.Subject(),
		AccessKeyID: roleKeyID, SecretAccessKey: "secret-of-the-role", SessionToken: roleToken,
	})
	w.must(os.WriteFile(filepath.Join(w.repo, "ca.pem"), sts.CA, 0o644))
	env := func(request string) map[string]string {
		return map[string]string{
			"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL_STS": sts.URL,
			"ACTIONS_ID_TOKEN_REQUEST_URL": request, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": fakegithub.IDRequestToken,
		}
	}
	asks := w.github.IDTokenURL
	w.run("role", w.runOptions("401"),
		row{name: "role", app: "role", with: map[string]string{"version": c[0], "role-to-assume": arn, "ca-bundle": string(sts.CA)}, env: env(asks), want: want{
			outcome: "deployed", version: c[0], moved: true, servers: "web-1 deployed", states: "queued in_progress success", live: c[0], groups: deploys,
		}},
		row{name: "role-and-file", app: "role", with: map[string]string{"version": c[1], "role-to-assume": arn, "ca-bundle": "ca.pem"}, env: env(asks), want: want{
			outcome: "deployed", version: c[1], previous: c[0], moved: true, servers: "web-1 deployed", states: "queued in_progress success", inactive: 1,
			live: c[1], groups: deploys,
		}},
		row{name: "role-refused", app: "role", with: map[string]string{"role-to-assume": arn + "-2", "ca-bundle": "ca.pem"}, env: env(asks), want: want{
			outcome: "failed", red: true, version: w.head, live: c[1], errors: []string{"assume role " + arn + "-2: AccessDenied"},
			log: []string{
				"  sub                  " + w.github.Subject(), "  repository_id        4711", "A trust policy of " + arn + "-2 that matches this token",
				`"token.actions.githubusercontent.com:sub": "` + w.github.Subject() + `"`, `"token.actions.githubusercontent.com:aud": "` + fakests.Audience + `"`,
				`"Federated": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"`,
			},
		}},
		row{name: "sts-of-a-stranger", app: "role", with: map[string]string{"role-to-assume": arn}, env: env(asks), want: want{
			outcome: "failed", red: true, version: w.head, live: c[1], errors: []string{"certificate signed by unknown authority"},
		}},
		row{name: "no-id-token", app: "role", with: map[string]string{"role-to-assume": arn, "ca-bundle": "ca.pem"}, env: env(""), want: want{
			outcome: "failed", red: true, version: w.head, live: c[1], errors: []string{"the job needs `permissions: id-token: write`"},
		}},
	)
	if granted, refused := sts.Sessions(); len(granted) != 2 || refused != 1 {
		w.t.Errorf("sessions of the role: got %q and %d refused, want 2 and 1", granted, refused)
	}
}

// hostile is what an app, its hook or a commit may say, and who reads the log must not do.
var hostile = strings.Join([]string{
	"::error::obey me", "##[error]obey me", "::add-mask::innocent-word", "::set-output name=outcome::deployed", "::stop-commands::forever", "::endgroup::",
	"##[add-mask]innocent-word", "\r::notice::obey me", "\x1b[31mred\x1b[0m \x1b]0;title\x07", "</pre></details>", "```", "`code`", "| a | table |", "|---|",
	"# heading", "<script>alert(1)</script>", "<!-- ", "the innocent-word ends it",
}, "\n") + "\n"

// loud is a release whose app, hook and commit try to steer the runner, in a job that ends with it.
func (w *world) loud() {
	c := w.history("Whisper", "::error::obey me%0A::add-mask::innocent-word | `tick` <script> ##[error]obey me ` open")
	w.run("loud-before", w.runOptions("501"), row{name: "whisper", app: "loud", with: map[string]string{"version": c[0]}, want: want{
		outcome: "deployed", version: c[0], moved: true, servers: "web-1 deployed", states: "queued in_progress success", live: c[0], groups: deploys,
	}})
	w.fatal = true
	defer func() { w.fatal = false }()
	result := w.run("loud", w.runOptions("502"), row{name: "loud", app: "loud", with: map[string]string{"version": c[1]},
		files: map[string]string{"says": hostile, "notes": hostile, "sick": "yes\n"}, want: want{
			outcome: "rolled-back", red: true, version: c[1], previous: c[0], moved: true, servers: "web-1 rolled-back", states: "queued in_progress failure",
			live: c[0], groups: deploys, errors: []string{"web-1: rolled-back: "},
			log:     []string{"::error::obey me", "##[error]obey me", "the innocent-word ends it", "::error::obey me%0A::add-mask::innocent-word"},
			summary: []string{"the innocent-word ends it", "::error::obey me"},
		}})
	if result.ExitCode != 1 {
		w.t.Errorf("a job whose release was rolled back ends with %d, want 1", result.ExitCode)
	}
	for _, step := range result.Steps {
		if step.Name == "never" {
			w.t.Error("a step ran after the red one")
		}
	}
	if after := result.Step(w.t, "after"); !strings.Contains(after.Log, "the innocent-word is shown") || len(after.Obeyed) != 1 || after.Obeyed[0].Name != "notice" {
		w.t.Errorf("the step after: got\n%s\nobeyed %+v", after.Log, after.Obeyed)
	}
	if !strings.Contains(result.Log, "the innocent-word is shown") {
		w.t.Error("a server's word was masked")
	}
	w.shape(result.Step(w.t, "loud").Summary)
}

var (
	drawing      = regexp.MustCompile("(?s)```mermaid\n.*?\n```")
	code         = regexp.MustCompile("(?s)<code>.*?</code>")
	preformatted = regexp.MustCompile("(?s)<pre>(.*?)</pre>")
)

// shape makes sure that a summary is built as it was meant, whatever was said in it. What is preformatted is safe as long as
// it has no tag and no empty line, which would end it.
func (w *world) shape(page string) {
	said := preformatted.FindAllStringSubmatch(page, -1)
	if len(said) == 0 {
		w.t.Error("the summary does not show the log")
	}
	for _, text := range said {
		if strings.ContainsAny(text[1], "<>") || strings.Contains(text[1], "\n\n") {
			w.t.Errorf("preformatted text that does not stay so: %q", text[1])
		}
	}
	// What is in the type of code shows as it was said; nothing of it may be anywhere else.
	rest := code.ReplaceAllString(parts.Markdown(w.t, preformatted.ReplaceAllString(drawing.ReplaceAllString(page, ""), "<pre></pre>")), "")
	for _, sign := range []string{"<script", "<!-- ", "```", "`code`", "`tick`", "| a | table |", "##[", "heading", "obey me", "\x1b", "\r"} {
		if strings.Contains(rest, sign) {
			w.t.Errorf("the summary holds %q as it was said", sign)
		}
	}
	for _, tag := range []string{"pre", "details", "summary"} {
		if open, shut := strings.Count(page, "<"+tag), strings.Count(page, "</"+tag+">"); open != shut {
			w.t.Errorf("the summary opens <%s> %d times and shuts it %d times", tag, open, shut)
		}
	}
}
