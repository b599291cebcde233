// A small API: GET /version tells which release answers, GET /healthz that something does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// version is what Towline writes into version.json beside the program while it packs.
type version struct {
	Hash string `json:"hash"`
	Msg  string `json:"msg"`
	Date string `json:"date"`
}

func main() {
	v, err := readVersion()
	if err != nil {
		log.Fatal(err)
	}
	addr := os.Getenv("LISTEN")
	if addr == "" {
		addr = "127.0.0.1:8080"
	}
	server := &http.Server{Addr: addr, Handler: handler(v), ReadHeaderTimeout: 10 * time.Second}

	// systemd ends the old release with SIGTERM: what is being answered is answered to its end.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	}()

	slog.Info("listening", "release", v.Hash, "address", addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-stopped; err != nil {
		log.Fatal(err)
	}
}

// readVersion reads version.json beside the program. The path of the program is that of its release, not of the link
// `current`, so that this process never shows the version of the next one.
func readVersion() (version, error) {
	v := version{Hash: "working copy"}
	program, err := os.Executable()
	if err != nil {
		return v, err
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(program), "version.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(data, &v)
}

func handler(v version) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}
