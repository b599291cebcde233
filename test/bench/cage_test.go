package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cage is a small box: a control group with so much memory, pages of files included, and one processor.
type cage struct {
	dir  string // of the group
	v2   bool
	cpu  string   // "0"; empty: all
	argv []string // goes before the command line of what runs in it
}

var cages atomic.Int64

// newCage makes a control group, which goes when the measurement ends.
func newCage(b testing.TB, memory int64, cpu string) (*cage, error) {
	b.Helper()
	if os.Getuid() != 0 {
		return nil, errors.New("a control group needs root")
	}
	c := &cage{cpu: cpu}
	parent, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		if !strings.Contains(string(controllers), "memory") {
			return nil, errors.New("the control groups of this machine have no memory controller")
		}
		parent, limit, c.v2 = "/sys/fs/cgroup", "memory.max", true
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return nil, err
		}
	}
	c.dir = filepath.Join(parent, fmt.Sprintf("towline-bench-%d-%d", os.Getpid(), cages.Add(1)))
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return nil, err
	}
	b.Cleanup(func() {
		if n := c.killed(b); n > 0 {
			b.Errorf("the kernel ended %d processes in a control group of %d MiB for want of memory", n, memory>>20)
		}
		err := os.Remove(c.dir)
		for try := 0; err != nil && try < 100; try++ {
			time.Sleep(50 * time.Millisecond) // what was just ended may still be in it
			err = os.Remove(c.dir)
		}
		if err != nil {
			b.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(c.dir, limit), []byte(strconv.FormatInt(memory, 10)), 0); err != nil {
		return nil, err
	}
	if c.v2 {
		_ = os.WriteFile(filepath.Join(c.dir, "memory.swap.max"), []byte("0"), 0)
	}
	script := `echo $$ >"$1/cgroup.procs"; shift; exec "$@"`
	if cpu != "" {
		script = `echo $$ >"$1/cgroup.procs"; shift; exec taskset -c ` + cpu + ` "$@"`
	}
	c.argv = []string{"sh", "-ec", script, "sh", c.dir}
	return c, nil
}

// under puts the cage's command line before another; without a cage there is nothing to put.
func (c *cage) under(program string, args ...string) []string {
	line := append([]string{program}, args...)
	if c == nil {
		return line
	}
	return append(append([]string(nil), c.argv...), line...)
}

// killed is how many processes the kernel has ended in it for want of memory.
func (c *cage) killed(b testing.TB) int {
	b.Helper()
	file := "memory.oom_control"
	if c.v2 {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		b.Fatal(err)
	}
	return oomKills(string(text))
}

func oomKills(text string) int {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}

// dropCaches empties the machine's caches of files.
func dropCaches() error {
	if os.Getuid() != 0 {
		return errors.New("that needs root")
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

func TestOOMKills(t *testing.T) {
	for text, want := range map[string]int{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n":               2,
		"low 0\nhigh 0\nmax 7\noom 3\noom_kill 3\noom_group_kill 0\n": 3,
		"": 0,
	} {
		if got := oomKills(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
