package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/agent/page"
	"github.com/towline/towline/internal/agent/port"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

const (
	ndjson     = "application/x-ndjson"
	maxCommand = 64 << 10 // bytes of a command's body
	recentTime = time.Second
)

// verbs are the commands that the socket takes.
var verbs = []string{"deploy", "rollback", "hold", "resume", "prune", "verify", "recover"}

// public is what the port answers: whoever comes there is a stranger until a signature says otherwise.
func (a *Agent) public() http.Handler {
	mux := a.routes(false)
	mux.Handle("GET /readyz", port.Recent(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ready, all := a.ready(r.Context()); ready < all {
			text(w, http.StatusServiceUnavailable, "not ready") // how many apps there are is nobody's business
			return
		}
		text(w, http.StatusOK, "ready")
	}), recentTime))
	if a.settings.Metrics {
		mux.Handle("GET /metrics", port.Recent(http.HandlerFunc(a.metrics), recentTime))
	}
	if a.settings.StatusPage {
		mux.Handle("GET /{$}", port.Recent(http.HandlerFunc(a.page), recentTime))
		mux.HandleFunc("GET /events", a.live())
	}
	return timed(mux, a.patience)
}

// private is what the socket answers.
func (a *Agent) private() http.Handler {
	mux := a.routes(true)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if ready, all := a.ready(r.Context()); ready < all {
			text(w, http.StatusServiceUnavailable, fmt.Sprintf("not ready: %d of %d apps are", ready, all))
			return
		}
		text(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /metrics", a.metrics)
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /v1/agent", a.itself)
	mux.HandleFunc("GET /events", a.live())
	mux.HandleFunc("GET /v1/apps", func(w http.ResponseWriter, r *http.Request) {
		apps := ask(a.apps, func(one *app) deployment.Receipt { return one.summary(r.Context()) })
		answer(w, http.StatusOK, deployment.Overview{Apps: apps})
	})
	mux.HandleFunc("GET /v1/apps/{app}", func(w http.ResponseWriter, r *http.Request) {
		one, err := a.find(r.PathValue("app"))
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, one.detail(r.Context()))
	})
	mux.Handle("POST /v1/apps/{app}/{verb}", noBrowser(http.HandlerFunc(a.command)))
	return timed(mux, 0)
}

// routes are those that both have.
func (a *Agent) routes(trusted bool) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/v1/ping", ping.NewHandler(ping.HandlerOptions{
		Ring: a.counts.rung(a.ring(trusted)), OnLimited: a.counts.limited, Trusted: trusted, Patience: a.patience, Log: a.log,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	return mux
}

// noBrowser refuses what a browser posts. Who looks at the status page has led the socket to a port of their own machine,
// where every page that they visit may post to it.
func noBrowser(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			answer(w, http.StatusForbidden, deployment.Problem{Message: "commands are not taken from browsers", Code: deployment.ExitUsage})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// ready counts the apps that could be deployed now.
func (a *Agent) ready(ctx context.Context) (ready, all int) {
	for _, err := range ask(a.apps, func(one *app) error { return one.ready(ctx) }) {
		if err == nil {
			ready++
		}
	}
	return ready, len(a.apps)
}

// ask asks all apps at the same time, since each of them may have to wait for a service manager that does not answer, and
// returns what they say, in their order.
func ask[T any](apps []*app, question func(*app) T) []T {
	said := make([]T, len(apps))
	var asked sync.WaitGroup
	for i, one := range apps {
		asked.Go(func() { said[i] = question(one) })
	}
	asked.Wait()
	return said
}

// timed gives every answer a deadline; streams set their own, line by line, and commands may take as long as they need.
// With patience, every request must come whole within that time, and every answer be taken soon after: what a handler
// leaves unread of a body the server itself reads, and a connection that nobody ends is one less for the others.
func timed(h http.Handler, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control, now := http.NewResponseController(w), time.Now()
		taken := time.Time{} // also undoes the deadline of the answer before, on the same connection
		if patience > 0 || r.Method == http.MethodGet {
			taken = now.Add(patience + answerTime)
		}
		_ = control.SetWriteDeadline(taken)
		if patience > 0 {
			_ = control.SetReadDeadline(now.Add(patience))
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

// page answers with the status page.
func (a *Agent) page(w http.ResponseWriter, r *http.Request) {
	s := a.server()
	s.Apps = ask(a.apps, func(one *app) page.App { return one.look(r.Context()) })
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", page.Policy())
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = io.WriteString(w, s.HTML(time.Now()))
}

// server is what the page says of the server, without its apps.
func (a *Agent) server() page.Server {
	return page.Server{Name: a.settings.Server, Pin: a.Pin(), Started: a.started}
}

// command runs one command on an app and answers with its Result, or with the events of the deployment that it starts.
func (a *Agent) command(w http.ResponseWriter, r *http.Request) {
	verb := r.PathValue("verb")
	if !slices.Contains(verbs, verb) {
		answer(w, http.StatusNotFound, deployment.Problem{
			Message: fmt.Sprintf("no such command %q; there are %s", release.CleanText(verb, 40), strings.Join(verbs, ", ")), Code: deployment.ExitUsage,
		})
		return
	}
	one, err := a.find(r.PathValue("app"))
	if err != nil {
		refuse(w, err)
		return
	}
	var c deployment.Command
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand))
	body.DisallowUnknownFields()
	if err := body.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		answer(w, http.StatusBadRequest, deployment.Problem{Message: "read command: " + err.Error(), Code: deployment.ExitUsage})
		return
	}
	engine, _, err := one.now()
	if err != nil {
		refuse(w, err)
		return
	}
	a.log.Info("command", "app", one.Key, "verb", verb, "version", c.Version, "reason", c.Reason)
	if strings.Contains(r.Header.Get("Accept"), ndjson) && (verb == "deploy" || verb == "rollback") {
		a.stream(w, r, one, func(ctx context.Context) (deployment.Result, error) { return engine.Do(ctx, verb, c) })
		return
	}
	result, err := engine.Do(r.Context(), verb, c)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, result)
}

