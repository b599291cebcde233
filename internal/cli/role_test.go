package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A workflow may run towline publish as a step of its own; a refused role shows there what it shows in the action.
func TestRefusedRoleShowsClaimsAndPolicy(t *testing.T) {
	payload, err := json.Marshal(map[string]string{"iss": "https://token.actions.githubusercontent.com", "aud": "sts.amazonaws.com",
		"sub": "repo:acme/web:environment:##[error]boom", "repository": "acme/web", "repository_id": "4711", "environment": "\n::error::boom"})
	if err != nil {
		t.Fatal(err)
	}
	token := "aGVhZGVy." + base64.RawURLEncoding.EncodeToString(payload) + ".c2lnbmF0dXJl"
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>")
	}))
	defer sts.Close()
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"value": %q}`, token) }))
	defer tokens.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	env := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": tokens.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"}
	var out, errs bytes.Buffer
	code := Main(t.Context(), Env{Stdout: &out, Stderr: &errs, Getenv: func(name string) string { return env[name] }, Args: []string{
		"releases", "--app", "web", "--bucket", "s3://deploys?endpoint=http://127.0.0.1:1&region=x", "--trust", "none", "--role-to-assume", "arn:aws:iam::1:role/deploys"}})
	text := errs.String()
	for _, want := range []string{"  repository_id        4711\n", `"Federated": "arn:aws:iam::1:oidc-provider/token.actions.githubusercontent.com"`,
		`:sub": "repo:acme/web:environment:\u0023#[error]boom"`, "towline: cannot list the releases: look in bucket deploys: assume role", "hint: the role's trust policy"} {
		if !strings.Contains(text, want) {
			t.Errorf("standard error does not say %q:\n%s", want, text)
		}
	}
	for _, bad := range []string{token, "c2lnbmF0dXJl", "##[", "\n::"} {
		if strings.Contains(text+out.String(), bad) {
			t.Errorf("the output holds %q:\n%s%s", bad, text, out.String())
		}
	}
	if code != 2 {
		t.Errorf("got exit code %d, want 2", code)
	}
}
