package bucket

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// isolate takes everything away from which the SDK could learn something on this machine.
func isolate(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE",
		"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// serve opens bucket "app-bucket" on a server that answers by handle.
func serve(t *testing.T, handle http.HandlerFunc) (*store, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return dial(t, server.URL), server
}

func dial(t *testing.T, endpoint string) *store {
	t.Helper()
	b, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: endpoint, AccessKeyID: "id", SecretAccessKey: "secret", stall: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return b.(*store)
}

func wantFault(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want %q that is %v", err, text, kind)
	}
}

// refuse answers with an S3 error.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func TestAnswersThatAreNotS3(t *testing.T) {
	code := http.StatusNotFound
	s, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(code)
		fmt.Fprint(w, "<!DOCTYPE html><html><body><p>Welcome to nginx!<br></body></html>")
	})
	_, _, err := s.Get(t.Context(), "k", 10)
	wantFault(t, err, ErrUnreachable, "get object k in bucket app-bucket: "+server.URL+" answered HTTP 404 with a web page, not as an S3 store")
	code = http.StatusOK
	wantFault(t, s.Check(t.Context()), ErrUnreachable, "look in bucket app-bucket: "+server.URL+" answered with a web page, not as an S3 store")
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status     int
		code, text string
		kind       error
	}{
		{403, "AccessDenied", "get object k in bucket app-bucket: access denied", fs.ErrPermission},
		{403, "RequestTimeTooSkewed", "access denied: the clock of this machine and the store's differ: RequestTimeTooSkewed: why", ErrClock},
		{400, "ExpiredToken", "access denied: ExpiredToken: why", fs.ErrPermission},
		{404, "XAdminUserNotFound", "access denied: XAdminUserNotFound: why", fs.ErrPermission}, // versitygw without users
		{404, "NoSuchKey", "get object k in bucket app-bucket: no such object", fs.ErrNotExist},
		{404, "NoSuchBucket", "get object k in bucket app-bucket: no such bucket", ErrNoBucket},
		{412, "PreconditionFailed", "something else is there", fs.ErrExist},
		{409, "Conflict", "something else is there", fs.ErrExist},
		{501, "NotImplemented", "HTTP 501 NotImplemented: why", errors.ErrUnsupported},
		{301, "PermanentRedirect", "the bucket is in region eu-west-3, not us-east-1", ErrNoBucket},
	} {
		s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if c.status == 301 {
				w.Header().Set("X-Amz-Bucket-Region", "eu-west-3")
			}
			refuse(w, c.status, c.code, "why")
		})
		_, _, err := s.Get(t.Context(), "k", 10)
		wantFault(t, err, c.kind, c.text)
		if got := s.Check(t.Context()); c.code == "AccessDenied" && got != nil {
			t.Errorf("check with credentials that may not list: got error %v, want nil", got)
		} else if c.code != "AccessDenied" && got == nil {
			t.Errorf("check, answered %d %s: got no error, want one", c.status, c.code)
		}
	}
}

func TestRetries(t *testing.T) {
	var requests atomic.Int32
	s, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) < 3 {
			refuse(w, 500, "InternalError", "try again")
			return
		}
		fmt.Fprint(w, "ok")
	})
	data, _, err := s.Get(t.Context(), "k", 10)
	if err != nil || string(data) != "ok" {
		t.Errorf("after two 500: got %q, %v, want ok", data, err)
	}
	requests.Store(-100)
	_, _, err = s.Get(t.Context(), "k", 10)
	wantFault(t, err, ErrUnreachable, server.URL+": HTTP 500 InternalError: try again")
	if got := requests.Load() + 100; got != 3 {
		t.Errorf("got %d attempts, want 3", got)
	}
}

