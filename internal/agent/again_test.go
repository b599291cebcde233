package agent

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// childConfig is the configuration with which the test program is the agent, run once.
const childConfig = "TOWLINE_TEST_AGENT_ONCE"

// TestAgentProcess is the agent as a process of its own, for others to kill.
func TestAgentProcess(t *testing.T) {
	config := os.Getenv(childConfig)
	if config == "" {
		return // it is nobody's child
	}
	os.Exit(Run(t.Context(), Options{Args: []string{"--config", config, "--once"}, Stdout: os.Stdout, Stderr: os.Stderr}))
}

// counting is a store that counts what it sends of artifacts, and at some number of bytes stalls or breaks off.
type counting struct {
	*httptest.Server
	dir  string
	sent atomic.Int64
	stop atomic.Int64 // bytes after which nothing more is sent; 0: never

	once    sync.Once
	stopped chan struct{} // closed when stop was reached
	fails   bool          // it breaks off then
}

func newCounting(t *testing.T, dir string) *counting {
	c := &counting{dir: dir, stopped: make(chan struct{})}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *counting) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	path := filepath.Join(c.dir, strings.TrimPrefix(req.URL.Path, "/deploys/"))
	data, err := os.ReadFile(path)
	if err != nil || req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.Error(rw, "", http.StatusNotFound)
		return
	}
	rw.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	if strings.HasSuffix(path, ".tar.zst") && req.Method == http.MethodGet {
		rw = &counter{rw, c, req}
	}
	http.ServeContent(rw, req, "", time.Time{}, strings.NewReader(string(data)))
}

type counter struct {
	http.ResponseWriter
	c   *counting
	req *http.Request
}

func (w *counter) Write(b []byte) (int, error) {
	n := 0
	for part := range slices.Chunk(b, 16<<10) {
		if stop := w.c.stop.Load(); stop > 0 && w.c.sent.Load() >= stop {
			w.c.once.Do(func() { close(w.c.stopped) })
			if !w.c.fails {
				<-w.req.Context().Done()
			}
			panic(http.ErrAbortHandler)
		}
		k, err := w.ResponseWriter.Write(part)
		w.c.sent.Add(int64(k))
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// stable waits until nothing changes any more in the notes about the stage.
func (f *framed) stable() {
	f.t.Helper()
	last, since := int64(-1), time.Now()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		info, err := os.Stat(filepath.Join(f.dir, "srv/web/releases/.stage-begun.notes"))
		if err != nil || info.Size() != last {
			since = time.Now()
			if err == nil {
				last = info.Size()
			}
		}
		if last > 0 && time.Since(since) > 500*time.Millisecond {
			return
		}
	}
	f.t.Fatal("the stage has no notes, or they do not come to an end")
}

// What was fetched when the agent was killed, or the store went away, is not fetched again, and the release is whole whatever happened to
// the stage in between.
func TestDownloadThatIsTakenUp(t *testing.T) {
	for name, test := range map[string]struct {
		fails   bool
		between func(f *framed, stage string)
		most    float64 // of the artifact, that the second agent fetches
		n       int     // release that is live then
		said    bool
	}{
		"killed":            {between: func(*framed, string) {}, most: 0.75, n: 1, said: true},
		"the store is away": {fails: true, between: func(*framed, string) {}, most: 0.75, n: 1, said: true},
		"killed and a file changed by hand": {between: func(f *framed, stage string) {
			f.tamper(filepath.Join(stage, "lib/00"), noise(99, 1<<20))
			f.must(os.Chmod(filepath.Join(stage, "lib/01"), 0o600))
			f.must(os.WriteFile(filepath.Join(stage, "lib/zz"), nil, 0o644))
		}, most: 0.85, n: 1, said: true},
		"killed and the notes torn": {between: func(f *framed, stage string) {
			info, err := os.Stat(stage + ".notes")
			f.must(err)
			f.must(os.Truncate(stage+".notes", info.Size()-1))
		}, most: 0.85, n: 1, said: true},
		"the store is away and another release wanted that has half of it": {fails: true, between: func(f *framed, _ string) {
			for i := range 16 {
				f.files[fmt.Sprintf("lib/%02d", 31-i)] = noise(uint64(200+i), 1<<20)
			}
			f.publish("web", hash("2"), "2")
		}, most: 0.85, n: 2, said: true},
		"the store is away and another release wanted that has nothing of it": {fails: true, between: func(f *framed, _ string) {
			clear(f.files)
			f.files["lib/one"] = noise(7, 3<<20)
			f.publish("web", hash("2"), "2")
		}, most: 1.1, n: 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFramed(t, "receipts: false\ncredentials: {access_key_id_file: $dir/id, secret_access_key_file: $dir/secret}", "")
			store := newCounting(t, filepath.Join(f.dir, "bucket"))
			text, err := os.ReadFile(f.config)
			f.must(err)
			url := "s3://deploys?region=us-east-1&path-style=true&endpoint=" + store.URL
			f.must(os.WriteFile(f.config, []byte(strings.Replace(string(text), "bucket: file://"+f.dir+"/bucket", "bucket: "+url, 1)), 0o600))
			for _, name := range []string{"id", "secret"} {
				f.must(os.WriteFile(filepath.Join(f.dir, name), []byte("0123456789"), 0o600))
			}
			clear(f.files)
			for i := range 32 {
				f.files[fmt.Sprintf("lib/%02d", i)] = noise(uint64(100+i), 1<<20)
			}
			f.publish("web", hash("1"), "1")
			size := int64(32 << 20)
			store.fails = test.fails
			store.stop.Store(size / 2)
			cmd := exec.Command(os.Args[0], "-test.run=^TestAgentProcess$")
			cmd.Env = append(os.Environ(), childConfig+"="+f.config)
			var said parts.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			f.must(cmd.Start())
			select {
			case <-store.stopped:
			case <-time.After(30 * time.Second):
				_ = cmd.Process.Kill()
				t.Fatalf("got %d bytes fetched in 30 s:\n%s", store.sent.Load(), said.String())
			}
			if !test.fails {
				f.stable()
				f.must(cmd.Process.Kill())
			}
			_ = cmd.Wait()
			stage := filepath.Join(f.dir, "srv/web/releases/.stage-begun")
			if _, err := os.Stat(stage); err != nil {
				t.Fatalf("nothing is left: %v; exit code %d", err, cmd.ProcessState.ExitCode())
			}
			test.between(f, stage)
			store.stop.Store(0)
			first := store.sent.Swap(0)
			code, out, errs := f.once(f.config)
			if code != deployment.ExitOK || f.live("web") != fmt.Sprint(test.n) {
				t.Fatalf("got exit code %d: %s\n%s", code, out, errs)
			}
			f.whole(test.n)
			second := store.sent.Load()
			if len(f.files) == 1 {
				size = 3 << 20
			} else if strings.HasPrefix(name, "killed") && test.most < 0.8 && first+second > size+8<<20 {
				t.Errorf("got %d and %d bytes, want little more than %d", first, second, size)
			}
			if float64(second) > test.most*float64(size) {
				t.Errorf("got %d bytes from the store, and then %d of %d", first, second, size)
			}
			if got := strings.Contains(errs, "were here already, of a deployment that broke off"); got != test.said {
				t.Errorf("said that something was here already: %v, want %v\n%s", got, test.said, errs)
			}
			if got, want := f.names(), []string{f.tree(test.n)}; !slices.Equal(got, want) {
				t.Errorf("on disk: got %q, want %q", got, want)
			}
			t.Logf("%d bytes, then %d, of %d", first, second, size)
		})
	}
}
