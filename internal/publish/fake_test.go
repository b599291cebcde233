package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// memory is a bucket that can misbehave.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	etags   map[string]int
	writes  int

	denyList   bool                                       // listing is forbidden, and so what is absent looks forbidden
	noCreate   bool                                       // create-only is ignored
	checkErr   error                                      // of Check
	beforePut  func(b *memory, key string)                // without the lock, before each conditional write
	onReplaced func(b *memory, key string, wrote []byte)  // without the lock, after each Replace
	fail       func(operation, key string) (failed error) // nil: never
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}, etags: map[string]int{}} }

func (b *memory) absent(op, key string) error {
	kind := fs.ErrNotExist
	if b.denyList {
		kind = fs.ErrPermission
	}
	return fmt.Errorf("%s %s: %w", op, key, kind)
}

func (b *memory) refuse(op, key string) error {
	if b.fail == nil {
		return nil
	}
	return b.fail(op, key)
}

func (b *memory) put(key string, data []byte) {
	b.objects[key] = bytes.Clone(data)
	b.etags[key]++
	b.writes++
}

// place writes an object as somebody else would.
func (b *memory) place(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(key, data)
}

func (b *memory) get(key string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.objects[key]
}

func (b *memory) Check(context.Context) error { return b.checkErr }

func (b *memory) Get(_ context.Context, key string, limit int64) ([]byte, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refuse("get", key); err != nil {
		return nil, "", err
	}
	data, ok := b.objects[key]
	if !ok {
		return nil, "", b.absent("get", key)
	}
	if int64(len(data)) > limit {
		return nil, "", fmt.Errorf("get %s: larger than %d bytes", key, limit)
	}
	return bytes.Clone(data), fmt.Sprint(b.etags[key]), nil
}

func (b *memory) size(_ context.Context, key string) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.objects[key]
	if !ok {
		return 0, b.absent("stat", key)
	}
	return int64(len(data)), nil
}

func (b *memory) Create(_ context.Context, key string, data []byte, _ string) error {
	if b.beforePut != nil {
		b.beforePut(b, key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refuse("create", key); err != nil {
		return err
	}
	if _, ok := b.objects[key]; ok && !b.noCreate {
		return fmt.Errorf("create %s: %w", key, fs.ErrExist)
	}
	b.put(key, data)
	return nil
}

func (b *memory) Replace(_ context.Context, key string, data []byte, etag string) (string, error) {
	if b.beforePut != nil {
		b.beforePut(b, key)
	}
	b.mu.Lock()
	_, there := b.objects[key]
	now := ""
	if there {
		now = fmt.Sprint(b.etags[key])
	}
	if now != etag {
		b.mu.Unlock()
		return "", fmt.Errorf("replace %s: %w", key, fs.ErrExist)
	}
	b.put(key, data)
	now = fmt.Sprint(b.etags[key])
	b.mu.Unlock()
	if b.onReplaced != nil {
		b.onReplaced(b, key, data)
	}
	return now, nil
}

func (b *memory) Upload(ctx context.Context, key string, r io.ReaderAt, size int64, _ string, progress func(int64)) error {
	data := make([]byte, size)
	if _, err := r.ReadAt(data, 0); err != nil && err != io.EOF {
		return err
	}
	progress(size)
	return b.Create(ctx, key, data, "")
}

func (b *memory) List(_ context.Context, prefix string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.denyList {
		return nil, fmt.Errorf("list %s: %w", prefix, fs.ErrPermission)
	}
	var out []string
	for key := range b.objects {
		if strings.HasPrefix(key, prefix) {
			out = append(out, key)
		}
	}
	return slices.Sorted(slices.Values(out)), nil
}

// recorder is a Log for tests.
type recorder struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *recorder) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l, format+"\n", args...)
}
func (l *recorder) Phase(name string)              { l.add("[%s]", name) }
func (l *recorder) Line(_ Tone, text string)       { l.add("%s", text) }
func (l *recorder) Quote(_ Tone, who, text string) { l.add("%s> %s", who, text) }
func (l *recorder) Warn(text string)               { l.add("warning: %s", text) }
func (l *recorder) Debug(string)                   {}
func (l *recorder) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

// site is one app in one bucket.
type site struct {
	t      *testing.T
	bucket *memory
	log    *recorder
	key    release.PrivateKey
	inputs map[string]string
	order  []string // commits, oldest first, for Compare
	ping   Pinger
}

func newSite(t *testing.T) *site {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, bucket: newMemory(), log: &recorder{}, key: key, inputs: map[string]string{
		"app": "web", "path": "dist", "bucket": "deploys", "signing-key": key.Reveal(),
	}}
}

// commit is a made-up commit hash.
func commit(n int) string { return fmt.Sprintf("%040x", n+0xabc0000) }

