package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/agent"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

// stage is what the story plays on: a directory with everything in it, and a running agent.
type stage struct {
	dir   string
	key   release.PrivateKey
	app   string   // the app's host:port
	alive *os.File // locked while the demonstration runs
	agent *agent.Agent
	ended chan error // the agent's end
	stop  context.CancelFunc
}

// configuration is the agent's, as a person would write it.
const configuration = `server: demo
bucket: file://%[1]s/bucket
trust: {keys: [%[2]q]}
poll: 5s
listen: 127.0.0.1:0
status_page: true
state: %[1]s/state
socket: %[1]s/agent.sock
apps:
  hello:
    dir: %[1]s/hello
    restart: [%[3]q, demo-app, restart, %[1]s/hello, %[4]q, %[1]s/alive]
    health:
      http: http://%[4]s/version
      expect: "{{hash}}"
      within: 2s
`

func newStage(ctx context.Context, log *slog.Logger) (s *stage, err error) {
	s = &stage{ended: make(chan error, 1)}
	if s.dir, err = os.MkdirTemp("", "towline-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.alive, err = os.Create(filepath.Join(s.dir, "alive")); err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(s.alive.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	for _, name := range []string{"bucket", "hello"} {
		if err = os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	if s.key, err = release.GenerateKey(nil); err != nil {
		return nil, err
	}
	if s.app, err = freeAddress(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "agent.yaml")
	text := fmt.Sprintf(configuration, s.dir, s.key.Public(), self, s.app)
	if err = os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	settings, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if s.agent, err = agent.New(settings, log); err != nil {
		return nil, err
	}
	// What the app leaves behind becomes our child, so that we can wait for its end; where the kernel does not do that,
	// somebody else waits.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() { s.ended <- s.agent.Run(running) }()
	return s, nil
}

// close ends the agent and the app, and removes the directory.
func (s *stage) close() error {
	var err error
	if s.stop != nil {
		s.stop()
		err = <-s.ended
		err = errors.Join(err, stop(context.Background(), filepath.Join(s.dir, "hello")))
		for pid := 1; pid > 0; { // the apps of the past
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
	if s.alive != nil {
		err = errors.Join(err, s.alive.Close())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// freeAddress is one on the loopback that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// write lays out the tree of one version of the sample app.
func (s *stage) write(version, settings string) (string, error) {
	dir := filepath.Join(s.dir, version)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "settings.json"), []byte(settings), 0o644)
}

// ask is what a visitor of the app sees.
func (s *stage) ask(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.app+"/version", nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	return string(body), err
}

// page serves the agent's status page by plain HTTP, for a browser would ask about the agent's own certificate.
func (s *stage) page() (*http.Server, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "agent"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.agent.SocketPath())
	}}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", proxy)
	mux.Handle("GET /events", proxy) // and nothing else that the socket offers
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return server, "http://" + listener.Addr().String() + "/", nil
}
