package ping

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// maxFollowed bounds the deployments that one ping may show.
const maxFollowed = 64

// follow reads events until the terminal one and delivers what is new. heard is called with every line.
func (k *call) follow(body io.Reader, heard func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	lines.Split(wholeLines)
	for lines.Scan() {
		heard()
		if len(lines.Bytes()) == 0 {
			continue
		}
		var event deployment.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return fmt.Errorf("the answer is not an event stream: %w", err)
		}
		if err := k.deliver(event); err != nil {
			return err
		}
		if event.Terminal() {
			return nil
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("an event is longer than %d bytes", maxLine)
	case err != nil:
		return &retry{err: fmt.Errorf("the event stream broke: %w", err)}
	default:
		return &retry{err: errors.New("the event stream ended before the deployment did")}
	}
}

func (k *call) deliver(event deployment.Event) error {
	if event.State == deployment.Heartbeat && !event.Terminal() {
		k.heard = time.Now()
		k.on(event)
		return nil
	}
	if event.N < 1 {
		return fmt.Errorf("the answer is not an event stream: an event has the number %d", event.N)
	}
	last, known := k.seen[event.Deployment]
	if event.N <= last {
		return nil
	}
	if !known && len(k.seen) >= maxFollowed {
		return fmt.Errorf("the event stream shows more than %d deployments", maxFollowed)
	}
	k.seen[event.Deployment] = event.N
	k.heard = time.Now()
	k.failures = 0
	k.on(event)
	return nil
}

// wholeLines splits at line feeds and drops an unfinished last line: half an event is none, it comes again.
func wholeLines(data []byte, _ bool) (advance int, token []byte, err error) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		return 0, nil, nil
	}
	return end + 1, bytes.TrimSpace(data[:end]), nil
}

// likelyFix is what a person should look at first, to be appended to the error; empty when nothing can be said.
func likelyFix(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return " (is the host name right?)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return " (is towline-agent running there, with listen set to this port?)"
	case errors.As(err, &timeout) && timeout.Timeout():
		return " (does a firewall keep this port closed?)"
	}
	return ""
}
