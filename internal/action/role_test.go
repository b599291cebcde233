package action

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// claims are those of GitHub's token for a push to main, in the form without ids.
func claims() map[string]string {
	return map[string]string{
		"iss": "https://token.actions.githubusercontent.com", "aud": "sts.amazonaws.com", "sub": "repo:acme/web:ref:refs/heads/main",
		"repository": "acme/web", "repository_id": "4711", "repository_owner": "acme", "repository_owner_id": "42", "ref": "refs/heads/main",
		"workflow_ref": "acme/web/.github/workflows/deploy.yml@refs/heads/main", "job_workflow_ref": "acme/web/.github/workflows/deploy.yml@refs/heads/main",
		"event_name": "push", "jti": "not-to-be-shown",
	}
}

// with gives a copy of claims other values.
func with(c map[string]string, pairs ...string) map[string]string {
	c = maps.Clone(c)
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i]] = pairs[i+1]
	}
	return c
}

const signature = "c2lnbmF0dXJl"

func sign(t *testing.T, c map[string]string) string {
	t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + signature
}

const arn = "arn:aws:iam::123456789012:role/deploys"

// refuse runs a job whose token has these claims and whose role STS refuses, with a message that holds the token.
func refuse(t *testing.T, code string, c map[string]string) (e ended, token string) {
	t.Helper()
	token = sign(t, c)
	answer := func(handle http.HandlerFunc) string {
		server := httptest.NewServer(handle)
		t.Cleanup(server.Close)
		return server.URL
	}
	t.Setenv("AWS_ENDPOINT_URL_STS", answer(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>Not for %s</Message></Error></ErrorResponse>", code, r.Form.Get("WebIdentityToken"))
	}))
	tokens := answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer request-token" || r.URL.Query().Get("audience") != "sts.amazonaws.com" {
			t.Errorf("got Authorization %q, %s", r.Header.Get("Authorization"), r.URL)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"value": token})
	})
	e = newJob(t).with("bucket", "s3://deploys?endpoint=http://127.0.0.1:1&region=x", "role-to-assume", arn,
		"ACTIONS_ID_TOKEN_REQUEST_URL", tokens, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token").run()
	return e, token
}

// policy is the first JSON document of a log.
func policy(t *testing.T, log string) string {
	t.Helper()
	_, rest, _ := strings.Cut(log, "\n{\n")
	text, _, ok := strings.Cut(rest, "\n}\n")
	if !ok {
		t.Fatalf("no policy in the log:\n%s", log)
	}
	return "{" + text + "}"
}

// lets reports whether a trust policy lets the job with these claims take the role, by AWS's rules: every condition
// holds, values are compared literally, a claim that is not there matches nothing.
func lets(t *testing.T, policy string, c map[string]string) bool {
	t.Helper()
	var p struct {
		Version   string
		Statement []struct {
			Effect, Action string
			Principal      struct{ Federated string }
			Condition      map[string]map[string]string
		}
	}
	d := json.NewDecoder(strings.NewReader(policy))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v in %s", err, policy)
	}
	if len(p.Statement) != 1 || p.Version != "2012-10-17" {
		t.Fatalf("want one statement: %s", policy)
	}
	s, issuer := p.Statement[0], strings.TrimPrefix(c["iss"], "https://")
	if s.Effect != "Allow" || s.Action != "sts:AssumeRoleWithWebIdentity" || s.Principal.Federated != "arn:aws:iam::123456789012:oidc-provider/"+issuer {
		return false
	}
	for operator, keys := range s.Condition {
		if operator != "StringEquals" {
			t.Fatalf("operator %s: want StringEquals alone", operator)
		}
		for key, want := range keys {
			name, ok := strings.CutPrefix(key, issuer+":")
			if got, there := c[name]; !ok || !there || got != want {
				return false
			}
		}
	}
	return len(s.Condition["StringEquals"]) >= 2
}

