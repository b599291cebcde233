package agent

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

// from is a client on the port that comes from 127.0.0.peer, takes any certificate and follows no redirect.
func (r *running) from(peer int) *http.Client {
	transport := &http.Transport{
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(peer))}}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Whoever can sign nothing learns from the port that an agent is there, and whether all is ready: no name of an app, of
// the server, of an environment or a unit, no version, and no difference between a good guess and a bad one.
func TestPortTellsNothing(t *testing.T) {
	w := newWorld(t)
	w.must(os.WriteFile(filepath.Join(w.dir, "token"), []byte("open sesame\n"), 0o600))
	s := w.settings(listening+"\nping_token_file: $dir/token",
		"  kitchen: {dir: $srv/kitchen, app: larder, environment: pantry, unit: stove.service}\n"+
			"  attic: {dir: $srv/attic, app: attic, trust: none}\n")
	s.Server = "lighthouse"
	r := w.start(s)
	stranger, err := release.GenerateKey(nil)
	w.must(err)
	secrets := []string{
		"kitchen", "larder", "pantry", "stove", "attic", "lighthouse", "production", release.Version, w.dir, w.key.Public().String(), "sesame", "go1.",
	}
	if name, err := os.Hostname(); err == nil && len(name) > 2 {
		secrets = append(secrets, name)
	}
	signed := func(app, environment string, keys ...release.PrivateKey) []byte {
		return w.pointer(app, environment, hash("x"), "x", keys...)
	}
	tampered := bytes.Replace(signed("larder", "pantry", w.key), []byte(hash("x")), []byte(hash("y")), 1)
	bodies := map[string][]byte{
		"none": nil, "rubbish": []byte("hello"), "plain": []byte(`{"hash":"abc","msg":"","date":""}`),
		"unsigned, an app that is here": signed("larder", "pantry"), "unsigned, an app that is not": signed("cellar", "pantry"),
		"unsigned, an app without trust": signed("attic", "production"),
		"forged, an app that is here":    signed("larder", "pantry", stranger), "forged, an app that is not": signed("cellar", "pantry", stranger),
		"forged, another environment": signed("larder", "shed", stranger), "forged, an app without trust": signed("attic", "production", stranger),
		"forged, threefold": signed("larder", "pantry", stranger, stranger, stranger), "signed and changed": tampered,
	}
	paths := []string{
		"/v1/ping", "/healthz", "/readyz", "/metrics", "/", "/events", "/v1/apps", "/v1/apps/larder", "/v1/apps/cellar", "/v1/apps/kitchen", "/v1/apps/kitchen/deploy",
		"/v1/apps/kitchen/recover", "/v1/apps/kitchen/verify", "/v1/apps/cellar/deploy", "/v1", "/v1/", "/v1/ping/", "/v1//ping", "/debug/pprof/", "/debug/vars", "/favicon.ico", "/robots.txt",
		"/.well-known/acme-challenge/x",
	}
	answers := map[string]map[string]string{} // what was answered, and to what, by path and method
	peer := 2
	ask := func(method, path, name, token string, body []byte) {
		t.Helper()
		peer++ // every question from an address of its own
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+r.Addr()+path, bytes.NewReader(body))
		w.must(err)
		req.Header.Set("Accept", "application/x-ndjson")
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		var resp *http.Response
		for { // ten pings a second are taken in all
			resp, err = r.from(2 + peer%250).Do(req)
			w.must(err)
			if resp.StatusCode != http.StatusTooManyRequests {
				break
			}
			resp.Body.Close()
			req.Body = io.NopCloser(bytes.NewReader(body))
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		w.must(err)
		if resp.StatusCode/100 == 2 && path != "/healthz" && path != "/readyz" {
			t.Errorf("%s %s, %s: got %s", method, path, name, resp.Status)
		}
		if path == "/v1/ping" && method == "POST" && (resp.StatusCode != http.StatusUnauthorized || len(text) > 0) {
			t.Errorf("%s: got %s %q, want 401 without a word", name, resp.Status, text)
		}
		for field := range resp.Header {
			switch field {
			case "Date", "Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options", "Allow", "Location", "Connection":
			default:
				t.Errorf("%s %s: got header %s", method, path, field)
			}
		}
		date := resp.Header.Get("Date")
		resp.Header.Del("Date")
		whole := fmt.Sprintf("%s %s %v %s", resp.Status, resp.Proto, resp.Header, text)
		for _, secret := range secrets {
			if strings.Contains(strings.ReplaceAll(whole+date, path, ""), secret) {
				t.Errorf("%s %s, %s: %q is in %s", method, path, name, secret, whole)
			}
		}
		at := method + " " + path
		if answers[at] == nil {
			answers[at] = map[string]string{}
		}
		answers[at][whole] = name
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
			ask(method, path, "none", "", nil)
		}
		ask("POST", path, "unsigned", "", bodies["unsigned, an app that is here"])
		ask("POST", path, "forged", "", bodies["forged, an app that is here"])
	}
	for name, body := range bodies {
		for _, token := range []string{"", "Bearer x", "Basic b3BlbiBzZXNhbWU=", "open sesame"} {
			ask("POST", "/v1/ping", name, token, body)
		}
	}
	if got := answers["POST /v1/ping"]; len(got) != 1 {
		t.Errorf("got different answers to pings that are refused: %q", got)
	}
	for at, got := range answers {
		if len(got) != 1 {
			t.Errorf("%s: got different answers: %q", at, got)
		}
	}
	if here, not := answers["GET /v1/apps/kitchen"], answers["GET /v1/apps/cellar"]; fmt.Sprint(here) != fmt.Sprint(not) {
		t.Errorf("got %q for an app that is here, %q for one that is not", here, not)
	}
	if here, not := answers["POST /v1/apps/kitchen/deploy"], answers["POST /v1/apps/cellar/deploy"]; fmt.Sprint(keys(here)) != fmt.Sprint(keys(not)) {
		t.Errorf("got %q for a command to an app that is here, %q to one that is not", here, not)
	}

	// The handshake, and what the server says to those who do not keep to HTTP.
	conn, err := tls.Dial("tcp", r.Addr(), &tls.Config{InsecureSkipVerify: true, ServerName: "larder"})
	w.must(err)
	shown := conn.ConnectionState().PeerCertificates
	conn.Close()
	if len(shown) != 1 || !slices.Equal(shown[0].DNSNames, []string{"towline-agent"}) || len(shown[0].IPAddresses)+len(shown[0].EmailAddresses)+len(shown[0].URIs) > 0 {
		t.Errorf("got a certificate for %v", shown[0].DNSNames)
	}
	said := string(shown[0].Raw)
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "hello\r\n\r\n", "GET /v1/apps HTTP/9.9\r\nHost: larder\r\n\r\n"} {
		plain := r.dial(2) // without TLS
		_, err := io.WriteString(plain, text)
		w.must(err)
		answer, _ := io.ReadAll(plain)
		said += string(answer)
		conn, err := tls.Dial("tcp", r.Addr(), &tls.Config{InsecureSkipVerify: true})
		w.must(err)
		_, err = io.WriteString(conn, text)
		w.must(err)
		w.must(conn.CloseWrite())
		answer, _ = io.ReadAll(conn)
		conn.Close()
		said += string(answer)
	}
	for _, secret := range secrets {
		if strings.Contains(said, secret) {
			t.Errorf("%q is in what the connection itself shows", secret)
		}
	}
}

