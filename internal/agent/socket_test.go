package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
)

func TestCommands(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings(listening, oneApp))
	r.settled("web", hash("1"))
	w.must(second(r.ring(w.publish("web", hash("2"), "two"), "")))

	var result deployment.Result
	if code := r.call("/v1/apps/web/rollback", deployment.Command{Reason: "it is slow"}, &result); code != http.StatusOK || result.Outcome != deployment.Deployed {
		t.Fatalf("rollback: got %d %+v", code, result)
	}
	if got := w.live("web"); got != "one" {
		t.Errorf("got %q live, want one", got)
	}
	var d deployment.Detail
	r.call("/v1/apps/web", nil, &d)
	if d.Key != "web" || len(d.Releases) != 2 || len(d.Deployments) != 3 || d.Receipt.Live.Hash != hash("1") || d.Receipt.Held == "" {
		t.Errorf("got %+v", d)
	}
	if code := r.call("/v1/apps/web/resume", deployment.Command{}, &result); code != http.StatusOK {
		t.Errorf("resume: got %d %+v", code, result)
	}
	if code := r.call("/v1/apps/web/deploy", deployment.Command{Version: hash("2")[:9]}, &result); code != http.StatusOK || result.Outcome != deployment.Deployed || w.live("web") != "two" {
		t.Errorf("deploy: got %d %+v, %q live", code, result, w.live("web"))
	}
	if code := r.call("/v1/apps/web/hold", deployment.Command{Reason: "lunch"}, &result); code != http.StatusOK {
		t.Errorf("hold: got %d %+v", code, result)
	}
	if code := r.call("/v1/apps/web/prune", deployment.Command{}, &result); code != http.StatusOK {
		t.Errorf("prune: got %d %+v", code, result)
	}
}

func second(_ []deployment.Event, err error) error { return err }

func TestCommandProblems(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings("", oneApp+"  bad: {dir: $srv/no/such/place, app: worse}\n"))
	r.settled("web", hash("1"))
	for _, test := range []struct {
		path string
		body any
		want int
		code int
		say  string
	}{
		{"/v1/apps/none", nil, 404, deployment.ExitUnknown, "bad, web"},
		{"/v1/apps/none/deploy", struct{}{}, 404, deployment.ExitUnknown, "bad, web"},
		{"/v1/apps/web/explode", struct{}{}, 404, deployment.ExitUsage, "no such command"},
		{"/v1/apps/web/deploy", deployment.Command{Version: "feedface"}, 404, deployment.ExitUnknown, "feedface"},
		{"/v1/apps/web/rollback", deployment.Command{}, 404, deployment.ExitUnknown, "no release before"},
		{"/v1/apps/worse/rollback", deployment.Command{}, 500, deployment.ExitUnknown, "not ready"},
		{"/v1/apps/web/deploy", map[string]any{"vresion": "x"}, 400, deployment.ExitUsage, "vresion"},
	} {
		var p deployment.Problem
		if code := r.call(test.path, test.body, &p); p.Message == "" || !strings.Contains(p.Message, test.say) || code/100 == 2 {
			t.Errorf("%s: got %d %+v, want %q", test.path, code, p, test.say)
		} else if !strings.Contains(test.path, "worse") && (code != test.want || p.Code != test.code) {
			t.Errorf("%s: got %d and exit code %d, want %d and %d", test.path, code, p.Code, test.want, test.code)
		}
	}
}

// stream posts a command and reads its events.
func (r *running) stream(path string, c deployment.Command) (events []deployment.Event, contentType string) {
	r.w.t.Helper()
	data, err := json.Marshal(c)
	r.w.must(err)
	req, err := http.NewRequestWithContext(r.w.t.Context(), http.MethodPost, "http://agent"+path, strings.NewReader(string(data)))
	r.w.must(err)
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := r.client.Do(req)
	r.w.must(err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var e deployment.Event
		r.w.must(json.Unmarshal(lines.Bytes(), &e))
		events = append(events, e)
	}
	r.w.must(lines.Err())
	return events, resp.Header.Get("Content-Type")
}

