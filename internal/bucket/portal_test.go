package bucket

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A portal or a proxy that answers a write with success, in the store's place, has written nothing.
func TestWritesThatAPortalAnswers(t *testing.T) {
	isolate(t)
	const hint = "(is a captive portal or a proxy on the way?)"
	big := bytes.NewReader(make([]byte, singleMax+1))
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		text   string // of a write in one request
	}{
		"page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html><body>Please sign in</body></html>")
		}, "answered with a web page, not as an S3 store " + hint},
		"page with an ETag": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("ETag", `W/"2c-x"`)
			fmt.Fprint(w, "<html><body>Please sign in</body></html>")
		}, "answered with a web page, not as an S3 store " + hint},
		"nothing": {func(http.ResponseWriter, *http.Request) {}, "answered a write without an ETag, not as an S3 store " + hint},
		"empty ETag": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `""`) },
			"answered a write without an ETag, not as an S3 store " + hint},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead { // so that an upload in parts begins
					refuse(w, http.StatusNotFound, "NoSuchKey", "none")
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				c.answer(w, r)
			})
			_, replaced := s.Replace(t.Context(), "k", []byte("x"), `"1"`)
			for op, err := range map[string]error{
				"create": s.Create(t.Context(), "k", []byte("x"), ""), "replace": replaced, "put": s.Put(t.Context(), "k", []byte("x"), ""),
				"upload": s.Upload(t.Context(), "k", strings.NewReader("x"), 1, "", nil),
			} {
				wantFault(t, err, ErrUnreachable, c.text)
				wantFault(t, err, ErrUnreachable, op+" object k in bucket app-bucket: ")
			}
			wantFault(t, s.Upload(t.Context(), "k", big, big.Size(), "", nil), ErrUnreachable, "not as an S3 store")
		})
	}
	// It may come between the requests of one upload, too.
	for at, text := range []string{"without an upload id", "answered a write without an ETag", "answered a write without an ETag"} {
		var stage atomic.Int32
		s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			switch query := r.URL.Query(); {
			case r.Method == http.MethodHead:
				refuse(w, http.StatusNotFound, "NoSuchKey", "none")
			case r.Method == http.MethodDelete:
				refuse(w, http.StatusNotFound, "NoSuchUpload", "none")
			case query.Has("partNumber") && at != 1:
				w.Header().Set("ETag", `"1"`)
				stage.Store(1)
			case r.Method == http.MethodPost && query.Has("uploads") && at != 0:
				fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
			case r.Method == http.MethodPost && query.Has("uploadId"):
				stage.Store(2)
				fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
			case r.Method == http.MethodPost:
				fmt.Fprint(w, "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>")
			}
		})
		wantFault(t, s.Upload(t.Context(), "k", big, big.Size(), "", nil), ErrUnreachable, text)
		if want := []int32{0, 0, 2}[at]; stage.Load() != want {
			t.Errorf("portal at request %d of the upload: it came to stage %d, want %d", at, stage.Load(), want)
		}
	}
}

// A page that happens to be well-formed is no listing without keys, and no object.
func TestPagesAreNoAnswers(t *testing.T) {
	isolate(t)
	for _, code := range []int{200, 206} {
		s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("ETag", `"1"`)
			w.WriteHeader(code)
			fmt.Fprint(w, "<html><body>Please sign in</body></html>")
		})
		for call, err := range calls(t.Context(), s) {
			wantFault(t, err, ErrUnreachable, "answered with a web page, not as an S3 store (is a captive portal or a proxy on the way?)")
			if err == nil {
				t.Errorf("%d: %s is taken for an answer", code, call)
			}
		}
	}
}

// A body that drips never stands still. It ends all the same, and one that is slow, but not as slow as that, goes on.
func TestDrip(t *testing.T) {
	isolate(t)
	const size = 20000
	gone := make(chan struct{})
	defer close(gone)
	piece, pause := 1, 20*time.Millisecond // 50 bytes a second
	_, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for sent := 0; sent < size; sent += piece {
			_, _ = w.Write(make([]byte, min(piece, size-sent)))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			case <-gone:
				return
			}
		}
	})
	// A drop late by less than this is none that a busy machine has held up.
	s, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: "secret", stall: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	read := func() (int, error) {
		body, _, err := s.Open(t.Context(), "k", 0, -1, "")
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		got, err := io.ReadAll(body)
		return len(got), err
	}
	got, err := read()
	wantFault(t, err, ErrUnreachable, "get object k in bucket app-bucket: "+server.URL+": only ")
	wantFault(t, err, ErrUnreachable, " bytes in 1.5s")
	if got == 0 || got > 150 {
		t.Errorf("got %d bytes before it was given up, want some, which are not fetched again", got)
	}
	piece = 200 // 10,000 a second, for two seconds
	if got, err := read(); got != size || err != nil {
		t.Errorf("slow, not dripping: got %d bytes, %v, want %d", got, err, size)
	}
}
