package github

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towline/towline/test/fakegithub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	root  = "1111111111111111111111111111111111111111"
	left  = "2222222222222222222222222222222222222222"
	right = "3333333333333333333333333333333333333333"
	apart = "4444444444444444444444444444444444444444"
)

// start returns a client, and the fake that it speaks to. Waits are noted, not waited.
func start(t *testing.T) (*Client, *fakegithub.Server, *[]time.Duration) {
	t.Helper()
	s := fakegithub.New(t, fakegithub.Options{})
	s.AddCommit(root, "", "First\n\nwith a body", "2026-11-23T14:06:43+01:00")
	s.AddCommit(left, root, "Left", "2026-11-23T13:10:00Z")
	s.AddCommit(right, root, "Right", "2026-11-23T13:20:00Z")
	s.AddCommit(apart, "", "Apart", "2026-11-23T13:30:00Z")
	c, waits := client(t, s.URL, fakegithub.DefaultToken)
	return c, s, waits
}

func client(t *testing.T, base, token string) (*Client, *[]time.Duration) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := New(Options{BaseURL: base, Token: token, Repository: fakegithub.DefaultRepository, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	var waits []time.Duration
	c.retry.sleep = func(ctx context.Context, d time.Duration) error {
		waits = append(waits, d)
		return ctx.Err()
	}
	return c, &waits
}

func TestNewChecksItsOptions(t *testing.T) {
	for _, o := range []Options{
		{},
		{Repository: "acme"},
		{Repository: "acme/"},
		{Repository: "/nodeapi"},
		{Repository: "acme/nodeapi/more"},
		{Repository: "acme/nodeapi", BaseURL: "api.github.com"},
		{Repository: "acme/nodeapi", BaseURL: "ftp://api.github.com"},
		{Repository: "acme/nodeapi", BaseURL: "https://"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: got no error", o)
		}
	}
	for base, want := range map[string]string{
		"":                               "https://api.github.com/",
		"https://api.github.com":         "https://api.github.com/",
		"https://ghe.example.com/api/v3": "https://ghe.example.com/api/v3/",
		"https://api.acme.ghe.com/":      "https://api.acme.ghe.com/",
	} {
		c, err := New(Options{Repository: "acme/nodeapi", BaseURL: base})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.api.BaseURL.String(); got != want {
			t.Errorf("%q: got base %s, want %s", base, got, want)
		}
	}
}

func TestCommit(t *testing.T) {
	c, _, _ := start(t)
	msg, date, err := c.Commit(t.Context(), root)
	if msg != "First" || date != "2026-11-23T13:06:43Z" || err != nil {
		t.Errorf("got %q, %q, %v, want First, 2026-11-23T13:06:43Z", msg, date, err)
	}
	if _, _, err := c.Commit(t.Context(), "5555"); err == nil || !strings.Contains(err.Error(), "get commit 5555") {
		t.Errorf("got %v, want an error that names the commit", err)
	}
}

func TestCommitNeverLeavesItsPath(t *testing.T) {
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.EscapedPath())
		_, _ = w.Write([]byte(`{"name":"nodeapi"}`))
	}))
	defer server.Close()
	c, _ := client(t, server.URL+"/api/v3", "")
	for _, sha := range []string{"a/../../b", "..", "x?y=1", ""} {
		if _, _, err := c.Commit(t.Context(), sha); err == nil {
			t.Errorf("%q: got no error for an answer that is not a commit", sha)
		}
	}
	for _, path := range paths {
		if !strings.HasPrefix(path, "/api/v3/repos/acme/nodeapi/") {
			t.Errorf("got a call of %s", path)
		}
	}
}