func TestRefusedRoleShowsClaimsAndPolicy(t *testing.T) {
	for _, code := range []string{"AccessDenied", "InvalidIdentityToken"} {
		e, token := refuse(t, code, claims())
		if e.code != 2 || !strings.Contains(e.log, "assume role "+arn+": "+code+": Not for ***%0Ahint: the log above shows") {
			t.Errorf("%s: got exit %d:\n%s", code, e.code, e.log)
		}
		for name, value := range claims() {
			if line := fmt.Sprintf("\n  %-20s %s\n", name, value); strings.Contains(e.log, line) != (name != "jti") {
				t.Errorf("%s: claim %s: got it %v in\n%s", code, name, name == "jti", e.log)
			}
		}
		if !lets(t, policy(t, e.log), claims()) {
			t.Errorf("the policy does not match the token that it was made for:\n%s", e.log)
		}
		for _, want := range []string{"identity provider arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
			"sts.amazonaws.com is among", "repo:OWNER@ID/NAME@ID"} {
			if !strings.Contains(e.log, want) {
				t.Errorf("%s: the log does not say %q:\n%s", code, want, e.log)
			}
		}
		// Masking is a command to the runner, and the only place where the token stands.
		mask := "::add-mask::" + token + "\n"
		if strings.Count(e.log, mask) != 1 {
			t.Errorf("the token is not masked once:\n%s", e.log)
		}
		rest := strings.ReplaceAll(e.log, mask, "") + e.summary + fmt.Sprint(e.outputs)
		for _, secret := range append(strings.Split(token, "."), "not-to-be-shown") {
			if strings.Contains(rest, secret) {
				t.Errorf("the log holds %q of the token:\n%s", secret, rest)
			}
		}
	}
}

// Another refusal than that of the role has nothing to do with claims.
func TestOtherTroubleOfSTSShowsNoPolicy(t *testing.T) {
	e, _ := refuse(t, "ExpiredTokenException", claims())
	if e.code != 2 || strings.Contains(e.log, "trust policy") {
		t.Errorf("got exit %d:\n%s", e.code, e.log)
	}
}

// Claims hold names that people choose: of branches, environments, workflows.
func TestClaimsCannotSteerTheRunner(t *testing.T) {
	evil := with(claims(), "sub", "repo:acme/web:environment:\n::error::boom", "environment", "##[error]boom\u2028\r::set-output name=a::boom", "ref", "::add-mask::boom")
	e, _ := refuse(t, "AccessDenied", evil)
	for _, command := range obeyed(e.log) {
		if strings.Contains(command.data, "boom") || strings.Contains(command.properties, "boom") {
			t.Errorf("the runner obeyed %+v", command)
		}
	}
	if !lets(t, policy(t, e.log), evil) {
		t.Errorf("the policy does not match the token that it was made for:\n%s", e.log)
	}
}

// Whoever registers a name that became free gets tokens with the same names and other ids.
func TestRecycledRepositoryName(t *testing.T) {
	const immutable = "repo:acme@42/web@4711:ref:refs/heads/main"
	for name, own := range map[string]map[string]string{
		"names in sub":             claims(),
		"ids in sub":               with(claims(), "sub", immutable),
		"sub of own making":        with(claims(), "sub", "repository_owner:acme"),
		"a branch that looks like": with(claims(), "sub", "repo:acme/web:ref:refs/heads/repo:acme@42/web@4711:x"),
	} {
		e, _ := refuse(t, "AccessDenied", own)
		p := policy(t, e.log)
		if !lets(t, p, own) {
			t.Errorf("%s: the policy does not match the token that it was made for: %s", name, p)
		}
		recycled := with(own, "repository_id", "4712", "repository_owner_id", "43", "sub", strings.ReplaceAll(own["sub"], immutable, "repo:acme@43/web@4712:ref:refs/heads/main"))
		for what, other := range map[string]map[string]string{
			"same names, other ids": recycled,
			"another audience":      with(own, "aud", "https://github.com/acme"),
			"another branch":        with(own, "sub", own["sub"]+"2"),
			"a wildcard":            with(own, "sub", "*"),
			"another issuer":        with(own, "iss", "https://token.example.com"),
		} {
			if lets(t, p, other) {
				t.Errorf("%s: %s: the policy lets it take the role: %s", name, what, p)
			}
		}
	}
}
