package examples

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

var (
	usesLine = regexp.MustCompile(`(?m)^[^#\n]*\buses:\s*(\S+)(.*)$`)
	pinned   = regexp.MustCompile(`^([\w.-]+/[\w./-]+)@([0-9a-f]{40})$`)
	tagged   = regexp.MustCompile(`^ # v?\d+(\.\d+)*$`)
)

// unpinned says what is wrong with a line that uses an action; empty for nothing.
func unpinned(uses, rest string) string {
	switch {
	case strings.HasPrefix(uses, "./"), strings.HasPrefix(uses, "docker://") && strings.Contains(uses, "@sha256:"):
	case strings.HasPrefix(uses, "towline/towline@v1"), strings.HasPrefix(uses, "towline/towline/") && strings.HasSuffix(uses, "@v1"):
	case !pinned.MatchString(uses):
		return "want owner/name@ and the 40 hex digits of a commit"
	case !tagged.MatchString(rest):
		return fmt.Sprintf("got %q after it, want the version as a comment: # v1.2.3", rest)
	}
	return ""
}

// Tags can be moved to other code by whoever takes the action over; commits cannot.
func TestActionsArePinned(t *testing.T) {
	commits := map[string]string{} // one commit of each action, so that updating it is one search
	seen := 0
	for _, s := range sources(t) {
		for _, m := range usesLine.FindAllStringSubmatch(s.text, -1) {
			seen++
			if wrong := unpinned(m[1], m[2]); wrong != "" {
				t.Errorf("%s: %s: %s", s.name, m[1], wrong)
			}
			if p := pinned.FindStringSubmatch(m[1]); p != nil {
				at := p[2] + m[2]
				if other, ok := commits[p[1]]; ok && other != at {
					t.Errorf("%s: %s at %s, elsewhere at %s", s.name, p[1], at, other)
				}
				commits[p[1]] = at
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d uses were found", seen)
	}
	const commit = "08c6903cd8c0fde910a37f88322edcfb5dd907a8"
	for line, ok := range map[string]bool{
		"actions/checkout@" + commit + " # v4.2.2": true, "actions/checkout@v4": false, "actions/checkout@" + commit: false,
		"actions/checkout@" + commit + " # latest": false, "actions/checkout@" + commit[:7] + " # v4.2.2": false, "docker://alpine:3": false,
	} {
		uses, rest, _ := strings.Cut(line, " ")
		if rest != "" {
			rest = " " + rest
		}
		if got := unpinned(uses, rest) == ""; got != ok {
			t.Errorf("%s: got pinned %v, want %v", line, got, ok)
		}
	}
}

// A job's token can do what the job needs, and no more.
func TestPermissionsAreLeast(t *testing.T) {
	allowed := map[string]string{"contents": "read", "deployments": "write", "id-token": "write"}
	for _, s := range sources(t) {
		if !s.example {
			continue
		}
		if _, ok := s.w.Permissions.(map[string]any); !ok {
			t.Errorf("%s: got permissions %v, want a list, or {} and a list for each job", s.name, s.w.Permissions)
			continue
		}
		for name, j := range s.w.Jobs {
			has := s.w.Permissions.(map[string]any)
			if own, ok := j.Permissions.(map[string]any); ok {
				has = own
			}
			for scope, right := range has {
				if allowed[scope] != right {
					t.Errorf("%s, job %s: %s: %v is not needed", s.name, name, scope, right)
				}
			}
			off, role, towline := false, false, j.Uses != ""
			for _, st := range append(slices.Clone(j.Steps), step{With: j.With}) {
				off = off || st.With["deployment"] == "off"
				role = role || st.With["role-to-assume"] != nil
				towline = towline || strings.HasPrefix(st.Uses, "towline/towline@")
			}
			if _, got := has["deployments"]; towline && got == off {
				t.Errorf("%s, job %s: got deployments: write %v, and deployment: off %v", s.name, name, got, off)
			}
			if _, got := has["id-token"]; got != role {
				t.Errorf("%s, job %s: got id-token: write %v, and role-to-assume %v", s.name, name, got, role)
			}
		}
	}
}

// ofWorkflow are inputs of the reusable workflow that are not the action's.
var ofWorkflow = []string{"node-version", "build", "runs-on", "prune-dev"}

// The values that stand in the examples are ones that the action takes; only what is said to be filled in is filled in.
func TestInputsAreTaken(t *testing.T) {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uses(t) {
		if u.name == ".github/workflows/deploy.yml" {
			continue // passes on what it is given
		}
		inputs := map[string]string{"path": "."}
		if u.call {
			inputs["signing-key"] = key.Reveal() // a secret there
		}
		for name, value := range u.with {
			if !u.call || !slices.Contains(ofWorkflow, name) {
				inputs[name] = fill(t, fmt.Sprint(value), map[string]string{"signing-key": key.Reveal(), "trusted-keys": key.Public().String()}[name])
			}
		}
		if err := publish.CheckUnknown(slices.Sorted(maps.Keys(inputs))); err != nil {
			t.Errorf("%s, job %s: %v", u.name, u.job, err)
		}
		if _, err := publish.Parse(func(name string) string { return inputs[name] }); err != nil {
			t.Errorf("%s, job %s: %v", u.name, u.job, err)
		}
	}
}

var expression = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)

// fill puts values in the place of expressions, and secret in that of secrets and of keys.
func fill(t *testing.T, text, secret string) string {
	t.Helper()
	values := map[string]string{
		"vars.TOWLINE_BUCKET": "my-deploys", "vars.TOWLINE_SERVERS": "", "vars.TOWLINE_EXPECT": "",
		"needs.publish.outputs.version": strings.Repeat("ab", 20),
		"inputs.environment":            "production", "inputs.version": "", "inputs.reason": "it is slow", "inputs.command || 'deploy'": "deploy",
		"secrets.TOWLINE_SIGNING_KEY": secret, "vars.TOWLINE_STAGING_KEY": secret,
	}
	text = strings.NewReplacer("#sha256=FROM TOWLINE INIT", "", "ACCOUNT", "account").Replace(text)
	return expression.ReplaceAllStringFunc(text, func(s string) string {
		name := expression.FindStringSubmatch(s)[1]
		value, ok := values[name]
		if !ok {
			t.Fatalf("what is %s?", name)
		}
		return value
	})
}

// The reusable workflow passes on every input and every output of the action, with the action's defaults.
func TestReusableWorkflowIsTheAction(t *testing.T) {
	var action struct {
		Inputs map[string]struct {
			Default  string
			Required bool
		}
		Outputs map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "action.yml")), &action); err != nil {
		t.Fatal(err)
	}
	type value struct{ Value string }
	var w struct {
		On struct {
			Call struct {
				Inputs map[string]struct {
					Default  any
					Required bool
					Type     string
				}
				Secrets map[string]any
				Outputs map[string]value
			} `yaml:"workflow_call"`
		}
		Jobs map[string]struct {
			Outputs map[string]string
			Steps   []step
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, ".github/workflows/deploy.yml")), &w); err != nil {
		t.Fatal(err)
	}
	deploy := w.Jobs["deploy"]
	towline := deploy.Steps[len(deploy.Steps)-1]
	if towline.ID != "towline" || len(action.Inputs) < 30 || len(action.Outputs) < 10 {
		t.Fatalf("got %+v as last step, %d inputs, %d outputs of the action", towline, len(action.Inputs), len(action.Outputs))
	}
	secrets := map[string]string{"signing-key": "TOWLINE_SIGNING_KEY", "ping-token": "TOWLINE_PING_TOKEN"}
	for name, in := range action.Inputs {
		if name == "github-token" {
			continue // the job's own, by default
		}
		from := "inputs." + name
		if secret, ok := secrets[name]; ok {
			from = "secrets." + secret
			if _, ok := w.On.Call.Secrets[secret]; !ok {
				t.Errorf("secret %s of the action's %s is not declared", secret, name)
			}
		} else if got, ok := w.On.Call.Inputs[name]; !ok {
			t.Errorf("input %s of the action is missing", name)
		} else if want := in.Default; name != "path" && (got.Required != in.Required || got.Type != "string" || !in.Required && got.Default != want) {
			t.Errorf("input %s: got %+v, want the action's: string, default %q, required %v", name, got, want, in.Required)
		}
		if got, want := towline.With[name], "${{ "+from+" }}"; got != want {
			t.Errorf("with %s: got %v, want %s", name, got, want)
		}
	}
	for name := range w.On.Call.Inputs {
		if _, ok := action.Inputs[name]; !ok && !slices.Contains(ofWorkflow, name) {
			t.Errorf("input %s is not one of the action", name)
		}
	}
	for name := range action.Outputs {
		if got, want := deploy.Outputs[name], "${{ steps.towline.outputs."+name+" }}"; got != want {
			t.Errorf("output %s of the job: got %q, want %q", name, got, want)
		}
		if got, want := w.On.Call.Outputs[name].Value, "${{ jobs.deploy.outputs."+name+" }}"; got != want {
			t.Errorf("output %s of the workflow: got %q, want %q", name, got, want)
		}
	}
}

// What a caller, or a person at a button, types in is never part of a script: the runner would write it in as it is.
func TestScriptsHoldNoExpressions(t *testing.T) {
	scripts := 0
	for _, s := range sources(t) {
		for name, j := range s.w.Jobs {
			for _, st := range j.Steps {
				if st.Run != "" {
					scripts++
				}
				if m := expression.FindString(st.Run); m != "" && strings.HasPrefix(s.name, ".github/workflows/deploy.yml") || m != "" && s.example {
					t.Errorf("%s, job %s: %s in a script: pass it by env", s.name, name, m)
				}
			}
		}
	}
	if scripts < 15 {
		t.Errorf("only %d scripts were found", scripts)
	}
}
