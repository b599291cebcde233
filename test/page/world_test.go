package page

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/agent"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// world is a bucket, a publisher's key, an app whose health can be changed, and a server with a real agent.
type world struct {
	t      *testing.T
	dir    string
	bucket bucket.Bucket
	key    release.PrivateKey
	prev   string
	seq    uint64
	health atomic.Int32 // status that the app's probe is answered with
	port   int
	log    parts.Buffer
	stop   func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), stop: func() {}}
	w.health.Store(http.StatusOK)
	for _, d := range []string{"bucket", "srv"} {
		w.must(os.Mkdir(filepath.Join(w.dir, d), 0o755))
	}
	var err error
	w.key, err = release.GenerateKey(nil)
	w.must(err)
	w.bucket, err = bucket.Open(t.Context(), bucket.Options{URL: "file://" + w.dir + "/bucket"})
	w.must(err)
	app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if status := int(w.health.Load()); status != http.StatusOK {
			http.Error(rw, "database is locked", status)
		}
	}))
	t.Cleanup(app.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.port = l.Addr().(*net.TCPAddr).Port
	w.must(l.Close())
	text := fmt.Sprintf(`server: web-1
bucket: file://%[1]s/bucket
trust: {keys: [%[2]q]}
poll: 1s
listen: 127.0.0.1:%[3]d
tls: off
status_page: true
state: %[1]s/state
socket: %[1]s/agent.sock
apps:
  shop:
    dir: %[1]s/srv/shop
    health: {http: %[4]q, within: 6s}
  blog:
    dir: %[1]s/srv/blog
`, w.dir, w.key.Public(), w.port, app.URL+"/healthz")
	w.must(os.WriteFile(filepath.Join(w.dir, "agent.yaml"), []byte(text), 0o600))
	w.start()
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start starts the agent; stop ends it.
func (w *world) start() {
	w.t.Helper()
	settings, err := config.Load(filepath.Join(w.dir, "agent.yaml"))
	w.must(err)
	a, err := agent.New(settings, slog.New(slog.NewTextHandler(&w.log, nil)))
	w.must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the agent: %v", err)
		}
	})
}

// publish makes a release of shop and moves its pointer there.
func (w *world) publish(commit int) {
	w.t.Helper()
	c := commits[commit]
	src := w.t.TempDir()
	w.must(os.WriteFile(filepath.Join(src, "index.html"), []byte(c.message), 0o644))
	out, err := os.CreateTemp(w.t.TempDir(), "")
	w.must(err)
	defer out.Close()
	art, err := artifact.Pack(w.t.Context(), out, artifact.PackOptions{Dir: src, Format: release.FormatZstd})
	w.must(err)
	art.Key = release.ArtifactKey("shop", c.hash, art.SHA256, art.Format)
	data, err := os.ReadFile(out.Name())
	w.must(err)
	w.must(w.bucket.Put(w.t.Context(), art.Key, data, "application/zstd"))
	w.seq++
	now := time.Now().UTC()
	pointer, err := release.SignPointer(release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "shop", Environment: "production", Seq: w.seq, Prev: w.prev,
		Release: release.Release{Hash: c.hash, Msg: c.message, Date: "2026-11-23T13:06:43Z"}, Artifact: art, Kind: release.KindDeploy,
		Run:     &release.Run{URL: fmt.Sprintf("https://github.com/acme/shop/actions/runs/%d", 9714227731+w.seq), Actor: c.actor},
		Created: now.Format(time.RFC3339), Expires: now.Add(time.Hour).Format(time.RFC3339),
	}, w.key)
	w.must(err)
	trust := release.NoTrust()
	v, err := trust.Pointer(pointer, release.Want{App: "shop", Environment: "production", Prefix: "shop"})
	w.must(err)
	w.prev = v.Digest()
	w.must(w.bucket.Put(w.t.Context(), release.PointerKey("shop", "production"), pointer, "application/json"))
	w.must(w.bucket.Put(w.t.Context(), release.HistoryKey("shop", "production", w.seq), pointer, "application/json"))
}

func (w *world) address() string { return fmt.Sprintf("http://127.0.0.1:%d/", w.port) }

// until asks for the page until it has the text.
func (w *world) until(text string) {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		resp, err := http.Get(w.address())
		w.must(err)
		data, err := io.ReadAll(resp.Body)
		w.must(err)
		w.must(resp.Body.Close())
		if strings.Contains(string(data), text) {
			return
		}
	}
	w.t.Fatalf("the page does not come to have %q", text)
}

// js is a text as JavaScript writes it.
func js(text string) string {
	data, _ := json.Marshal(text)
	return strings.ReplaceAll(string(data), "</", `<\/`)
}