func keys(m map[string]string) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// Somebody has kept what was once published. It makes the agent look, once, and tells nothing of what happens there.
func TestReplayedPingGetsNoStream(t *testing.T) {
	w := newWorld(t)
	s := w.settings(listening, oneApp)
	r := w.start(s)
	var old [][]byte
	for i := range 3 {
		old = append(old, w.publish("web", hash(fmt.Sprint(i)), fmt.Sprint(i)))
		if events, err := r.ring(old[i], ""); err != nil || last(events).Outcome != deployment.Deployed {
			t.Fatalf("got %+v, %v", last(events), err)
		}
	}
	current, old := old[2], old[:2]
	peer := 10
	silent := func(when string) {
		t.Helper()
		for i, body := range old {
			peer++
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+r.Addr()+"/v1/ping", bytes.NewReader(body))
			w.must(err)
			req.Header.Set("Accept", "application/x-ndjson")
			resp, err := r.from(peer).Do(req)
			w.must(err)
			text, err := io.ReadAll(resp.Body)
			w.must(err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted || len(text) > 0 || resp.Header.Get("Content-Type") != "" {
				t.Errorf("%s, pointer %d: got %s %q of %q, want 202 and silence", when, i+1, resp.Status, text, resp.Header.Get("Content-Type"))
			}
			if events, err := r.ring(body, ""); !errors.Is(err, ping.ErrNoStream) || len(events) > 0 {
				t.Errorf("%s, pointer %d: got %v and %d events, want ErrNoStream", when, i+1, err, len(events))
			}
		}
	}
	silent("at rest")
	if got := w.live("web"); got != "2" {
		t.Errorf("got %q live after replays, want 2", got)
	}
	if events, err := r.ring(current, ""); err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("the pointer that is followed: got %+v, %v, want its story", last(events), err)
	}

	// The same while the app cannot be opened, when there is no engine to ask: the state knows.
	w.must(r.stop())
	incoming := filepath.Join(w.dir, "srv", "web", "incoming")
	w.must(os.RemoveAll(incoming))
	w.must(os.WriteFile(incoming, nil, 0o600))
	r = w.start(s)
	silent("as it starts")
	<-r.apps[0].opened
	silent("not ready")
	if events, err := r.ring(current, ""); err != nil || !strings.Contains(last(events).Reason, "not ready: ") {
		t.Errorf("the pointer that is followed, not ready: got %+v, %v, want why", last(events), err)
	}
	w.must(r.stop())
	state, err := filepath.Glob(filepath.Join(w.dir, "state", "apps", "web", "state.json"))
	w.must(err)
	if len(state) != 1 {
		t.Fatalf("got %v, want the state", state)
	}
	w.must(os.WriteFile(state[0], []byte("{}"), 0o600))
	r = w.start(s)
	<-r.apps[0].opened
	silent("with its memory gone")
}

