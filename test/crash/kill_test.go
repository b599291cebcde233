package crash

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	kills  = flag.Int("kills", 500, "points at which TestKilled kills the agent")
	faults = flag.Int("faults", 250, "calls that TestFaults lets fail")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the choice of points")
)

// changing are the system calls after which another process could see, or a power cut could leave, something else.
var changing = []string{
	"chmod", "chown", "close", "copy_file_range", "fallocate", "fchmod", "fchmodat", "fchown", "fchownat", "fdatasync", "flock", "fsync", "ftruncate",
	"linkat", "mkdir", "mkdirat", "openat", "pwrite64", "rename", "renameat", "renameat2", "sendfile", "symlinkat", "syncfs", "unlink", "unlinkat",
	"utimensat", "write",
}

// point is the nth call of a system call in one thread of the agent.
type point struct {
	call string
	n    int
}

func (p point) String() string { return fmt.Sprintf("%s #%d", p.call, p.n) }

// bench is a worker with a disk that can be set back to before each scenario.
type bench struct {
	*worker
	*snapshots
}

func newBench(t *testing.T, w *world) *bench {
	t.Helper()
	b := &bench{worker: newWorker(t, w), snapshots: newSnapshots(t)}
	b.worker.disk = b.snapshots.disk()
	for _, s := range w.scenarios() {
		b.reset(t)
		for _, before := range s.before {
			if code, out := b.once(t, before); code != 0 {
				t.Fatalf("%s: got exit code %d:\n%s", s.name, code, out)
			}
		}
		b.keep(t, s.name)
	}
	return b
}

// reset empties the disk.
func (b *bench) reset(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(b.worker.disk)
	must(t, err)
	for _, e := range entries {
		must(t, os.RemoveAll(filepath.Join(b.worker.disk, e.Name())))
	}
}

// traced is strace over every thread of the agent, and over none of the programs that it starts: what is to die is the agent.
func (b *bench) traced() []string { return []string{b.strace, "-f", "-b", "execve", "-qq"} }

// childDied is what the agent says where the point was met in the process that was to become the app's restart command, before
// it was that: then it is the release that has failed, and is taken back.
const childDied = "/bin/grep: killed by signal 9"

