package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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

	"go.uber.org/goleak"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a bucket, a publisher's key, and a place for a server.
type world struct {
	t      *testing.T
	dir    string
	bucket bucket.Bucket
	key    release.PrivateKey
	seq    map[string]uint64 // by app and environment
	prev   map[string]string
	etag   map[string]string
	files  map[string]string // programs in every artifact, by path
	tune   func(*Agent)      // of every agent before it runs; nil: none

	repack func(data []byte, a *release.Artifact) []byte // makes another artifact of every one; nil: none
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), seq: map[string]uint64{}, prev: map[string]string{}, etag: map[string]string{}}
	for _, d := range []string{"bucket", "srv"} {
		w.must(os.Mkdir(filepath.Join(w.dir, d), 0o755))
	}
	var err error
	w.key, err = release.GenerateKey(nil)
	w.must(err)
	w.bucket, err = bucket.Open(t.Context(), bucket.Options{URL: "file://" + filepath.Join(w.dir, "bucket")})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// settings writes a configuration: the usual head, then extra lines, then the apps.
func (w *world) settings(extra, apps string) config.Settings {
	w.t.Helper()
	s, err := config.Load(w.file(extra, apps))
	w.must(err)
	return s
}

// file is settings as a file. $srv and $public stand for the directory of the apps and the key.
func (w *world) file(extra, apps string) string {
	w.t.Helper()
	text := fmt.Sprintf("server: web-1\nbucket: file://%s\nstate: %s\nsocket: %s\npoll: 1h\n%s\napps:\n%s",
		filepath.Join(w.dir, "bucket"), filepath.Join(w.dir, "state"), filepath.Join(w.dir, "agent.sock"), extra, apps)
	if !strings.Contains(extra, "trust:") {
		text = `trust: {keys: ["$public"]}` + "\n" + text
	}
	text = strings.NewReplacer("$srv", filepath.Join(w.dir, "srv"), "$public", w.key.Public().String(), "$dir", w.dir).Replace(text)
	path := filepath.Join(w.dir, "agent.yaml")
	w.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// pack makes an artifact with one file and puts it into the bucket.
func (w *world) pack(app, hash, content string) release.Artifact {
	w.t.Helper()
	src := filepath.Join(w.t.TempDir(), "src")
	w.must(os.MkdirAll(src, 0o755))
	w.must(os.WriteFile(filepath.Join(src, "version.txt"), []byte(content), 0o644))
	for path, text := range w.files {
		w.must(os.MkdirAll(filepath.Dir(filepath.Join(src, path)), 0o755))
		w.must(os.WriteFile(filepath.Join(src, path), []byte(text), 0o755))
	}
	out, err := os.CreateTemp(w.t.TempDir(), "")
	w.must(err)
	defer out.Close()
	art, err := artifact.Pack(w.t.Context(), out, artifact.PackOptions{Dir: src, Format: release.FormatZstd})
	w.must(err)
	data, err := os.ReadFile(out.Name())
	w.must(err)
	if w.repack != nil {
		data = w.repack(data, &art)
	}
	art.Key = release.ArtifactKey(app, hash, art.SHA256, art.Format)
	w.must(w.bucket.Put(w.t.Context(), art.Key, data, "application/zstd"))
	return art
}

// pointer makes the next pointer of an app, signed with the keys, without putting it anywhere.
func (w *world) pointer(app, environment, hash, content string, keys ...release.PrivateKey) []byte {
	w.t.Helper()
	art := w.pack(app, hash, content)
	id := app + "/" + environment
	w.seq[id]++
	now := time.Now().UTC()
	p := release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: app, Environment: environment, Seq: w.seq[id], Prev: w.prev[id],
		Release:  release.Release{Hash: hash, Msg: "Change " + content, Date: "2026-11-23T13:06:43Z"},
		Artifact: art, Kind: release.KindDeploy, Created: now.Format(time.RFC3339), Expires: now.Add(time.Hour).Format(time.RFC3339),
	}
	data, err := release.SignPointer(p, keys...)
	w.must(err)
	trust := release.NoTrust()
	v, err := trust.Pointer(data, release.Want{App: app, Environment: environment, Prefix: app})
	w.must(err)
	w.prev[id] = v.Digest()
	return data
}

// publish makes a release and moves the pointer of app in production to it.
func (w *world) publish(app, hash, content string) []byte {
	w.t.Helper()
	data := w.pointer(app, "production", hash, content, w.key)
	w.put(app, data)
	return data
}

