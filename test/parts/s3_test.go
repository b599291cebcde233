package parts

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

func TestS3(t *testing.T) {
	s := S3(t)
	bucket := s.Bucket(t, "deploys")
	key := "/" + bucket + "/app/production/version.json"
	for _, text := range []string{"one", "two"} {
		if status, answer := s.Do(t, "PUT", key, []byte(text)); status != http.StatusOK {
			t.Fatalf("put: got status %d, want 200: %s", status, answer)
		}
	}
	_, list := s.Do(t, "GET", "/"+bucket+"?versions=", nil)
	if got, want := bytes.Count(list, []byte("<Version>")), 2; got != want {
		t.Errorf("versions: got %d, want %d: %s", got, want, list)
	}

	s.Stop(t)
	if conn, err := net.Dial("tcp", strings.TrimPrefix(s.Endpoint, "http://")); err == nil {
		conn.Close()
		t.Error("the endpoint still answers after Stop")
	}
	s.Start(t)
	if _, got := s.Do(t, "GET", key, nil); string(got) != "two" {
		t.Errorf("after a restart: got %q, want %q", got, "two")
	}

	s.SecretKey = "another"
	if status, _ := s.Do(t, "GET", key, nil); status != http.StatusForbidden {
		t.Errorf("wrong secret: got status %d, want 403", status)
	}
	u, err := url.Parse(s.URL(bucket))
	if err != nil || u.Host != bucket || u.Query().Get("endpoint") != s.Endpoint {
		t.Errorf("URL: got %q (%v)", s.URL(bucket), err)
	}
}

func TestTool(t *testing.T) {
	for name := range tools {
		if got, again := Tool(t, name), Tool(t, name); got != again {
			t.Errorf("%s: got %q, then %q", name, got, again)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
