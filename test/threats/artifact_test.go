package threats

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deployment"
)

// Whatever the bucket gives instead of the artifact that the pointer names, the old release goes on running, no byte more
// than the pointer says and one is written, and the new one is there as soon as the bytes are right.
func TestArtifactSwappedOrTruncated(t *testing.T) {
	t.Run("bytes", corruptBytes)
	t.Run("bodies", hostileBodies)
	t.Run("drip", dripFeed)
}

func corruptBytes(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	ci.released("v1")
	v := s.server("web-1", trust(key), oneApp)
	v.once().want(t, deployment.ExitOK, "deployed v1")
	s.publisher(track{"shop", "production", "shop"}, key).upload("v2").want(t, deployment.ExitOK)
	pointer := ci.released("v2")
	a := opened(t, web, pointer).Artifact
	good := s.get(a.Key)

	bad := map[string][]byte{
		"nothing": {}, "one byte": good[:1], "one byte less": good[:len(good)-1], "one byte more": append(good[:len(good):len(good)], 0),
		"twice":                   append(good[:len(good):len(good)], good...),
		"the release before":      s.get(s.object("web/releases/v1-", ".tar.zst")),
		"another app's, packed":   s.get(s.object("shop/releases/v2-", ".tar.zst")),
		"its own release object":  s.get(strings.TrimSuffix(a.Key, ".tar.zst") + ".json"),
		"zeros of the right size": make([]byte, len(good)),
	}
	// The end of the archive, the frame before the index, is in v1 too: it is not fetched, and what lies there in its place is nothing to
	// the server.
	index, err := artifact.ReadIndex(good[a.Index.Offset:], a)
	if err != nil {
		t.Fatal(err)
	}
	end := index.Frames[len(index.Frames)-1]
	for at := 0; at < len(good); at += len(good)/24 + 1 {
		if at >= int(end.Offset) && at < int(end.Offset+end.Size) {
			continue
		}
		flipped := append([]byte{}, good...)
		flipped[at] ^= 1 << (at % 8)
		bad[fmt.Sprintf("bit flipped in byte %d", at)] = flipped
		bad[fmt.Sprintf("cut at byte %d", at)] = good[:at]
	}
	// Each of them as the first thing that is tried: a refused artifact is not fetched again until the pointer changes.
	seq := 2
	for name, data := range bad {
		if string(data) == string(good) {
			continue // two apps with the same files have the same bytes
		}
		s.put(a.Key, data)
		before := v.footprint()
		v.once().want(t, deployment.ExitRefused, "failed v2: fetch: ")
		if after := v.footprint(); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", name, before, after)
		}
		v.once().want(t, deployment.ExitRefused) // and it goes on saying so
		s.put(a.Key, good)
		ci.run("promote", "v2").want(t, deployment.ExitOK)
		seq++
		if t.Failed() {
			t.Fatalf("with %s", name)
		}
	}
	flipped := append([]byte{}, good...)
	flipped[end.Offset+1] ^= 1
	s.put(a.Key, flipped)
	v.once().want(t, deployment.ExitOK, "deployed v2")
	v.wantLive("v2")
	if got := opened(t, web, s.get(web.pointer())).Seq; got != uint64(seq) {
		t.Errorf("seq: got %d, want %d", got, seq)
	}
}

// store is the reading half of an S3 server over the site's bucket, in the attacker's hands: he answers for artifacts.
type store struct {
	*httptest.Server
	site   *site
	mu     sync.Mutex
	attack func(w http.ResponseWriter, r *http.Request, good []byte) // nil: an honest answer
	sent   atomic.Int64                                              // bytes of hostile bodies
}

func newStore(s *site) *store {
	o := &store{site: s}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	s.t.Cleanup(o.Close)
	return o
}

func (o *store) url() string {
	return "s3://deploys?region=us-east-1&path-style=true&endpoint=" + o.URL
}

func (o *store) set(attack func(w http.ResponseWriter, r *http.Request, good []byte)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attack = attack
}

