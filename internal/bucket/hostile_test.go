package bucket

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"
)

// calls are everything that a bucket can be asked for.
func calls(ctx context.Context, b Bucket) map[string]error {
	out := map[string]error{}
	_, _, out["get"] = b.Get(ctx, "k", 10)
	_, _, out["get if changed"] = b.GetIfChanged(ctx, "k", `"1"`, 10)
	_, out["stat"] = b.Stat(ctx, "k")
	_, _, out["open"] = b.Open(ctx, "k", 1, 5, `"1"`)
	out["create"] = b.Create(ctx, "k", []byte("x"), "")
	_, out["replace"] = b.Replace(ctx, "k", []byte("x"), `"1"`)
	out["put"] = b.Put(ctx, "k", []byte("x"), "")
	out["upload"] = b.Upload(ctx, "k", strings.NewReader("x"), 1, "", nil)
	out["multipart upload"] = b.Upload(ctx, "k", bytes.NewReader(make([]byte, singleMax+1)), singleMax+1, "", nil)
	_, out["list"] = b.List(ctx, "k")
	_, out["versions"] = b.Versions(ctx, "k")
	_, out["get version"] = b.GetVersion(ctx, "k", "1", 10)
	out["check"] = b.Check(ctx)
	return out
}

// recorder is a server that keeps the first lines, headers and bodies that it was sent.
type recorder struct {
	mu     sync.Mutex
	seen   []byte
	answer http.HandlerFunc
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	text, _ := httputil.DumpRequest(req, true)
	r.mu.Lock()
	r.seen = append(r.seen, text...)
	r.mu.Unlock()
	r.answer(w, req)
}

func (r *recorder) requests() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.seen)
}