func TestCompare(t *testing.T) {
	c, _, _ := start(t)
	for _, k := range []struct{ base, head, want string }{
		{root, left, "ahead"},
		{left, root, "behind"},
		{left, left, "identical"},
		{left, right, "diverged"},
	} {
		if got, err := c.Compare(t.Context(), k.base, k.head); got != k.want || err != nil {
			t.Errorf("%s...%s: got %s, %v, want %s", k.base, k.head, got, err, k.want)
		}
	}
	for _, head := range []string{apart, "5555"} {
		if _, err := c.Compare(t.Context(), root, head); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want fs.ErrNotExist", head, err)
		}
	}
}

func TestErrorsNameThePermission(t *testing.T) {
	c, s, waits := start(t)
	message := func(m string) string { return `{"message":"` + m + `","documentation_url":"https://docs.github.com"}` }
	read := func() error { _, _, err := c.Commit(t.Context(), root); return err }
	create := func() error {
		_, err := c.CreateDeployment(t.Context(), DeploymentRequest{Ref: root, Environment: "production"})
		return err
	}
	for _, k := range []struct {
		call   func() error
		status int
		body   string
		is     error
		want   string
	}{
		{read, 401, message("Bad credentials"), fs.ErrPermission, "Bad credentials"},
		{read, 403, message("Resource not accessible by integration"), fs.ErrPermission, "contents: read"},
		{read, 404, message("Not Found"), fs.ErrNotExist, "contents: read"},
		{create, 403, message("Resource not accessible by integration"), fs.ErrPermission, "deployments: write"},
		{create, 404, message("Not Found"), fs.ErrPermission, "deployments: write"},
		{create, 409, message("Conflict merging main"), nil, "Conflict merging main"},
		{create, 422, `{"message":"Validation Failed","documentation_url":"x","errors":[{"resource":"Deployment","field":"ref","code":"invalid"}]}`, nil, "ref invalid"},
		{create, 202, `{"message":"Auto-merged main into topic on deployment."}`, nil, "merged the default branch"},
		{create, 500, message("oops"), nil, "500"},
		{create, 302, message("moved"), nil, "302"},
	} {
		s.Fail(k.status, nil, k.body)
		err := k.call()
		if err == nil || k.is != nil && !errors.Is(err, k.is) || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%d %s: got %v, want %v %q", k.status, k.body, err, k.is, k.want)
		}
		if err != nil && (strings.Contains(err.Error(), fakegithub.DefaultToken) || strings.Contains(err.Error(), s.URL)) {
			t.Errorf("%d: got %v, want neither token nor address in it", k.status, err)
		}
	}
	if len(*waits) != 0 {
		t.Errorf("got waits %v, want none of these tried again", *waits)
	}
}

func TestIDToken(t *testing.T) {
	s := fakegithub.New(t, fakegithub.Options{})
	token, err := IDToken(t.Context(), s.IDTokenURL, fakegithub.IDRequestToken, "sts.amazonaws.com")
	if err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("got %q, %v, want a token", token, err)
	}
	for _, k := range []struct{ url, token string }{{"", ""}, {s.IDTokenURL, ""}, {"", fakegithub.IDRequestToken}, {s.IDTokenURL, "wrong-token"}} {
		_, err := IDToken(t.Context(), k.url, k.token, "sts.amazonaws.com")
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "id-token: write") {
			t.Errorf("%q %q: got %v, want fs.ErrPermission and the missing line", k.url, k.token, err)
		} else if strings.Contains(err.Error(), "wrong-token") {
			t.Errorf("got the request token in %v", err)
		}
	}
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/html":
			fmt.Fprint(w, "<html>")
		case "/empty":
			fmt.Fprint(w, `{"value":""}`)
		case "/redirect":
			http.Redirect(w, r, s.IDTokenURL, http.StatusFound)
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer odd.Close()
	for _, address := range []string{odd.URL + "/html", odd.URL + "/empty", odd.URL + "/redirect", odd.URL, "not an address", "https://"} {
		if token, err := IDToken(t.Context(), address, fakegithub.IDRequestToken, "sts.amazonaws.com"); err == nil {
			t.Errorf("%s: got %q, want an error", address, token)
		}
	}
}
