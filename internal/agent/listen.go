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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/towline/towline/internal/agent/port"
)

const (
	maxConnections = 64 // on the port, at a time
	maxOfOne       = 16 // of them, from one address
	headerTime     = 5 * time.Second
	idleTime       = 15 * time.Second
	answerTime     = 10 * time.Second // for one answer that is not a stream
	requestTime    = 10 * time.Second // for the whole of a stranger's request
	shutTime       = 2 * time.Second  // for answers under way when the agent stops
	agentName      = "towline"        // of the package's user and group
)

// listen opens the port and the socket. A port that was passed is taken as it is.
func (a *Agent) listen(passed []net.Listener) (err error) {
	a.ports = passed // release closes them whatever becomes of the agent; systemd keeps its own
	switch want := a.settings.Listen; {
	case want == "" && len(passed) > 0:
		a.log.Warn("systemd holds a port for the agent, and listen is not configured: what comes there gets no answer; write listen:, or "+
			"run systemctl disable --now towline-agent.socket", "socket", addresses(passed))
		for _, l := range passed {
			_ = l.Close()
		}
		a.ports = nil
	case want == "":
	case len(passed) > 0:
		if slices.ContainsFunc(passed, func(l net.Listener) bool { return !sameAddress(l, want) }) {
			a.log.Warn("the port is the one of systemd's socket unit, not that of listen; write the same address into both, "+
				"ListenStream= and listen:", "socket", addresses(passed), "listen", want)
		}
	default:
		l, err := net.Listen("tcp", want)
		if err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("the address is in use: %w", ErrTaken)
			}
			return fmt.Errorf("listen on %s: %w", want, err)
		}
		a.ports = []net.Listener{l}
	}
	if len(a.ports) > 0 {
		cert, err := certificate(a.settings, a.log)
		if err != nil {
			return err
		}
		a.cert.Store(cert)
	}
	a.socket, err = listenSocket(a.settings.Socket)
	return err
}

// addresses are those of the listeners, for people.
func addresses(listeners []net.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, " ")
}

// sameAddress reports whether l takes connections at a listen address, and at no other.
func sameAddress(l net.Listener, listen string) bool {
	host, port, _ := net.SplitHostPort(listen)
	gotHost, gotPort, _ := net.SplitHostPort(l.Addr().String())
	got := net.ParseIP(gotHost)
	if want := net.ParseIP(host); want != nil && !want.IsUnspecified() {
		return got.Equal(want) && gotPort == port
	}
	// A name is not looked up here: it stands for something narrower than all addresses.
	named := host != "" && net.ParseIP(host) == nil
	return gotPort == port && !(named && got.IsUnspecified())
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
	if g, err := user.LookupGroup(agentName); err == nil {
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("group %s: id %q is no number", agentName, g.Gid)
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
			Handler: h, ErrorLog: quiet, ReadHeaderTimeout: min(headerTime, a.patience), IdleTimeout: idleTime, MaxHeaderBytes: 16 << 10,
			BaseContext: func(net.Listener) context.Context { return streams },
		}
		servers = append(servers, s)
		wait.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	a.outside, a.inside = a.public(), a.private()
	gate := port.NewGate(maxConnections, maxOfOne)
	for _, l := range a.ports {
		l = gate.Listener(l)
		if a.cert.Load() != nil {
			l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.certify})
		}
		start(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.now.Load().outside.ServeHTTP(w, r) }))
	}
	start(a.socket, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.now.Load().inside.ServeHTTP(w, r) }))
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

// certify answers a handshake with the certificate of the configuration that counts.
func (l *life) certify(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return l.cert.Load().Get(hello)
}

// supervise waits for the end of ctx and reads the configuration again whenever that is asked for. It tells the service
// manager, where there is one, that the agent is up, alive and at last stopping.
func (a *Agent) supervise(ctx context.Context, c *crew) {
	say := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			a.log.Warn("notify systemd", "error", err)
		}
	}
	say(a.up())
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
		case <-a.reloads.signals:
			_ = a.rereads(c, say) // it has said what is wrong
		case answer := <-a.reloads.asked:
			answer <- a.rereads(c, say)
		}
	}
}
