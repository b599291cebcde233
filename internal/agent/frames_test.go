package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// noise is text that does not compress, the same for the same seed.
func noise(seed uint64, size int) string {
	random := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 0, size+8)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, random.Uint64())
	}
	return string(b[:size])
}

// framed is a world whose artifacts have two files in frames of their own, and an agent that is started for every look.
type framed struct {
	*world
	config string
	n      int
}

func newFramed(t *testing.T, extra, app string) *framed {
	w := newWorld(t)
	w.files = map[string]string{"lib/one": noise(1, 1500<<10), "lib/two": noise(2, 1500<<10)}
	return &framed{world: w, config: w.file(extra, oneApp+app)}
}

// next publishes a release that differs in one small file, deploys it, and gives the record of that and the log.
func (f *framed) next() (deployment.Record, string) {
	f.t.Helper()
	f.n++
	f.publish("web", hash(fmt.Sprint(f.n)), fmt.Sprint(f.n))
	code, out, errs := f.once(f.config)
	if code != deployment.ExitOK || f.live("web") != fmt.Sprint(f.n) {
		f.t.Fatalf("release %d: got exit code %d: %s\n%s", f.n, code, out, errs)
	}
	return *f.receipt("web").Deployment, errs
}

// fetched is what a deployment said once it had fetched.
func fetched(d deployment.Record) deployment.Event {
	for _, e := range d.Events {
		if e.Step == deployment.Fetch && e.State == deployment.Done {
			return e
		}
	}
	return deployment.Event{}
}

func (f *framed) tree(n int) string { return fmt.Sprintf("%d-%s", n, hash(fmt.Sprint(n))[:12]) }
func (f *framed) path(n int, p string) string {
	return filepath.Join(f.dir, "srv/web/releases", f.tree(n), p)
}

func (f *framed) names() []string {
	f.t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.dir, "srv/web/releases"))
	f.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// whole demands that the release directory holds exactly what was published.
func (f *framed) whole(n int) {
	f.t.Helper()
	got := map[string]string{}
	f.must(filepath.WalkDir(f.path(n, "."), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			data, err = os.ReadFile(path)
			rel, _ := filepath.Rel(f.path(n, "."), path)
			got[rel] = string(data)
		}
		return err
	}))
	want := map[string]string{"version.txt": fmt.Sprint(n)}
	for p, text := range f.files {
		want[p] = text
	}
	if len(got) != len(want) {
		f.t.Errorf("release %d has %d files, want %d", n, len(got), len(want))
	}
	for p, text := range want {
		if sha256.Sum256([]byte(got[p])) != sha256.Sum256([]byte(text)) {
			f.t.Errorf("%s of release %d: got %d bytes, want %d others", p, n, len(got[p]), len(text))
		}
	}
}

func TestReleasesAreRecycled(t *testing.T) {
	f := newFramed(t, "", "")
	for n := 1; n <= 3; n++ {
		d, _ := f.next()
		// What another release has is not fetched, however it gets into the new one.
		if e := fetched(d); n > 1 && e.Bytes > 20<<10 || n == 1 && e.Bytes < 3000<<10 || !strings.HasSuffix(e.Message, " into an empty directory") {
			t.Errorf("release %d: got %d bytes, %q", n, e.Bytes, e.Message)
		}
	}
	for n := 4; n <= 6; n++ {
		before, err := os.Stat(f.path(n-3, "lib/one"))
		f.must(err)
		d, _ := f.next()
		f.whole(n)
		after, err := os.Stat(f.path(n, "lib/one"))
		f.must(err)
		e := fetched(d)
		if !os.SameFile(before, after) || !strings.HasSuffix(e.Message, fmt.Sprintf(", 1 of %d files changed, %s recycled", len(f.files)+1, f.tree(n-3))) || e.Bytes == 0 || e.Bytes > 20<<10 {
			t.Errorf("release %d: got %d bytes, %q, and the same file: %v", n, e.Bytes, e.Message, os.SameFile(before, after))
		}
		if end := d.Events[len(d.Events)-1]; end.Bytes != e.Bytes {
			t.Errorf("release %d: got %d bytes in the end, want %d", n, end.Bytes, e.Bytes)
		}
		if got, want := f.names(), []string{f.tree(n - 2), f.tree(n - 1), f.tree(n)}; !slices.Equal(got, want) {
			t.Errorf("on disk: got %q, want %q", got, want)
		}
	}
	kept, err := os.ReadDir(filepath.Join(f.dir, "state/apps/web/trees"))
	if f.must(err); len(kept) != 6 {
		t.Errorf("got %v kept of trees, want a listing and an inventory of three", kept)
	}

	// Whoever reads everything finds what was changed in a file that was never written since its first release.
	f.tamper(f.path(6, "lib/one"), noise(3, 1500<<10))
	r := f.start(f.settings("", oneApp))
	var result deployment.Result
	code := 0
	for end := time.Now().Add(30 * time.Second); code != http.StatusOK && time.Now().Before(end); { // the agent is starting
		code = r.call("/v1/apps/web/verify", deployment.Command{}, &result)
	}
	if code != http.StatusOK || len(result.Releases) != 3 {
		t.Fatalf("verify: got %d %+v", code, result)
	}
	if v := result.Releases[0]; v.State != deployment.Drifted || len(v.Differ) != 1 || v.Differ[0].Path != "lib/one" {
		t.Errorf("verify: got %+v, want lib/one changed", v)
	}
	if v := result.Releases[1]; v.State != deployment.Sound {
		t.Errorf("verify: got %+v, want it sound", v)
	}
	if code := r.call("/v1/apps/web/rollback", deployment.Command{}, &result); code != http.StatusOK || result.Outcome != deployment.Deployed {
		t.Errorf("rollback: got %d %+v", code, result)
	}
	if got := result.Record.Events[len(result.Record.Events)-1].Bytes; got != 0 {
		t.Errorf("rollback: got %d bytes pulled, want none", got)
	}
}

