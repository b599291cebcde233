package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
	"github.com/towline/towline/test/parts"
	"github.com/towline/towline/test/schema"
)

const hash = "e02371ab6db3a60c3f9ead35e36187c91155b5a1"

// world is a server on which all is as it should be, with its bucket. A test spoils one thing.
type world struct {
	*Server
	t      *testing.T
	store  *parts.S3Server
	agent  *parts.S3Server // as the agent's key sees it
	bucket string
	key    release.PrivateKey

	text    string // of the configuration
	pointer release.Pointer
	detail  deployment.Detail
	policy  *bucket.Policy // of the bucket; nil: none
	empty   bool           // nothing is published, and no receipt is there
	answer  int            // of the port
	dir     string         // of the bucket, where it is one
	writes  bool           // the store does what is tried: the same bytes are written again
}

// gateway is one store for all worlds of a test.
type gateway struct {
	store, agent *parts.S3Server
	n            atomic.Int32
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{store: parts.S3(t)}
	g.agent = g.store.User(t, "agent")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return g
}

const scopeServer = "web-1"

func newWorld(t *testing.T, g *gateway) *world {
	t.Helper()
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: g.store, agent: g.agent, bucket: g.store.Bucket(t, fmt.Sprintf("world-%d", g.n.Add(1))), key: key, answer: http.StatusUnauthorized}
	policy := bucket.Scope{Bucket: w.bucket, Prefix: "web", Environment: "production", Server: scopeServer}.BucketPolicy("", "agent")
	w.policy = &policy
	now := time.Now()
	stamp := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	w.pointer = release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "web", Environment: "production", Seq: 1, Kind: release.KindDeploy,
		Release: release.Release{Hash: hash, Msg: "m", Date: stamp(-2 * time.Hour)},
		Artifact: release.Artifact{SHA256: strings.Repeat("ab", 32), Size: 10, UnpackedSize: 100 << 20, Entries: 1000, Format: release.FormatZstd,
			Key: release.ArtifactKey("web", hash, strings.Repeat("ab", 32), release.FormatZstd)},
		Created: stamp(-time.Hour), Expires: stamp(89 * 24 * time.Hour),
	}
	w.detail = deployment.Detail{
		Key: "web", Dir: "/srv/web", Unit: "web.service",
		Receipt: deployment.Receipt{
			Type: deployment.ReceiptType, App: "web", Environment: "production", Server: scopeServer, AgentVersion: release.Version, Seen: stamp(-10 * time.Second),
			Pointer: deployment.ReceiptPointer{Seq: 1, Hash: hash}, Live: deployment.ReceiptLive{Seq: 1, Hash: hash, Since: stamp(-time.Hour)},
			Deployment: &deployment.Record{ID: "1", Seq: 1, Hash: hash, Outcome: deployment.Deployed, Started: stamp(-time.Hour), Finished: stamp(-time.Hour)},
		},
		Releases: []deployment.Release{{Seq: 1, Hash: hash, Live: true, OnDisk: true}},
	}
	port := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/ping" || r.Method != http.MethodPost {
			t.Errorf("the port was asked %s %s, want a ping", r.Method, r.URL.Path)
		}
		rw.WriteHeader(w.answer)
	}))
	port.Config.ErrorLog = nil
	t.Cleanup(port.Close)
	home := t.TempDir()
	for name, text := range map[string]string{"id": w.agent.AccessKey, "secret": w.agent.SecretKey} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.text = fmt.Sprintf(`server: web-1
bucket: %q
trust: {keys: [%q]}
listen: %q
state: %s
credentials: {access_key_id_file: %s/id, secret_access_key_file: %s/secret}
notify: [{webhook: "https://hooks.example/x"}]
apps:
  web:
    dir: %s/web
    unit: web.service
`, w.store.URL(w.bucket), key.Public(), strings.TrimPrefix(port.URL, "https://"), home, home, home, home)

	machine := NewMachine()
	machine.UID = 0
	machine.Overview = func(context.Context) (deployment.Overview, error) {
		return deployment.Overview{Apps: []deployment.Receipt{w.detail.Receipt}}, nil
	}
	machine.Detail = func(context.Context, string) (deployment.Detail, error) { return w.detail, nil }
	machine.Grants = func(context.Context, config.App) (Grants, error) { return Grants{User: "web"}, nil }
	machine.Inspect = func(_ context.Context, unit string) (service.Description, error) {
		return service.Description{Unit: unit, Name: unit, LoadState: "loaded", ActiveState: "active", FileState: "enabled"}, nil
	}
	machine.Systemd = func(context.Context) (int, error) { return 252, nil }
	machine.Synced = func() (bool, error) { return true, nil }
	machine.Space = func(string) (Space, error) { return Space{Free: 50 << 30, Inodes: 1 << 20}, nil }
	machine.Peer = func(context.Context, string) (Peer, error) {
		return Peer{PID: 4711, UID: os.Geteuid() + 990, User: "towline", GIDs: []int{990}, Groups: []string{"towline", "systemd-journal"}}, nil
	}
	machine.MayRestart = func(context.Context, Peer, string) (bool, error) { return true, nil }
	machine.ReadOnly = func(Peer, string) (bool, error) { return false, nil }
	machine.Environ = func(Peer) ([]string, error) { return nil, nil }
	w.Server = &Server{Machine: machine, Socket: "/run/towline/agent.sock"}
	return w
}

