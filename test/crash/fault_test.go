package crash

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// failing are the system calls that a disk lets fail.
var failing = []string{
	"chmod", "chown", "copy_file_range", "fallocate", "fchmod", "fchmodat", "fchown", "fchownat", "fdatasync", "fsync", "ftruncate", "linkat", "mkdir",
	"mkdirat", "openat", "pwrite64", "rename", "renameat", "renameat2", "sendfile", "symlinkat", "syncfs", "unlink", "unlinkat", "utimensat", "write",
}

// TestFaults lets one call after the other fail as a broken or full disk does, once or from then on. The deployment may fail;
// what is live stays whole, and once the disk is well again the agent goes on by itself.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	var all []trial
	b := newBench(t, w)
	for _, s := range w.scenarios() {
		calls, _ := points(b.calls(t, s))
		for _, p := range calls {
			if !slices.Contains(failing, p.call) {
				continue
			}
			for _, errno := range []string{"EIO", "ENOSPC", "EDQUOT", "EROFS"} {
				all = append(all, trial{scenario: s, point: p, fault: errno}, trial{scenario: s, point: p, fault: errno + "+"})
			}
		}
	}
	random := rand.New(rand.NewPCG(*seed, 3))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	possible := len(all)
	all = all[:min(len(all), *faults)]
	var ends sync.Map
	count := func(what string) {
		n, _ := ends.LoadOrStore(what, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	began := time.Now()
	each(t, w, all, func(b *bench, one trial) error {
		b.back(t, one.name)
		errno, stays := strings.CutSuffix(one.fault, "+")
		when := fmt.Sprint(one.n)
		if stays {
			when += "+"
		}
		code, out := b.once(t, one.now, append(b.traced(), "-o", "/dev/null", "-e", "trace="+one.call,
			"-e", fmt.Sprintf("inject=%s:error=%s:when=%s", one.call, errno, when))...)
		if strings.Contains(out, "netpollBreak write failed") {
			count("the runtime's own eventfd, which is on no disk,") // and without which the runtime gives up
			return nil
		}
		count(fmt.Sprintf("exit code %d", code))
		if code < 0 || strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
			return fmt.Errorf("the agent died with %d:\n%s", code, out)
		}
		if err := b.torn(one.scenario); err != nil {
			return err
		}
		return b.goesOn(t, one.scenario, out)
	})
	var byEnd []string
	ends.Range(func(what, n any) bool {
		byEnd = append(byEnd, fmt.Sprintf("%s %d times", what, n.(*atomic.Int64).Load()))
		return true
	})
	slices.Sort(byEnd)
	t.Logf("%d faults of %d in %.0f s, seed %d: %s", len(all), possible, time.Since(began).Seconds(), *seed, strings.Join(byEnd, ", "))
}

// goesOn runs the agent on a disk that is well again: it ends as the scenario does, or with the release before, where the
// fault struck while the new one was started or proven, or says that a person is needed; and the next release goes live.
func (b *bench) goesOn(t testing.TB, s scenario, before string) error {
	code, out := b.once(t, s.now)
	version, err := b.live()
	if err != nil {
		return err
	}
	kept := version == s.live[0] && (code == deployment.ExitError || code == deployment.ExitUnwell)
	// A disk that stays broken from the switch on leaves the new release live, whatever it is worth, and the agent says so: neither could
	// what was proven be written down, nor the old one be put back.
	broken := slices.Contains(s.live, version) && code == deployment.ExitUnwell && strings.Contains(before, "web: broken "+version+": ")
	if !(code == s.code && version == s.ends) && !kept && !broken {
		return fmt.Errorf("got exit code %d and %q live, want %d and %q; with the fault:\n%s\nthen:\n%s", code, version, s.code, s.ends, before, out)
	}
	if err := b.settled(version); err != nil {
		return fmt.Errorf("%w; with the fault:\n%s\nthen:\n%s", err, before, out)
	}
	next, ends := b.after(s)
	if code, out = b.once(t, next); code != deployment.ExitOK {
		return fmt.Errorf("the next release: got exit code %d; with the fault:\n%s\nthen:\n%s", code, before, out)
	}
	return b.settled(ends)
}
