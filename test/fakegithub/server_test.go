package fakegithub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// complaints collects what would fail a test.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

// start is a server with three commits: root, and two children of it.
func start(t *testing.T) (*Server, *complaints) {
	c := &complaints{TB: t}
	s := New(c, Options{})
	s.AddCommit("aaaa", "", "Root", "2026-11-23T13:00:00Z")
	s.AddCommit("bbbb", "aaaa", "Left", "2026-11-23T13:01:00Z")
	s.AddCommit("cccc", "aaaa", "Right", "2026-11-23T13:02:00Z")
	s.AddCommit("dddd", "", "Apart", "2026-11-23T13:03:00Z")
	return s, c
}

func (s *Server) call(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/repos/acme/nodeapi"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+DefaultToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	_ = json.Unmarshal(data, &answer) // lists stay nil
	return response.StatusCode, answer
}

func TestRightCallsPass(t *testing.T) {
	s, c := start(t)
	for _, call := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/commits/aaaa", "", 200},
		{"GET", "/commits/eeee", "", 422},
		{"GET", "/compare/aaaa...bbbb?per_page=1", "", 200},
		{"GET", "/compare/bbbb...dddd", "", 404},
		{"POST", "/deployments", `{"ref":"aaaa","auto_merge":false,"required_contexts":[],"payload":{"a":"b"}}`, 201},
		{"POST", "/deployments", `{"ref":"aaaa"}`, 202},
		{"POST", "/deployments", `{"ref":"aaaa","auto_merge":false}`, 409},
		{"POST", "/deployments", `{"ref":"eeee","auto_merge":false,"required_contexts":[]}`, 422},
		{"GET", "/deployments?sha=aaaa&environment=production&per_page=10", "", 200},
		{"POST", "/deployments/1/statuses", `{"state":"success","log_url":"https://example.com/1"}`, 201},
		{"POST", "/deployments/1/statuses", `{"state":"error","description":"` + strings.Repeat("é", 140) + `"}`, 201},
		{"POST", "/deployments/1/statuses", `{"state":"error","description":"` + strings.Repeat("é", 141) + `"}`, 422},
		{"GET", "/deployments/1/statuses", "", 200},
		{"GET", "/deployments/9/statuses", "", 404},
	} {
		if got, answer := s.call(t, call.method, call.path, call.body); got != call.want {
			t.Errorf("%s %s %s: got %d %v, want %d", call.method, call.path, call.body, got, answer, call.want)
		}
	}
	for _, said := range c.said {
		t.Errorf("got a complaint: %s", said)
	}
	if got := len(s.Statuses(1)); got != 2 || len(s.Deployments()) != 1 {
		t.Errorf("got %d statuses, %d deployments, want 2, 1", got, len(s.Deployments()))
	}
}

func TestWrongCallsFailTheTest(t *testing.T) {
	for _, call := range []struct{ method, path, body, want string }{
		{"POST", "/deployments", `{}`, "ref"},
		{"POST", "/deployments", `{"ref":7}`, "ref"},
		{"POST", "/deployments", `{"ref":"aaaa","auto_merge":"no"}`, "auto_merge"},
		{"POST", "/deployments", `{"ref":"aaaa","automerge":false}`, `unknown field "automerge"`},
		{"POST", "/deployments", `{"ref":"aaaa","payload":7}`, "payload"},
		{"POST", "/deployments/1/statuses", `{"state":"done"}`, "state"},
		{"POST", "/deployments/one/statuses", `{"state":"success"}`, "deployment_id"},
		{"GET", "/deployments?enviroment=production", "", `unknown query parameter "enviroment"`},
		{"GET", "/deployments?per_page=many", "", "per_page"},
		{"GET", "/deployment", "", "no matching operation"},
		{"DELETE", "/deployments", "", "method not allowed"},
	} {
		s, c := start(t)
		s.AddDeployment(Deployment{SHA: "aaaa", Environment: "production"})
		s.call(t, call.method, call.path, call.body)
		if len(c.said) == 0 || !strings.Contains(c.said[0], call.want) {
			t.Errorf("%s %s %s: got complaints %q, want one about %s", call.method, call.path, call.body, c.said, call.want)
		}
	}
}

func TestWrongAnswersFailTheTest(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"a field is missing":   func(w http.ResponseWriter) { write(w, 200, []any{object{"id": 1}}) },
		"an object for a list": func(w http.ResponseWriter) { write(w, 200, object{}) },
		"another content type": func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"an id that is no number": func(w http.ResponseWriter) {
			s := &Server{URL: "http://127.0.0.1"}
			body := s.deploymentBody(&Deployment{ID: 1, Payload: json.RawMessage(`{}`)})
			body["id"] = "1"
			write(w, 200, []any{body})
		},
		"an address without host": func(w http.ResponseWriter) {
			s := &Server{}
			write(w, 200, []any{s.deploymentBody(&Deployment{ID: 1, Payload: json.RawMessage(`{}`)})})
		},
	} {
		s, c := start(t)
		checked := s.rules.check(c, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
		r := httptest.NewRequestWithContext(t.Context(), "GET", s.URL+"/repos/acme/nodeapi/deployments", nil)
		checked.ServeHTTP(httptest.NewRecorder(), r)
		if len(c.said) != 1 || !strings.Contains(c.said[0], "answer") {
			t.Errorf("%s: got complaints %q, want one about the answer", name, c.said)
		}
	}
}
