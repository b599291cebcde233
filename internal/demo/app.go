package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopWithin is how long the old app may take to end.
const stopWithin = 5 * time.Second

// App is the sample app and what restarts it, one program with the demonstration itself:
//
//	serve   DIR ALIVE  answer GET /version from the release in DIR/current; file descriptor 3 is the listening socket
//	restart DIR ADDRESS ALIVE  end the app of DIR, start it anew on ADDRESS
//
// The app holds a lock on DIR/app.pid, which has its process ID, for as long as it lives, and ends by itself once nobody
// holds the lock on ALIVE: however the demonstration ends, the app ends with it.
func App(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(ctx, args[1], args[2])
	case len(args) == 4 && args[0] == "restart":
		return restart(ctx, args[1], args[2], args[3])
	}
	return errors.New("demo-app: it is a part of towline demo")
}

func restart(ctx context.Context, dir, address, alive string) error {
	if err := stop(ctx, dir); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	app := exec.Command(self, "demo-app", "serve", dir, alive)
	app.Dir = dir
	app.Stdout, app.Stderr = os.Stdout, os.Stderr
	app.ExtraFiles = []*os.File{socket}
	app.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it outlives this process and its group
	if err := app.Start(); err != nil {
		return err
	}
	return app.Process.Release()
}

// stop ends the app of dir, where one runs, and waits for its end.
func stop(ctx context.Context, dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, "app.pid"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	fd := int(file.Fd())
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return nil // nobody holds it
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read app.pid: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the app: %w", err)
	}
	gone := make(chan error, 1)
	go func() { gone <- syscall.Flock(fd, syscall.LOCK_EX) }()
	select {
	case err := <-gone:
		return err
	case <-time.After(stopWithin):
		return fmt.Errorf("end the app: process %d is still there after %v", pid, stopWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func serve(ctx context.Context, dir, alive string) error {
	ctx, end := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer end()
	pid, err := os.OpenFile(filepath.Join(dir, "app.pid"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer pid.Close()
	if err := syscall.Flock(int(pid.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if err := pid.Truncate(0); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(pid, os.Getpid()); err != nil {
		return err
	}
	go func() {
		wait(alive)
		end()
	}()
	socket := os.NewFile(3, "listener")
	listener, err := net.FileListener(socket)
	if err != nil {
		return err
	}
	// This copy would keep the port after the lock is given back.
	if err := socket.Close(); err != nil {
		return err
	}
	release, err := filepath.EvalSymlinks(filepath.Join(dir, "current"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(release), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// wait returns once nobody else holds the lock on path.
func wait(path string) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_SH)
}

// handler is the sample app: it says which release it is, if its settings are in order.
func handler(release string) http.Handler {
	var settings struct {
		Greeting string `json:"greeting"`
	}
	text, err := os.ReadFile(filepath.Join(release, "settings.json"))
	if err == nil {
		err = json.Unmarshal(text, &settings)
	}
	if err != nil {
		fmt.Printf("settings.json: %v\n", err)
	}
	trouble := err
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		if trouble != nil {
			http.Error(w, "cannot read settings.json", http.StatusInternalServerError)
			return
		}
		version, err := os.ReadFile(filepath.Join(release, "version.json"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(version)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, settings.Greeting) })
	return mux
}