// Whoever answers in the store's place, by a hijacked name or on the way, is sent nothing that helps him, and cannot send us
// to another. What it answers is not believed: that is for signatures.
func TestCompromisedEndpoint(t *testing.T) {
	isolate(t)
	quiet := func(handler http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(handler)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		return s
	}

	t.Run("redirects", func(t *testing.T) {
		other := &recorder{answer: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }}
		elsewhere := httptest.NewServer(other)
		defer elsewhere.Close()
		for _, code := range []int{301, 302, 303, 307, 308} {
			for what, answer := range map[string]http.HandlerFunc{
				"plain": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL+r.URL.Path, code) },
				"as S3 does to another endpoint": func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Location", elsewhere.URL+r.URL.Path)
					w.WriteHeader(code)
					fmt.Fprintf(w, "<Error><Code>TemporaryRedirect</Code><Endpoint>%s</Endpoint><Bucket>app-bucket</Bucket></Error>", elsewhere.URL)
				},
				"as S3 does to another region": func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Amz-Bucket-Region", "eu-west-3")
					w.Header().Set("Location", elsewhere.URL+r.URL.Path)
					w.WriteHeader(code)
					fmt.Fprintf(w, "<Error><Code>PermanentRedirect</Code><Endpoint>%s</Endpoint></Error>", elsewhere.URL)
				},
			} {
				s, _ := serve(t, answer)
				for call, err := range calls(t.Context(), s) {
					if !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrNoBucket) {
						t.Errorf("%d %s: %s: got error %v, want ErrUnreachable or ErrNoBucket", code, what, call, err)
					}
				}
			}
		}
		if got := other.requests(); got != "" {
			t.Errorf("the other host was sent %s", got)
		}
	})

	t.Run("the key is never sent, and every body is signed", func(t *testing.T) {
		const secret = "a-secret-key-that-is-never-sent"
		mine := &recorder{answer: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "InvalidRequest", "why") }}
		server := httptest.NewServer(mine)
		defer server.Close()
		b, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: secret})
		if err != nil {
			t.Fatal(err)
		}
		calls(t.Context(), b)
		got := mine.requests()
		if n := strings.Count(got, "Authorization: AWS4-HMAC-SHA256 Credential=id/"); n < 13 || n != strings.Count(got, "X-Amz-Content-Sha256: ") {
			t.Errorf("got %d signed requests, want at least 13 and all:\n%s", n, got)
		}
		if strings.Contains(got, secret) || strings.Contains(got, "UNSIGNED-PAYLOAD") {
			t.Errorf("the secret key, or a body that is not signed, was sent:\n%s", got)
		}
	})

	t.Run("plain http", func(t *testing.T) {
		for endpoint, want := range map[string]bool{"http://s3.example.com": true, "http://10.0.0.5:9000": true, "https://s3.example.com": false,
			"http://127.0.0.1:9000": false, "http://[::1]:9000": false, "http://localhost:9000": false, "http://localhost.example.com": true, "": false} {
			var text bytes.Buffer
			_, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: endpoint, Region: "x", AccessKeyID: "id", SecretAccessKey: "secret",
				Log: slog.New(slog.NewTextHandler(&text, nil))})
			if got := strings.Contains(text.String(), "level=WARN msg=\"plain http to the bucket"); err != nil || got != want {
				t.Errorf("%q: got warned %v, %v, want %v", endpoint, got, err, want)
			}
		}
	})

	t.Run("the OIDC token goes over TLS only", func(t *testing.T) {
		role := func(sts string) error {
			t.Setenv("AWS_ENDPOINT_URL_STS", sts)
			b, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: "http://127.0.0.1:1", RoleARN: "arn:aws:iam::1:role/r",
				IDToken: func(context.Context, string) (string, error) { return "the-token", nil }})
			if err != nil {
				t.Fatal(err)
			}
			return b.Check(t.Context())
		}
		wantFault(t, role("http://sts.example.invalid"), fs.ErrPermission, "an OIDC token is not sent over plain http, as to sts.example.invalid")
		other := &recorder{answer: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }}
		elsewhere := httptest.NewServer(other)
		defer elsewhere.Close()
		sts := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
		defer sts.Close()
		if err := role(sts.URL); err == nil || other.requests() != "" {
			t.Errorf("STS that redirects: got error %v, and the other host was sent %q", err, other.requests())
		}
	})

	t.Run("TLS", func(t *testing.T) {
		other := certificate(t, time.Now().Add(time.Hour), "another.example.com")
		expired := certificate(t, time.Now().Add(-time.Hour), "127.0.0.1")
		good := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
		for name, c := range map[string]struct {
			shows, trusts *tls.Certificate
			max           uint16
			want          string
		}{
			"good":                          {shows: good, trusts: good},
			"good, TLS 1.2":                 {shows: good, trusts: good, max: tls.VersionTLS12},
			"an old version":                {shows: good, trusts: good, max: tls.VersionTLS11, want: "protocol version"},
			"an old version, without roots": {shows: good, max: tls.VersionTLS11, want: "protocol version"},
			"unknown authority":             {shows: good, want: "certificate signed by unknown authority"},
			"roots do not make all good":    {shows: good, trusts: other, want: "certificate signed by unknown authority"},
			"another's name":                {shows: other, trusts: other, want: "cannot validate certificate for 127.0.0.1"},
			"expired":                       {shows: expired, trusts: expired, want: "expired"},
		} {
			mine := &recorder{answer: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }}
			server := quiet(mine)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{*c.shows}, MinVersion: tls.VersionTLS10, MaxVersion: c.max}
			server.StartTLS()
			o := Options{URL: "app-bucket", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: "secret", stall: 200 * time.Millisecond}
			if c.trusts != nil {
				o.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.trusts.Certificate[0]})
			}
			b, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = b.Get(t.Context(), "k", 10)
			if c.want == "" && err != nil {
				t.Errorf("%s: got error %v, want none", name, err)
			}
			if c.want != "" && (!errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) || mine.requests() != "") {
				t.Errorf("%s: got error %v, want %q; it was sent %q", name, err, c.want, mine.requests())
			}
			server.Close()
		}
	})
}

// certificate is self-signed, for one name or address.
func certificate(t *testing.T, until time.Time, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until}
	if name == "127.0.0.1" {
		template.IPAddresses = append(template.IPAddresses, []byte{127, 0, 0, 1})
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
