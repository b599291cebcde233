package publishers

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/release"
)

// ends is how long a publisher may take from SIGTERM to its end; a runner kills after ten seconds.
const ends = 5 * time.Second

// cut is one moment at which a publisher is told to end, or killed.
type cut struct {
	job    string
	n      int  // of its requests, from 1
	after  bool // the request was carried out, its answer is lost; else the request is lost
	signal syscall.Signal
}

func (c cut) String() string {
	return fmt.Sprintf("%s-%02d-%s-%s", c.job, c.n, map[bool]string{true: "after", false: "before"}[c.after],
		map[syscall.Signal]string{syscall.SIGKILL: "kill", syscall.SIGTERM: "term"}[c.signal])
}

// job is one kind of run, and the bucket that it finds.
type job struct {
	name  string
	found map[string][]byte
	argv  []string
	makes string // the release that the pointer names when it is through; empty: it leaves it alone
	large bool   // it uploads in parts, and only those are cut

	begins int // the request that begins the upload in parts
}

// yard is where publishers are cut.
type yard struct {
	*world
	count  atomic.Int32 // of buckets
	moved  atomic.Int32 // cuts that left the pointer moved
	gaps   atomic.Int32 // cuts that left it behind the history
	missed atomic.Int32 // cuts that came too late
}

func (y *yard) bucket() string {
	return y.s3.Bucket(y.T, fmt.Sprintf("cut-%d", y.count.Add(1)))
}

// state is all objects of a bucket.
func (y *yard) state(name string) map[string][]byte {
	y.Helper()
	b, err := bucket.Open(y.Context(), bucket.Options{URL: y.s3.URL(name), AccessKeyID: y.s3.AccessKey, SecretAccessKey: y.s3.SecretKey})
	must(y, err)
	keys, err := b.List(y.Context(), "")
	must(y, err)
	out := map[string][]byte{}
	for _, key := range keys {
		out[key], _, err = b.Get(y.Context(), key, 64<<20)
		must(y, err)
	}
	return out
}

// fill makes a bucket with these objects.
func (y *yard) fill(objects map[string][]byte) (name string) {
	y.Helper()
	name = y.bucket()
	for key, data := range objects {
		if status, body := y.s3.Do(y, http.MethodPut, "/"+name+"/"+key, data); status != http.StatusOK {
			y.Fatalf("put %s: status %d: %s", key, status, body)
		}
	}
	return name
}

// in is the yard's world in another bucket.
func (y *yard) in(bucket string) *world {
	w := *y.world
	w.name = bucket
	return &w
}

// jobs are all kinds of runs that write.
func (y *yard) jobs() []job {
	y.Helper()
	dist := func(i int) string { return filepath.Join(y.dir(i), "dist") }
	empty := y.bucket()
	w := y.in(empty)
	for i := range 2 {
		if r := w.towline(y.s3.Endpoint, "web", "publish", "--promote", "--path", dist(i)); r.code != 0 {
			y.Fatalf("deploy %d: %s", i, r.log)
		}
	}
	two := y.state(empty)
	if r := w.towline(y.s3.Endpoint, "web", "publish", "--path", dist(2)); r.code != 0 {
		y.Fatalf("publish 2: %s", r.log)
	}
	three := y.state(empty)
	large := y.TempDir()
	film := make([]byte, 17<<20) // one byte more than one request takes, and three parts
	_, _ = rand.Read(film)
	must(y, os.WriteFile(filepath.Join(large, "film"), film, 0o644))
	big := strings.Repeat("f", 40)
	return []job{
		{name: "first", argv: []string{"publish", "--promote", "--path", dist(2)}, makes: y.commits[2]},
		{name: "publish", found: two, argv: []string{"publish", "--path", dist(2)}},
		{name: "deploy", found: two, argv: []string{"publish", "--promote", "--path", dist(2)}, makes: y.commits[2]},
		{name: "promote", found: three, argv: []string{"promote", y.commits[2]}, makes: y.commits[2]},
		{name: "rollback", found: three, argv: []string{"rollback"}, makes: y.commits[0]},
		{name: "large", found: two, large: true, makes: big,
			argv: []string{"publish", "--promote", "--path", large, "--version", big, "--message", "A film", "--date", "2026-11-23T13:06:43Z"}},
	}
}

