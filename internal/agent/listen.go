package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	maxConnections = 64 // on the port, at a time
	headerTime     = 5 * time.Second
	idleTime       = 15 * time.Second
	answerTime     = 10 * time.Second // for one answer that is not a stream
	requestTime    = 10 * time.Second // for the whole of a stranger's request
	shutTime       = 2 * time.Second  // for answers under way when the agent stops
	socketGroup    = "towline"
)

// listen opens the port and the socket.
func (a *Agent) listen() (err error) {
	if a.settings.Listen != "" {
		if a.cert, a.pin, err = certificate(a.settings); err != nil {
			return err
		}
		if a.port, err = net.Listen("tcp", a.settings.Listen); err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("the address is in use: %w", ErrTaken)
			}
			return fmt.Errorf("listen on %s: %w", a.settings.Listen, err)
		}
	}
	a.socket, err = listenSocket(a.settings.Socket)
	return err
}

// listenSocket opens the unix socket at path. One that nobody answers on is left over from an agent that died.
func listenSocket(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s: %w", path, ErrTaken)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("socket %s: something else is there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if err := openToGroup(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// openToGroup lets the members of the group towline in, where there is such a group and the agent may say so.
func openToGroup(path string) error {
	if g, err := user.LookupGroup(socketGroup); err == nil {
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("group %s: id %q is no number", socketGroup, g.Gid)
		}
		if err := os.Chown(path, -1, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return os.Chmod(path, 0o660)
}

// serve starts both servers. shut ends them: answers under way get a moment, streams are cut, for their clients ask again.
func (a *Agent) serve(ctx context.Context, stop context.CancelCauseFunc, wait *sync.WaitGroup) (shut func()) {
	streams, cut := context.WithCancel(context.WithoutCancel(ctx))
	quiet := slog.NewLogLogger(a.log.Handler(), slog.LevelDebug) // whatever a stranger sends must not fill the log
	var servers []*http.Server
	start := func(l net.Listener, h http.Handler) {
		s := &http.Server{
			Handler: h, ErrorLog: quiet, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 16 << 10,
			BaseContext: func(net.Listener) context.Context { return streams },
		}
		servers = append(servers, s)
		wait.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	if a.port != nil {
		var l net.Listener = &limited{Listener: a.port, tokens: make(chan struct{}, maxConnections), closed: make(chan struct{})}
		if a.cert != nil {
			l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*a.cert}})
		}
		start(l, a.public())
	}
	start(a.socket, a.private())
	return func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutTime)
		defer cancel()
		cut()
		for _, s := range servers {
			if s.Shutdown(late) != nil {
				_ = s.Close()
			}
		}
	}
}

// limited is a listener that has at most as many connections as it has tokens; others wait in the kernel's queue.
type limited struct {
	net.Listener
	tokens chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.tokens <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.tokens
		return nil, err
	}
	return &counting{Conn: c, free: sync.OnceFunc(func() { <-l.tokens })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counting is a connection that gives its token back when it is closed.
type counting struct {
	net.Conn
	free func()
}

func (c *counting) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// supervise waits for the end of ctx, and tells the service manager, where there is one, that the agent is up, alive and
// at last stopping.
func (a *Agent) supervise(ctx context.Context) {
	say := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			a.log.Warn("notify systemd", "error", err)
		}
	}
	say(daemon.SdNotifyReady)
	defer say(daemon.SdNotifyStopping)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Warn("watchdog", "error", err)
	}
	var beat <-chan time.Time
	if every > 0 {
		ticker := time.NewTicker(every / 3)
		defer ticker.Stop()
		beat = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat:
			say(daemon.SdNotifyWatchdog)
		}
	}
}
