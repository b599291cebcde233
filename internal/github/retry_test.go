package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/fakegithub"
)

func TestRetry(t *testing.T) {
	read := func(c *Client) error { _, err := c.Compare(t.Context(), root, left); return err }
	create := func(c *Client) error {
		_, err := c.CreateDeployment(t.Context(), DeploymentRequest{Ref: root, Environment: "production"})
		return err
	}
	status := func(c *Client) error { return c.SetStatus(t.Context(), 1, Status{State: "success"}) }
	after := func(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }
	reset := func(in time.Duration) http.Header {
		return http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Limit": {"60"}, "X-Ratelimit-Reset": {fmt.Sprint(time.Now().Add(in).Unix())}}
	}
	secondary := `{"message":"You have exceeded a secondary rate limit."}`
	for _, k := range []struct {
		name   string
		call   func(*Client) error
		fails  int
		status int
		header http.Header
		body   string
		ok     bool
		waits  int
		least  time.Duration // of the first wait
		most   time.Duration
	}{
		{"429 with a wait", read, 1, 429, after("7"), `{}`, true, 1, 7 * time.Second, 7 * time.Second},
		{"429 without", read, 2, 429, nil, `{}`, true, 2, time.Second, 2 * time.Second},
		{"429 for a minute", create, 1, 429, after("60"), `{}`, true, 1, time.Minute, time.Minute},
		{"429 for an hour", read, 1, 429, after("3600"), `{}`, false, 0, 0, 0},
		{"429 for ever", read, maxTries, 429, nil, `{}`, false, maxTries - 1, time.Second, 2 * time.Second},
		{"secondary limit", create, 1, 403, after("5"), secondary, true, 1, 5 * time.Second, 5 * time.Second},
		{"secondary limit without a wait", create, 1, 403, nil, secondary, true, 1, time.Second, 2 * time.Second},
		{"limit, reset soon", read, 1, 403, reset(20 * time.Second), `{}`, true, 1, time.Second, 21 * time.Second},
		{"limit, reset later", read, 1, 403, reset(time.Hour), `{}`, false, 0, 0, 0},
		{"502 when reading", read, 3, 502, nil, `{}`, true, 3, time.Second, 2 * time.Second},
		{"502 when setting a status", status, 1, 502, nil, `{}`, true, 1, time.Second, 2 * time.Second},
		{"502 when creating", create, 1, 502, nil, `{}`, false, 0, 0, 0},
		{"503 when creating", create, 1, 503, nil, `{}`, true, 1, time.Second, 2 * time.Second},
	} {
		c, s, waits := start(t)
		s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production"})
		for range k.fails {
			s.Fail(k.status, k.header, k.body)
		}
		if err := k.call(c); (err == nil) != k.ok {
			t.Errorf("%s: got %v, want success: %t", k.name, err, k.ok)
		}
		if len(*waits) != k.waits || k.waits > 0 && ((*waits)[0] < k.least || (*waits)[0] > k.most) {
			t.Errorf("%s: got waits %v, want %d, the first between %v and %v", k.name, *waits, k.waits, k.least, k.most)
		}
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	c, s, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.retry.sleep = func(ctx context.Context, d time.Duration) error { cancel(); return sleep(ctx, d) }
	s.Fail(429, http.Header{"Retry-After": {"60"}}, `{}`)
	if _, err := c.Compare(ctx, root, left); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestRetryAfterARefusedConnection(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c, waits := client(t, server.URL, "")
	_, err := c.CreateDeployment(t.Context(), DeploymentRequest{Ref: root, Environment: "production"})
	if err == nil || len(*waits) != maxTries-1 {
		t.Errorf("got %v after waits %v, want an error after %d", err, *waits, maxTries-1)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1<<20)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c, waits := client(t, server.URL, "")
	if _, _, err := c.Commit(t.Context(), root); !errors.Is(err, errTooLarge) || len(*waits) != 0 {
		t.Errorf("got %v after waits %v, want %v at once", err, *waits, errTooLarge)
	}
}