// with gives the site another set of inputs: name, value, …
func (s *site) with(pairs ...string) *site {
	c := *s
	c.inputs = maps.Clone(s.inputs)
	for i := 0; i < len(pairs); i += 2 {
		c.inputs[pairs[i]] = pairs[i+1]
	}
	return &c
}

func (s *site) parts(version string) Parts {
	s.t.Helper()
	o, err := Parse(func(name string) string { return s.inputs[name] })
	if err != nil {
		s.t.Fatal(err)
	}
	return Parts{
		Options: o, Bucket: s.bucket, Size: s.bucket.size, Ping: s.ping, Log: s.log, Temp: s.t.TempDir(),
		Release: release.Release{Hash: version, Msg: "say " + version[max(0, len(version)-4):], Date: "2026-11-23T13:06:43Z"},
		Pack: func(_ context.Context, out *os.File, r release.Release, progress func(done, total int64)) (release.Artifact, error) {
			data := []byte("the bytes of " + r.Hash)
			sum := sha256.Sum256(data)
			progress(int64(len(data)), int64(len(data)))
			_, err := out.Write(data)
			return release.Artifact{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data)), UnpackedSize: 100, Entries: 2, Format: release.FormatGzip}, err
		},
		Files: func(context.Context, release.Release) ([]File, error) {
			return []File{{"index.html", 90}, {"version.js", 10}}, nil
		},
		Compare: s.compare,
	}
}

func (s *site) compare(_ context.Context, base, head string) (string, error) {
	b, h := slices.Index(s.order, base), slices.Index(s.order, head)
	switch {
	case b < 0 || h < 0:
		return "", errors.New("no such commit")
	case b == h:
		return "identical", nil
	case h < b:
		return "behind", nil
	}
	return "ahead", nil
}

func (s *site) run(version string) (*Result, error) {
	s.t.Helper()
	return Run(s.t.Context(), s.parts(version))
}

func (s *site) must(version string) *Result {
	s.t.Helper()
	r, err := s.run(version)
	if err != nil {
		s.t.Fatalf("%s %s: %v", s.inputs["command"], version, err)
	}
	return r
}

// pointer is the verified pointer that lies in the bucket.
func (s *site) pointer() release.Verified {
	s.t.Helper()
	return s.verify(s.bucket.get("web/production/version.json"))
}

func (s *site) verify(file []byte) release.Verified {
	s.t.Helper()
	trust, err := release.NewTrust([]release.PublicKey{s.key.Public()}, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := trust.Pointer(file, release.Want{App: "web", Environment: "production", Prefix: "web"})
	if err != nil {
		s.t.Fatalf("%v in %s", err, file)
	}
	return v
}

// linear checks that the history is one chain up to the pointer.
func (s *site) linear() uint64 {
	s.t.Helper()
	prev := ""
	seq := uint64(0)
	for {
		file := s.bucket.get(release.HistoryKey("web", "production", seq+1))
		if file == nil {
			break
		}
		seq++
		v := s.verify(file)
		if p := v.Pointer(); p.Seq != seq || p.Prev != prev {
			s.t.Errorf("history %d: got seq %d, prev %q, want prev %q", seq, p.Seq, p.Prev, prev)
		}
		prev = v.Digest()
	}
	if top := s.pointer(); top.Digest() != prev {
		s.t.Errorf("pointer: got seq %d, want the top of the history, %d", top.Pointer().Seq, seq)
	}
	return seq
}

// pointerFile signs a pointer as another publisher would.
func (s *site) pointerFile(seq uint64, prev, version string) []byte {
	s.t.Helper()
	sum := sha256.Sum256([]byte("the bytes of " + version))
	digest := hex.EncodeToString(sum[:])
	file, err := release.SignPointer(release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "web", Environment: "production", Seq: seq, Prev: prev,
		Release:  release.Release{Hash: version, Date: "2026-11-23T13:06:43Z"},
		Artifact: release.Artifact{Key: release.ArtifactKey("web", version, digest, release.FormatGzip), SHA256: digest, Size: 9, Format: release.FormatGzip},
		Kind:     release.KindDeploy, Created: "2026-11-23T13:06:43Z", Expires: "2027-11-23T13:06:43Z",
	}, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

// agents is a Pinger whose answers are made by functions, by address.
type agents map[string]func(ctx context.Context, on func(deployment.Event)) error

func (a agents) Ping(ctx context.Context, url, _ string, _ []byte, _ string, on func(deployment.Event)) error {
	return a[url](ctx, on)
}

// story is an agent that tells events, one a second.
func story(events ...deployment.Event) func(context.Context, func(deployment.Event)) error {
	return func(ctx context.Context, on func(deployment.Event)) error {
		for i, e := range events {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
			e.N, e.Deployment = i+1, "d1"
			on(e)
		}
		return nil
	}
}
