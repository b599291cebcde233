package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// jobLook is how often a job is looked at while its end is awaited: the signal that announces it is lost when
// systemd re-executes itself or the bus restarts.
const jobLook = time.Second

// answerTime is how long systemd may take to answer one call. The bus, polkit and systemd itself can be stuck, and nobody
// must wait for them for ever; but polkit was seen to miss, on a busy machine, that its rules had been read, and gives up on them
// after 15 seconds.
const answerTime = 20 * time.Second

// bus is a connection to systemd that is made when needed.
type bus struct {
	dial func(context.Context) (*systemd.Conn, error)

	mu    sync.Mutex
	conn  *systemd.Conn
	close context.CancelFunc // ends the context that conn lives in
}

// connect returns the living connection, or makes one.
func (b *bus) connect(ctx context.Context) (*systemd.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	b.dropLocked()

	// The connection outlives the call that makes it, yet that call's end must end a dial that hangs.
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	conn, err := b.dial(life)
	if !stop() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	b.conn, b.close = conn, end
	return conn, nil
}

// dial prefers systemd's own socket, which needs no message bus and no polkit but is open to root only.
func dial(ctx context.Context) (*systemd.Conn, error) {
	if os.Geteuid() == 0 {
		if conn, err := systemd.NewSystemdConnectionContext(ctx); err == nil {
			return conn, nil
		}
	}
	return systemd.NewSystemConnectionContext(ctx)
}

// drop closes the connection if it is conn; nil stands for whichever there is.
func (b *bus) drop(conn *systemd.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if conn == nil || conn == b.conn {
		b.dropLocked()
	}
}

func (b *bus) dropLocked() {
	if b.conn != nil {
		b.conn.Close()
		b.close()
	}
	b.conn, b.close = nil, nil
}

// call runs f on a connection, with a context that bounds it. When the connection breaks it is dropped, and again says
// whether f may run once more. Where nothing comes the connection stays: others may have more patience.
func (b *bus) call(ctx context.Context, again bool, f func(context.Context, *systemd.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := b.try(ctx, again, f)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: systemd, the message bus or polkit is stuck: %w", ctx.Err())
	}
	return err
}

func (b *bus) try(ctx context.Context, again bool, f func(context.Context, *systemd.Conn) error) error {
	for {
		conn, err := b.connect(ctx)
		if err != nil {
			return err
		}
		err = f(ctx, conn)
		var answer dbus.Error
		if err == nil || errors.As(err, &answer) && answer.Name != "org.freedesktop.DBus.Error.Disconnected" || ctx.Err() != nil {
			return err
		}
		b.drop(conn)
		if !again {
			return err
		}
		again = false
	}
}

// properties returns all properties of a unit, loading it if need be.
func (b *bus) properties(ctx context.Context, unit string) (props map[string]any, err error) {
	err = b.call(ctx, true, func(ctx context.Context, c *systemd.Conn) error {
		props, err = c.GetAllPropertiesContext(ctx, unit)
		return err
	})
	return props, err
}

// resetFailed clears the failed state, the restart count and the start limit of a unit.
func (b *bus) resetFailed(ctx context.Context, unit string) error {
	return b.call(ctx, true, func(ctx context.Context, c *systemd.Conn) error { return c.ResetFailedUnitContext(ctx, unit) })
}

// job enqueues the restart or stop of a unit, replacing a job that contradicts it, and waits for its result: done,
// failed, timeout, canceled, dependency or skipped.
func (b *bus) job(ctx context.Context, unit, verb string) (string, error) {
	results := make(chan string, 1) // buffered: nobody may be left to read it
	err := b.call(ctx, false, func(ctx context.Context, c *systemd.Conn) (err error) {
		if verb == "stop" {
			_, err = c.StopUnitContext(ctx, unit, "replace", results)
		} else {
			_, err = c.RestartUnitContext(ctx, unit, "replace", results)
		}
		return err
	})
	if err != nil {
		return "", notQueued(err)
	}
	look := time.NewTicker(jobLook)
	defer look.Stop()
	for idle := 0; ; {
		select {
		case result := <-results:
			return result, nil
		case <-ctx.Done():
			return "", ctx.Err()
		case <-look.C:
			props, err := b.properties(ctx, unit)
			if err != nil {
				continue // systemd is restarting; ctx bounds the wait
			}
			if hasJob(props) {
				idle = 0
				continue
			}
			// Without a job the result should have come already. A second look gives a late signal its chance.
			if idle++; idle == 2 {
				return impliedResult(props, verb), nil
			}
		}
	}
}

// hasJob reports whether a job of the unit is queued or running.
func hasJob(props map[string]any) bool {
	job, ok := props["Job"].([]any)
	if !ok || len(job) == 0 {
		return false
	}
	id, ok := job[0].(uint32)
	return ok && id != 0
}

// impliedResult tells from a unit without a job how its last one ended. To stop a unit that fails is to stop it. A simple unit
// is started once it has a process; what became of that is not for the job to say.
func impliedResult(props map[string]any, verb string) string {
	st := unitState(props)
	up := st.Active != "inactive" && st.Active != "failed"
	switch {
	case verb == "stop" && !up, verb != "stop" && up:
		return "done"
	case verb != "stop" && (st.Type == "simple" || st.Type == "idle"):
		return "done"
	case verb != "stop" && st.Type == "oneshot" && st.Active == "inactive" && st.Result == "success":
		return "done"
	}
	return "failed"
}