// stream runs do and answers with the events that the app tells meanwhile, one a line, the terminal one last. A command
// that fails before it began a deployment is answered with a Problem, one that needed none with one terminal event.
func (a *Agent) stream(w http.ResponseWriter, r *http.Request, one *app, do func(context.Context) (deployment.Result, error)) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	events := make(chan deployment.Event, 1024)
	defer a.Subscribe(func(key string, e deployment.Event) {
		if key != one.Key {
			return
		}
		select {
		case events <- e:
		default: // the reader has stalled; what it misses is in the record
		}
	})()
	busy := ""
	if d := one.receipt().Deployment; d != nil && d.Outcome == "" {
		busy = d.ID // it ends first, and is not the one that was asked for
	}
	type end struct {
		result deployment.Result
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		result, err := do(ctx)
		ended <- end{result, err}
	}()

	lines := &lineWriter{w: w}
	var last *deployment.Event // a terminal event is held back until it is known whose it is
	take := func(e deployment.Event) {
		switch {
		case e.Deployment == busy:
		case e.Terminal():
			last = &e
		default:
			lines.write(e)
		}
	}
	beat := time.NewTicker(4 * time.Second)
	defer beat.Stop()
	for {
		select {
		case e := <-events:
			take(e)
		case <-beat.C:
			if lines.begun {
				lines.write(deployment.Event{N: lines.last.N, Deployment: lines.last.Deployment, App: one.App.App, Server: one.server,
					Time: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), Seq: lines.last.Seq, Hash: lines.last.Hash,
					Step: lines.last.Step, State: deployment.Heartbeat})
			}
		case e := <-ended:
			for len(events) > 0 {
				take(<-events)
			}
			switch {
			case e.err != nil && !lines.begun:
				refuse(w, e.err)
				return
			case e.err != nil:
				last = &deployment.Event{N: lines.last.N + 1, Deployment: lines.last.Deployment, Outcome: deployment.Failed, Reason: e.err.Error()}
			case last == nil:
				last = &deployment.Event{N: lines.last.N + 1, Deployment: "none", Outcome: e.result.Outcome, Reason: e.result.Reason}
				if last.Outcome == "" {
					last.Outcome = deployment.Unchanged
				}
			}
			last.App, last.Server, last.Step = one.App.App, one.server, deployment.End
			if last.Time == "" {
				last.Time = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
				last.State = deployment.Done
				if last.Outcome.ExitCode() != 0 {
					last.State = deployment.StepFail
				}
			}
			lines.write(*last)
			return
		}
	}
}

// lineWriter writes events one a line and remembers the last.
type lineWriter struct {
	w     http.ResponseWriter
	begun bool
	last  deployment.Event
}

func (l *lineWriter) write(e deployment.Event) {
	control := http.NewResponseController(l.w)
	if !l.begun {
		l.w.Header().Set("Content-Type", ndjson)
		l.w.WriteHeader(http.StatusOK)
	}
	l.begun, l.last = true, e
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	// A caller that went away is noticed by its context; the deployment goes on without it.
	_ = control.SetWriteDeadline(time.Now().Add(answerTime))
	_, _ = l.w.Write(append(line, '\n'))
	_ = control.Flush()
}

// unknownApp is the error of an app that the configuration does not have, or has more than once.
type unknownApp struct {
	name    string
	known   []string
	several bool
}

func (u *unknownApp) Error() string {
	if u.several {
		return fmt.Sprintf("app %q: it is here in several environments; name one of %s", u.name, strings.Join(u.known, ", "))
	}
	return fmt.Sprintf("app %q: there is none of that name here; there are %s", release.CleanText(u.name, 64), strings.Join(u.known, ", "))
}

func (u *unknownApp) Unwrap() error { return fs.ErrNotExist }

// refuse answers with a Problem.
func refuse(w http.ResponseWriter, err error) {
	p := deployment.Problem{Message: err.Error(), Hint: hint(err), Code: exitCode(err)}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, deploy.ErrAmbiguous):
		status = http.StatusConflict
	case p.Code == deployment.ExitUnknown:
		status = http.StatusNotFound
	case p.Code == deployment.ExitHeld:
		status = http.StatusConflict
	case p.Code == deployment.ExitRefused:
		status = http.StatusUnprocessableEntity
	}
	answer(w, status, p)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the peer has gone if this fails
}

func text(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n")
}
