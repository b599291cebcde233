package bucket

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Whoever answers in the store's place has no end of bytes, pages or keys: none of it fills the memory.
func TestEndlessAnswers(t *testing.T) {
	isolate(t)
	const most, enough = 24 << 20, 48 << 20 // what is read and what sockets hold; what a whole read would take
	piece := []byte(strings.Repeat("x", 1<<20))
	for name, begin := range map[string]func(w http.ResponseWriter, r *http.Request){
		"error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>")
		},
		"redirect": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTemporaryRedirect) },
		"success": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("list-type") {
				fmt.Fprint(w, "<ListBucketResult><Contents><Key>")
				return
			}
			fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>")
		},
	} {
		var mu sync.Mutex
		sent := map[string]int64{}
		s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			begin(w, r)
			var n int64
			for n < enough {
				k, err := w.Write(piece)
				if n += int64(k); err != nil {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			request := r.Method + " " + r.URL.String()
			if r.Method == http.MethodHead { // the server throws it away
				return
			}
			sent[request] = max(sent[request], n)
		})
		calls(t.Context(), s)
		mu.Lock()
		for request, n := range sent {
			if n > most {
				t.Errorf("%s: %s: %d MiB were taken", name, request, n>>20)
			}
		}
		mu.Unlock()
	}
}

func TestEndlessListing(t *testing.T) {
	isolate(t)
	for name, keys := range map[string]int{"of pages": 0, "of keys": 1000} {
		pages := 0
		s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			at, _ := strconv.Atoi(r.URL.Query().Get("continuation-token"))
			if pages = at; at > 2500 {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			var contents strings.Builder
			for i := range keys {
				fmt.Fprintf(&contents, "<Contents><Key>app/%s%d-%d</Key></Contents>", strings.Repeat("k", 900), at, i)
			}
			fmt.Fprintf(w, "<ListBucketResult><IsTruncated>true</IsTruncated>%s<NextContinuationToken>%s</NextContinuationToken></ListBucketResult>",
				contents.String(), url.QueryEscape(strconv.Itoa(at+1)))
		})
		_, err := s.List(t.Context(), "app/")
		wantFault(t, err, ErrUnreachable, "list objects app/ in bucket app-bucket: it has no end")
		if pages > 2000 || keys > 0 && pages > 100 {
			t.Errorf("an endless listing %s: got %d pages read", name, pages)
		}
	}
}

// What is listed that was not asked for is left out.
func TestListingOfOthers(t *testing.T) {
	isolate(t)
	s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<ListBucketResult><Contents><Key>app/a</Key></Contents><Contents><Key>other/a</Key></Contents></ListBucketResult>")
	})
	if got, err := s.List(t.Context(), "app/"); err != nil || len(got) != 1 || got[0] != "app/a" {
		t.Errorf("got %q, %v, want app/a", got, err)
	}
}
