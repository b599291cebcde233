package host

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// TestHundredApps has one agent look after a hundred apps, while strangers and a publisher that has run wild ring for one of
// them without end. Every other app gets its release within a few polls, and the agent stays small.
func TestHundredApps(t *testing.T) {
	const (
		apps   = 100
		within = 30 * time.Second // for all of them, at a poll of two seconds
		memory = 64 << 10         // KiB, at most, ever
		files  = 400              // descriptors
		pings  = 200              // at least, over as long as that takes on a busy machine
	)
	w := newWorld(t)
	listen := parts.FreeAddr(t)
	w.settings = "poll: 2s\ntls: off\nreceipts: false\nlisten: \"" + listen + "\"\n"
	var more strings.Builder
	for i := 1; i < apps; i++ {
		fmt.Fprintf(&more, "  app%d: {dir: %q}\n", i, filepath.Join(w.dir, fmt.Sprint("app", i)))
	}
	w.entry = more.String()
	name := func(i int) string {
		if i == 0 {
			return "web"
		}
		return fmt.Sprint("app", i)
	}
	w.publish("v1")
	w.publishAll(apps, name, "v1")
	d := w.start()
	arrived := func(version string) (int, string) {
		n, missing := 0, ""
		for i := range apps {
			if text, _ := os.ReadFile(filepath.Join(w.dir, name(i), "current/version")); string(text) == version {
				n++
			} else {
				missing = name(i)
			}
		}
		return n, missing
	}
	eventually(t, "all have v1", func() (bool, string) { n, missing := arrived("v1"); return n == apps, missing })

	// The storm: the pointer of one app, and forgeries of it, from many addresses.
	ping, err := os.ReadFile(filepath.Join(w.bucket, "web/production/version.json"))
	must(t, err)
	stop := make(chan struct{})
	var sent, taken atomic.Int64
	var storm sync.WaitGroup
	for i := range 8 {
		storm.Go(func() {
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, byte(i+1))}}
			client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: from.DialContext, MaxIdleConns: 1}}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := ping
				if n%2 == 1 {
					body = bytes.Replace(ping, []byte("v1"), []byte("v9"), 1)
				}
				resp, err := client.Post("http://"+listen+"/v1/ping", "application/json", bytes.NewReader(body))
				if err != nil {
					continue
				}
				if sent.Add(1); resp.StatusCode == http.StatusAccepted {
					taken.Add(1)
				}
				resp.Body.Close()
			}
		})
	}
	w.publish("v2")
	began := time.Now()
	w.publishAll(apps, name, "v2")
	published := time.Since(began)
	eventually(t, "all have v2", func() (bool, string) { n, missing := arrived("v2"); return n == apps, missing })
	took := time.Since(began)
	eventually(t, "it was a storm", func() (bool, string) {
		return sent.Load() >= pings && taken.Load() > 0, fmt.Sprint(sent.Load(), " pings")
	})
	close(stop)
	storm.Wait()
	if took > published+within {
		t.Errorf("it took %v until all had v2, want at most %v", took, published+within)
	}
	peak, open := d.peak(), d.open()
	if peak > memory || open > files {
		t.Errorf("got a peak of %d KiB and %d descriptors, want at most %d and %d", peak, open, memory, files)
	}
	t.Logf("%d apps: published in %v, all live after %v, %d pings (%d taken), peak %d KiB, %d descriptors", apps, published, took, sent.Load(), taken.Load(), peak, open)
	for line := range strings.Lines(w.towline("status")) {
		if strings.Contains(line, "not ready") {
			t.Errorf("status: %s", line)
		}
	}
}

// publishAll publishes the version for every app but the first, by pointers that are signed here: each names the artifact of
// the first one, copied.
func (w *world) publishAll(apps int, name func(int) string, version string) {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.bucket, "web/production/version.json"))
	must(w.t, err)
	v, err := release.NoTrust().Pointer(data, release.Want{App: "web", Environment: "production", Prefix: "web"})
	must(w.t, err)
	for i := 1; i < apps; i++ {
		p := v.Pointer()
		from := filepath.Join(w.bucket, p.Artifact.Key)
		p.App = name(i)
		p.Artifact.Key = release.ArtifactKey(p.App, version, p.Artifact.SHA256, p.Artifact.Format)
		to := filepath.Join(w.bucket, p.Artifact.Key)
		must(w.t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(w.t, os.Link(from, to))
		signed, err := release.SignPointer(p, w.key)
		must(w.t, err)
		path := filepath.Join(w.bucket, p.App, "production/version.json")
		must(w.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(w.t, os.WriteFile(path+".new", signed, 0o644))
		must(w.t, os.Rename(path+".new", path))
	}
}

// peak is the most memory that the agent has had, in KiB.
func (d *daemon) peak() (kib int) {
	d.w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	must(d.w.t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err = strconv.Atoi(strings.Fields(rest)[0])
	must(d.w.t, err)
	return kib
}

// open is how many descriptors the agent has.
func (d *daemon) open() int {
	d.w.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	must(d.w.t, err)
	return len(entries)
}