func TestCommandStreams(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings("", oneApp))
	r.settled("web", hash("1"))
	w.publish("web", hash("2"), "two")
	events, kind := r.stream("/v1/apps/web/deploy", deployment.Command{})
	if end := last(events); kind != ndjson || len(events) < 5 || end.Outcome != deployment.Deployed || end.Hash != hash("2") {
		t.Errorf("got %d events of %s, the last %+v", len(events), kind, end)
	}
	terminal := 0
	for _, e := range events {
		if e.Terminal() {
			terminal++
		}
	}
	if terminal != 1 {
		t.Errorf("got %d terminal events, want 1", terminal)
	}
	if events, _ = r.stream("/v1/apps/web/deploy", deployment.Command{}); len(events) != 1 || last(events).Outcome != deployment.Deployed {
		t.Errorf("with nothing to do: got %+v", events)
	}
	if events, _ = r.stream("/v1/apps/web/rollback", deployment.Command{}); last(events).Outcome != deployment.Deployed || last(events).Hash != hash("1") {
		t.Errorf("rollback: got %+v", last(events))
	}
	if _, kind = r.stream("/v1/apps/web/rollback", deployment.Command{Version: "feedface"}); kind != "application/json" {
		t.Errorf("an unknown release: got %s, want a problem", kind)
	}
}

func TestAnAppInSeveralEnvironmentsIsNamedByItsKey(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings("", oneApp+"  next: {dir: $srv/next, app: web, environment: staging}\n"))
	r.settled("web", hash("1"))
	var d deployment.Detail
	if code := r.call("/v1/apps/next", nil, &d); code != http.StatusOK || d.Receipt.Environment != "staging" {
		t.Errorf("got %d %+v", code, d)
	}
	if code := r.call("/v1/apps/web", nil, &d); code != http.StatusOK || d.Receipt.Environment != "production" {
		t.Errorf("got %d %+v", code, d)
	}
	if _, err := (&Agent{apps: []*app{{App: config.App{Key: "a", App: "web"}}, {App: config.App{Key: "b", App: "web"}}}}).find("web"); err == nil || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("got %v, want both named", err)
	}
}

// brokenUnit is a service that could not be restarted.
type brokenUnit struct{ deploy.Service }

func (brokenUnit) Check(context.Context) error { return errors.New("no such unit") }

func TestNotReadyWithNothingPublished(t *testing.T) {
	w := newWorld(t)
	a, err := build(w.settings("", oneApp), slog.New(slog.DiscardHandler))
	w.must(err)
	defer a.release()
	one := a.apps[0]
	engine, done, err := one.open(t.Context())
	w.must(err)
	defer done()
	if _, err := engine.Once(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want that nothing is published", err)
	}
	if err := one.ready(t.Context()); err != nil {
		t.Errorf("got %v, want ready", err)
	}
	engine.Service = brokenUnit{engine.Service}
	if err := one.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no such unit") {
		t.Errorf("got %v, want what is wrong with the unit", err)
	}
	if got := one.summary(t.Context()).Status; !strings.Contains(got, "no such unit") {
		t.Errorf("got status %q, want what is wrong with the unit", got)
	}
}

func TestAReleaseHasTheTimeThatItsCheckAllows(t *testing.T) {
	for within, want := range map[string][2]time.Duration{
		"30s": {2 * time.Minute, 3*time.Minute + 33*time.Second},
		"9m":  {9 * time.Minute, 19*time.Minute + 3*time.Second},
	} {
		w := newWorld(t)
		a, err := build(w.settings("", oneApp+"    health: {tcp: \"127.0.0.1:1\", stable: 3s, within: "+within+"}\n"), slog.New(slog.DiscardHandler))
		w.must(err)
		engine, done, err := a.apps[0].open(t.Context())
		w.must(err)
		if got := [2]time.Duration{engine.RestartWithin, engine.UndoWithin}; got != want {
			t.Errorf("within %s: got %v for a restart and for going back, want %v", within, got, want)
		}
		done()
		a.release()
	}
}

func TestALiveReleaseIsHealthyOnlyWhileItIs(t *testing.T) {
	site := newSick(t)
	one := &app{App: config.App{Health: config.Health{HTTP: site.URL}}, lane: &lane{}}
	u := &unit{Service: unmanaged{service.None{}}}
	one.alive = one.aliver(u)
	p := release.Pointer{Seq: 3, Release: release.Release{Hash: hash("1")}}
	f := &following{app: one, pointer: p}
	r := deployment.Receipt{Pointer: deployment.ReceiptPointer{Seq: 3, Hash: hash("1")}, Live: deployment.ReceiptLive{Hash: hash("1")}}
	if got, why := f.verdict(t.Context(), r); got != deployment.Unchanged {
		t.Errorf("got %q (%s), want unchanged", got, why)
	}
	site.ill.Store(true)
	if got, why := f.verdict(t.Context(), r); got != deployment.Failed || !strings.Contains(why, "database is gone") {
		t.Errorf("got %q (%s), want failed and what the probe says", got, why)
	}
}

func TestReadyWithNothingPublished(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings("", oneApp))
	var text string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if r.call("/readyz", nil, &text) == http.StatusOK {
			return
		}
	}
	t.Errorf("got %q, want ready: an empty bucket is no trouble of the server", text)
}
