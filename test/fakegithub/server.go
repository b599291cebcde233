// Package fakegithub is a GitHub that runs in the test: the few calls that Towline makes, answered from a commit graph
// and deployments kept in memory.
//
// Every request and every answer is checked against GitHub's own OpenAPI description (testdata/openapi.json, cut down
// by the program in prune; MIT licence, see testdata/LICENSE). A violation fails the test, whichever side it is on. The
// rules that the description states in prose only are kept by the handlers: the length of a status's description, the
// merge and the checks that the defaults of a new deployment ask for, what a success makes inactive.
//
// The token service of the runner, which is no part of the API, is served beside it, with the key that its tokens are
// signed with.
package fakegithub

import (
	"crypto/rsa"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options make a Server. The zero value is fine.
type Options struct {
	Repository string           // owner/name; default acme/nodeapi
	Token      string           // the workflow's token that requests must carry; default DefaultToken
	Listen     string           // default 127.0.0.1:0
	Now        func() time.Time // default time.Now
}

// The defaults of Options, and the token that the token service asks for.
const (
	DefaultRepository = "acme/nodeapi"
	DefaultToken      = "ghs_fake"
	IDRequestToken    = "id-request-fake"
)

// Server is a running fake. Its methods may be called from any goroutine.
type Server struct {
	URL        string // base of the API, as in GITHUB_API_URL
	IDTokenURL string // as in ACTIONS_ID_TOKEN_REQUEST_URL
	KeysURL    string // JSON web key set that the issuer's tokens are verified with

	options Options
	rules   *rules
	issuer  func() *rsa.PrivateKey // made when first asked for

	mu          sync.Mutex
	commits     map[string]Commit
	order       []string // hashes, oldest first
	deployments []*Deployment
	statuses    map[int64][]Status // oldest first
	lastID      int64
	requests    []string
	failures    []failure
}

type failure struct {
	header http.Header
	status int
	body   string
}

// New starts a server that ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Repository == "" {
		o.Repository = DefaultRepository
	}
	if o.Token == "" {
		o.Token = DefaultToken
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{options: o, issuer: sync.OnceValue(newIssuer), commits: map[string]Commit{}, statuses: map[int64][]Status{}}
	s.URL = "http://" + listener.Addr().String()
	s.IDTokenURL, s.KeysURL = s.URL+"/_token/1?api-version=2.0", s.URL+"/_token/jwks"
	if s.rules, err = newRules(s.URL); err != nil {
		listener.Close()
		t.Fatal(err)
	}
	api := http.NewServeMux()
	repo := "/repos/" + o.Repository
	api.HandleFunc("GET "+repo+"/commits/{ref}", s.getCommit)
	api.HandleFunc("GET "+repo+"/compare/{basehead}", s.compare)
	api.HandleFunc("GET "+repo+"/deployments", s.listDeployments)
	api.HandleFunc("POST "+repo+"/deployments", s.createDeployment)
	api.HandleFunc("GET "+repo+"/deployments/{id}/statuses", s.listStatuses)
	api.HandleFunc("POST "+repo+"/deployments/{id}/statuses", s.createStatus)
	api.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { notFound(w) })

	all := http.NewServeMux()
	all.HandleFunc("GET /_token/1", s.idToken)
	all.HandleFunc("GET /_token/jwks", s.keys)
	all.Handle("/", s.rules.check(t, s.guard(api)))

	server := httptest.NewUnstartedServer(all)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// guard records the request, answers it with a failure that was asked for, and checks the token.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
		var fail *failure
		if len(s.failures) > 0 {
			fail, s.failures = &s.failures[0], s.failures[1:]
		}
		s.mu.Unlock()
		switch scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); {
		case fail != nil:
			for key, values := range fail.header {
				w.Header()[key] = values
			}
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(fail.status)
			_, _ = w.Write([]byte(fail.body))
		case !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token"), token != s.options.Token:
			refuse(w, http.StatusUnauthorized, "Bad credentials")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// Fail answers the next call to the API with status, header and a JSON body instead of doing it. Several are used up
// in their order.
func (s *Server) Fail(status int, header http.Header, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, failure{header: header, status: status, body: body})
}

// Requests are the calls to the API so far, as "METHOD /path?query", those that failed included.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}
