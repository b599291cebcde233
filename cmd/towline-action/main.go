// Command towline-action is the GitHub Action: it reads INPUT_* and GITHUB_* and does what they say.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/towline/towline/internal/action"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The runner kills ten seconds after its first signal; whatever hangs must not wait for that.
	context.AfterFunc(ctx, func() { time.AfterFunc(4500*time.Millisecond, func() { os.Exit(1) }) })
	code := action.Run(ctx, action.Env{Environ: os.Environ(), Stdout: os.Stdout})
	cancel()
	os.Exit(code)
}
