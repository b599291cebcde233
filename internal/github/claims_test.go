package github

import (
	"encoding/base64"
	"strings"
	"testing"
)

func token(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestParseClaims(t *testing.T) {
	for _, payload := range []string{`{"iss":"i","aud":"a","sub":"s","repository_id":"7"}`, `{"iss":"i","aud":["a"],"sub":"s","repository_id":"7","exp":1}`} {
		got, err := ParseClaims(token(payload) + "\n")
		if want := (Claims{Issuer: "i", Audience: "a", Subject: "s", RepositoryID: "7"}); got != want || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", payload, got, err, want)
		}
	}
	for _, bad := range []string{"", "hunter2", "a.hunter2.c.d", "a.%hunter2.c", token("hunter2"), token(`{"aud":["a","b"],"sub":"hunter2"}`),
		token(`{"sub":7,"aud":"hunter2"}`), token(`{"sub":"hunter2"}`), token(`{"aud":"` + strings.Repeat("x", maxToken) + `"}`)} {
		if _, err := ParseClaims(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.40q: got error %v, want one without the token", bad, err)
		}
	}
}

func TestHasIDs(t *testing.T) {
	c := Claims{Repository: "acme/web", RepositoryID: "4711", RepositoryOwnerID: "42"}
	for subject, want := range map[string]bool{
		"repo:acme@42/web@4711:ref:refs/heads/main": true, "repo:acme@42/web@4711:environment:production": true,
		"repo:acme/web:ref:refs/heads/main": false, "repo:acme/web:ref:repo:acme@42/web@4711:x": false, "repo:acme@42/web@47111:x": false,
		"repo:acme@42/web@4711": false, "repository_owner:acme": false, "": false,
	} {
		if c.Subject = subject; c.HasIDs() != want {
			t.Errorf("%q: got %v, want %v", subject, !want, want)
		}
	}
	if c = (Claims{Subject: "repo:@/@:x", Repository: "/"}); c.HasIDs() {
		t.Error("a token without ids: got true, want false")
	}
}

func TestTrustPolicyNeedsARole(t *testing.T) {
	c := Claims{Issuer: "https://token.example.com", Audience: "a", Subject: "s", RepositoryID: "7"}
	for role, ok := range map[string]bool{"arn:aws:iam::1:role/path/name": true, "arn:aws-us-gov:iam::1:role/name": true,
		"deploys": false, "arn:aws:iam::1:user/name": false, "arn:aws:iam::1:role/*": false, "": false} {
		got, err := TrustPolicy(role, c)
		if (err == nil) != ok {
			t.Errorf("%q: got error %v, want it %v", role, err, !ok)
		}
		if ok && !strings.Contains(string(got), strings.Split(role, ":iam:")[0]+`:iam::1:oidc-provider/token.example.com"`) {
			t.Errorf("%q: got %s", role, got)
		}
		if text := strings.Join(ExplainRefusal(role, c), "\n"); !strings.Contains(text, "sub                  s\n") || strings.Contains(text, "Statement") != ok {
			t.Errorf("%q: got %s", role, text)
		}
	}
	if _, err := TrustPolicy("arn:aws:iam::1:role/r", Claims{}); err == nil {
		t.Error("empty claims: got no error, want one")
	}
}
