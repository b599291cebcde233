package host

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// The clock of one process: what the standard library says is the time is put forward by as many seconds as a file holds.
// Its other clock, which only counts, goes on as it did. That is what a process sees when somebody sets the machine's clock.
const (
	nowBegins  = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowStepped = nowBegins + "\tsec += stepped()\n"
	stepSource = `package time

import (
	"syscall"
	"unsafe"
)

var step = mapped()

func mapped() []byte {
	path, _ := syscall.Getenv("TOWLINE_TEST_CLOCK")
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	data, _ := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	return data
}

// stepped makes no system call: the runtime asks for the time where none may be made.
func stepped() int64 {
	if step == nil {
		return 0
	}
	return *(*int64)(unsafe.Pointer(&step[0]))
}
`
)

var steppedBinary struct {
	sync.Once
	path string
	err  error
}

// steppedAgent compiles the agent with a clock that can be set.
func steppedAgent(t testing.TB) string {
	t.Helper()
	dir, root := filepath.Dir(program(t, "towline-agent")), parts.Root(t)
	b := &steppedBinary
	b.Do(func() {
		b.path = filepath.Join(dir, "stepped/towline-agent")
		b.err = buildStepped(filepath.Dir(b.path), root)
	})
	must(t, b.err)
	return b.path
}

func buildStepped(dir, root string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	std := filepath.Join(strings.TrimSpace(string(out)), "src/time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(source), nowBegins, nowStepped, 1)
	if text == string(source) {
		return fmt.Errorf("%s does not begin Now as this test knows it", std)
	}
	overlay := map[string]map[string]string{"Replace": {
		filepath.Join(std, "time.go"): filepath.Join(dir, "time.go"), filepath.Join(std, "stepped.go"): filepath.Join(dir, "stepped.go"),
	}}
	list, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"time.go": text, "stepped.go": stepSource, "overlay.json": string(list)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-overlay="+filepath.Join(dir, "overlay.json"), "-o", dir+"/", "./cmd/towline-agent")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// stepping has the world's agent have a clock of its own, and returns what sets it.
func (w *world) stepping() (set func(by time.Duration)) {
	w.t.Helper()
	w.agent = steppedAgent(w.t)
	path := filepath.Join(w.dir, "clock")
	w.env = append(w.env, "TOWLINE_TEST_CLOCK="+path)
	file, err := os.Create(path)
	must(w.t, err)
	w.t.Cleanup(func() { file.Close() })
	return func(by time.Duration) {
		w.t.Helper()
		_, err := file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(by/time.Second)), 0)
		must(w.t, err)
	}
}

// jumps are where the clock goes from one deployment to the next, as it differs from the machine's.
var jumps = []time.Duration{0, 6 * year, -6 * year, 30 * year, 20 * time.Minute, -20 * year, 0}

// TestClockJumps sets the clock of a running agent, by years either way, with half of a release fetched and again in the middle
// of the health check. No deadline comes too early or never, no look is put off, and what was live stays so until the
// next release is.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	set := w.stepping()
	s := newStore(t, w)
	var probed func()
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		s.set(func() {
			if probed != nil {
				probed()
			}
			probed = nil
		})
	}))
	t.Cleanup(app.Close)
	w.settings = "poll: 1s\n"
	w.entry = fmt.Sprintf("    health: {http: %q, within: 40s, stable: 1s}\n", app.URL)
	set(jumps[0])
	w.publish("v0")
	d := w.start()
	eventually(t, "v0 is live", func() (bool, string) { return w.status().Live.Hash == "v0", d.out.String() })
	at := jumps[0]
	for i, to := range jumps[1:] {
		version := fmt.Sprint("v", i+1)
		half := at + (to-at)/2
		s.set(func() {
			s.half = func() {
				set(half)
				s.set(func() { probed = func() { set(to) } })
			}
		})
		w.files = map[string]string{"large": noise(256, fmt.Sprint(i))}
		w.publish(version)
		eventually(t, version+" is live", func() (bool, string) { return w.status().Live.Hash == version, d.out.String() })
		var r deployment.Receipt
		eventually(t, "the receipt says so", func() (bool, string) {
			r = w.receipt()
			return r.Live.Hash == version && r.Deployment != nil && r.Deployment.Outcome == deployment.Deployed, fmt.Sprintf("%+v\n%+v\n%s", r, r.Deployment, d.out.String())
		})
		end := r.Deployment.Events[len(r.Deployment.Events)-1]
		if end.TookMS < 0 || end.TookMS > time.Minute.Milliseconds() {
			t.Errorf("clock %v, then %v, then %v: got a deployment of %d ms", at, half, to, end.TookMS)
		}
		told, err := time.Parse(time.RFC3339, end.Time)
		if must(t, err); time.Until(told.Add(-to)).Abs() > 5*time.Minute {
			t.Fatalf("the clock was not set to %v: the deployment ended at %s", to, end.Time)
		}
		// The pointer is valid for 90 days, as the agent's clock has it.
		stale := to > 90*24*time.Hour
		eventually(t, fmt.Sprintf("at %v stale is said: %v", to, stale), func() (bool, string) {
			got := w.status().Status
			return strings.HasPrefix(got, "stale: the pointer expired at 20") == stale, got
		})
		w.stays(version)
		at = to
	}
}

// TestClockPutBack has the agent's memory, and its files, come from a future that the clock has been put back from; and a deployment
// be cut off there that goes on here.
func TestClockPutBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	set := w.stepping()
	s := newStore(t, w)
	deploys := func(version string, at time.Duration) {
		t.Helper()
		set(at)
		w.publish(version)
		w.ends(deployment.ExitOK, "web: deployed "+version)
		w.stays(version)
	}
	deploys("one", 0)
	for i, at := range jumps[1:] {
		deploys(fmt.Sprint("v", i), at)
	}
	set(6 * year)
	w.settings = "poll: 1s\n"
	d := w.start()
	goOn := make(chan struct{})
	reached := make(chan struct{})
	s.set(func() { s.half = func() { close(reached); <-goOn } })
	w.files = map[string]string{"large": noise(512, "")}
	w.publish("two")
	eventually(t, "half of it is fetched", func() (bool, string) {
		select {
		case <-reached:
			return true, ""
		default:
			return false, d.out.String()
		}
	})
	d.kill()
	close(goOn)
	set(-6 * year)
	w.ends(deployment.ExitOK, "web: deployed two", "taking up an interrupted deployment")
	w.stays("two")

	future := time.Now().Add(6 * year)
	must(t, filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, future, future)
	}))
	deploys("three", 0)
}
