package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// programs compiles the three programs as they are released, static and stripped, and returns their directory.
func programs(b testing.TB) (dir string) {
	b.Helper()
	dir = b.TempDir()
	text, err := os.ReadFile(filepath.Join(parts.Root(b), "packaging", "agent-flags"))
	if err != nil {
		b.Fatal(err)
	}
	var light []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			light = append(light, line)
		}
	}
	build := func(args ...string) {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, args...)...)
		cmd.Dir = parts.Root(b)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("build the programs: %v\n%s", err, out)
		}
	}
	build("./cmd/towline", "./cmd/towline-action")
	build(append(light, "./cmd/towline-agent")...)
	return dir
}

// cost is what a whole process took.
type cost struct {
	wall float64 // seconds
	cpu  float64 // seconds, of all cores, with the children that it waited for
	peak float64 // bytes of memory, the most that it held at once; 0 when it ended too soon to be looked at
}

// run runs a program to its end, with extra environment, and returns what it wrote to standard output.
func run(b testing.TB, env []string, program string, args ...string) (string, cost) {
	b.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(b.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	peak, looked := make(chan float64), make(chan struct{})
	go func() { peak <- watchPeak(looked, cmd.Process.Pid) }()
	err := cmd.Wait()
	c := cost{wall: time.Since(began).Seconds(), cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	close(looked)
	c.peak = <-peak
	if err != nil {
		b.Fatalf("%s: %v\n%s", filepath.Base(program), err, lastLines(stderr.String()))
	}
	return stdout.String(), c
}

// watchPeak looks at the kernel's high-water marks of processes and of all that they started, until done is closed: the greatest sum of
// those that are there at once. The mark that wait4 gives would not do: it counts the memory of the parent, which the child
// shares until it executes the program.
func watchPeak(done <-chan struct{}, roots ...int) (peak float64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	f := family{members: map[int]bool{}, strangers: map[int]bool{}}
	for _, pid := range roots {
		f.members[pid] = true
	}
	for round := 0; ; round++ {
		select {
		case <-done:
			return peak
		case <-tick.C:
			if round%4 == 0 {
				f.look()
			}
			var sum float64
			for pid := range f.members {
				if v, err := status(pid, "VmHWM"); err == nil {
					sum += v
				}
			}
			peak = max(peak, sum)
		}
	}
}

// family are processes and their descendants. The kernel's own list of children is not in every kernel.
type family struct{ members, strangers map[int]bool }

// look takes in who is new.
func (f family) look() {
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(0)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || f.members[pid] || f.strangers[pid] {
			continue
		}
		data, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if parent, _ := strconv.Atoi(fields[1]); f.members[parent] {
			f.members[pid] = true
		} else {
			f.strangers[pid] = true
		}
	}
}

// status is a line of /proc/PID/status that counts kilobytes, in bytes.
func status(pid int, field string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kilobytes, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kilobytes * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, field)
}

// cpu is the processor time that a process has used so far, in seconds. The kernel counts it in hundredths.
func cpu(b testing.TB, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The second field is the program's name in parentheses, which may hold anything; utime and stime are 14 and 15.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, uerr := strconv.ParseFloat(fields[11], 64)
	system, serr := strconv.ParseFloat(fields[12], 64)
	if uerr != nil || serr != nil {
		b.Fatalf("/proc/%d/stat: %q", pid, data)
	}
	return (user + system) / 100
}

// daemon starts a program that runs until the benchmark ends, with its output in the file log, and returns its id. Should
// this process die first, the kernel ends it.
func daemon(b testing.TB, env []string, log, program string, args ...string) (pid int) {
	b.Helper()
	out, err := os.Create(log)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel means the parent's thread, not the parent, when it speaks of a parent's death.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if b.Failed() {
			text, _ := os.ReadFile(log)
			b.Logf("%s said:\n%s", filepath.Base(program), lastLines(string(text)))
		}
	})
	return cmd.Process.Pid
}

// eventually waits until the condition holds, for at most half a minute.
func eventually(b testing.TB, what string, holds func() bool) {
	b.Helper()
	within(b, 30*time.Second, what, holds)
}

// within waits until the condition holds, for at most so long.
func within(b testing.TB, long time.Duration, what string, holds func() bool) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(long)
	for !holds() {
		select {
		case <-tick.C:
		case <-over:
			b.Fatalf("not within %v: %s", long, what)
		}
	}
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
