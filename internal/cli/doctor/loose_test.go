package doctor

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// loose puts a store that minds no conditions before the bucket: each request is signed anew, without them. What the doctor
// tries is done there, which must change nothing.
func (w *world) loose() {
	w.suspend() // or every write of the same would be another version
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Error(err)
		}
		query := ""
		if r.Method == http.MethodGet && r.URL.Query().Has("list-type") {
			query = "?" + r.URL.RawQuery
		}
		again, err := http.NewRequestWithContext(r.Context(), r.Method, w.store.Endpoint+r.URL.EscapedPath()+query, bytes.NewReader(body))
		if err != nil {
			w.t.Error(err)
			return
		}
		w.agent.Sign(again, body)
		resp, err := http.DefaultClient.Do(again)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(rw, resp.Body)
	}))
	w.t.Cleanup(proxy.Close)
	replace(url.QueryEscape(w.store.Endpoint), url.QueryEscape(proxy.URL))(w)
	w.writes = true
}

// On a store that would do what is tried, only the server's own receipt is tried.
func TestLooseStoreIsAskedForNothingElse(t *testing.T) {
	w := newWorld(t, newGateway(t))
	w.loose()
	w.allow("s3:PutObject", "/web/*")
	w.make()
	r := w.examine()
	if c := find(r, "rights"); c.Level != Warn || !strings.Contains(c.Found, "was not tried") {
		t.Errorf("rights: got %s: %s, want a warning that it was not tried", c.Level, c.Found)
	}
	if r.Fail > 0 {
		t.Errorf("got %d failures, want none: %+v", r.Fail, r.Checks)
	}
}

// A fresh server, before anything is published and before the agent has left a receipt: nothing fails.
func TestFreshServer(t *testing.T) {
	w := newWorld(t, newGateway(t))
	w.empty = true
	w.detail.Receipt.Live.Hash, w.detail.Receipt.Pointer.Hash, w.detail.Receipt.Deployment = "", "", nil
	w.detail.Receipt.Status = "nothing is published yet: no pointer"
	w.make()
	r := w.examine()
	for name, want := range map[string]struct {
		level Level
		text  string
	}{
		"pointer": {OK, "nothing is published yet: there is no"}, "contact": {OK, "nothing is published yet"},
		"receipt": {Warn, "the agent has left none yet"}, "rights": {OK, "nothing is published yet"}, "versions": {Warn, "not looked at"},
	} {
		if c := find(r, name); c.Level != want.level || !strings.Contains(c.Found, want.text) {
			t.Errorf("%s: got %s: %s, want %s: %s", name, c.Level, c.Found, want.level, want.text)
		}
	}
	if r.Fail > 0 {
		t.Errorf("got %d failures, want none: %+v", r.Fail, r.Checks)
	}
}
