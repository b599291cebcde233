package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

const day = 24 * time.Hour

// rig is a bucket with releases in it, looked at from a day on which all of them are old.
type rig struct {
	t *testing.T
	b bucket.Upkeep
	o Options
}

func directory(t *testing.T) (*rig, string) {
	dir := t.TempDir()
	return newRig(t, bucket.Options{URL: "file://" + dir}), dir
}

func newRig(t *testing.T, o bucket.Options) *rig {
	t.Helper()
	b, err := bucket.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, b: b.(bucket.Upkeep)}
	r.o = Options{Bucket: r.b, Prefix: "web", Keep: 2, OlderThan: 30 * day, Uploads: day, Now: func() time.Time { return time.Now().Add(40 * day) }}
	return r
}

func (r *rig) put(key string, text []byte) {
	r.t.Helper()
	if err := r.b.Put(r.t.Context(), key, text, ""); err != nil {
		r.t.Fatal(err)
	}
}

// version is the version of release n, and digest that of its artifact.
func version(n int) string { return strings.Repeat(fmt.Sprintf("%x", n), 40) }
func digest(n int) string  { return strings.Repeat(fmt.Sprintf("%x", n), 64) }

// release puts release n there.
func (r *rig) release(n int) {
	r.put(release.ArtifactKey("web", version(n), digest(n), release.FormatZstd), make([]byte, 1000))
	r.put(release.ManifestKey("web", version(n), digest(n)), make([]byte, 100))
}

func (r *rig) pointer(seq uint64, n int) []byte {
	payload, err := json.Marshal(map[string]any{"release": map[string]string{"hash": version(n)}, "artifact": map[string]string{"sha256": digest(n)}, "seq": seq})
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"hash": version(n), "envelope": map[string]any{"payload": payload}})
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// promote moves the pointer as a publisher does.
func (r *rig) promote(environment string, seq uint64, n int) {
	r.put(release.HistoryKey("web", environment, seq), r.pointer(seq, n))
	r.put(release.PointerKey("web", environment), r.pointer(seq, n))
}

func (r *rig) receipt(server string, n int) {
	text, _ := json.Marshal(deployment.Receipt{Type: deployment.ReceiptType, Server: server, Environment: "production", Live: deployment.ReceiptLive{Hash: version(n)}})
	r.put(release.ReceiptKey("web", "production", server), text)
}