func TestBell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		trust, err := release.NewTrust([]release.PublicKey{w.key.Public()}, 1)
		w.must(err)
		var v []release.Verified
		for i := range 5 {
			one, err := trust.Pointer(w.pointer("web", "production", hash(fmt.Sprint(i)), "x", w.key), release.Want{App: "web", Environment: "production", Prefix: "web"})
			w.must(err)
			v = append(v, one)
		}
		rings := make(chan uint64, 100)
		b := &bell{ring: func(v release.Verified) { rings <- v.Pointer().Seq }}
		rung := func() (seqs []uint64) {
			synctest.Wait()
			for len(rings) > 0 {
				seqs = append(seqs, <-rings)
			}
			return seqs
		}
		expect := func(what string, want ...uint64) {
			t.Helper()
			if got := rung(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
		}
		b.pull(v[0], 1)
		expect("the first", 1)
		for range 1000 {
			b.pull(v[0], 1)
			b.pull(release.Verified{}, 1)
		}
		expect("again within the second")
		b.pull(v[1], 1)
		expect("a new seq", 2)
		time.Sleep(999 * time.Millisecond)
		expect("before the second is over")
		time.Sleep(time.Millisecond)
		expect("those who waited", 1)
		b.pull(v[2], 3)
		b.pull(v[1], 3)
		time.Sleep(time.Second)
		expect("a seq that is followed already, and an older one", 3)
		time.Sleep(time.Hour)
		expect("nobody")
		looks := 0
		for range 600 { // a minute of replays
			b.pull(v[0], 3)
			time.Sleep(100 * time.Millisecond)
			looks += len(rung())
		}
		if looks < 59 || looks > 61 {
			t.Errorf("got %d looks in a minute of replays, want one a second", looks)
		}
		b.pull(v[4], 3)
		expect("a new seq among replays", 5)
	})
}