func TestUnreachable(t *testing.T) {
	s, server := serve(t, func(http.ResponseWriter, *http.Request) {})
	server.Close()
	_, _, err := s.Get(t.Context(), "k", 10)
	wantFault(t, err, ErrUnreachable, "get object k in bucket app-bucket: "+server.URL+": connection refused")
	_, err = dial(t, "https://no-such-host.invalid").List(t.Context(), "k/")
	wantFault(t, err, ErrUnreachable, "list objects k/ in bucket app-bucket: https://no-such-host.invalid: name not found: no-such-host.invalid")
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	_, _, err := dial(t, server.URL).Get(t.Context(), "k", 10)
	wantFault(t, err, ErrUnreachable, "certificate signed by unknown authority")

	o := Options{URL: "app-bucket", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: "secret"}
	o.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if data, _, err := b.Get(t.Context(), "k", 10); err != nil || string(data) != "ok" {
		t.Errorf("with its CA: got %q, %v, want ok", data, err)
	}
	o.CABundle = []byte("no certificate")
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "CA bundle") {
		t.Errorf("bad CA bundle: got error %v, want one", err)
	}
}

func TestStalls(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	begun := 0 // bytes of the body that come before the silence; -1: no answer at all
	s, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if begun >= 0 {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(make([]byte, begun))
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	begun = 5
	body, _, err := s.Open(t.Context(), "k", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	wantFault(t, err, ErrUnreachable, "get object k in bucket app-bucket: "+server.URL+": no bytes for 200ms")
	if len(got) != 5 {
		t.Errorf("got %d bytes before the stall, want 5", len(got))
	}
	_, _, err = s.Get(t.Context(), "k", 200)
	wantFault(t, err, ErrUnreachable, "no bytes for 200ms")
	begun = -1
	_, _, err = s.Get(t.Context(), "k", 200)
	wantFault(t, err, ErrUnreachable, "no bytes for 200ms")
	_, _, err = s.Open(t.Context(), "k", 0, -1, "")
	wantFault(t, err, ErrUnreachable, "no bytes for 200ms")
	wantFault(t, s.Upload(t.Context(), "k", bytes.NewReader(make([]byte, 1<<20)), 1<<20, "", nil), ErrUnreachable, "no bytes for 1.2s")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Bool
	_, other := serve(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	for _, code := range []int{301, 302, 307, 308} {
		s, server := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+r.URL.Path, code) })
		if code == 307 {
			s, server = serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", other.URL+r.URL.Path)
				refuse(w, code, "TemporaryRedirect", "elsewhere")
			})
			_, _, err := s.Get(t.Context(), "k", 10)
			wantFault(t, err, ErrUnreachable, server.URL+` redirects to "`+other.URL+`/app-bucket/k": redirects are not followed`)
		}
		for _, err := range []error{s.Create(t.Context(), "k", []byte("x"), ""), s.Check(t.Context())} {
			wantFault(t, err, ErrUnreachable, server.URL)
		}
	}
	if reached.Load() {
		t.Error("a request reached the other host")
	}
}

// memory is an S3 store of one object, with the faults of real ones.
type memory struct {
	mu       sync.Mutex
	data     []byte // nil: absent
	unquoted bool   // refuses quoted ETags in conditions
	ignores  bool   // ignores If-None-Match and Range of GET
	lacks    bool   // answers 501 to conditional writes
	loses    int    // answers lost after the write
	sent     []string
}

