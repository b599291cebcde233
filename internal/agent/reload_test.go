package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/appdir"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// agent is what the agent says of itself.
func (r *running) agent() deployment.Agent {
	r.w.t.Helper()
	var a deployment.Agent
	if code := r.call("/v1/agent", nil, &a); code != http.StatusOK {
		r.w.t.Fatalf("got %d", code)
	}
	return a
}

// until polls a condition.
func (r *running) until(what string, ok func() bool) {
	r.w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			r.w.t.Fatalf("%s: not within 30 s; log:\n%s", what, r.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// slow is an app's health endpoint that answers well once it is let.
type slow struct {
	*httptest.Server
	asked chan struct{} // closed when it was asked first
	let   chan struct{}
}

func newSlow(t *testing.T) *slow {
	s := &slow{asked: make(chan struct{}), let: make(chan struct{})}
	first := sync.OnceFunc(func() { close(s.asked) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		first()
		select {
		case <-s.let:
		default:
			http.Error(rw, "warming up", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestReloadLeavesUnchangedAppsAlone(t *testing.T) {
	w := newWorld(t)
	site := newSlow(t)
	web, quiet := oneApp+"    health: {http: \""+site.URL+"\"}\n", "  quiet: {dir: $srv/quiet}\n"
	w.publish("quiet", hash("q"), "q")
	r := w.start(w.settings(listening, web+quiet))
	r.settled("quiet", hash("q"))
	w.must(errIf(r.call("/v1/apps/quiet/hold", deployment.Command{Reason: "lunch"}, nil) != http.StatusOK))
	engine, source, err := r.apps[0].now()
	w.must(err)
	looks := source.Looks()

	// A stream is open while the file changes around it.
	body := w.publish("web", hash("1"), "one")
	told := make(chan deployment.Event, 1)
	go func() {
		events, err := r.ring(body, "")
		if err != nil {
			t.Error(err)
		}
		told <- last(events)
	}()
	<-site.asked
	for i := range 5 {
		w.publish("api", hash(fmt.Sprint(i)), fmt.Sprint(i))
		w.file(listening, web+quiet+fmt.Sprintf("  api: {dir: $srv/api, keep: %d}\n", 3+i))
		w.must(r.Reload())
		r.settled("api", hash(fmt.Sprint(i)))
	}
	close(site.let)
	if end := <-told; end.Outcome != deployment.Deployed || end.Hash != hash("1") {
		t.Errorf("the stream ended with %+v, want deployed", end)
	}
	again, source, err := r.apps[0].now()
	w.must(err)
	if got := source.Looks(); again != engine || got != looks {
		t.Errorf("got %d looks at the pointer of an app that has not changed, want the %d of before, by the same engine", got, looks)
	}
	var d deployment.Detail
	r.call("/v1/apps/quiet", nil, &d)
	if d.Receipt.Held == "" || d.Receipt.Live.Hash != hash("q") {
		t.Errorf("got %+v, want it on hold still", d.Receipt)
	}
	if got, want := r.agent().Apps, []string{"api", "quiet", "web"}; !slices.Equal(got, want) {
		t.Errorf("got apps %v, want %v", got, want)
	}
}

func TestReloadOfABadFileChangesNothing(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp))
	before := r.agent()
	if before.Config.Refused != "" || before.Config.SHA256 == "" || before.Config.Loaded == "" || before.Version != release.Version {
		t.Fatalf("got %+v", before)
	}
	w.file(listening+"\npol: 3s", oneApp+"    keep: 0\n")
	if err := r.Reload(); err == nil {
		t.Fatal("a bad file was taken up")
	}
	got := r.agent().Config
	if len(got.Problems) != 2 || got.Error != "2 problems" || got.Refused == "" || got.SHA256 != before.Config.SHA256 || got.Loaded != before.Config.Loaded {
		t.Errorf("got %+v, want two problems and the file of before", got)
	}
	for i, want := range []string{`"pol"`, "keep"} {
		if p := got.Problems[i]; !strings.Contains(p.Message, want) || !strings.Contains(r.log.String(), fmt.Sprintf("line=%d", p.Line)) || p.Line == 0 {
			t.Errorf("got %+v, want one of %s with its line, which the log has too", p, want)
		}
	}
	// A file that is right of itself, and cannot be used here.
	w.file(listening+"\ncredentials: {access_key_id_file: $dir/none, secret_access_key_file: $dir/none}", oneApp)
	if err := r.Reload(); err == nil || !strings.Contains(r.agent().Config.Error, "credentials: ") {
		t.Errorf("got %v and %+v, want what is wrong with the credentials", err, r.agent().Config)
	}
	w.must(os.Remove(filepath.Join(w.dir, "agent.yaml")))
	if err := r.Reload(); err == nil {
		t.Error("a missing file was taken up")
	}
	if events, err := r.ring(w.publish("web", hash("1"), "one"), ""); err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("meanwhile: got %v and %+v, want deployed", err, last(events))
	}
	w.file(listening+"\nmetrics: true", oneApp)
	w.must(r.Reload())
	if got := r.agent().Config; got.Refused != "" || got.Error != "" || got.Problems != nil || got.SHA256 == before.Config.SHA256 {
		t.Errorf("once it is right: got %+v", got)
	}
}

// An app that goes out of the file during its deployment, or changes, brings that to its end first.
func TestReloadDuringADeployment(t *testing.T) {
	for _, test := range []struct{ name, after string }{
		{"removed", "  other: {dir: $srv/other}\n"},
		{"changed", "  web: {dir: $srv/web, keep: 9}\n"},
		{"changed twice", ""},
		{"removed and back", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			site := newSlow(t)
			w.publish("web", hash("1"), "one")
			old := oneApp + "    health: {http: \"" + site.URL + "\"}\n"
			r := w.start(w.settings("", old))
			<-site.asked
			reload := func(apps string) {
				t.Helper()
				w.file("", apps)
				w.must(r.Reload())
			}
			removed := false
			switch test.name {
			case "changed twice":
				reload("  web: {dir: $srv/web, keep: 5}\n")
				reload("  web: {dir: $srv/web, keep: 9}\n")
			case "removed and back":
				reload("  other: {dir: $srv/other}\n")
				reload("  web: {dir: $srv/web, keep: 9}\n")
			default:
				reload(test.after)
				removed = test.name == "removed"
			}
			state := r.agent()
			if removed != slices.Equal(state.Leaving, []string{"web"}) {
				t.Errorf("got %+v, want it to leave: %v", state, removed)
			}
			if !removed { // who asks for it is shown what runs
				var d deployment.Detail
				r.call("/v1/apps/web", nil, &d)
				if d.Receipt.Deployment == nil || d.Receipt.Deployment.Outcome != "" || d.Receipt.Deployment.Hash != hash("1") {
					t.Errorf("got %+v, want the deployment under way", d.Receipt)
				}
			}
			close(site.let)
			if end := r.ended("web", hash("1")); end.Outcome != deployment.Deployed {
				t.Errorf("got %+v, want deployed", end)
			}
			if removed {
				r.until("it leaves", func() bool { return len(r.agent().Leaving) == 0 })
				if code := r.call("/v1/apps/web", nil, nil); code != http.StatusNotFound {
					t.Errorf("got %d for an app that is gone, want 404", code)
				}
				if got := w.receipt("web"); got.Live.Hash != hash("1") || got.Deployment.Outcome != deployment.Deployed {
					t.Errorf("got %+v as its last word", got)
				}
				dir, err := appdir.Open(appdir.Options{Path: filepath.Join(w.dir, "srv", "web")})
				if err != nil {
					t.Fatalf("its directory is not given back: %v", err)
				}
				w.must(dir.Close())
				return
			}
			r.until("the new settings count", func() bool {
				engine, _, err := r.life.now.Load().apps[0].now()
				return err == nil && engine.Keep == 9
			})
			w.publish("web", hash("2"), "two")
			if code := r.call("/v1/apps/web/deploy", deployment.Command{}, nil); code != http.StatusOK || w.live("web") != "two" {
				t.Errorf("got %d, %q live", code, w.live("web"))
			}
			outcomes := 0
			r.mu.Lock()
			for _, e := range r.events {
				if e.Hash == hash("1") && e.Terminal() {
					outcomes++
				}
			}
			r.mu.Unlock()
			if outcomes != 1 {
				t.Errorf("got %d outcomes of one deployment, want 1", outcomes)
			}
		})
	}
}

func TestReloadTakesUpAnotherTrustBucketAndPoll(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp))
	old := w.key
	other, err := release.GenerateKey(nil)
	w.must(err)
	if _, err := r.ring(w.pointer("web", "production", hash("x"), "x", other), ""); err == nil {
		t.Fatal("a key that nobody trusts rings")
	}
	w.seq, w.prev = map[string]uint64{}, map[string]string{}
	w.key = other
	w.file(listening, oneApp)
	w.must(r.Reload())
	events, err := r.ring(w.publish("web", hash("1"), "one"), "")
	if err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("the new key: got %v and %+v", err, last(events))
	}
	seq, prev := w.seq["web/production"], w.prev["web/production"]
	if _, err := r.ring(w.pointer("web", "production", hash("y"), "y", old), ""); err == nil {
		t.Error("the key of before still rings")
	}
	w.seq["web/production"], w.prev["web/production"] = seq, prev

	// Another bucket, where the next release lies.
	w.must(os.Mkdir(filepath.Join(w.dir, "second"), 0o755))
	w.bucket, err = bucket.Open(t.Context(), bucket.Options{URL: "file://" + filepath.Join(w.dir, "second")})
	w.must(err)
	w.publish("web", hash("2"), "two")
	text, err := os.ReadFile(w.file(listening, oneApp))
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.dir, "agent.yaml"), []byte(strings.NewReplacer("/bucket\n", "/second\n", "poll: 1h", "poll: 2h").Replace(string(text))), 0o600))
	w.must(r.Reload())
	if end := r.ended("web", hash("2")); end.Outcome != deployment.Deployed {
		t.Errorf("the new bucket: got %+v", end)
	}
	if engine, _, err := r.life.now.Load().apps[0].now(); err != nil || engine.Poll != 2*time.Hour {
		t.Errorf("got %v, want that it polls every two hours", err)
	}
	r.until("the receipt lies in the new bucket", func() bool {
		_, _, err := w.bucket.Get(context.Background(), release.ReceiptKey("web", "production", "web-1"), 1<<20)
		return err == nil
	})
}

