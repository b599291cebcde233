package ping

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
)

const (
	bodyTime     = 10 * time.Second // for the whole body, by default
	writeTimeout = 10 * time.Second // for one line
	maxStreams   = 64               // followers at a time; more are asked to come again
)

// Answer is what the agent has to say to a good ping.
type Answer struct {
	App    string // fields of the heartbeats sent before the first event
	Server string
	Seq    uint64
	Hash   string
	// Events streams the deployment from its first event to its terminal one, or until ctx ends. Nil: there is
	// nothing to follow.
	Events func(ctx context.Context) iter.Seq[deployment.Event]
}

// HandlerOptions make a Handler.
type HandlerOptions struct {
	// Ring verifies body, which is at most 64 KiB, and token, which is empty when none was sent, and wakes the
	// app's loop. It must not wait for the deployment. An error that wraps ErrRefused is answered 401,
	// ErrUnknownApp 404, any other 503.
	Ring func(ctx context.Context, body []byte, token string) (Answer, error)
	// Trusted says that only peers who may do anything come here, by the agent's own socket: no rate limit, and
	// streams without TLS.
	Trusted   bool
	OnLimited func()        // called for every ping that is turned away unread because there are too many; may be nil
	Patience  time.Duration // for the whole body; 0 means 10 s
	Log       *slog.Logger
}

// Handler answers POST /v1/ping: 202 at once, and over TLS, to a client that accepts application/x-ndjson, the
// deployment's events after it. Per remote address it takes one ping a second after a burst of five, in all ten a
// second after a burst of twenty.
type Handler struct {
	options HandlerOptions
	limits  *limits
	streams chan struct{} // one token per open stream
}

// NewHandler returns a handler; it keeps no goroutine of its own.
func NewHandler(o HandlerOptions) *Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Patience == 0 {
		o.Patience = bodyTime
	}
	return &Handler{options: o, limits: newLimits(), streams: make(chan struct{}, maxStreams)}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if !h.options.Trusted && !h.limits.allow(r.RemoteAddr, time.Now()) {
		if h.options.OnLimited != nil {
			h.options.OnLimited()
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	// A writer without deadlines (a recorder) is none that can stall.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(h.options.Patience))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		code := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(code)
		return
	}
	// The server watches for the peer's hanging up by reading: no deadline may end that.
	_ = control.SetReadDeadline(time.Time{})

	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	answer, err := h.options.Ring(r.Context(), body, token)
	switch {
	case errors.Is(err, ErrRefused):
		h.options.Log.Debug("ping refused", "remote", r.RemoteAddr)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case errors.Is(err, ErrUnknownApp):
		w.WriteHeader(http.StatusNotFound)
		return
	case err != nil:
		h.options.Log.Warn("ping not taken", "remote", r.RemoteAddr, "error", err)
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	wanted := strings.Contains(r.Header.Get("Accept"), contentType) && (r.TLS != nil || h.options.Trusted)
	if !wanted || answer.Events == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy in front must not hold lines back
	w.Header().Set("Connection", "close")     // the last line's deadline stays on the connection
	w.WriteHeader(http.StatusAccepted)
	if err := h.stream(r.Context(), w, answer); err != nil {
		h.options.Log.Debug("ping stream ended early", "remote", r.RemoteAddr, "error", err)
	}
}

// stream writes events line by line until the terminal one, with heartbeats in the pauses.
func (h *Handler) stream(ctx context.Context, w http.ResponseWriter, answer Answer) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan deployment.Event)
	go func() {
		defer close(events)
		for event := range answer.Events(ctx) {
			select {
			case events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range events { // until the goroutine is gone
		}
	}()

	control := http.NewResponseController(w)
	send := func(line []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		return control.Flush()
	}
	write := func(event deployment.Event) error {
		line, err := json.Marshal(event)
		if err != nil {
			return err
		}
		return send(append(line, '\n'))
	}
	if err := send(nil); err != nil { // the header goes out at once
		return err
	}
	last := deployment.Event{App: answer.App, Server: answer.Server, Seq: answer.Seq, Hash: answer.Hash}
	pause := time.NewTimer(heartbeatEvery)
	defer pause.Stop()
	for {
		select {
		case event, ok := <-events:
			if !ok { // without a terminal event the client asks again
				return context.Cause(ctx)
			}
			if err := write(event); err != nil || event.Terminal() {
				return err
			}
			last = event
		case <-pause.C:
			if err := write(heartbeat(last, time.Now())); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause.Reset(heartbeatEvery)
	}
}

// heartbeat says that the deployment is still where last left it. It repeats the number of that event.
func heartbeat(last deployment.Event, now time.Time) deployment.Event {
	return deployment.Event{
		N: last.N, Time: now.UTC().Format("2006-01-02T15:04:05.000Z07:00"), Deployment: last.Deployment,
		App: last.App, Server: last.Server, Seq: last.Seq, Hash: last.Hash, Step: last.Step, State: deployment.Heartbeat,
	}
}
