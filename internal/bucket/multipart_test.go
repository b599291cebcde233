package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towline/towline/test/parts"
)

func gateway(t *testing.T, g *parts.S3Server, endpoint string) *store {
	t.Helper()
	b, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: endpoint, AccessKeyID: g.AccessKey, SecretAccessKey: g.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return b.(*store)
}

// On AWS the SDK adds checksums to every part and to the upload; they must fit together.
func TestMultipartWithChecksums(t *testing.T) {
	g := parts.S3(t)
	g.Bucket(t, "app-bucket")
	s := gateway(t, g, g.Endpoint)
	s.client = s3.New(s.client.Options(), func(o *s3.Options) {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	})
	data := bytes.Repeat([]byte("towline."), 20<<20/8)
	if err := s.Upload(t.Context(), "k", bytes.NewReader(data), int64(len(data)), "", nil); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Get(t.Context(), "k", 1<<30)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v, want what was uploaded", len(got), err)
	}
	if err := s.Create(t.Context(), "small", []byte("x"), ""); err != nil {
		t.Error(err)
	}
}

// Two uploads that both began while nothing was there: the condition on completing lets one win.
func TestMultipartOneWinner(t *testing.T) {
	g := parts.S3(t)
	g.Bucket(t, "app-bucket")
	s := gateway(t, g, g.Endpoint)
	var met, ended sync.WaitGroup
	met.Add(2)
	errs := make([]error, 2)
	for i := range errs {
		var once sync.Once
		ended.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, singleMax+1)
			errs[i] = s.Upload(t.Context(), "k", bytes.NewReader(data), int64(len(data)), "", func(int64) {
				once.Do(func() { met.Done(); met.Wait() }) // neither completes before both are under way
			})
		})
	}
	ended.Wait()
	won, lost := errs[0], errs[1]
	if won != nil {
		won, lost = lost, won
	}
	if won != nil || !errors.Is(lost, fs.ErrExist) {
		t.Errorf("got errors %v, want one nil and one fs.ErrExist", errs)
	}
}

// proxy passes everything to the S3 server but what trip answers itself.
func proxy(t *testing.T, g *parts.S3Server, trip func(w http.ResponseWriter, r *http.Request, pass http.Handler)) string {
	t.Helper()
	to, err := url.Parse(g.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { trip(w, r, pass) }))
	t.Cleanup(server.Close)
	return server.URL
}

func completes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// An upload whose completing was answered into the void is a success; one that a store cannot guard is still made once.
func TestMultipartTroubleAtTheEnd(t *testing.T) {
	g := parts.S3(t)
	g.Bucket(t, "app-bucket")
	data := bytes.Repeat([]byte("x"), singleMax+1)
	up := func(s *store, key string) error {
		return s.Upload(t.Context(), key, bytes.NewReader(data), int64(len(data)), "", nil)
	}
	var once sync.Once
	lossy := gateway(t, g, proxy(t, g, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if completes(r) {
			once.Do(func() {
				pass.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			})
		}
		pass.ServeHTTP(w, r)
	}))
	if err := up(lossy, "lossy"); err != nil {
		t.Errorf("lost answer: got error %v, want nil", err)
	}
	plain := gateway(t, g, proxy(t, g, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if completes(r) && r.Header.Get("If-None-Match") != "" {
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, http.StatusNotImplemented, "NotImplemented", "no conditions here")
			return
		}
		pass.ServeHTTP(w, r)
	}))
	if err := up(plain, "plain"); err != nil {
		t.Errorf("no condition on completing: got error %v, want nil", err)
	}
	wantFault(t, up(plain, "plain"), fs.ErrExist, "upload object plain in bucket app-bucket: something else is there")
	broken := gateway(t, g, proxy(t, g, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "2" {
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, http.StatusForbidden, "AccessDenied", "no")
			return
		}
		pass.ServeHTTP(w, r)
	}))
	wantFault(t, up(broken, "broken"), fs.ErrPermission, "upload object broken in bucket app-bucket: access denied")
	if _, answer := g.Do(t, "GET", "/app-bucket?uploads=", nil); strings.Contains(string(answer), "UploadId>") {
		t.Errorf("uploads left: got %s, want none", answer)
	}
}

// A store that hangs must not keep an interrupted upload from ending.
func TestAbortIsShort(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodPost:
			io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>`)
		case http.MethodPut:
			cancel()
		case http.MethodDelete:
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	b, err := Open(ctx, Options{URL: "app-bucket", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, singleMax+1)
	started := time.Now()
	if err := b.Upload(ctx, "k", bytes.NewReader(data), int64(len(data)), "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want an interruption", err)
	}
	if took := time.Since(started); took > 6*time.Second {
		t.Errorf("ended after %v", took)
	}
}
