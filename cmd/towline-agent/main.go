// As it is released the program has no HTTP/2 (packaging/agent-flags), and however it was built it does not speak it.

//go:debug http2client=0
//go:debug http2server=0

// Towline-agent is the server half of Towline: it pulls releases, proves them healthy, or puts the old ones back.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/towline/towline/internal/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1) // however many come, one reading of the file is enough
	signal.Notify(reload, syscall.SIGHUP)
	_, journal := os.LookupEnv("JOURNAL_STREAM")
	code := agent.Run(ctx, agent.Options{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Journal: journal, Reload: reload})
	stop()
	os.Exit(code)
}
