package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHTTP(t *testing.T) {
	agents := make(chan string, 100)
	mux := http.NewServeMux()
	answer := func(path string, status int, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			agents <- r.UserAgent()
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
	answer("/ok", 200, "running e02371a since noon")
	answer("/created", 299, "")
	answer("/boom", 500, "boom\x1b[31m\r\n  at line 3\x00")
	answer("/long", 503, strings.Repeat("é", 300))
	answer("/late", 200, strings.Repeat("x", maxBody)+"e02371a")
	mux.Handle("/moved", http.RedirectHandler("/ok", http.StatusFound))
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half")
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "e0237")
		w.(http.Flusher).Flush()
		io.WriteString(w, "1a and more to come")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	closed := httptest.NewServer(nil)
	closed.Close()

	for _, tt := range []struct {
		url, expect string
		want, err   string // the detail, part of the error
	}{
		{url: "/ok", want: ": 200"},
		{url: "/created", want: ": 299"},
		{url: "/ok", expect: "e02371a", want: `: 200, answer contains "e02371a"`},
		{url: "/stream", expect: "e02371a", want: `: 200, answer contains "e02371a"`},
		{url: "/stream", want: ": 200"},
		{url: "/ok", expect: "ffffff", err: `: 200: answer does not contain "ffffff", but: running e02371a since noon`},
		{url: "/late", expect: "e02371a", err: "answer does not contain"},
		{url: "/moved", err: ": 302: redirect to /ok, which is not followed"},
		{url: "/boom", err: ": 500: boom [31m at line 3"},
		{url: "/boom", expect: "boom", err: ": 500: boom"},
		{url: "/long", err: ": 503: " + strings.Repeat("é", 200) + "…"},
		{url: "/cut", expect: "e02371a", err: "read answer: unexpected EOF"},
		{url: "/cut", want: ": 200"},
		{url: "/hang", err: ": no answer in time"},
		{url: "/none", err: ": 404: 404 page not found"},
	} {
		t.Run(tt.url+" "+tt.expect, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			got, err := HTTP{URL: srv.URL + tt.url, Expect: tt.expect}.Try(ctx)
			switch {
			case tt.err == "" && err != nil:
				t.Fatalf("got %v, want it to pass", err)
			case tt.err == "":
				if want := "GET " + srv.URL + tt.url + tt.want; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			case err == nil || !strings.Contains(err.Error(), tt.err):
				t.Errorf("got %v, want %q in it", err, tt.err)
			}
		})
	}
	if got, want := <-agents, "towline-health"; got != want {
		t.Errorf("got user agent %q, want %q", got, want)
	}

	t.Run("refused", func(t *testing.T) {
		_, err := HTTP{URL: closed.URL}.Try(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "GET "+closed.URL+": dial tcp ") || !strings.HasSuffix(err.Error(), "connection refused") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("password", func(t *testing.T) {
		_, err := HTTP{URL: strings.Replace(closed.URL, "//", "//app:s3cret@", 1)}.Try(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v, want an error without the password", err)
		}
	})
	t.Run("bad URL", func(t *testing.T) {
		if _, err := (HTTP{URL: "http://[::1"}).Try(t.Context()); err == nil {
			t.Error("got no error")
		}
	})
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got, err := TCP{l.Addr().String()}.Try(t.Context())
	if want := "connect to " + l.Addr().String() + ": accepted"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	l.Close()
	if _, err := (TCP{l.Addr().String()}).Try(t.Context()); fmt.Sprint(err) != "connect to "+l.Addr().String()+": connection refused" {
		t.Errorf("got %v, want connection refused", err)
	}
}

func TestExec(t *testing.T) {
	boom := errors.New("exit status 3")
	for _, tt := range []struct {
		out       string
		err       error
		want      string
		wantError string
	}{
		{"", nil, "probe: passed", ""},
		{"all\nfine", nil, "probe: all fine", ""},
		{"", boom, "", "probe: exit status 3"},
		{"no database\n", boom, "", "probe: exit status 3: no database"},
	} {
		got, err := Exec{func(ctx context.Context) (string, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the attempt has no time limit")
			}
			return tt.out, tt.err
		}}.Try(t.Context())
		if got != tt.want || fmt.Sprint(err) != tt.wantError && !(err == nil && tt.wantError == "") {
			t.Errorf("got %q, %v, want %q, %s", got, err, tt.want, tt.wantError)
		}
		if tt.err != nil && !errors.Is(err, boom) {
			t.Errorf("got %v, want it to wrap the program's error", err)
		}
	}
}

func TestExcerptIsSafe(t *testing.T) {
	got := excerpt(string(bytes.Repeat([]byte{0xff, 0x1b, '\n', 0x85}, 400)))
	if strings.ContainsAny(got, "\x1b\n") || len([]rune(got)) > shown+1 {
		t.Errorf("got %q", got)
	}
}
