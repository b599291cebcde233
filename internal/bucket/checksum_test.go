package bucket

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/test/parts"
)

// Stores that are not AWS refuse what they do not know: nothing is sent to them that the SDK adds since 2025, neither a
// checksum nor a body in chunks with a trailer.
func TestOtherStoresGetNoChecksums(t *testing.T) {
	g := parts.S3(t)
	g.Bucket(t, "app-bucket")
	there, err := url.Parse(g.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	puts := 0
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(there)
		r.Out.Host = r.In.Host // is signed
		mu.Lock()
		defer mu.Unlock()
		if r.In.Method == http.MethodPut {
			puts++
		}
		for name, values := range r.In.Header {
			name = strings.ToLower(name)
			if strings.HasPrefix(name, "x-amz-checksum") || name == "x-amz-sdk-checksum-algorithm" || name == "x-amz-trailer" ||
				name == "content-encoding" && strings.Contains(values[0], "aws-chunked") || name == "x-amz-content-sha256" && strings.HasPrefix(values[0], "STREAMING-") {
				t.Errorf("%s %s: got %s: %s", r.In.Method, r.In.URL.Path, name, values)
			}
		}
	}}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	s := gateway(t, g, server.URL)
	if err := s.Create(t.Context(), "small", []byte("x"), ""); err != nil {
		t.Error(err)
	}
	data := bytes.Repeat([]byte("towline."), 20<<20/8)
	if err := s.Upload(t.Context(), "large", bytes.NewReader(data), int64(len(data)), "", nil); err != nil {
		t.Error(err)
	}
	if puts < 4 { // the object, and three parts
		t.Errorf("got %d puts, want at least 4", puts)
	}
}
