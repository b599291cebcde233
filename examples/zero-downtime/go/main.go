// An app whose port stays open while its releases change: systemd listens and hands the socket over, and the old release
// answers what it has accepted before it ends. GET / tells which release answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hash := release()
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, hash) })
	if err := serve(ctx, listener, handler); err != nil {
		log.Fatal(err)
	}
}

// listen takes the socket that systemd holds for us, descriptor 3, or listens itself where there is none.
func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") != "" {
		return net.FileListener(os.NewFile(3, "socket"))
	}
	return net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
}

// serve answers until ctx ends, and then what is left. Shutdown alone would not do: it closes connections on which nothing
// has arrived yet, and the next request may be on its way.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	var ending atomic.Bool
	var open atomic.Int64
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ending.Load() {
				w.Header().Set("Connection", "close") // the next request comes on another one, to the next release
			}
			handler.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending.Store(true)
	_ = listener.Close() // who connects from now on waits in the socket for the next release
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		return err
	}
	// Connections in use are gone after one more answer. Idle ones, as browsers keep them, are not waited for.
	for patience := time.Now().Add(time.Second); open.Load() > 0 && time.Now().Before(patience); {
		time.Sleep(5 * time.Millisecond)
	}
	long, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(long) // waits for answers that take longer
}

// release is the hash in version.txt beside the program.
func release() string {
	program, err := os.Executable()
	if err != nil {
		return "unknown"
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(program), "version.txt"))
	if err != nil {
		return "working copy"
	}
	return strings.TrimSpace(string(data))
}
