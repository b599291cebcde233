// Package ping holds both ends of the doorbell, and the event stream that answers it.
//
// Parties: a publisher that has moved a pointer rings every server that it knows (Client); the agent there answers
// (Handler) and lets the publisher watch the deployment that follows (Hub). The request is POST /v1/ping with the
// bytes of version.json as its body. The answer is 202 at once, or 202 with one JSON event a line until the terminal
// event. A ping carries no order: the body proves who rings by its own signature, and all that it causes is a look
// at the pointer.
//
// Invariants: a stream starts at the first event of its deployment, whenever the publisher connects; the client
// delivers every event once, however often the connection breaks; a stream ends only after its terminal event, or
// broken.
package ping

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// What a ping may come to besides its terminal event. Ring returns ErrRefused and ErrUnknownApp, Ping returns all.
var (
	ErrRefused     = errors.New("refused: the agent does not accept this signature or token")
	ErrUnknownApp  = fmt.Errorf("the agent has no such app and environment: %w", fs.ErrNotExist)
	ErrNoStream    = fmt.Errorf("the ping was taken, and the agent sends no events: %w", errors.ErrUnsupported)
	ErrUnreachable = errors.New("unreachable")
	ErrUntrusted   = errors.New("certificate refused")
)

const (
	path        = "/v1/ping"
	contentType = "application/x-ndjson"
	maxBody     = 64 << 10 // bytes of a ping
	maxLine     = 1 << 20  // bytes of one event

	heartbeatEvery = 4 * time.Second // promised: at least every 5 s
	silentAfter    = 15 * time.Second
)