func (o *store) serve(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/deploys/")
	if r.Method == http.MethodPut { // a receipt
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(o.site.path(key)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(o.site.path(key), data, 0o644)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return
	}
	info, err := os.Stat(o.site.path(key))
	data, rerr := os.ReadFile(o.site.path(key))
	if err != nil || rerr != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	o.mu.Lock()
	attack := o.attack
	o.mu.Unlock()
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, info.ModTime().UnixNano()))
	w.Header().Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	if attack != nil && strings.Contains(key, ".tar.") {
		attack(w, r, data)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

func hostileBodies(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	o := newStore(s)
	secret := filepath.Join(s.dir, "secret")
	s.must(os.WriteFile(secret, []byte("towlinetest\n"), 0o600))
	v := s.server("web-1", "bucket: \""+o.url()+"\"\ncredentials: {access_key_id_file: "+secret+", secret_access_key_file: "+secret+"}\n"+trust(key), oneApp)
	ci.released("v1")
	v.once().want(t, deployment.ExitOK, "deployed v1")
	ci.released("v2")

	endless := func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			n, err := w.Write(chunk)
			o.sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the agent went on to %s with %q", r.URL, r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	for _, attack := range []struct {
		name string
		code int
		how  func(w http.ResponseWriter, r *http.Request, good []byte)
	}{
		{"endless, without a length", deployment.ExitRefused, func(w http.ResponseWriter, r *http.Request, _ []byte) { endless(w, r) }},
		{"endless, with a huge length", deployment.ExitRefused, func(w http.ResponseWriter, r *http.Request, _ []byte) {
			w.Header().Set("Content-Length", strconv.FormatInt(1<<50, 10))
			endless(w, r)
		}},
		{"a compressed bomb by the server", deployment.ExitRefused, func(w http.ResponseWriter, _ *http.Request, good []byte) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Length", strconv.Itoa(len(good)))
			_, _ = w.Write(make([]byte, len(good)))
		}},
		{"another range than was asked for", deployment.ExitRefused, func(w http.ResponseWriter, _ *http.Request, good []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(good)-1, len(good)))
			w.Header().Set("Content-Length", strconv.Itoa(len(good)-5))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(good[5:])
		}},
		{"a page with status 200", deployment.ExitError, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			_, _ = io.WriteString(w, "<html>please log in</html>")
		}},
		{"a redirect to another host", deployment.ExitError, func(w http.ResponseWriter, r *http.Request, _ []byte) {
			http.Redirect(w, r, elsewhere.URL+"/deploys/evil", http.StatusTemporaryRedirect)
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			size := opened(t, web, s.get(web.pointer())).Artifact.Size
			o.sent.Store(0)
			o.set(attack.how)
			before, most := v.footprint(), int64(0)
			watched, done := make(chan struct{}), make(chan struct{})
			go func() { // what lies in incoming/ while it is fetched
				defer close(done)
				for {
					most = max(most, largest(filepath.Join(v.srv(), "web/incoming")))
					select {
					case <-watched:
						return
					case <-time.After(time.Millisecond):
					}
				}
			}()
			got := v.once()
			close(watched)
			<-done
			got.want(t, attack.code, "failed v2: fetch: ")
			if most > size+1 {
				t.Errorf("written: got %d bytes, want at most %d", most, size+1)
			}
			if after := v.footprint(); live(after) != live(before) {
				t.Errorf("the server was touched: before\n%s\nafter\n%s", before, after)
			}
			// Buffers between the two may hold some megabytes; more was never taken.
			if got := o.sent.Load(); got > 32<<20 {
				t.Errorf("taken of an endless body: got %d bytes", got)
			}
			o.set(nil)
			ci.run("promote", "v2").want(t, deployment.ExitOK) // a refused artifact is tried again with the next pointer
		})
	}
	v.once().want(t, deployment.ExitOK, "deployed v2")
	v.wantLive("v2")
}

// live is a footprint without what is being fetched.
func live(footprint string) string {
	var b strings.Builder
	for line := range strings.Lines(footprint) {
		if !strings.HasPrefix(line, "web/incoming/") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// largest is the size of the largest file in a directory.
func largest(dir string) int64 {
	most := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			most = max(most, info.Size())
		}
		return nil
	})
	return most
}

// dripFeed gives an artifact so slowly that it never comes to an end, yet often enough that nobody calls it stalled. It
// holds up nothing: a newer pointer ends it at once.
func dripFeed(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	o := newStore(s)
	secret := filepath.Join(s.dir, "secret")
	s.must(os.WriteFile(secret, []byte("towlinetest\n"), 0o600))
	v := s.server("web-1", "bucket: \""+o.url()+"\"\ncredentials: {access_key_id_file: "+secret+", secret_access_key_file: "+secret+"}\n"+
		trust(key)+"listen: 127.0.0.1:0\n", oneApp)
	ci.released("v1")
	d := v.start()
	d.settled("v1")

	begun := make(chan struct{}, 64)
	o.set(func(w http.ResponseWriter, r *http.Request, good []byte) {
		if !strings.Contains(r.URL.Path, "/slow-") {
			w.Header().Set("Content-Length", strconv.Itoa(len(good)))
			_, _ = w.Write(good)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(good)))
		for i := range good {
			if _, err := w.Write(good[i : i+1]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case begun <- struct{}{}:
			default:
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
	ci.released("slow", "--servers", d.address(), "--wait=false")
	<-begun
	d.wantLive("v1")
	began := time.Now()
	ci.released("v3", "--servers", d.address(), "--wait-timeout", "20s")
	d.settled("v3")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("got v3 after %v, want it not to wait for the one that drips", took)
	}
}
