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
	whole  bool             // it gives no parts of an object
	begun  func()           // called once, with nothing of an artifact sent but what was asked for first: its index
	half   func()           // called once, with half of an artifact sent
	full   func()           // called once, with all but the last byte of one sent that is fetched whole
	sent   map[string]int64 // bytes of each artifact, in all requests for parts of it
	asked  map[string]int   // requests for it
	looks  []time.Time      // when the pointer was asked for
	stands chan struct{}    // closed when artifacts are sent again; nil while nothing stops them
}

// storeSkew is what S3 allows.
const storeSkew = 15 * time.Minute

// newStore has the world's agent use a store from now on.
func newStore(t testing.TB, w *world) *store {
	t.Helper()
	s := &store{dir: w.bucket, sent: map[string]int64{}, asked: map[string]int{}}
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
		s.mu.Lock()
		s.asked[key]++
		again, dropped := s.asked[key] > 1, s.whole && r.Header.Get("Range") != "" // nobody reads the answer to what was not asked
		if s.whole {
			r.Header.Del("Range")
		}
		s.mu.Unlock()
		if again {
			s.call(&s.begun)
		}
		if !dropped {
			w = &watched{ResponseWriter: w, store: s, key: key, size: size}
		}
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
		m, err = w.piece(piece)
		p, n = p[m:], n+m
	}
	return n, err
}

// piece sends a piece, and stops there if that is where the store stops.
func (w *watched) piece(p []byte) (n int, err error) {
	s := w.store
	s.mu.Lock()
	stands := s.stands
	s.mu.Unlock()
	if stands != nil {
		<-stands
	}
	n, err = w.ResponseWriter.Write(p)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	s.mu.Lock()
	s.sent[w.key] += int64(n)
	sent := s.sent[w.key]
	s.mu.Unlock()
	if sent >= w.size/2 {
		s.call(&s.half)
	}
	if sent >= w.size-1 {
		s.call(&s.full)
	}
	return n, err
}

// call calls the function, once for the store. Meanwhile no other part of an artifact is sent.
func (s *store) call(f *func()) {
	s.mu.Lock()
	call := *f
	*f = nil
	done := make(chan struct{})
	if call != nil {
		s.stands = done
	}
	s.mu.Unlock()
	if call == nil {
		return
	}
	call()
	s.mu.Lock()
	s.stands = nil
	s.mu.Unlock()
	close(done)
}