// requests counts the requests of a job that nothing happens to; from and to are those of an upload in parts.
func (y *yard) requests(j job) (n, from, to int) {
	y.Helper()
	var mu sync.Mutex
	g := newGate(y, y.s3, func(g *gate) {
		g.before = func(r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			n++
			if q := r.URL.Query(); q.Has("uploads") || q.Has("uploadId") {
				if to = n; from == 0 {
					from = n
				}
			}
			return true
		}
	})
	if r := y.in(y.fill(j.found)).towline(g.URL, "web", j.argv...); r.code != 0 {
		y.Fatalf("%s: %s", j.name, r.log)
	}
	return n, from, to
}

// Every job is cut at every request. Whoever looks finds the state before or the state after, and the next run says which.
func TestCutAtEveryRequest(t *testing.T) {
	t.Parallel()
	y := &yard{world: newWorld(t)}
	y.checkouts(-1, 0, 1, 2)
	var cuts []cut
	jobs := map[string]job{}
	for _, j := range y.jobs() {
		n, from, to := y.requests(j)
		t.Logf("%s: %d requests", j.name, n)
		if !j.large {
			from, to = 1, n
		} else if to == 0 {
			t.Fatalf("%s: no upload in parts", j.name)
		}
		j.begins = from
		jobs[j.name] = j
		for i := from; i <= to; i++ {
			for _, after := range []bool{false, true} {
				for k, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
					// One signal of two, in turns, is what continuous integration takes.
					if *rounds > 0 || (i+k+map[bool]int{true: 1}[after])%2 == 0 {
						cuts = append(cuts, cut{j.name, i, after, signal})
					}
				}
			}
		}
	}
	t.Run("at", func(t *testing.T) {
		for _, c := range cuts {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				y.cut(t, jobs[c.job], c)
			})
		}
	})
	t.Logf("%d cuts: the pointer was moved by %d, left behind the history by %d", len(cuts), y.moved.Load(), y.gaps.Load())
	if y.moved.Load() == 0 || y.gaps.Load() == 0 {
		t.Error("no cut was in the middle")
	}
}

