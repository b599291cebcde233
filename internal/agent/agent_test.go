package agent

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
)

const listening = "listen: 127.0.0.1:0"

// ring pings as a publisher does and returns the events up to the terminal one.
func (r *running) ring(body []byte, token string) ([]deployment.Event, error) {
	r.w.t.Helper()
	c, err := ping.NewClient(ping.ClientOptions{})
	r.w.must(err)
	ctx, cancel := context.WithTimeout(r.w.t.Context(), 30*time.Second)
	defer cancel()
	var events []deployment.Event
	err = c.Ping(ctx, "https://"+r.Addr(), r.Pin(), body, token, func(e deployment.Event) {
		if e.State != deployment.Heartbeat {
			events = append(events, e)
		}
	})
	return events, err
}

func last(events []deployment.Event) deployment.Event {
	if len(events) == 0 {
		return deployment.Event{}
	}
	return events[len(events)-1]
}

func TestPingDeploysAndTells(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp))
	events, err := r.ring(w.publish("web", hash("1"), "one"), "")
	if err != nil {
		t.Fatal(err)
	}
	if end := last(events); end.Outcome != deployment.Deployed || end.Server != "web-1" || end.Hash != hash("1") || end.Seq != 1 {
		t.Errorf("got %+v", end)
	}
	var steps []deployment.Step
	for _, e := range events {
		if !slices.Contains(steps, e.Step) {
			steps = append(steps, e.Step)
		}
	}
	if want := []deployment.Step{deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm, deployment.End}; !slices.Equal(steps, want) {
		t.Errorf("got steps %v, want %v", steps, want)
	}
	if got := w.live("web"); got != "one" {
		t.Errorf("got %q live", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := w.receipt("web"); got.Live.Hash != hash("1") || got.Deployment.Outcome != deployment.Deployed {
		t.Errorf("got receipt %+v", got)
	}
}

func TestAPingThatComesAgainTellsTheSameStory(t *testing.T) {
	w := newWorld(t)
	s := w.settings(listening, oneApp)
	r := w.start(s)
	body := w.publish("web", hash("1"), "one")
	first, err := r.ring(body, "")
	w.must(err)
	again, err := r.ring(body, "")
	w.must(err)
	if len(first) != len(again) || last(again).Outcome != deployment.Deployed {
		t.Errorf("got %d events, then %d", len(first), len(again))
	}
	w.must(r.stop())
	r = w.start(s)
	if again, err = r.ring(body, ""); err != nil || len(again) != len(first) || last(again).Outcome != deployment.Deployed {
		t.Errorf("after a restart: got %d events, %v, want %d", len(again), err, len(first))
	}
}

func TestPingMayComeBeforeThePointer(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings(listening, oneApp))
	r.ended("web", hash("1"))
	// The bucket still shows the first pointer; the second one comes by ping alone and is signed.
	events, err := r.ring(w.pointer("web", "production", hash("2"), "two", w.key), "")
	if err != nil || last(events).Outcome != deployment.Deployed || w.live("web") != "two" {
		t.Errorf("got %+v, %v, %q live", last(events), err, w.live("web"))
	}
}

func TestPingAnswers(t *testing.T) {
	w := newWorld(t)
	other, err := release.GenerateKey(nil)
	w.must(err)
	r := w.start(w.settings(listening, oneApp+"  api: {dir: $srv/api, app: api, environment: staging}\n"))
	w.publish("web", hash("1"), "one")
	newest := w.publish("web", hash("2"), "two")
	if _, err := r.ring(newest, ""); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		body []byte
		want error
	}{
		{"another key", w.pointer("web", "production", hash("x"), "x", other), ping.ErrRefused},
		{"unsigned", w.pointer("web", "production", hash("x"), "x"), ping.ErrRefused},
		{"plain", []byte(`{"hash":"abc"}`), ping.ErrRefused},
		{"rubbish", []byte("hello"), ping.ErrRefused},
	} {
		if events, err := r.ring(test.body, ""); !errors.Is(err, test.want) || len(events) > 0 {
			t.Errorf("%s: got %v and %d events, want %v", test.name, err, len(events), test.want)
		}
	}
}

