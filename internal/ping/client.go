package ping

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
)

const (
	dialTimeout   = 3 * time.Second
	firstTries    = 3                // before a server that never answered is unreachable
	patience      = 60 * time.Second // without a word before a server that did answer is unreachable
	backoffFrom   = time.Second
	backoffTo     = 5 * time.Second
	retryAfterMax = 30 * time.Second
)

// ClientOptions say how a Client connects. The zero value is fine.
type ClientOptions struct {
	Roots []byte // further certificate authorities, PEM
	Proxy func(*http.Request) (*url.URL, error)
	Dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: the system's
	Log   *slog.Logger
}

// Client rings agents. It may be used from several goroutines.
type Client struct {
	options ClientOptions
	roots   *x509.CertPool // nil: the system's
}

// NewClient returns a client. The error is about Roots: PEM without a certificate in it.
func NewClient(o ClientOptions) (*Client, error) {
	c := &Client{options: o}
	if o.Log == nil {
		c.options.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		c.options.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if len(o.Roots) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(o.Roots) {
			return nil, errors.New("read CA bundle: no certificate in it")
		}
		c.roots = pool
	}
	return c, nil
}

// Ping rings the agent at base (https://host:8422) and calls on, from this goroutine, with every event of the
// deployment that follows, each once, in order, and with heartbeats as they come. It returns nil after the terminal
// event was delivered. Broken and silent streams are taken up again by posting again, until ctx ends or nothing was
// heard for a minute.
//
// With a pin the peer's key must have it, and nothing else counts; without, the certificate must be signed by a known
// authority. body is version.json as published. token goes as bearer token unless it is empty. Over http:// the ping
// is delivered and no stream asked for: ErrNoStream.
//
// Errors wrap ErrNoStream, ErrRefused, ErrUnknownApp, ErrUnreachable, ErrUntrusted, or the cause of ctx's end.
func (c *Client) Ping(ctx context.Context, base, pin string, body []byte, token string, on func(deployment.Event)) error {
	transport := &http.Transport{
		Proxy:               c.options.Proxy,
		DialContext:         c.options.Dial,
		TLSClientConfig:     trust(pin, c.roots),
		TLSHandshakeTimeout: 2 * dialTimeout,
	}
	defer transport.CloseIdleConnections()
	k := &call{
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: strings.TrimRight(base, "/"), body: body, token: token, on: on,
		seen: map[string]int{}, heard: time.Now(),
	}
	for {
		err := k.post(ctx)
		if err == nil {
			return nil
		}
		var again *retry
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("ping %s: %w", k.base, context.Cause(ctx))
		case !errors.As(err, &again):
			return fmt.Errorf("ping %s: %w", k.base, err)
		case k.exhausted():
			return fmt.Errorf("ping %s: %w: %w%s", k.base, ErrUnreachable, again.err, likelyFix(again.err))
		}
		wait := max(k.backoff(), min(again.after, retryAfterMax))
		c.options.Log.Debug("ping again", "server", k.base, "wait", wait, "error", again.err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// call is one Ping across its attempts.
type call struct {
	http        *http.Client
	base, token string
	body        []byte
	on          func(deployment.Event)

	seen     map[string]int // deployment -> highest n delivered
	reached  bool           // an answer came, ever
	heard    time.Time      // of the last new event or heartbeat, at first the start
	failures int            // since the last new event
}

// errSilent ends an attempt whose peer keeps the connection and says nothing.
var errSilent = fmt.Errorf("no word for %v", silentAfter)

// retry marks an error after which posting again may help.
type retry struct {
	err   error
	after time.Duration // as the server asked; 0 when it did not
}

func (r *retry) Error() string { return r.err.Error() }

// post is one attempt: nil after the terminal event, *retry when another attempt may help.
func (k *call) post(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(silentAfter, func() { cancel(errSilent) })
	defer silence.Stop()

	k.failures++
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.base+path, bytes.NewReader(k.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if request.URL.Scheme == "https" {
		request.Header.Set("Accept", contentType)
	}
	if k.token != "" {
		request.Header.Set("Authorization", "Bearer "+k.token)
	}
	response, err := k.http.Do(request)
	if err != nil && context.Cause(ctx) == errSilent {
		return &retry{err: errSilent}
	} else if err != nil {
		return connectionError(err)
	}
	defer response.Body.Close()
	k.reached = true
	if err := statusError(response); err != nil {
		return err
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != contentType {
		return ErrNoStream
	}
	err = k.follow(response.Body, func() { silence.Reset(silentAfter) })
	if again := new(retry); errors.As(err, &again) && context.Cause(ctx) == errSilent {
		again.err = errSilent
	}
	return err
}

func (k *call) exhausted() bool {
	if !k.reached {
		return k.failures >= firstTries
	}
	return time.Since(k.heard) >= patience
}

// backoff is a random part, at least half, of a time that doubles with every attempt that brought nothing new.
func (k *call) backoff() time.Duration {
	full := backoffTo
	if doublings := max(k.failures-1, 0); doublings < 8 {
		full = min(backoffFrom<<doublings, backoffTo)
	}
	return full/2 + rand.N(full/2) // #nosec G404 -- jitter
}

func statusError(response *http.Response) error {
	switch code := response.StatusCode; {
	case code == http.StatusAccepted, code == http.StatusOK:
		return nil
	case code == http.StatusUnauthorized:
		return ErrRefused
	case code == http.StatusNotFound:
		return ErrUnknownApp
	case code >= 300 && code < 400:
		return fmt.Errorf("redirected to %q, and redirects are not followed: name the final address", response.Header.Get("Location"))
	case code == http.StatusTooManyRequests, code >= 500:
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return &retry{err: fmt.Errorf("answered %s", response.Status), after: time.Duration(max(seconds, 0)) * time.Second}
	default:
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return fmt.Errorf("answered %s: %q", response.Status, text)
	}
}

// connectionError tells errors that another attempt may cure from those that it cannot.
func connectionError(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // it would repeat method and address
	}
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrUntrusted):
		return err
	case errors.As(err, &certificate):
		return fmt.Errorf("%w: %w; a self-signed one is trusted by the pin that its agent prints: append #sha256=<pin>", ErrUntrusted, certificate.Err)
	case errors.As(err, &header), errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("the server does not speak TLS: write http://, or turn tls on there")
	}
	return &retry{err: err}
}