// interrupted runs a job until the cut; code is -1 when the signal ended it at once.
func (y *yard) interrupted(t *testing.T, w *world, j job, c cut) (code int, log string) {
	t.Helper()
	var n atomic.Int32
	started := make(chan *os.Process, 1)
	reached := make(chan time.Time, 1)
	end := func(r *http.Request) {
		p := <-started
		reached <- time.Now()
		_ = p.Signal(c.signal)
		select {
		case <-r.Context().Done():
		case <-time.After(ends):
		}
	}
	type number struct{}
	g := newGate(t, y.s3, func(g *gate) {
		g.before = func(r *http.Request) bool {
			i := int(n.Add(1))
			if i == c.n && c.after {
				*r = *r.WithContext(context.WithValue(r.Context(), number{}, true))
			}
			if i == c.n && !c.after {
				_, _ = io.Copy(io.Discard, r.Body) // or nobody notices that the client is gone
				end(r)
				return false
			}
			return true
		}
		g.after = func(r *http.Request) bool {
			if r.Context().Value(number{}) == nil {
				return true
			}
			end(r)
			return false
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := w.command(ctx, g.URL, "web", j.argv...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	must(t, cmd.Start())
	started <- cmd.Process
	_ = cmd.Wait()
	select {
	case at := <-reached:
		if took := time.Since(at); took > ends {
			t.Errorf("gone %v after the signal, want at most %v", took, ends)
		}
	default:
		// A rollback reads ahead in the history, and not always as far: its last request may not come.
		if y.missed.Add(1) > 4 || j.name != "rollback" {
			t.Errorf("there was no request %d:\n%s", c.n, errs.String())
		}
		return 0, ""
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}

func (y *yard) cut(t *testing.T, j job, c cut) {
	w := y.in(y.fill(j.found))
	w.T = t
	code, log := y.interrupted(t, w, j, c)
	if code == 0 && log == "" {
		return
	}
	if code == 0 {
		t.Errorf("got exit code 0 of a run that was cut:\n%s", log)
	}
	if c.signal == syscall.SIGTERM && !strings.Contains("\n"+log, "\ncancelled ") {
		t.Errorf("it was told to end and did not say how far it came:\n%s", log)
	}
	// What lies there.
	const key = "web/production/version.json"
	file := w.get(key)
	left := record{behind: y.parents.behind}
	live := ""
	if file != nil {
		left.read(t, y.trust, "web", w.get)
		live = left.pointer.Pointer().Release.Hash
		left.chain(t)
	} else if w.get(release.HistoryKey("web", "production", 1)) != nil {
		left.history = make([]entry, 1)
	}
	moved := !bytes.Equal(file, j.found[key])
	gap := uint64(len(left.history)) > left.pointer.Pointer().Seq
	switch {
	case moved && (live != j.makes || live == "" || gap):
		t.Errorf("the pointer was moved to seq %d, %s, of %d entries, want the top, %s", left.pointer.Pointer().Seq, live, len(left.history), j.makes)
	case moved:
		y.moved.Add(1)
	case gap:
		y.gaps.Add(1)
	}
	// The answer that is lost may be the one that names the upload: nobody can abort that then, and it has no parts.
	if nameless := j.large && c.after && c.n == j.begins; c.signal == syscall.SIGTERM && !nameless {
		y.noUploads(t, w, "the run that was told to end")
	}
	y.agent(t, w, live)
	// The next run.
	next := w.towline(y.s3.Endpoint, "web", "publish", "--promote", "--path", filepath.Join(y.dir(3), "dist"))
	if next.code != 0 || next.Seq != uint64(len(left.history))+1 || next.Previous != live {
		t.Errorf("the next run: got exit code %d, seq %d after %q, want seq %d after %q:\n%s", next.code, next.Seq, next.Previous, len(left.history)+1, live, next.log)
	}
	if said := strings.Contains(next.log, fmt.Sprintf("the history has seq %d, ", len(left.history))); said != gap {
		t.Errorf("the next run found a gap: %v, said so: %v:\n%s", gap, said, next.log)
	}
	end := record{behind: y.parents.behind}
	end.read(t, y.trust, "web", w.get)
	end.chain(t)
	end.end(t)
	if live := end.pointer.Pointer().Release.Hash; live != y.commits[3] {
		t.Errorf("after the next run: live is %s, want %s", live, y.commits[3])
	}
}

// noUploads makes sure that the store keeps no parts of an upload that was given up.
func (y *yard) noUploads(t *testing.T, w *world, who string) {
	t.Helper()
	status, body := y.s3.Do(t, http.MethodGet, "/"+w.name+"?uploads=", nil)
	if status != http.StatusOK || strings.Contains(string(body), "<Upload>") {
		t.Errorf("uploads that %s began: got %d %s", who, status, body)
	}
}

// agent looks once, with nothing on the server yet, and ends with the release that the pointer names.
func (y *yard) agent(t *testing.T, w *world, live string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "agent.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `server: web-1
bucket: %q
trust: {keys: [%q]}
state: %q
socket: %q
receipts: false
apps: {web: {dir: %q}}
`, y.s3.URL(w.name), y.key.Public().String(), dir+"/state", dir+"/agent.sock", dir+"/web"), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(y.bin, "towline-agent"), "--once", "--config", config)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, y.s3.Env()...)
	out, err := cmd.CombinedOutput()
	current, _ := os.Readlink(filepath.Join(dir, "web/current"))
	if live == "" {
		if current != "" {
			t.Errorf("the agent found %s where there is no pointer:\n%s", current, out)
		}
		return
	}
	if err != nil || !strings.Contains(current, live[:12]) {
		t.Errorf("the agent: %v, current is %q, want %s:\n%s", err, current, live, out)
	}
}
