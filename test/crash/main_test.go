package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

// TestMain runs the tests in a mount namespace of their own: nobody else's process keeps a disk busy by having got a copy of
// its mount, and none of them outlives the tests.
func TestMain(m *testing.M) {
	const marker = "TOWLINE_CRASH_NAMESPACE"
	if os.Getenv(marker) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	signal.Ignore(syscall.SIGINT) // the child gets it as well, and ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "tests in a namespace:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}
