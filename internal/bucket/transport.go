package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// stallError says that a connection gave no byte for a while.
type stallError time.Duration

var errEndless = errors.New("the answer has no end")

func (e stallError) Error() string { return fmt.Sprintf("no bytes for %v", time.Duration(e)) }

// A body that is read for slowFor times the stall, and gives fewer bytes than slowest for each second of it, is given up as one
// that stands still is: it would hold a deployment for days. At a tenth of the slowest line that anybody deploys over, nothing
// that works is cut off, and what has come is not fetched again.
const (
	slowFor = 3
	slowest = 1 << 10
)

// slowError says that a connection gave bytes for a while, and too few.
type slowError struct {
	got   int64
	after time.Duration
}

func (e slowError) Error() string { return fmt.Sprintf("only %d bytes in %v", e.got, e.after) }

// exposed reports an address in plain http that others are on the way to.
//
// What goes to a bucket is signed: the secret key is never sent, and of what was seen neither another request nor another
// body can be made. So a store in one's own network may be spoken to in plain http, with a warning. What goes to STS is the
// OIDC token itself, which is as good as a key to whoever reads it: that goes over TLS only.
func exposed(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}

// private is a client that sends nothing where others can read it.
type private struct{ client aws.HTTPClient }

func (p private) Do(req *http.Request) (*http.Response, error) {
	if exposed(req.URL.String()) {
		return nil, &identityError{op: "assume role", err: &fault{
			text: "an OIDC token is not sent over plain http, as to " + req.URL.Host, kind: fs.ErrPermission}}
	}
	return p.client.Do(req)
}

// notFollowed hands a redirect back as an answer, so that nothing goes to a host that was not configured.
func notFollowed(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// attempts counts how often a request was sent: a refusal of the second attempt may be the first one's success.
type attempts struct{}

func withAttempts(ctx context.Context) (context.Context, *atomic.Int32) {
	n := new(atomic.Int32)
	return context.WithValue(ctx, attempts{}, n), n
}

// watch is a transport that ends an attempt on which nothing moves: no request byte taken, no answer begun, or no byte
// of the answer's body, or hardly any, for a while. Time in which the caller does not read does not count.
type watch struct {
	base  http.RoundTripper
	stall time.Duration
	log   *slog.Logger
}

// patience is how long a store may take to begin its answer: at once for reading; time to store what was written; and
// minutes to put the parts of an upload together, which some do by copying.
func (w watch) patience(method string) time.Duration {
	switch method {
	case http.MethodPut:
		return 6 * w.stall
	case http.MethodPost:
		return 30 * w.stall
	}
	return w.stall
}

func (w watch) RoundTrip(req *http.Request) (*http.Response, error) {
	if n, ok := req.Context().Value(attempts{}).(*atomic.Int32); ok {
		n.Add(1)
	}
	limit := w.patience(req.Method)
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(limit, func() { cancel(stallError(limit)) })
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sending{ReadCloser: req.Body, timer: timer, limit: limit}
	}
	began := time.Now()
	resp, err := w.base.RoundTrip(req)
	timer.Stop()
	w.told(req, resp, err, time.Since(began))
	if err != nil {
		if stall, ok := context.Cause(ctx).(stallError); ok {
			err = stall
		}
		cancel(nil)
		return nil, err
	}
	body := &receiving{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, limit: w.stall}
	body.timer = time.AfterFunc(w.stall, func() { cancel(stallError(w.stall)) })
	body.timer.Stop()
	resp.Body = &bounded{receiving: body, left: longest(req, resp)}
	return resp, nil
}

// told leaves a line about an attempt for whoever looks for what went wrong: no header and no query, which hold what is
// signed.
func (w watch) told(req *http.Request, resp *http.Response, err error, took time.Duration) {
	attrs := []any{"method", req.Method, "host", req.URL.Host, "path", req.URL.Path, "took", took.Round(time.Millisecond)}
	if err != nil {
		attrs = append(attrs, "error", err)
	} else {
		attrs = append(attrs, "status", resp.StatusCode)
	}
	w.log.Debug("store", attrs...)
}

const (
	maxAnswer  = 8 << 20 // bytes of an answer that is no object; a page of a thousand keys takes at most half of it
	maxRefusal = 1 << 20
)

// longest is how many bytes the answer's body may have. The SDK reads all but objects into memory whole; how much of an
// object is read is its reader's to say.
func longest(req *http.Request, resp *http.Response) int64 {
	switch {
	case resp.StatusCode >= 300:
		return maxRefusal
	case req.Method == http.MethodGet && req.URL.Query().Get("x-id") == "GetObject":
		return math.MaxInt64
	}
	return maxAnswer
}

// bounded ends an answer that goes on and on.
type bounded struct {
	*receiving
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errEndless
	}
	n, err := b.receiving.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// sending winds the timer up with every piece that the connection takes.
type sending struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

func (s *sending) Read(p []byte) (int, error) {
	s.timer.Reset(s.limit)
	return s.ReadCloser.Read(p)
}

// receiving runs the timer while a read waits, and adds up what came in how much waiting.
type receiving struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration

	waited time.Duration
	got    int64 // in it
}

func (r *receiving) Read(p []byte) (int, error) {
	r.timer.Reset(r.limit)
	began := time.Now()
	n, err := r.ReadCloser.Read(p)
	r.timer.Stop()
	if stall, ok := context.Cause(r.ctx).(stallError); ok && err != nil && err != io.EOF {
		err = stall
	}
	r.waited, r.got = r.waited+time.Since(began), r.got+int64(n)
	if err != nil || r.waited < slowFor*r.limit {
		return n, err
	}
	if slow := (slowError{r.got, slowFor * r.limit}); float64(r.got) < slowest*r.waited.Seconds() {
		r.cancel(slow)
		return n, slow
	}
	r.waited, r.got = 0, 0
	return n, nil
}

func (r *receiving) Close() error {
	r.timer.Stop()
	err := r.ReadCloser.Close()
	r.cancel(nil)
	return err
}