func TestPingForOthers(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp))
	for _, id := range [][2]string{{"api", "production"}, {"web", "staging"}} {
		if _, err := r.ring(w.pointer(id[0], id[1], hash("x"), "x", w.key), ""); !errors.Is(err, ping.ErrUnknownApp) {
			t.Errorf("%v: got %v, want ErrUnknownApp", id, err)
		}
	}
}

func TestAnOldPointerBuysNoStream(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp))
	old := w.pointer("web", "production", hash("1"), "one", w.key)
	if _, err := r.ring(w.publish("web", hash("2"), "two"), ""); err != nil {
		t.Fatal(err)
	}
	if events, err := r.ring(old, ""); !errors.Is(err, ping.ErrNoStream) || len(events) > 0 {
		t.Errorf("got %v and %d events, want ErrNoStream", err, len(events))
	}
}

func TestPingWithAToken(t *testing.T) {
	w := newWorld(t)
	w.must(os.WriteFile(filepath.Join(w.dir, "token"), []byte("open sesame\n"), 0o600))
	body := w.pointer("web", "production", hash("1"), "one")
	w.put("web", body)
	r := w.start(w.settings("trust: none\nping_token_file: $dir/token\n"+listening, oneApp))
	r.ended("web", hash("1"))
	for _, token := range []string{"", "open sesam", "open sesame!"} {
		if _, err := r.ring(body, token); !errors.Is(err, ping.ErrRefused) {
			t.Errorf("token %q: got %v, want ErrRefused", token, err)
		}
	}
	if events, err := r.ring(body, "open sesame"); err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("got %v and %+v", err, last(events))
	}
}

func TestAPlainPingBackToAnEarlierReleaseTellsANewStory(t *testing.T) {
	w := newWorld(t)
	w.must(os.WriteFile(filepath.Join(w.dir, "token"), []byte("t"), 0o600))
	art := w.pack("web", hash("1"), "one")
	data, _, err := w.bucket.Get(t.Context(), art.Key, 1<<20)
	w.must(err)
	w.must(w.bucket.Put(t.Context(), "aaa.tar.zst", data, ""))
	w.must(w.bucket.Put(t.Context(), "bbb.tar.zst", data, ""))
	r := w.start(w.settings("trust: none\nping_token_file: $dir/token\n"+listening, oneApp+"    pointer: version.json\n    artifact: \"{hash}.tar.zst\"\n"))
	ids := map[string]bool{}
	for _, h := range []string{"aaa", "bbb", "aaa"} {
		body := []byte(`{"hash":"` + h + `","msg":"","date":""}`)
		w.must(w.bucket.Put(t.Context(), "version.json", body, ""))
		events, err := r.ring(body, "t")
		if err != nil || last(events).Hash != h || last(events).Outcome != deployment.Deployed {
			t.Fatalf("%s: got %v and %+v", h, err, last(events))
		}
		ids[last(events).Deployment] = true
	}
	if len(ids) != 3 {
		t.Errorf("got deployments %v, want three", ids)
	}
}

func TestAPingIsToldWhyNothingHappens(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening, oneApp+"  gone: {dir: $srv/no/such/place}\n"))
	events, err := r.ring(w.pointer("gone", "production", hash("1"), "one", w.key), "")
	if e := last(events); err != nil || e.Outcome != deployment.Failed || !strings.Contains(e.Reason, "not ready: app directory") {
		t.Errorf("not ready: got %v and %+v", err, e)
	}
	w.publish("web", hash("1"), "one")
	w.must(errIf(r.call("/v1/apps/web/hold", deployment.Command{Reason: "lunch"}, nil) != http.StatusOK))
	events, err = r.ring(w.publish("web", hash("2"), "two"), "")
	if e := last(events); err != nil || e.Outcome != deployment.Held || !strings.Contains(e.Reason, "lunch") {
		t.Errorf("held: got %v and %+v", err, e)
	}
}

func TestAnAppThatIsNotReadyLeavesWhatIsLiveInItsReceipt(t *testing.T) {
	w := newWorld(t)
	s := w.settings("", oneApp)
	w.publish("web", hash("1"), "one")
	r := w.start(s)
	r.settled("web", hash("1"))
	w.must(r.stop())
	before := w.receipt("web")
	if before.Live.Hash != hash("1") {
		t.Fatalf("got %+v", before)
	}
	incoming := filepath.Join(w.dir, "srv", "web", "incoming")
	w.must(os.RemoveAll(incoming))
	w.must(os.WriteFile(incoming, nil, 0o600))
	r = w.start(s)
	<-r.Agent.apps[0].opened
	w.must(r.stop())
	got := w.receipt("web")
	if !strings.HasPrefix(got.Status, "not ready: ") || got.Live != before.Live || got.Pointer != before.Pointer || got.Deployment == nil || got.Deployment.ID != before.Deployment.ID {
		t.Errorf("got %+v, want what was live before and why it is not ready", got)
	}
}

