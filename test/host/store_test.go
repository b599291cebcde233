package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// store serves a directory bucket as an S3 store that looks at the date of each request, as they all do, and at nothing else
// of its signature.
type store struct {
	dir  string
	addr string

	mu     sync.Mutex
	ahead  time.Duration    // of its clock before this machine's
	undone bool             // its answers carry no Date, so that nobody can tell its clock
	half   func()           // called once, with half of an artifact sent
	full   func()           // called once, with all but the last byte of it sent
	sent   map[string]int64 // bytes of each artifact, in all requests for parts of it
	looks  []time.Time      // when the pointer was asked for
}

// storeSkew is what S3 allows.
const storeSkew = 15 * time.Minute

// newStore has the world's agent use a store from now on.
func newStore(t testing.TB, w *world) *store {
	t.Helper()
	s := &store{dir: w.bucket, sent: map[string]int64{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.addr = l.Addr().String()
	server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	w.url = s.url()
	w.env = append(w.env, "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any")
	return s
}

func (s *store) url() string {
	return "s3://releases?region=us-east-1&path-style=true&endpoint=http://" + s.addr
}

// set changes the store under its lock.
func (s *store) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	now, undone := time.Now().Add(s.ahead), s.undone
	s.mu.Unlock()
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	if undone {
		w.Header()["Date"] = nil
	}
	asked, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || now.Sub(asked).Abs() > storeSkew {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the server's time is too large.</Message></Error>")
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/releases/")
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	path := filepath.Join(s.dir, filepath.FromSlash(key))
	switch r.Method {
	case http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path+".new", data, 0o644)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("ETag", etag(sha256.Sum256(data)))
	case http.MethodGet, http.MethodHead:
		s.get(w, r, key, path)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

func (s *store) get(w http.ResponseWriter, r *http.Request, key, path string) {
	if strings.HasSuffix(key, "/version.json") {
		s.set(func() { s.looks = append(s.looks, time.Now()) })
	}
	f, err := os.Open(path)
	if err != nil {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>")
		return
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	info, serr := f.Stat()
	if err != nil || serr != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", etag([32]byte(sum.Sum(nil))))
	if strings.HasSuffix(key, ".tar.zst") && r.Method == http.MethodGet {
		w = &watched{ResponseWriter: w, store: s, key: key, size: size}
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func etag(sum [32]byte) string { return `"` + hex.EncodeToString(sum[:16]) + `"` }

// watched tells the store how much of an artifact has been sent.
type watched struct {
	http.ResponseWriter
	store *store
	key   string
	size  int64
}

func (w *watched) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), 64<<10)]
		if len(piece) == len(p) && len(p) > 1 {
			piece = p[:len(p)-1]
		}
		var m int
		m, err = w.ResponseWriter.Write(piece)
		p, n = p[m:], n+m
		sent := w.count(m)
		if sent >= w.size/2 {
			w.call(&w.store.half)
		}
		if sent >= w.size-1 {
			w.call(&w.store.full)
		}
	}
	return n, err
}

// count adds what was sent of the artifact.
func (w *watched) count(n int) int64 {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.sent[w.key] += int64(n)
	return w.store.sent[w.key]
}

// call flushes what was sent and calls the function, once for the store.
func (w *watched) call(f *func()) {
	w.store.mu.Lock()
	call := *f
	*f = nil
	w.store.mu.Unlock()
	if call != nil {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		call()
	}
}
