package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// waiting are the system calls with which a program waits, schedules and minds its memory: how many there are says nothing of
// what it does.
var waiting = []string{
	"brk", "clone", "clone3", "epoll_ctl", "epoll_pwait", "epoll_wait", "exit", "futex", "getpid", "gettid", "madvise", "mmap", "mprotect",
	"munmap", "nanosleep", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield",
	"set_robust_list", "sigaltstack", "tgkill", "timer_create", "timer_delete", "timer_settime",
}

// TestDeploymentOfOneFileCostsNothingForTheOthers counts the system calls of a deployment that changes one file of 500, and
// of one that changes one of 5,000.
func TestDeploymentOfOneFileCostsNothingForTheOthers(t *testing.T) {
	strace := parts.Program(t, "strace", "strace")
	s3 := parts.S3(t)
	bin := programs(t, "towline", "towline-agent")
	few, many := map[string]int{}, map[string]int{}
	for files, into := range map[int]*map[string]int{500: &few, 5000: &many} {
		*into = callsOfOneChange(t, bin, strace, s3, files)
	}
	total := func(calls map[string]int) (n int) {
		for _, k := range calls {
			n += k
		}
		return n
	}
	t.Logf("one file changed: %d system calls with 500 files, %d with 5,000", total(few), total(many))
	// Sockets give what they have at the moment, so that reading takes more calls or fewer; nothing else may differ by more than a
	// frame of a thousand files explains.
	for call, n := range many {
		most := few[call] + 10
		if slices.Contains([]string{"read", "write", "recvfrom", "sendto"}, call) {
			most += 90
		}
		if n > most {
			t.Errorf("%s: got %d calls with 5,000 files, want no more than %d: with 500 there are %d", call, n, most, few[call])
		}
	}
	if few, many := total(few), total(many); few == 0 || many > few+100 {
		t.Errorf("got %d calls in all with 5,000 files, and %d with 500", many, few)
	}
}

// callsOfOneChange deploys four releases of so many files, of which the last differs from the one before in one file, and
// counts the system calls from the start of the agent until the last deployment is on record.
func callsOfOneChange(t *testing.T, bin, strace string, s3 *parts.S3Server, files int) map[string]int {
	t.Helper()
	dir, key := t.TempDir(), newKey(t)
	source, bucket := filepath.Join(dir, "source"), s3.URL(s3.Bucket(t, fmt.Sprintf("calls-%d", files)))
	config := filepath.Join(dir, "agent.yaml")
	write(t, config, fmt.Sprintf("server: web-1\nbucket: %s\ntrust: {keys: [%q]}\nstate: %s/state\nsocket: %s/agent.sock\napps:\n  web: {dir: %s/web}\n",
		bucket, key.Public().String(), dir, dir, dir))
	for i := range files {
		write(t, filepath.Join(source, fmt.Sprintf("d%d/f%d.js", i/50, i)), strings.Repeat(fmt.Sprintf("module.exports = %d;\n", i), 10))
	}
	env := append(os.Environ(), append(s3.Env(), "TOWLINE_SIGNING_KEY="+key.Reveal())...)
	trace := filepath.Join(dir, "trace")
	for n := 1; n <= 4; n++ {
		write(t, filepath.Join(source, "d3/f170.js"), fmt.Sprintf("module.exports = \"release %d\";\n", n))
		publish := exec.Command(filepath.Join(bin, "towline"), "publish", "--promote", "--app", "web", "--path", source, "--bucket", bucket,
			"--version", fmt.Sprintf("release-%d", n), "--message", "m", "--date", "2026-11-23T15:06:40Z")
		agent := exec.Command(filepath.Join(bin, "towline-agent"), "--once", "--config", config)
		if n == 4 {
			agent = exec.Command(strace, append([]string{"-f", "-qq", "-o", trace, "-s", "200"}, agent.Args...)...)
		}
		for _, cmd := range []*exec.Cmd{publish, agent} {
			cmd.Env = env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
			} else if n == 4 && cmd == agent && !strings.Contains(string(out), "recycled") {
				t.Fatalf("the last release was not made of another one:\n%s", out)
			}
		}
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	counts, ended := map[string]int{}, false
	record := regexp.MustCompile(`rename[a-z0-9]*\(.*deployments/000004-`)
	call := regexp.MustCompile(`^\d+ +([a-z0-9_]+)\(`)
	for line := range strings.Lines(string(data)) {
		if m := call.FindStringSubmatch(line); m != nil && !slices.Contains(waiting, m[1]) {
			counts[m[1]]++
		}
		if ended = record.MatchString(line); ended {
			break // what follows is the scrub, beside the deployments of an agent that stays
		}
	}
	if !ended {
		t.Fatal("the deployment was not put on record")
	}
	return counts
}

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
