package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// attempt is the longest that one attempt may take.
const attempt = 5 * time.Second

// maxBody is how much of an answer's body is read, in bytes.
const maxBody = 64 << 10

// HTTP passes when a GET of URL is answered with a status of 200 to 299 within five seconds. Redirects are not
// followed: they fail. With Expect, that text must also appear in the first 64 KiB of the body; the release's hash
// there tells the new process from an old one that still has the port.
type HTTP struct {
	URL    string
	Expect string
}

// Try makes one request over a connection of its own, past any proxy.
func (p HTTP) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", p.URL, err)
	}
	op := "GET " + req.URL.Redacted()
	req.Header.Set("User-Agent", "towline-health")
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxBody}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%s: %w", op, plain(ctx, err))
	}
	defer resp.Body.Close()
	op = fmt.Sprintf("%s: %d", op, resp.StatusCode)

	switch ok := resp.StatusCode >= 200 && resp.StatusCode <= 299; {
	case resp.StatusCode >= 300 && resp.StatusCode <= 399:
		return "", fmt.Errorf("%s: redirect to %s, which is not followed", op, excerpt(resp.Header.Get("Location")))
	case ok && p.Expect == "":
		return op, nil
	case ok:
		body, err := read(resp.Body, p.Expect)
		switch {
		case strings.Contains(body, p.Expect):
			return fmt.Sprintf("%s, answer contains %q", op, excerpt(p.Expect)), nil
		case err != nil:
			return "", fmt.Errorf("%s: read answer: %w", op, plain(ctx, err))
		}
		return "", fmt.Errorf("%s: answer does not contain %q, but: %s", op, excerpt(p.Expect), cmp.Or(excerpt(body), "nothing"))
	}
	// What the app says of its trouble is worth more than an error in reading it.
	body, _ := read(resp.Body, "")
	if body = excerpt(body); body != "" {
		op += ": " + body
	}
	return "", errors.New(op)
}

// read reads a body to its end, to the limit, or until it contains want.
func read(r io.Reader, want string) (string, error) {
	var body strings.Builder
	buf := make([]byte, 4<<10)
	for body.Len() < maxBody {
		n, err := r.Read(buf[:min(len(buf), maxBody-body.Len())])
		body.Write(buf[:n])
		switch {
		case want != "" && strings.Contains(body.String(), want), err == io.EOF:
			return body.String(), nil
		case err != nil:
			return body.String(), err
		}
	}
	return body.String(), nil
}

// plain strips what the caller says already, and says time-outs in words.
func plain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// TCP passes when a connection to Addr (host:port) can be made within five seconds.
type TCP struct {
	Addr string
}

// Try connects once and hangs up.
func (p TCP) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		err = plain(ctx, err)
		var op *net.OpError
		var errno syscall.Errno
		if errors.As(err, &op) && op.Addr != nil && op.Addr.String() == p.Addr && errors.As(err, &errno) {
			err = errno // without the address once more
		}
		return "", fmt.Errorf("connect to %s: %w", p.Addr, err)
	}
	conn.Close()
	return "connect to " + p.Addr + ": accepted", nil
}

// Exec passes when Run, which runs the configured program, succeeds within five seconds.
type Exec struct {
	Run func(ctx context.Context) (out string, err error)
}

// Try runs the program once.
func (p Exec) Try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	out, err := p.Run(ctx)
	out = excerpt(out)
	switch {
	case err != nil && out != "":
		return "", fmt.Errorf("probe: %w: %s", err, out)
	case err != nil:
		return "", fmt.Errorf("probe: %w", err)
	case out != "":
		return "probe: " + out, nil
	}
	return "probe: passed", nil
}
