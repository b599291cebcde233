package bucket

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestNoCredentials(t *testing.T) {
	isolate(t)
	var asked atomic.Bool
	metadata := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer metadata.Close()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	b, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, b.Check(t.Context()), ErrNoCredentials, "look in bucket app-bucket: no credentials found")
	if asked.Load() {
		t.Error("instance metadata was asked for a store that is not AWS")
	}
	b, err = Open(t.Context(), Options{URL: "app-bucket", Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, b.Check(t.Context()), ErrNoCredentials, "no credentials found")
	if !asked.Load() {
		t.Error("instance metadata was not asked for AWS")
	}
}

func TestChain(t *testing.T) {
	isolate(t)
	var auth string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		fmt.Fprint(w, "ok")
	}))
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "from-env")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_ENDPOINT_URL_S3", server.URL)
	b, err := Open(t.Context(), Options{URL: "app-bucket"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "k", 10); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(auth, "Credential=from-env/") || !strings.Contains(auth, "/us-east-1/s3/") {
		t.Errorf("got Authorization %q, want the environment's key and us-east-1", auth)
	}
	if got, want := b.URL(), "s3://app-bucket?endpoint="+server.URL+"&region=us-east-1"; got != want {
		t.Errorf("got URL %s, want %s", got, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	isolate(t)
	for want, o := range map[string]Options{
		`bucket "app-bucket": no region: set region= in the URL`: {URL: "app-bucket"},
		"want both or none": {URL: "app-bucket", AccessKeyID: "id"},
		"no OIDC token":     {URL: "app-bucket", RoleARN: "arn:aws:iam::1:role/r"},
		`bucket "app-bucket?x=1": "app-bucket?x=1" is not a bucket`: {URL: "app-bucket?x=1"},
		"bucket URL: credentials do not belong":                     {URL: "s3://id:hunter2@app-bucket"},
	} {
		_, err := Open(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}

func TestRole(t *testing.T) {
	isolate(t)
	const arn = "arn:aws:iam::123456789012:role/deploys"
	denied := false
	var asked atomic.Int32
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_ = r.ParseForm()
		if denied || r.Form.Get("WebIdentityToken") != "jwt-1" || r.Form.Get("RoleArn") != arn || r.Form.Get("Action") != "AssumeRoleWithWebIdentity" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>
<SecretAccessKey>s</SecretAccessKey><SessionToken>session</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	var tokens atomic.Int32
	var auth, session string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth, session = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token")
		fmt.Fprint(w, "ok")
	}))
	defer server.Close()
	o := Options{URL: "app-bucket", Endpoint: server.URL, RoleARN: arn, stall: 200 * time.Millisecond, IDToken: func(_ context.Context, audience string) (string, error) {
		if audience != "sts.amazonaws.com" {
			t.Errorf("got audience %q, want sts.amazonaws.com", audience)
		}
		return fmt.Sprintf("jwt-%d\n", tokens.Add(1)), nil
	}}
	open := func() Bucket {
		b, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open()
	if tokens.Load() != 0 {
		t.Error("a token was fetched before it was needed")
	}
	for range 3 {
		if _, _, err := b.Get(t.Context(), "k", 10); err != nil {
			t.Fatal(err)
		}
	}
	if tokens.Load() != 1 || !strings.Contains(auth, "Credential=ASIA1/") || session != "session" {
		t.Errorf("got %d tokens, Authorization %q, session %q, want one, ASIA1, session", tokens.Load(), auth, session)
	}
	denied = true
	asked.Store(0)
	err := open().Check(t.Context())
	wantFault(t, err, fs.ErrPermission, "look in bucket app-bucket: assume role "+arn+": AccessDenied: Not authorized")
	wantFault(t, err, ErrRole, "assume role")
	if asked.Load() != 1 {
		t.Errorf("a refusal: got %d requests to STS, want 1", asked.Load())
	}
	sts.Close()
	wantFault(t, open().Check(t.Context()), ErrUnreachable, "assume role "+arn+": connection refused")
	lost := fmt.Errorf("the job needs id-token: write: %w", fs.ErrPermission)
	o.IDToken = func(context.Context, string) (string, error) { return "", lost }
	wantFault(t, open().Check(t.Context()), fs.ErrPermission, "get an OIDC token for role "+arn+": the job needs id-token: write: permission denied")
	lost = fmt.Errorf("%w: this is no job", ErrNoCredentials)
	wantFault(t, open().Check(t.Context()), ErrNoCredentials, "get an OIDC token for role "+arn+": no credentials found: this is no job")
}
