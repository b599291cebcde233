package parts

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// S3Server is a running S3 server (versitygw on a directory) on the loopback. It checks SigV4 signatures, keeps object
// versions in buckets made by Bucket, and honours If-Match and If-None-Match. It addresses buckets by path.
type S3Server struct {
	Endpoint  string // http://127.0.0.1:PORT, the same after Stop and Start
	Region    string
	AccessKey string
	SecretKey string

	program string
	addr    string
	dir     string
	proc    *process
}

// S3 starts an S3 server of the test's own, without any bucket, and stops it when the test ends. It needs no root.
func S3(t testing.TB) *S3Server {
	t.Helper()
	s := &S3Server{
		Region: "us-east-1", AccessKey: "towlinetest", SecretKey: "towline-test-secret-key",
		program: Tool(t, "versitygw"), dir: t.TempDir(),
	}
	for _, dir := range []string{"data", "versions", "users"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Setxattr(filepath.Join(s.dir, "data"), "user.towline", []byte("x"), 0); err != nil {
		Skip(t, fmt.Sprintf("user extended attributes on %s, for versitygw: %v", s.dir, err))
	}
	t.Cleanup(func() { s.Stop(t) })
	// Somebody else may take the port between our looking and the server's listening.
	for range 5 {
		s.addr = FreeAddr(t)
		s.Endpoint = "http://" + s.addr
		if s.start() == nil {
			return s
		}
	}
	t.Fatalf("versitygw did not start:\n%s", s.proc.tail())
	return nil
}

// Start starts the server again after Stop: same endpoint, same objects.
func (s *S3Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

func (s *S3Server) start() error {
	cmd := exec.Command(s.program, "--quiet", "--region", s.Region, "--port", s.addr, "--iam-dir", filepath.Join(s.dir, "users"),
		"posix", "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	proc, err := start(cmd, filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	s.proc = proc
	ready := proc.poll(20*time.Second, func() bool {
		resp, err := http.Get(s.Endpoint)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.Header.Get("Server") == "VERSITYGW"
	})
	if !ready {
		_ = proc.stop(syscall.SIGKILL, time.Second)
		return fmt.Errorf("versitygw did not answer on %s:\n%s", s.addr, proc.tail())
	}
	return nil
}

// Stop stops the server; the endpoint then refuses connections. Stopping it twice is fine.
func (s *S3Server) Stop(t testing.TB) {
	t.Helper()
	if s.proc == nil {
		return
	}
	// Asked to end, it waits for connections that clients keep; what it has answered for is on the disk.
	if err := s.proc.stop(syscall.SIGKILL, 10*time.Second); err != nil {
		t.Error(err)
	}
}

// Bucket makes an empty bucket with versioning enabled and returns its name.
func (s *S3Server) Bucket(t testing.TB, name string) string {
	t.Helper()
	s.want200(t, "PUT", "/"+name, nil)
	s.want200(t, "PUT", "/"+name+"?versioning=", []byte(
		`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`))
	return name
}

// User makes a user that may do nothing yet, and returns the server as that user sees it: Do, URL and Env are the user's.
// Bucket policies call it by its name.
func (s *S3Server) User(t testing.TB, name string) *S3Server {
	t.Helper()
	user := &S3Server{Endpoint: s.Endpoint, Region: s.Region, AccessKey: name, SecretKey: "secret-of-" + name}
	status, answer := s.Do(t, "PATCH", "/create-user", fmt.Appendf(nil, "<Account><Access>%s</Access><Secret>%s</Secret><Role>user</Role></Account>",
		user.AccessKey, user.SecretKey))
	if status != http.StatusCreated {
		t.Fatalf("create user %s: got status %d, want 201: %s", name, status, answer)
	}
	return user
}

// URL returns the bucket's URL as both halves of Towline take it.
func (s *S3Server) URL(bucket string) string {
	return fmt.Sprintf("s3://%s?region=%s&endpoint=%s&path-style=true", bucket, s.Region, url.QueryEscape(s.Endpoint))
}

// Env returns the credentials as the SDK's default chain reads them, in the form of os.Environ.
func (s *S3Server) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_EC2_METADATA_DISABLED=true"}
}

func (s *S3Server) want200(t testing.TB, method, path string, body []byte) {
	t.Helper()
	if status, answer := s.Do(t, method, path, body); status != http.StatusOK {
		t.Fatalf("%s %s: got status %d, want 200: %s", method, path, status, answer)
	}
}

// Do sends one signed request, independently of any SDK: path is "/bucket/key", with the query in canonical order
// ("?versions=&prefix=a" would not do, "?prefix=a&versions=" does).
func (s *S3Server) Do(t testing.TB, method, path string, body []byte) (status int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	s.Sign(req, body)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// Sign adds a SigV4 signature over host, query, body digest and time. The query must be in canonical order.
func (s *S3Server) Sign(req *http.Request, body []byte) {
	now := time.Now().UTC()
	stamp, day := now.Format("20060102T150405Z"), now.Format("20060102")
	digest := sha256.Sum256(body)
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(digest[:]))
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%x\nx-amz-date:%s\n\n%s\n%x",
		req.Method, req.URL.EscapedPath(), req.URL.RawQuery, req.URL.Host, digest, stamp, signed, digest))
	scope := fmt.Sprintf("%s/%s/s3/aws4_request", day, s.Region)
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	key := mac([]byte("AWS4"+s.SecretKey), day)
	for _, part := range []string{s.Region, "s3", "aws4_request"} {
		key = mac(key, part)
	}
	signature := mac(key, fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", stamp, scope, canonical))
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x",
		s.AccessKey, scope, signed, signature))
}

// FreeAddr returns a loopback address, host:port, on which nothing listens at the moment.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
