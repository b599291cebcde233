package fakests

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/towline/towline/test/fakegithub"
)

const role = "arn:aws:iam::123456789012:role/deploys"

// token asks the issuer for a token.
func token(t *testing.T, g *fakegithub.Server, audience string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.IDTokenURL+"&audience="+audience, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+fakegithub.IDRequestToken)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Value string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Value
}

func TestTokens(t *testing.T) {
	g, other := fakegithub.New(t, fakegithub.Options{}), fakegithub.New(t, fakegithub.Options{})
	good := token(t, g, Audience)
	parts := strings.Split(good, ".")
	strange := strings.Split(token(t, g, "strange"), ".")
	for _, test := range []struct {
		name, role, subject, token string
		status                     int
		want                       string
	}{
		{"the job's", role, g.Subject(), good, 200, "<SessionToken>session</SessionToken>"},
		{"another role", role + "-2", g.Subject(), good, 403, "AccessDenied"},
		{"another subject", role, "repo:acme/other:ref:refs/heads/main", good, 403, "AccessDenied"},
		{"another audience", role, g.Subject(), strings.Join(strange, "."), 400, "audience"},
		{"another issuer's key", role, g.Subject(), token(t, other, Audience), 400, "signature"},
		{"claims of another token", role, g.Subject(), parts[0] + "." + strange[1] + "." + parts[2], 400, "signature"},
		{"no token", role, g.Subject(), "", 400, "three parts"},
	} {
		s := New(t, Options{Role: role, Issuer: fakegithub.Issuer, KeysURL: g.KeysURL, Subject: test.subject,
			AccessKeyID: "id", SecretAccessKey: "secret", SessionToken: "session"})
		form := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {test.role},
			"RoleSessionName": {"towline"}, "WebIdentityToken": {test.token}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.answer(w, r)
		body, _ := io.ReadAll(w.Result().Body)
		if w.Code != test.status || !strings.Contains(string(body), test.want) {
			t.Errorf("%s: got %d %s, want %d and %q", test.name, w.Code, body, test.status, test.want)
		}
		if granted, refused := s.Sessions(); len(granted)+refused != 1 || (len(granted) == 1) != (test.status == 200) {
			t.Errorf("%s: got %q granted, %d refused", test.name, granted, refused)
		}
	}
}

func TestAuthority(t *testing.T) {
	s := New(t, Options{})
	block, _ := pem.Decode(s.CA)
	if block == nil {
		t.Fatalf("got no PEM: %s", s.CA)
	}
	if c, err := x509.ParseCertificate(block.Bytes); err != nil || !strings.HasPrefix(s.URL, "https://") || c.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("got %v, %s: want a certificate of 127.0.0.1", err, s.URL)
	}
}