func errIf(bad bool) error {
	if bad {
		return errors.New("refused")
	}
	return nil
}

func TestOneBrokenAppDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	w.must(os.WriteFile(filepath.Join(w.dir, "file"), nil, 0o600))
	r := w.start(w.settings(listening, oneApp+"  bad: {dir: $dir/file}\n"))
	r.settled("web", hash("1"))
	var overview deployment.Overview
	r.call("/v1/apps", nil, &overview)
	if len(overview.Apps) != 2 {
		t.Fatalf("got %+v", overview)
	}
	bad, web := overview.Apps[0], overview.Apps[1]
	if !strings.HasPrefix(bad.Status, "not ready: ") || web.Status != "" || web.Live.Hash != hash("1") {
		t.Errorf("got %+v and %+v", bad, web)
	}
	var text string
	if code := r.call("/readyz", nil, &text); code != http.StatusServiceUnavailable || strings.Contains(text, "bad") || strings.Contains(text, "web") {
		t.Errorf("readyz: got %d %q", code, text)
	}
	// What is in the way goes away; a ping does not wait for the next try.
	w.must(os.Remove(filepath.Join(w.dir, "file")))
	events, err := r.ring(w.publish("bad", hash("2"), "two"), "")
	if err != nil {
		t.Fatal(err)
	}
	if last(events).Outcome == deployment.Failed { // asked before the second try was over
		events, err = r.ring(w.publish("bad", hash("3"), "three"), "")
	}
	if err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("got %v and %+v", err, last(events))
	}
}

// A unit that is not there and a pointer that cannot be believed are the trouble of their own apps: the agent runs on, says
// what is wrong, and goes on with the others.
func TestTroubleOfAUnitOrAPointerStaysWithItsApp(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	w.put("odd", []byte("<html>not a pointer</html>"))
	r := w.start(w.settings(listening, oneApp+
		"  ghost: {dir: $dir/ghost, unit: towline-test-ghost.service}\n  odd: {dir: $dir/odd, restart: [\"true\"]}\n"))
	r.settled("web", hash("1"))
	events, err := r.ring(w.publish("ghost", hash("2"), "two"), "")
	if err != nil {
		t.Fatal(err)
	}
	if end := last(events); end.Outcome != deployment.Failed || end.Reason == "" {
		t.Errorf("unit: got %+v, want failed and the reason", end)
	}
	events, err = r.ring(w.publish("web", hash("3"), "three"), "")
	if err != nil || last(events).Outcome != deployment.Deployed {
		t.Errorf("the app beside them: got %v and %+v, want deployed", err, last(events))
	}
	var overview deployment.Overview
	r.call("/v1/apps", nil, &overview)
	for _, app := range overview.Apps {
		if troubled := app.Status != ""; troubled != (app.App != "web") {
			t.Errorf("%s: got status %q", app.App, app.Status)
		}
	}
}

func TestTheCertificateIsKept(t *testing.T) {
	w := newWorld(t)
	s := w.settings(listening, oneApp)
	r := w.start(s)
	pin := r.Pin()
	w.must(r.stop())
	info, err := os.Stat(filepath.Join(w.dir, "state", "tls", "key.pem"))
	w.must(err)
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o of the key, want 600", got)
	}
	if r = w.start(s); r.Pin() != pin || len(pin) != 64 {
		t.Errorf("got pin %q after a restart, want %q", r.Pin(), pin)
	}
	w.must(r.stop())
	if !strings.Contains(r.log.String(), pin) {
		t.Error("the pin is not printed")
	}
	w.must(os.WriteFile(filepath.Join(w.dir, "state", "tls", "key.pem"), []byte("?"), 0o600))
	if _, err := New(s, r.Agent.log); err == nil {
		t.Error("a broken key was replaced; publishers would not know the new one")
	}
}