func TestReloadSaysWhatNeedsARestart(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp))
	path := w.file("listen: 127.0.0.1:1\ntls: off\nmetrics: true", oneApp)
	text, err := os.ReadFile(path)
	w.must(err)
	changed := strings.NewReplacer("/agent.sock", "/other.sock", "/state\n", "/other\n").Replace(string(text))
	w.must(os.WriteFile(path, []byte(changed), 0o600))
	w.must(r.Reload())
	got := r.agent()
	want := []string{"listen", "tls", "state", "socket"}
	if len(got.Config.Pending) != len(want) {
		t.Fatalf("got %q", got.Config.Pending)
	}
	for i, key := range want {
		line := got.Config.Pending[i]
		if line != key+": changed; takes effect after systemctl restart towline-agent" || !strings.Contains(r.log.String(), line) {
			t.Errorf("got %q, want that %s waits, in the log too", line, key)
		}
	}
	if was, now := r.settings, r.life.now.Load().settings; now.Listen != was.Listen || now.TLS != was.TLS || now.State != was.State || now.Socket != was.Socket {
		t.Errorf("got %+v, want what the agent was started with", now)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + r.Addr() + "/metrics")
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("metrics: true got %d, want 200: it needs no restart", resp.StatusCode)
	}
	if events, err := r.ring(w.publish("web", hash("1"), "one"), ""); err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("got %v and %+v, want deployed as before", err, last(events))
	}
	w.file(listening, oneApp)
	w.must(r.Reload())
	if got := r.agent().Config.Pending; got != nil {
		t.Errorf("taken back: got %q, want nothing to wait", got)
	}
	// Another certificate is shown at once.
	pin := r.Pin()
	other := newWorld(t)
	o := other.start(other.settings(listening, oneApp))
	w.file(listening+"\ntls: {cert: "+filepath.Join(other.dir, "state/tls/cert.pem")+", key: "+filepath.Join(other.dir, "state/tls/key.pem")+"}", oneApp)
	w.must(r.Reload())
	if r.Pin() == pin || r.Pin() != o.Pin() {
		t.Errorf("got pin %s, want that of the other certificate, %s", r.Pin(), o.Pin())
	}
	if _, err := r.ring(w.publish("web", hash("2"), "two"), ""); err != nil {
		t.Error(err)
	}
}

func TestReloadOfNotify(t *testing.T) {
	w := newWorld(t)
	site := newSick(t)
	told := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.URL.Path }))
	t.Cleanup(hook.Close)
	app := oneApp + "    health: {http: \"" + site.URL + "\", within: 1s}\n"
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings(listening, app))
	r.settled("web", hash("1"))
	site.ill.Store(true)
	if events, err := r.ring(w.publish("web", hash("2"), "two"), ""); err != nil || last(events).Outcome == deployment.Deployed {
		t.Fatalf("got %v and %+v", err, last(events))
	}
	w.file(listening+"\nnotify: [{webhook: \""+hook.URL+"/new\"}]", app)
	w.must(r.Reload())
	site.ill.Store(false)
	// What came before the reload is remembered: this is a recovery.
	if events, err := r.ring(w.publish("web", hash("3"), "three"), ""); err != nil || last(events).Outcome != deployment.Deployed {
		t.Fatalf("got %v and %+v", err, last(events))
	}
	select {
	case path := <-told:
		if path != "/new" || len(told) > 0 {
			t.Errorf("got %q and %d more, want one message", path, len(told))
		}
	case <-time.After(10 * time.Second):
		t.Error("the new webhook was told of no recovery")
	}
}