// calls counts, over one undisturbed run, how often each system call is made by the thread that makes most of them.
func (b *bench) calls(t *testing.T, s scenario) map[string]int {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	b.back(t, s.name)
	if code, out := b.once(t, s.now, append(b.traced(), "-o", log)...); code != s.code {
		t.Fatalf("%s under strace: got exit code %d, want %d:\n%s", s.name, code, s.code, out)
	}
	data, err := os.ReadFile(log)
	must(t, err)
	most, byThread := map[string]int{}, map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^(\d+) +([a-z0-9_]+)\(`).FindAllStringSubmatch(string(data), -1) {
		byThread[m[1]+m[2]]++
		most[m[2]] = max(most[m[2]], byThread[m[1]+m[2]])
	}
	return most
}

// points are all calls of a scenario: those that change something first.
func points(most map[string]int) (first, rest []point) {
	for call, n := range most {
		for i := 1; i <= n; i++ {
			switch {
			case slices.Contains(changing, call):
				first = append(first, point{call, i})
			case call != "execve" && call != "exit_group":
				rest = append(rest, point{call, i})
			}
		}
	}
	order := func(a, b point) int {
		return strings.Compare(fmt.Sprintf("%s %06d", a.call, a.n), fmt.Sprintf("%s %06d", b.call, b.n))
	}
	slices.SortFunc(first, order)
	slices.SortFunc(rest, order)
	return first, rest
}

// trial is one point of one scenario.
type trial struct {
	scenario
	point
	again *point // where the recovery is killed as well
	fault string // the error of the call, with a + where it stays; "" for a kill
}

// trials are n of them, spread over all scenarios and calls: every call of those that change something, then those of the
// others, then with a second kill in the recovery.
func trials(t *testing.T, b *bench, n int) []trial {
	t.Helper()
	var first, rest, twice []trial
	for _, s := range b.scenarios() {
		f, r := points(b.calls(t, s))
		for _, p := range f {
			first = append(first, trial{scenario: s, point: p})
		}
		for _, p := range r {
			rest = append(rest, trial{scenario: s, point: p})
		}
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	for _, list := range [][]trial{first, rest} {
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	t.Logf("%d calls that change something, %d others, seed %d", len(first), len(rest), *seed)
	all := append(first, rest...)
	for len(all) < n && len(first) > 0 {
		if len(twice) == 0 {
			twice = slices.Clone(first)
			random.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
		}
		one := twice[0]
		twice = twice[1:]
		again := first[random.IntN(len(first))].point
		one.again = &again
		all = append(all, one)
	}
	return all[:min(n, len(all))]
}

// each runs do on every trial, on as many disks as there are processors, until one has failed ten times.
func each(t *testing.T, w *world, all []trial, do func(*bench, trial) error) {
	t.Helper()
	var benches []*bench
	for range max(1, min(runtime.NumCPU(), 8)) {
		benches = append(benches, newBench(t, w))
	}
	next := make(chan trial)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for _, b := range benches {
		wg.Go(func() {
			defer drain(next) // where t ends this goroutine, somebody waits to send
			for one := range next {
				if err := do(b, one); err != nil {
					failed.Add(1)
					t.Errorf("%s, %v %s: %v", one.name, one.point, one.fault, err)
				}
			}
		})
	}
	for _, one := range all {
		if failed.Load() >= 10 {
			break
		}
		next <- one
	}
	close(next)
	wg.Wait()
}

func drain[T any](jobs <-chan T) {
	for range jobs {
	}
}

// TestKilled kills the agent at every call that it makes.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	var killed, twice, passed, children atomic.Int64
	byCall := sync.Map{}
	began := time.Now()
	all := trials(t, newBench(t, w), *kills)
	each(t, w, all, func(b *bench, one trial) error {
		b.back(t, one.name)
		code, out := b.kill(t, one.scenario, one.point)
		switch code {
		case lost:
			return errors.New(out)
		case -1:
			killed.Add(1)
			n, _ := byCall.LoadOrStore(one.call, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		default:
			passed.Add(1) // the thread did not come so far this time
		}
		if err := b.torn(one.scenario); err != nil {
			return err
		}
		if one.again != nil {
			code, again := b.kill(t, one.scenario, *one.again)
			if code == -1 {
				twice.Add(1)
			}
			out += again
			if err := b.torn(one.scenario); err != nil {
				return fmt.Errorf("killed again at %v: %w", one.again, err)
			}
		}
		if err := b.recovers(t, one.scenario); err != nil && !strings.Contains(out+err.Error(), childDied) {
			return err
		} else if err != nil {
			children.Add(1)
		}
		return b.torn(one.scenario)
	})
	var calls []string
	byCall.Range(func(call, n any) bool {
		calls = append(calls, fmt.Sprintf("%s %d", call, n.(*atomic.Int64).Load()))
		return true
	})
	slices.Sort(calls)
	t.Logf("%d points in %.0f s: killed %d times at once, %d times in the recovery too, %d times the call was not made again, %d times the restart command died of it; by call: %s",
		len(all), time.Since(began).Seconds(), killed.Load(), twice.Load(), passed.Load(), children.Load(), strings.Join(calls, ", "))
	if got, most := children.Load(), int64(len(all))/50; got > most {
		t.Errorf("the restart command died %d times, want at most %d of %d", got, most, len(all))
	}
	if killed.Load() < int64(len(all))/2 {
		t.Errorf("got %d kills of %d, want half of them at least", killed.Load(), len(all))
	}
}

// kill runs the agent until the point.
func (b *bench) kill(t testing.TB, s scenario, p point) (code int, out string) {
	return b.once(t, s.now, append(b.traced(), "-o", "/dev/null", "-e", "trace="+p.call,
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", p.call, p.n))...)
}

// recovers runs the agent undisturbed: it ends as the scenario does, and there is nothing to do after it.
func (b *bench) recovers(t testing.TB, s scenario) error {
	for _, again := range []string{"", "again: "} {
		code, out := b.once(t, s.now)
		if code != s.code {
			return fmt.Errorf("%sgot exit code %d, want %d:\n%s", again, code, s.code, out)
		}
		if err := b.settled(s.ends); err != nil {
			return fmt.Errorf("%s%w:\n%s", again, err, out)
		}
	}
	return nil
}
