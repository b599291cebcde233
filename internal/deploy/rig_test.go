package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
)

// rig is one app on one server: the real tree and journal on a real disk, and fakes for what lies outside of it.
type rig struct {
	t    *testing.T
	root string
	key  release.PrivateKey
	next func(*Options)

	mu       sync.Mutex
	pointer  release.Verified // what the bucket shows
	modified time.Time
	gone     error // what a look returns instead
	history  []release.Verified
	bad      map[string]error // artifacts that cannot be fetched
	fetched  int
	onFetch  func(ctx context.Context, hash string)

	running   string // release directory that the app was started from
	restarts  []string
	stops     int
	sick      map[string]bool // hashes that do not prove healthy
	refused   error           // what a restart returns
	notReady  error
	onRestart func()
	events    []deployment.Event
	receipts  []deployment.Receipt
	dead      error // what Alive answers
	gateErr   error // what the health gate answers although it is no verdict
	stateErr  error
	hooks     []string
	hookErr   error
	listings  map[string]artifact.Listing
	compared  []string // releases that were read whole
	kept      []string // digests whose listings were kept last

	engine *Engine
	tree   *appdir.Dir
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	key, err := release.GenerateKey(strings.NewReader(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, root: t.TempDir(), key: key, next: change, bad: map[string]error{}, sick: map[string]bool{}, gone: fs.ErrNotExist, listings: map[string]artifact.Listing{}}
	r.start()
	t.Cleanup(func() { _ = r.tree.Close() })
	return r
}

// start begins a new agent process on the same disk.
func (r *rig) start() {
	r.t.Helper()
	if r.tree != nil {
		_ = r.tree.Close()
	}
	tree, err := appdir.Open(appdir.Options{Path: filepath.Join(r.root, "app")})
	if err != nil {
		r.t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(r.root, "state"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.tree = tree
	o := Options{
		Key: "web", App: "web", Environment: "production", Server: "s1", AgentVersion: release.Version,
		Poll: 30 * time.Second, Keep: 3, Source: r, Tree: tree, Service: r, Check: r.check, Journal: j, Unpack: r.unpack, Integrity: r,
		Alive:     func(context.Context, string) error { return r.dead },
		OnEvent:   func(ev deployment.Event) { r.mu.Lock(); r.events = append(r.events, ev); r.mu.Unlock() },
		OnReceipt: func(x deployment.Receipt) { r.mu.Lock(); r.receipts = append(r.receipts, x); r.mu.Unlock() },
		Log:       slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if r.next != nil {
		r.next(&o)
	}
	if r.engine, err = New(o); err != nil {
		r.t.Fatal(err)
	}
}

// sum is the digest of the artifact with the content: two versions with the same content have the same artifact.
func sum(content string) string { return fmt.Sprintf("%064x", []byte(content)) }

// sign makes the verified pointer of a seq; the artifact is named by content.
func (r *rig) sign(seq uint64, hash, content string, change func(*release.Pointer)) release.Verified {
	r.t.Helper()
	p := release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "web", Environment: "production", Seq: seq,
		Release: release.Release{Hash: hash, Msg: "change to " + hash, Date: "2026-11-23T13:06:43Z"},
		Artifact: release.Artifact{
			Key: release.ArtifactKey("web", hash, sum(content), release.FormatZstd), SHA256: sum(content), Size: 10,
			UnpackedSize: 10, Entries: 1, Format: release.FormatZstd,
		},
		Kind: release.KindDeploy, Created: "2026-11-23T13:06:50Z", Expires: "2096-11-23T13:06:50Z",
	}
	if seq > 1 {
		p.Prev = strings.Repeat("0", 64)
	}
	if change != nil {
		change(&p)
	}
	file, err := release.SignPointer(p, r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	trust, err := release.NewTrust([]release.PublicKey{r.key.Public()}, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := trust.Pointer(file, release.Want{App: "web", Environment: "production", Prefix: "web"})
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// publish puts a pointer into the bucket, later than the one before.
func (r *rig) publish(seq uint64, hash string) release.Verified {
	v := r.sign(seq, hash, hash, nil)
	r.put(v, r.modified.Add(time.Minute))
	return v
}

func (r *rig) put(v release.Verified, modified time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pointer, r.modified, r.gone = v, modified, nil
	if !slices.ContainsFunc(r.history, func(h release.Verified) bool { return h.Digest() == v.Digest() }) {
		r.history = append(r.history, v)
	}
}

// once looks once and demands the outcome.
func (r *rig) once(want deployment.Outcome) {
	r.t.Helper()
	got, err := r.engine.Once(r.t.Context())
	if err != nil {
		r.t.Fatalf("once: %v", err)
	}
	if got != want {
		r.t.Fatalf("outcome: got %q, want %q; last event %+v", got, want, r.last())
	}
}

// live demands that the release with the hash, "" for none, is what current leads to and what the app runs.
func (r *rig) live(hash string) {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.root, "app", "current", "hash"))
	if hash == "" && errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || string(data) != hash {
		r.t.Errorf("current holds %q, %v, want %q", data, err, hash)
	}
	if got := filepath.Base(r.running); !strings.HasSuffix(got, "-"+hash) {
		r.t.Errorf("the app runs from %q, want release %s", got, hash)
	}
}

func (r *rig) last() deployment.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return deployment.Event{}
	}
	return r.events[len(r.events)-1]
}

// Look, Fetch and History make the rig a Source.
func (r *rig) Look(_ context.Context, etag string) (Look, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		return Look{}, r.gone
	}
	now := r.pointer.Digest() + r.modified.String()
	if etag == now {
		return Look{}, ErrNotModified
	}
	return Look{Pointer: r.pointer, ETag: now, Modified: r.modified}, nil
}

func (r *rig) Fetch(ctx context.Context, p release.Pointer, file *os.File, from int64, progress func(int64)) error {
	r.mu.Lock()
	r.fetched++
	bad, wait := r.bad[p.Release.Hash], r.onFetch
	r.mu.Unlock()
	if wait != nil {
		wait(ctx, p.Release.Hash)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if bad != nil {
		return bad
	}
	_, err := file.WriteAt([]byte("0123456789")[from:], from)
	progress(10)
	return err
}

func (r *rig) History(_ context.Context, version string) (release.Verified, error) {
	for _, v := range slices.Backward(r.history) {
		if strings.HasPrefix(v.Pointer().Release.Hash, version) {
			return v, nil
		}
	}
	return release.Verified{}, fmt.Errorf("release %s: %w", version, fs.ErrNotExist)
}

// Offers says of a bad artifact what Fetch says.
func (r *rig) Offers(_ context.Context, p release.Pointer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bad[p.Release.Hash]
}

func (r *rig) unpack(_ context.Context, _ *os.File, stage *os.Root, p release.Pointer, _ func(string), _ func(int64)) (string, error) {
	if err := stage.WriteFile("hash", []byte(p.Release.Hash), 0o644); err != nil {
		return "", err
	}
	listing, err := artifact.ListTree(r.t.Context(), stage, nil)
	r.listings[listing.Digest()] = listing
	return listing.Digest(), err
}

// Compare, Fingerprint and Keep make it an Integrity, of the real tree.
func (r *rig) Compare(ctx context.Context, name, digest string, shared []string) (bool, []deployment.Difference, error) {
	r.mu.Lock()
	r.compared = append(r.compared, name)
	r.mu.Unlock()
	root, err := os.OpenRoot(r.tree.ReleasePath(name))
	if err != nil {
		return false, nil, err
	}
	defer root.Close()
	now, err := artifact.ListTree(ctx, root, shared)
	if err != nil {
		return false, nil, err
	}
	return now.Digest() == digest, artifact.Differences(r.listings[digest], now), nil
}

func (r *rig) Fingerprint(name string) (string, error) { return r.tree.Fingerprint(name) }

func (r *rig) Untouched(name, window, clean string) (string, bool, error) {
	return r.tree.Untouched(name, window, clean)
}

func (r *rig) Keep(digests []string) error { r.kept = digests; return nil }

// Check, Restart, Stop, State, Log and StartedFrom make it a Service.
func (r *rig) Check(context.Context) error { return r.notReady }

func (r *rig) Restart(context.Context) error {
	if r.refused != nil {
		return r.refused
	}
	to, err := os.Readlink(filepath.Join(r.root, "app", "current"))
	if err != nil {
		return err
	}
	r.running = filepath.Join(r.root, "app", to)
	r.restarts = append(r.restarts, filepath.Base(to))
	if r.onRestart != nil {
		r.onRestart()
	}
	return nil
}

func (r *rig) Stop(context.Context) error { r.stops++; r.running = ""; return nil }

func (r *rig) State(context.Context) (deployment.UnitState, error) {
	return deployment.UnitState{}, r.stateErr
}

func (r *rig) Log(context.Context, int) ([]string, error) {
	return []string{"the app's last words"}, nil
}

func (r *rig) StartedFrom(context.Context) (string, error) { return r.running, nil }
func (r *rig) GoingDown(context.Context) bool              { return false }

func (r *rig) check(ctx context.Context, _ deployment.UnitState, hash string, _ func(string)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r.gateErr != nil {
		return r.gateErr
	}
	data, err := os.ReadFile(filepath.Join(r.running, "hash"))
	if err != nil {
		return err
	}
	if string(data) != hash {
		return unhealthy(fmt.Sprintf("answered %s, want %s", data, hash))
	}
	if r.sick[hash] {
		return unhealthy("GET /version: 500")
	}
	return nil
}

// unhealthy is a verdict, as package health gives it.
type unhealthy string

func (u unhealthy) Error() string    { return string(u) }
func (unhealthy) ReleaseFault() bool { return true }

func (r *rig) hook(name, dir string) ([]string, error) {
	r.hooks = append(r.hooks, name+" "+filepath.Base(dir))
	return []string{"hook output"}, r.hookErr
}
