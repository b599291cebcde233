// Towline is the people's command: see `towline --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/towline/towline/internal/cli"
	"github.com/towline/towline/internal/demo"
)

func main() {
	ctx, stop := interruptible()
	code := cli.Main(ctx, cli.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Demo: demo.Run, DemoApp: demo.App,
	})
	stop()
	os.Exit(code)
}

// interruptible gives a context that the first signal ends. The second ends the program, whatever hangs.
func interruptible() (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