func (m *memory) etag() string { return fmt.Sprintf("%x", len(m.data)) }

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	m.sent = append(m.sent, r.Method+" "+match+none)
	form := `"` + m.etag() + `"`
	if m.unquoted {
		form = m.etag()
	}
	switch {
	case r.Method == "PUT" && m.lacks && match+none != "":
		refuse(w, 501, "NotImplemented", "A header you provided implies functionality that is not implemented")
	case match != "" && m.data == nil, r.Method != "PUT" && m.data == nil:
		refuse(w, 404, "NoSuchKey", "none")
	case match != "" && match != form, r.Method == "PUT" && none == "*" && m.data != nil:
		refuse(w, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	case r.Method == "PUT":
		m.data, _ = io.ReadAll(r.Body)
		if m.loses > 0 {
			m.loses--
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("ETag", `"`+m.etag()+`"`)
	case none == form && !m.ignores:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("ETag", `"`+m.etag()+`"`)
		if m.ignores {
			r.Header.Del("Range")
		}
		r.Header.Del("If-Match")
		r.Header.Del("If-None-Match")
		http.ServeContent(w, r, "k", time.Now(), bytes.NewReader(m.data))
	}
}

func TestUnquotedETags(t *testing.T) {
	m := &memory{unquoted: true, data: []byte("1")}
	s, _ := serve(t, m.ServeHTTP)
	_, etag, err := s.Get(t.Context(), "k", 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Replace(t.Context(), "k", []byte("22"), `"99"`); !errors.Is(err, fs.ErrExist) {
		t.Errorf("wrong ETag: got error %v, want fs.ErrExist", err)
	}
	if etag, err = s.Replace(t.Context(), "k", []byte("22"), etag); err != nil {
		t.Fatal(err)
	}
	m.sent = nil
	if _, err = s.Replace(t.Context(), "k", []byte("333"), etag); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(m.sent), "[PUT 2]"; got != want {
		t.Errorf("once known: got requests %s, want %s", got, want)
	}
	if _, err = s.Replace(t.Context(), "k", []byte("4444"), etag); !errors.Is(err, fs.ErrExist) || string(m.data) != "333" {
		t.Errorf("stale ETag: got error %v and %q there, want fs.ErrExist and 333", err, m.data)
	}
	body, _, err := s.Open(t.Context(), "k", 1, 1, `"3"`)
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
}

func TestStoresThatIgnoreConditionsOnReading(t *testing.T) {
	m := &memory{ignores: true, data: []byte("12345")}
	s, _ := serve(t, m.ServeHTTP)
	_, info, err := s.GetIfChanged(t.Context(), "k", `"5"`, 100)
	if !errors.Is(err, ErrNotModified) || info.ETag != `"5"` {
		t.Errorf("got %+v, %v, want ErrNotModified", info, err)
	}
	_, _, err = s.Open(t.Context(), "k", 2, 2, "")
	wantFault(t, err, errors.ErrUnsupported, "get object k in bucket app-bucket: asked for bytes=2-3, got the whole object")
}

func TestStoresWithoutConditionalWrites(t *testing.T) {
	m := &memory{lacks: true}
	s, _ := serve(t, m.ServeHTTP)
	ctx := t.Context()
	if err := s.Create(ctx, "k", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	wantFault(t, s.Create(ctx, "k", []byte("22"), ""), fs.ErrExist, "create object k in bucket app-bucket: something else is there")
	if _, err := s.Replace(ctx, "k", []byte("22"), `"1"`); err != nil {
		t.Fatal(err)
	}
	_, err := s.Replace(ctx, "k", []byte("333"), `"1"`)
	wantFault(t, err, fs.ErrExist, "replace object k in bucket app-bucket: something else is there")
	if string(m.data) != "22" {
		t.Errorf("got %q, want 22", m.data)
	}
	if err := s.Put(ctx, "k", []byte("4444"), ""); err != nil || string(m.data) != "4444" {
		t.Errorf("put: got %v and %q, want 4444", err, m.data)
	}
}

// The first attempt writes, its answer is lost, the second is refused: that is a success, unless another's bytes are there.
func TestLostAnswers(t *testing.T) {
	m := &memory{loses: 1}
	s, _ := serve(t, m.ServeHTTP)
	if err := s.Create(t.Context(), "k", []byte("mine"), ""); err != nil {
		t.Errorf("create: got error %v, want nil", err)
	}
	m.loses = 1
	if tag, err := s.Replace(t.Context(), "k", []byte("mine too"), `"4"`); err != nil || tag != `"8"` {
		t.Errorf("replace: got %s, %v, want the new ETag", tag, err)
	}
	m.data, m.loses = nil, 1
	if err := s.Upload(t.Context(), "k", strings.NewReader("large"), 5, "", nil); err != nil {
		t.Errorf("upload: got error %v, want nil", err)
	}
	var once sync.Once
	s, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { m.data = []byte("theirs"); panic(http.ErrAbortHandler) })
		m.ServeHTTP(w, r)
	})
	wantFault(t, s.Create(t.Context(), "k", []byte("mine"), ""), fs.ErrExist, "something else is there")
}

func TestCallersEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, _, err := s.Get(ctx, "k", 10)
	wantFault(t, err, context.Canceled, "get object k in bucket app-bucket: context canceled")
}