// keys is everything that is there, but for what is put aside.
func (r *rig) keys() []string {
	r.t.Helper()
	keys, err := r.b.List(r.t.Context(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	return keys
}

// full fills the bucket: of releases 1 to 9, these may go: 1, 2 and 7.
func (r *rig) full() (others []string) {
	for n := range 9 {
		r.release(n + 1)
	}
	r.promote("production", 1, 1) // out of the last two
	r.promote("production", 2, 2)
	r.promote("production", 3, 3)
	r.promote("production", 4, 4)
	r.promote("staging", 1, 5)
	r.put(release.PointerKey("web", "production"), r.pointer(3, 6)) // a person put another one there
	r.receipt("web-1", 8)
	r.put(release.PointerKey("web", "plain"), fmt.Appendf(nil, `{"hash": %q, "msg": "m", "date": "d"}`, version(9)))
	others = []string{"web/releases/notes.txt", "web/releases/v1.tar.gz", "web/releases/deep/" + version(1) + "-" + digest(1)[:12] + ".json", "web/x",
		"web2/releases/" + version(1) + "-" + digest(1)[:12] + ".json", "web/admin/releases/" + version(1) + "-" + digest(1)[:12] + ".tar.zst"}
	for _, key := range others {
		r.put(key, []byte("not ours"))
	}
	return others
}

func TestOnlyWhatNothingRefersToGoes(t *testing.T) {
	for _, kind := range []string{"directory", "S3"} {
		t.Run(kind, func(t *testing.T) {
			r, _ := directory(t)
			if kind == "S3" {
				g := parts.S3(t)
				r = newRig(t, bucket.Options{URL: g.URL(g.Bucket(t, "deploys")), AccessKeyID: g.AccessKey, SecretAccessKey: g.SecretKey})
			}
			r.full()
			before := r.keys()
			p, err := Look(t.Context(), r.o)
			if err != nil {
				t.Fatal(err)
			}
			if after := r.keys(); !slices.Equal(before, after) {
				t.Fatalf("looking changed the bucket: got %q, want %q", after, before)
			}
			if err := p.Carry(t.Context()); err != nil {
				t.Fatal(err)
			}
			var want, gone []string
			for _, key := range before {
				if slices.ContainsFunc([]int{1, 2, 7}, func(n int) bool { return strings.HasPrefix(key, "web/releases/"+version(n)+"-") }) {
					gone = append(gone, key)
					continue
				}
				want = append(want, key)
			}
			if got := r.keys(); !slices.Equal(got, want) || len(gone) != 6 {
				t.Errorf("got %q\nwant %q", got, want)
			}
			if len(p.Remove) != 3 || p.Bytes != 3*1100 || !slices.Equal(p.Environments, []string{"plain", "production", "staging"}) {
				t.Errorf("got %d removed, %d bytes in %q, want 3, 3300 in plain, production and staging", len(p.Remove), p.Bytes, p.Environments)
			}
			why := map[string]string{}
			for _, k := range p.Keep {
				why[k.Version[:1]] = k.Why
			}
			for n, want := range map[string]string{"3": "history of production, #3", "4": "history of production, #4", "5": "the pointer of staging",
				"6": "the pointer of production", "8": "live on web-1 in production", "9": "the pointer of plain"} {
				if why[n] != want {
					t.Errorf("release %s stays: got %q, want %q", n, why[n], want)
				}
			}
			again, err := Look(t.Context(), r.o)
			if err != nil || len(again.Remove) != 0 {
				t.Errorf("again: got %+v, %v, want nothing left to do", again.Remove, err)
			}
		})
	}
}

func TestYoungReleasesStay(t *testing.T) {
	r, dir := directory(t)
	r.release(1)
	r.release(2)
	old := time.Now().Add(-31 * day)
	for _, key := range []string{release.ArtifactKey("web", version(1), digest(1), release.FormatZstd), release.ManifestKey("web", version(1), digest(1)),
		release.ArtifactKey("web", version(2), digest(2), release.FormatZstd)} { // of 2, one object is new
		if err := os.Chtimes(filepath.Join(dir, key), old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.o.Now = time.Now
	p, err := Look(t.Context(), r.o)
	if err != nil || len(p.Remove) != 1 || p.Remove[0].Version != version(1) || len(p.Keep) != 1 || p.Keep[0].Why != "it is 0 days old" {
		t.Errorf("got %+v, %v, want release 1 to go and 2 to stay", p, err)
	}
	if !slices.ContainsFunc(p.Notes, func(s string) bool { return strings.Contains(s, "only age protects") }) {
		t.Errorf("got notes %q, want that nothing has a pointer", p.Notes)
	}
}

func TestUnfinishedUploads(t *testing.T) {
	r, dir := directory(t)
	r.release(1)
	for name, age := range map[string]time.Duration{"OLD": 2 * day, "NEW": time.Hour} {
		path := filepath.Join(dir, ".towline", name)
		when := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chtimes(path, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	r.o.Now = time.Now
	p, err := Look(t.Context(), r.o)
	if err == nil {
		err = p.Carry(t.Context())
	}
	if err != nil || len(p.Abort) != 1 {
		t.Fatalf("got %+v, %v, want one aborted", p, err)
	}
	for name, want := range map[string]bool{"OLD": false, "NEW": true, "lock": true} {
		if _, err := os.Stat(filepath.Join(dir, ".towline", name)); (err == nil) != want {
			t.Errorf("%s: got %v, want there: %v", name, err, want)
		}
	}
}

// What is not understood might name a release.
func TestNothingGoesWhereAReferenceCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func(*rig){
		"pointer":          func(r *rig) { r.put("web/production/version.json", []byte("{")) },
		"pointer to none":  func(r *rig) { r.put("web/production/version.json", []byte(`{"envelope": {"payload": "e30="}}`)) },
		"empty pointer":    func(r *rig) { r.put("web/other/version.json", []byte(`{}`)) },
		"history":          func(r *rig) { r.put(release.HistoryKey("web", "production", 9), []byte("x")) },
		"receipt":          func(r *rig) { r.put("web/production/receipts/web-9.json", []byte("x")) },
		"receipt too much": func(r *rig) { r.put("web/production/receipts/web-9.json", make([]byte, 2<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := directory(t)
			r.full()
			spoil(r)
			if p, err := Look(t.Context(), r.o); err == nil || !strings.Contains(err.Error(), "web/") {
				t.Errorf("got %+v, %v, want an error that names the object", p, err)
			}
		})
	}
}

// during calls then once, when the first object is deleted.
type during struct {
	bucket.Upkeep
	then func()
}

func (d *during) Delete(ctx context.Context, key string) error {
	err := d.Upkeep.Delete(ctx, key)
	if d.then != nil {
		then := d.then
		d.then = nil
		then()
	}
	return err
}

// A publisher who found a release just before it is hidden promotes it; another packs the same bytes again.
func TestReleaseThatIsPromotedMeanwhileStays(t *testing.T) {
	for name, publish := range map[string]func(*rig){
		"promote":  func(r *rig) { r.promote("production", 5, 1) },
		"rollback": func(r *rig) { r.promote("new", 1, 1) },
		"publish":  func(r *rig) { r.put(release.ManifestKey("web", version(1), digest(1)), []byte("new")) },
		"server":   func(r *rig) { r.receipt("web-2", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := directory(t)
			r.full()
			p, err := Look(t.Context(), r.o)
			if err != nil {
				t.Fatal(err)
			}
			// Since then, what is young by our clock is what is written from now on.
			p.o.Bucket = &during{r.b, func() {
				publish(r)
				if name == "publish" {
					p.o.OlderThan = 41 * day
				}
			}}
			if err := p.Carry(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{release.ArtifactKey("web", version(1), digest(1), release.FormatZstd), release.ManifestKey("web", version(1), digest(1))} {
				if _, err := r.b.Stat(t.Context(), key); err != nil {
					t.Errorf("what is promoted is gone: %v", err)
				}
			}
			at := slices.IndexFunc(p.Keep, func(k Release) bool { return k.Version == version(1) })
			if at < 0 || !strings.Contains(p.Keep[at].Why, "meanwhile") {
				t.Errorf("got kept %+v, want release 1 with a reason", p.Keep)
			}
		})
	}
}

// denying refuses to delete artifacts.
type denying struct{ bucket.Upkeep }

func (d denying) Delete(ctx context.Context, key string) error {
	if strings.HasSuffix(key, ".tar.zst") {
		return errors.New("no")
	}
	return d.Upkeep.Delete(ctx, key)
}

func TestFailureLeavesReleasesWhole(t *testing.T) {
	for name, spoil := range map[string]func(*Plan) context.Context{
		"denied": func(p *Plan) context.Context { p.o.Bucket = denying{p.o.Bucket}; return t.Context() },
		"ended": func(p *Plan) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			p.o.Settle = time.Hour
			n := 0
			p.o.Bucket = counting{p.o.Bucket, func() {
				if n++; n == 3 {
					cancel()
				}
			}}
			return ctx
		},
		"spoilt": func(p *Plan) context.Context {
			p.o.Bucket = &during{p.o.Bucket, func() { _ = p.o.Bucket.Put(t.Context(), "web/staging/version.json", []byte("{"), "") }}
			return t.Context()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := directory(t)
			r.full()
			before := r.keys()
			p, err := Look(t.Context(), r.o)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Carry(spoil(p)); err == nil {
				t.Error("got no error")
			}
			if after := r.keys(); !slices.Equal(after, before) || len(p.Remove) > 0 {
				t.Errorf("got %q, said to be removed %+v, want %q", after, p.Remove, before)
			}
		})
	}
}

type counting struct {
	bucket.Upkeep
	deleted func()
}

func (c counting) Delete(ctx context.Context, key string) error {
	err := c.Upkeep.Delete(ctx, key)
	c.deleted()
	return err
}
