package parts

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// process is a program that a part keeps running. It is asked to end should the test's process die first.
type process struct {
	cmd  *exec.Cmd
	log  string // the file that receives its output
	done chan struct{}
	err  error // how it ended; set when done is closed
}

// start runs cmd with its output appended to the file log.
func start(cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel means the parent's thread, not the parent, when it speaks of a parent's death.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// pid is the process's id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop signals the process and waits for its end; after the time limit it is killed.
func (p *process) stop(sig syscall.Signal, within time.Duration) error {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
		return nil
	case <-time.After(within):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s did not end within %v of %v and was killed", p.cmd.Path, within, sig)
}

// tail returns the last lines that the process wrote.
func (p *process) tail() string {
	out, _ := os.ReadFile(p.log)
	return tail(out)
}

// poll calls ready every 50 ms until it reports true, and false when the time is over or the process has ended.
func (p *process) poll(within time.Duration, ready func() bool) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.After(within)
	for !ready() {
		select {
		case <-tick.C:
		case <-over:
			return false
		case <-p.done:
			return false
		}
	}
	return true
}

// run runs a program to its end and returns its output; the test fails when the program does.
func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, tail(out))
	}
	return string(out)
}