// What was changed by hand is found by the look after a deployment, and is neither recycled nor copied from.
func TestChangedReleaseIsNotRecycled(t *testing.T) {
	f := newFramed(t, "", "")
	for range 3 {
		f.next()
	}
	f.tamper(f.path(1, "lib/one"), noise(3, 1500<<10))
	f.publish("web", hash("same"), "3") // the same artifact
	if code, out, errs := f.once(f.config); code != deployment.ExitOK || !strings.Contains(out, "unchanged") {
		t.Fatalf("got exit code %d: %s\n%s", code, out, errs)
	}
	f.n++ // of the pointer
	d, _ := f.next()
	f.whole(5)
	if e := fetched(d); !strings.HasSuffix(e.Message, " into an empty directory") || e.Bytes > 20<<10 {
		t.Errorf("got %d bytes, %q", e.Bytes, e.Message)
	}
}

// Without what is kept of a release, or with something else in its place, its directory is not recycled.
func TestInventoryThatIsNotOne(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"gone":  os.Remove,
		"empty": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"torn":  func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFramed(t, "", "")
			for range 3 {
				f.next()
			}
			kept, err := filepath.Glob(filepath.Join(f.dir, "state/apps/web/trees/*.inventory"))
			f.must(err)
			for _, path := range kept {
				f.must(spoil(path))
			}
			for n := 4; n <= 7; n++ {
				d, _ := f.next()
				f.whole(n)
				if got, want := strings.HasSuffix(fetched(d).Message, " recycled"), n == 7; got != want {
					t.Errorf("release %d: got it recycled: %v, want %v", n, got, want)
				}
			}
		})
	}
}

// A store that gives no parts of an object gives the whole, and the log says why that much is fetched.
func TestStoreWithoutRanges(t *testing.T) {
	var f *framed
	store := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		data, err := os.ReadFile(filepath.Join(f.dir, "bucket", strings.TrimPrefix(req.URL.Path, "/deploys/")))
		if err != nil || req.Method != http.MethodGet && req.Method != http.MethodHead {
			http.Error(rw, "", http.StatusNotFound)
			return
		}
		rw.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
		rw.Header().Set("Content-Length", fmt.Sprint(len(data)))
		rw.WriteHeader(http.StatusOK)
		if req.Method == http.MethodGet {
			_, _ = rw.Write(data)
		}
	}))
	t.Cleanup(store.Close)
	f = newFramed(t, "receipts: false\ncredentials: {access_key_id_file: $dir/id, secret_access_key_file: $dir/secret}", "")
	text, err := os.ReadFile(f.config)
	f.must(err)
	url := "s3://deploys?region=us-east-1&path-style=true&endpoint=" + store.URL
	f.must(os.WriteFile(f.config, []byte(strings.Replace(string(text), "bucket: file://"+f.dir+"/bucket", "bucket: "+url, 1)), 0o600))
	for _, name := range []string{"id", "secret"} {
		f.must(os.WriteFile(filepath.Join(f.dir, name), []byte("0123456789"), 0o600))
	}
	for n := 1; n <= 2; n++ {
		f.publish("web", hash(fmt.Sprint(n)), fmt.Sprint(n))
		code, out, errs := f.once(f.config)
		if code != deployment.ExitOK || f.live("web") != fmt.Sprint(n) {
			t.Fatalf("got exit code %d: %s\n%s", code, out, errs)
		}
		f.whole(n)
		if strings.Count(errs, "the store gives no parts of an object: the whole artifact is fetched") != 1 {
			t.Errorf("the log does not say it once:\n%s", errs)
		}
	}
	left, err := os.ReadDir(filepath.Join(f.dir, "srv/web/incoming"))
	if f.must(err); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// An artifact whose index came after this agent is fetched whole, and the log says why. So is the next one, and nothing is recycled.
func TestArtifactNewerThanTheAgent(t *testing.T) {
	f := newFramed(t, "", "")
	f.repack = func(data []byte, a *release.Artifact) []byte {
		index := append(slices.Clone(data[a.Index.Offset:]), "and more"...)
		binary.LittleEndian.PutUint32(index[4:], uint32(len(index)-8))
		index[12] = 2 // the version
		a.Index = &release.Index{Offset: a.Index.Offset, Size: int64(len(index)), SHA256: fmt.Sprintf("%x", sha256.Sum256(index))}
		data = append(data[:a.Index.Offset:a.Index.Offset], index...)
		a.Size, a.SHA256 = int64(len(data)), fmt.Sprintf("%x", sha256.Sum256(data))
		return data
	}
	for n := 1; n <= 4; n++ {
		d, errs := f.next()
		f.whole(n)
		if fetched(d).Bytes < 3000<<10 || strings.Count(errs, "came after this agent: the whole artifact is fetched") != 1 {
			t.Errorf("release %d: got %d bytes, and the log:\n%s", n, fetched(d).Bytes, errs)
		}
	}
	// One that this agent knows, and that is not what is signed, stays a refusal.
	f.repack = func(data []byte, a *release.Artifact) []byte {
		data[a.Index.Offset+12] = 2
		a.SHA256 = fmt.Sprintf("%x", sha256.Sum256(data))
		return data
	}
	f.publish("web", hash("5"), "5")
	if code, out, _ := f.once(f.config); code != deployment.ExitRefused || f.live("web") != "4" {
		t.Errorf("got exit code %d, %q live, want a refusal: %s", code, f.live("web"), out)
	}
}