// put writes an object as the bucket's owner.
func (w *world) put(key string, data []byte) {
	w.t.Helper()
	if w.dir != "" {
		path := filepath.Join(w.dir, key)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	if status, answer := w.store.Do(w.t, "PUT", "/"+w.bucket+"/"+key, data); status != http.StatusOK {
		w.t.Fatalf("put %s: got status %d: %s", key, status, answer)
	}
}

// make fills the bucket and reads the configuration.
func (w *world) make() {
	w.t.Helper()
	keys := []release.PrivateKey{w.key}
	if strings.Contains(w.text, "trust: none") {
		keys = nil
	}
	if !w.empty {
		file, err := release.SignPointer(w.pointer, keys...)
		if err != nil {
			w.t.Fatal(err)
		}
		manifest, err := release.SignManifest(release.Manifest{Type: release.ManifestType, App: "web", Release: w.pointer.Release,
			Artifact: w.pointer.Artifact, Created: w.pointer.Created}, keys...)
		if err != nil {
			w.t.Fatal(err)
		}
		receipt, _ := json.Marshal(w.detail.Receipt)
		w.put(w.pointer.Artifact.Key, []byte("0123456789"))
		w.put(release.ManifestKey("web", hash, w.pointer.Artifact.SHA256), manifest)
		w.put(release.HistoryKey("web", "production", 1), file)
		w.put(release.PointerKey("web", "production"), file)
		w.put(release.ReceiptKey("web", "production", scopeServer), receipt)
	}
	if w.policy != nil && w.dir == "" {
		if status, answer := w.store.Do(w.t, "PUT", "/"+w.bucket+"?policy=", []byte(w.policy.String())); status/100 != 2 {
			w.t.Fatalf("put bucket policy: got status %d: %s", status, answer)
		}
	}
	settings, err := config.Parse(filepath.Join(w.t.TempDir(), "agent.yaml"), []byte(w.text), "web-1")
	if err != nil {
		w.t.Fatal(err)
	}
	w.Settings = settings
}

// content is everything that is in the bucket: objects with all their versions, and uploads under way.
func (w *world) content() string {
	w.t.Helper()
	if w.dir != "" {
		var all strings.Builder
		_ = filepath.Walk(w.dir, func(path string, info os.FileInfo, err error) error {
			if err == nil {
				fmt.Fprintln(&all, path, info.Mode(), info.ModTime())
			}
			return err
		})
		return all.String()
	}
	if w.writes {
		_, list := w.store.Do(w.t, "GET", "/"+w.bucket+"?list-type=2", nil)
		return strings.Join(regexp.MustCompile(`<(Key|ETag)>[^<]*`).FindAllString(string(list), -1), "\n")
	}
	_, versions := w.store.Do(w.t, "GET", "/"+w.bucket+"?versions=", nil)
	_, uploads := w.store.Do(w.t, "GET", "/"+w.bucket+"?uploads=", nil)
	return string(versions) + string(uploads)
}

// examine runs the doctor, and wants nothing in the bucket to have changed.
func (w *world) examine() *Report {
	w.t.Helper()
	before := w.content()
	r := NewReport("web-1")
	w.Run(w.t.Context(), r)
	if after := w.content(); after != before {
		w.t.Errorf("the bucket has changed: got\n%s\nwant\n%s", after, before)
	}
	for _, c := range r.Checks {
		if (c.Level == OK) != (c.Fix == "") {
			w.t.Errorf("%s: level %s with the fix %q", c.Name, c.Level, c.Fix)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	schema.Check(w.t, "doctor", string(text))
	if r.OK+r.Warn+r.Fail != len(r.Checks) {
		w.t.Errorf("got %d ok, %d warn, %d fail of %d", r.OK, r.Warn, r.Fail, len(r.Checks))
	}
	return r
}

// find returns the finding of that name that is worst.
func find(r *Report, name string) (found Check) {
	rank := map[Level]int{"": 0, OK: 1, Warn: 2, Fail: 3}
	for _, c := range r.Checks {
		if c.Name == name && rank[c.Level] > rank[found.Level] {
			found = c
		}
	}
	return found
}
