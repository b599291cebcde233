package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"

	"github.com/towline/towline/internal/bucket"
)

// aws stands before the S3 server and does what AWS does in another way, as its documentation has it: it knows the
// conditions of create-only, which the server refuses to take; it needs leave to read what a write is conditional on; and
// it hides from those who may not list the whole bucket whether an object is absent or forbidden.
type aws struct {
	policies map[string]bucket.Policy // by access key
	next     http.Handler
}

func (r *rights) likeAWS() {
	server, err := url.Parse(r.root.Endpoint)
	if err != nil {
		r.t.Fatal(err)
	}
	a := aws{policies: map[string]bucket.Policy{}, next: &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = server.Scheme, server.Host },
		ModifyResponse: hide,
	}}
	for name, text := range map[string]json.RawMessage{r.ci.AccessKey: r.printed.CI, r.agent.AccessKey: r.printed.Agent} {
		var p bucket.Policy
		if err := json.Unmarshal(text, &p); err != nil {
			r.t.Fatal(err)
		}
		a.policies[name] = p
	}
	proxy := httptest.NewServer(a)
	r.t.Cleanup(proxy.Close)
	r.endpoint = proxy.URL
	r.notOverwritten(a)
}

// notOverwritten wants the policy of CI to refuse writes over artifacts and history that lack the condition.
func (r *rights) notOverwritten(a aws) {
	for target, want := range map[string]bool{
		"PUT /web/releases/a-0123456789ab.tar.zst": false, "PUT /web/production/history/0000000001.json": false,
		"POST /web/releases/a-0123456789ab.tar.zst?uploadId=1": false, "POST /web/releases/a-0123456789ab.tar.zst?uploads": true,
		"PUT /web/releases/a-0123456789ab.tar.zst?partNumber=1&uploadId=1": true, "PUT /web/production/version.json": true,
		"POST /web/production/history/0000000001.json?uploads": false, "DELETE /web/production/version.json": false,
	} {
		method, at, _ := strings.Cut(target, " ")
		for _, header := range []string{"", "*"} {
			req := httptest.NewRequest(method, "/"+shared+at, nil)
			if header != "" {
				req.Header.Set("If-None-Match", header)
			}
			created := header != "" && method != "DELETE" && !strings.HasSuffix(at, "?uploads")
			if got := allows(a.policies[r.ci.AccessKey], req); got != (want || created) {
				r.t.Errorf("%s with If-None-Match %q: got allowed %v, want %v", target, header, got, want || created)
			}
		}
	}
}

var credential = regexp.MustCompile(`Credential=([^/]+)/`)

func (a aws) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	who := credential.FindStringSubmatch(req.Header.Get("Authorization"))
	if who == nil || !allows(a.policies[who[1]], req) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
		return
	}
	a.next.ServeHTTP(w, req)
}

// hide gives 403 for an object that is not there.
func hide(resp *http.Response) error {
	if read := resp.Request.Method == http.MethodGet || resp.Request.Method == http.MethodHead; read && resp.StatusCode == http.StatusNotFound {
		const text = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
		resp.StatusCode, resp.Status = http.StatusForbidden, ""
		resp.Body = io.NopCloser(strings.NewReader(text))
		resp.ContentLength = int64(len(text))
		resp.Header.Del("Content-Length")
	}
	return nil
}

// allows evaluates an identity policy.
func allows(p bucket.Policy, req *http.Request) bool {
	_, key, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	query := req.URL.Query()
	context := map[string]string{}
	if query.Has("prefix") {
		context["s3:prefix"] = query.Get("prefix")
	}
	action := ""
	switch put, upload := req.Method == http.MethodPut, query.Has("uploadId"); {
	case key == "" && req.Method == http.MethodGet && query.Get("list-type") == "2":
		action = "s3:ListBucket"
	case key == "":
	case req.Method == http.MethodGet, req.Method == http.MethodHead:
		action = "s3:GetObject"
	case put && upload, req.Method == http.MethodPost && query.Has("uploads"):
		action, context["s3:ObjectCreationOperation"] = "s3:PutObject", "false"
	case put, req.Method == http.MethodPost && upload:
		action, context["s3:ObjectCreationOperation"] = "s3:PutObject", "true"
	case req.Method == http.MethodDelete && upload:
		action = "s3:AbortMultipartUpload"
	case req.Method == http.MethodDelete:
		action = "s3:DeleteObject"
	}
	if tag := req.Header.Get("If-None-Match"); tag != "" && context["s3:ObjectCreationOperation"] == "true" {
		context["s3:if-none-match"] = tag
	}
	resource := "arn:aws:s3:::" + shared
	if key != "" {
		resource += "/" + key
	}
	if req.Method == http.MethodPut && req.Header.Get("If-Match") != "" && !grants(p, "s3:GetObject", resource, nil) {
		return false
	}
	return grants(p, action, resource, context)
}

func grants(p bucket.Policy, action, resource string, context map[string]string) bool {
	for _, s := range p.Statement {
		hit := s.Effect == "Allow" && s.Principal == nil && oneLike(s.Action, action) && oneLike(s.Resource, resource)
		for operator, keys := range s.Condition {
			for key, want := range keys {
				got, there := context[key]
				switch operator {
				case "Null":
					hit = hit && there == (want == "false")
				case "Bool":
					hit = hit && there && got == want
				case "StringLike":
					hit = hit && there && oneLike([]string{want}, got)
				default:
					hit = false
				}
			}
		}
		if hit {
			return true
		}
	}
	return false
}

// oneLike reports whether one of the patterns fits. A star at the end stands for anything, slashes too.
func oneLike(patterns []string, s string) bool {
	for _, pattern := range patterns {
		if begin, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(s, begin) || pattern == s {
			return true
		}
	}
	return false
}
