package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxTries  = 4
	maxWait   = time.Minute // a longer wait that GitHub asks for ends the call
	maxAnswer = 16 << 20    // bytes
)

// retry is a transport that bounds answers and repeats requests that met a rate limit, a failing server or a broken
// connection, where repeating does no harm.
type retry struct {
	next  http.RoundTripper
	log   *slog.Logger
	dead  atomic.Bool // all tries of a call met no answer: the next calls do not wait for one again
	now   func() time.Time
	sleep func(context.Context, time.Duration) error
}

func newRetry(next http.RoundTripper, log *slog.Logger) *retry {
	if next == nil {
		next = http.DefaultTransport
	}
	return &retry{next: next, log: log, now: time.Now, sleep: sleep}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// RoundTrip implements http.RoundTripper.
func (r *retry) RoundTrip(request *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		attempt := request
		if try > 1 && request.Body != nil {
			body, err := request.GetBody()
			if err != nil {
				return nil, err
			}
			attempt = request.Clone(request.Context())
			attempt.Body = body
		}
		began := r.now()
		response, err := r.next.RoundTrip(attempt)
		r.told(attempt, response, err, r.now().Sub(began))
		if err == nil {
			if err = bound(response); err != nil {
				response = nil
			}
		}
		if try == maxTries || r.dead.Load() || request.Context().Err() != nil {
			r.dead.Store(err != nil && request.Context().Err() == nil)
			return response, err
		}
		wait, again := r.verdict(request, response, err)
		if !again {
			return response, err
		}
		if wait == 0 {
			wait = time.Second << (try - 1)
			wait += rand.N(wait / 2) // #nosec G404 -- jitter
		}
		if response != nil {
			response.Body.Close()
		}
		r.log.Debug("call github again", "method", request.Method, "path", request.URL.Path, "wait", wait)
		if err := r.sleep(request.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// told leaves a line about an attempt for whoever looks for what went wrong.
func (r *retry) told(request *http.Request, response *http.Response, err error, took time.Duration) {
	attrs := []any{"method", request.Method, "path", request.URL.Path, "took", took.Round(time.Millisecond)}
	if err != nil {
		attrs = append(attrs, "error", err)
	} else {
		attrs = append(attrs, "status", response.StatusCode)
	}
	r.log.Debug("github", attrs...)
}

// verdict says whether to try again, and after what wait; 0 leaves the wait to us.
func (r *retry) verdict(request *http.Request, response *http.Response, err error) (wait time.Duration, again bool) {
	// A second deployment would stay open beside the first for ever; a status said twice is the same status.
	harmless := request.Method == http.MethodGet || strings.HasSuffix(request.URL.Path, "/statuses")
	if err != nil {
		var dial *net.OpError
		notSent := errors.As(err, &dial) && dial.Op == "dial"
		return 0, (harmless || notSent) && !errors.Is(err, errTooLarge)
	}
	switch code := response.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable, code == http.StatusForbidden && limited(response):
		wait = r.asked(response.Header)
		return wait, wait <= maxWait
	case code >= 500:
		return 0, harmless
	}
	return 0, false
}

// limited tells a 403 for calling too often from one for not being allowed. It reads the answer, which bound keeps.
func limited(response *http.Response) bool {
	if response.Header.Get("Retry-After") != "" || response.Header.Get("X-Ratelimit-Remaining") == "0" {
		return true
	}
	body := response.Body.(*kept)
	return bytes.Contains(bytes.ToLower(body.data), []byte("secondary rate limit"))
}

// asked is the wait that GitHub asks for; 0 when it asks for none.
func (r *retry) asked(header http.Header) time.Duration {
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 1<<20)) * time.Second
	}
	if header.Get("X-Ratelimit-Remaining") != "0" {
		return 0
	}
	reset, err := strconv.ParseInt(header.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil {
		return 0
	}
	return max(time.Unix(reset, 0).Sub(r.now()), time.Second)
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)

// kept is an answer's body that was read whole.
type kept struct {
	*bytes.Reader
	data []byte
}

func (*kept) Close() error { return nil }

// bound reads the whole answer, at most maxAnswer bytes, so that nothing behind us reads without an end.
func bound(response *http.Response) error {
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read answer: %w", err)
	case len(data) > maxAnswer:
		return errTooLarge
	}
	response.Body = &kept{bytes.NewReader(data), data}
	return nil
}
