package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/deployment"
)

const (
	defaultSocket = "/run/towline/agent.sock"
	maxAnswer     = 16 << 20 // bytes
	ndjson        = "application/x-ndjson"
)

// agent is the agent of this server, asked through its socket.
type agent struct {
	path string
	http *http.Client
}

// agent connects to the socket that the flags or the environment name.
func (p *program) agent() *agent {
	path := cmp.Or(p.socket, p.env.Getenv("TOWLINE_SOCKET"), defaultSocket)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &agent{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// overview asks for all apps.
func (a *agent) overview(ctx context.Context) (deployment.Overview, error) {
	var out deployment.Overview
	err := a.get(ctx, "/v1/apps", &out)
	return out, err
}

// detail asks for one app; with an empty name, for the only one.
func (a *agent) detail(ctx context.Context, app string) (deployment.Detail, error) {
	var out deployment.Detail
	app, err := a.only(ctx, app)
	if err == nil {
		err = a.get(ctx, "/v1/apps/"+url.PathEscape(app), &out)
	}
	return out, err
}

// only completes an empty app by the only one that there is.
func (a *agent) only(ctx context.Context, app string) (string, error) {
	if app != "" {
		return app, nil
	}
	all, err := a.overview(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, r := range all.Apps {
		names = append(names, fmt.Sprintf("%s (%s)", r.App, r.Environment))
	}
	switch len(all.Apps) {
	case 0:
		return "", &fault{err: errors.New("this agent has no app"), code: deployment.ExitUnknown, hint: "add one to the agent's configuration"}
	case 1:
		return all.Apps[0].App, nil
	}
	return "", &fault{err: errors.New("this agent has several apps"), code: deployment.ExitUsage, hint: "name one by its key in the agent's configuration; there are " + strings.Join(names, ", ")}
}

// do sends a command. With on the answer is followed event by event, and the result is what the terminal event says.
func (a *agent) do(ctx context.Context, app, verb string, c deployment.Command, on func(deployment.Event)) (deployment.Result, error) {
	var result deployment.Result
	body, err := json.Marshal(c)
	if err != nil {
		return result, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/apps/"+url.PathEscape(app)+"/"+verb, bytes.NewReader(body))
	if err != nil {
		return result, err
	}
	request.Header.Set("Content-Type", "application/json")
	if on != nil {
		request.Header.Set("Accept", ndjson)
	}
	response, err := a.send(request)
	if err != nil {
		return result, err
	}
	defer response.Body.Close()
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == ndjson {
		return follow(response.Body, on)
	}
	return result, decode(response.Body, &result)
}

// follow reads the event stream of a deployment up to its terminal event.
func follow(r io.Reader, on func(deployment.Event)) (deployment.Result, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	seen := map[string]int{} // deployment -> highest n: a stream may carry more than one
	for lines.Scan() {
		var e deployment.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return deployment.Result{}, fmt.Errorf("read the agent's events: %w", err)
		}
		if e.State == deployment.Heartbeat || e.N <= seen[e.Deployment] {
			continue
		}
		seen[e.Deployment] = e.N
		on(e)
		if e.Terminal() {
			return deployment.Result{Outcome: e.Outcome, Reason: e.Reason}, nil
		}
	}
	err := cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
	return deployment.Result{}, hinted(fmt.Errorf("read the agent's events: %w", err), "the deployment goes on without us; see `towline status`")
}

func (a *agent) get(ctx context.Context, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	response, err := a.send(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return decode(response.Body, out)
}

// send gives only answers that are no errors.
func (a *agent) send(request *http.Request) (*http.Response, error) {
	response, err := a.http.Do(request)
	if err != nil {
		return nil, a.unreachable(err)
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	var problem deployment.Problem
	if err := decode(response.Body, &problem); err != nil || problem.Message == "" {
		return nil, fmt.Errorf("the agent answered %s", response.Status)
	}
	return nil, &fault{err: errors.New(problem.Message), hint: oneLine(problem.Hint), code: cmp.Or(problem.Code, deployment.ExitError)}
}

func (a *agent) unreachable(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // it would repeat an address that nobody typed
	}
	f := &fault{err: fmt.Errorf("ask the agent at %s: %w", a.path, err), code: deployment.ExitError}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		f.err = fmt.Errorf("ask the agent at %s: permission denied", a.path)
		f.hint = "use sudo, or join the group towline"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		f.err = fmt.Errorf("ask the agent at %s: it is not running", a.path)
		f.hint = "on a server, `systemctl status towline-agent` says why; elsewhere, name the bucket with --bucket"
	}
	return f
}

func decode(r io.Reader, out any) error {
	if err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}