func (w *world) put(app string, pointer []byte) {
	w.t.Helper()
	w.must(w.bucket.Put(w.t.Context(), release.PointerKey(app, "production"), pointer, "application/json"))
	w.must(w.bucket.Put(w.t.Context(), release.HistoryKey(app, "production", w.seq[app+"/production"]), pointer, "application/json"))
}

// live is the content of the live release, empty when there is none.
func (w *world) live(key string) string {
	data, err := os.ReadFile(filepath.Join(w.dir, "srv", key, "current", "version.txt"))
	if err != nil {
		return ""
	}
	return string(data)
}

// receipt is what the server has left in the bucket.
func (w *world) receipt(app string) deployment.Receipt {
	w.t.Helper()
	var r deployment.Receipt
	data, _, err := w.bucket.Get(w.t.Context(), release.ReceiptKey(app, "production", "web-1"), 1<<20)
	w.must(err)
	w.must(json.Unmarshal(data, &r))
	return r
}

// once runs the program with --once on the file.
func (w *world) once(file string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	code = Run(w.t.Context(), Options{Args: []string{"--config", file, "--once"}, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// sick is an app's health endpoint that can be switched.
type sick struct {
	*httptest.Server
	ill atomic.Bool
}

func newSick(t *testing.T) *sick {
	s := &sick{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if s.ill.Load() {
			http.Error(rw, "database is gone", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// running is an agent at work.
type running struct {
	*Agent
	w      *world
	client *http.Client // on the socket
	log    *parts.Buffer
	stop   func() error

	mu     sync.Mutex
	events []deployment.Event
	news   chan struct{}
}

func (w *world) start(s config.Settings) *running {
	w.t.Helper()
	log := &parts.Buffer{}
	a, err := New(s, slog.New(slog.NewTextHandler(log, nil)))
	w.must(err)
	if w.tune != nil {
		w.tune(a)
	}
	r := &running{Agent: a, w: w, log: log, news: make(chan struct{}, 1)}
	a.Subscribe(func(_ string, e deployment.Event) {
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
		select {
		case r.news <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.Socket)
	}}
	r.client = &http.Client{Transport: transport}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	w.t.Cleanup(func() {
		if err := r.stop(); err != nil {
			w.t.Errorf("run: %v", err)
		}
		if w.t.Failed() {
			w.t.Log(log.String())
		}
	})
	return r
}

// ended waits for the terminal event of a release of an app.
func (r *running) ended(app, hash string) deployment.Event {
	r.w.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		for _, e := range r.events {
			if e.App == app && e.Hash == hash && e.Terminal() {
				r.mu.Unlock()
				return e
			}
		}
		r.mu.Unlock()
		select {
		case <-r.news:
		case <-deadline:
			r.w.t.Fatalf("%s %s did not end; log:\n%s", app, hash, r.log)
		}
	}
}

// settled waits until the release of an app has ended and is written down.
func (r *running) settled(app, hash string) deployment.Receipt {
	r.w.t.Helper()
	end := r.ended(app, hash)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		var d deployment.Detail
		r.call("/v1/apps/"+app, nil, &d)
		if d.Receipt.Deployment != nil && d.Receipt.Deployment.ID == end.Deployment && d.Receipt.Deployment.Outcome != "" {
			return d.Receipt
		}
	}
	r.w.t.Fatalf("%s %s is not written down", app, hash)
	return deployment.Receipt{}
}

// call asks the socket. A body that is not nil makes it a POST.
func (r *running) call(path string, body any, into any) int {
	r.w.t.Helper()
	method, payload := http.MethodGet, io.Reader(http.NoBody)
	if body != nil {
		data, err := json.Marshal(body)
		r.w.must(err)
		method, payload = http.MethodPost, bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(r.w.t.Context(), method, "http://agent"+path, payload)
	r.w.must(err)
	resp, err := r.client.Do(req)
	r.w.must(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	r.w.must(err)
	switch v := into.(type) {
	case nil:
	case *string:
		*v = string(data)
	default:
		if err := json.Unmarshal(data, into); err != nil {
			r.w.t.Fatalf("%s: %v in %s", path, err, data)
		}
	}
	return resp.StatusCode
}

// hash is a commit hash made of a text.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:20])
}

const oneApp = "  web:\n    dir: $srv/web\n"
