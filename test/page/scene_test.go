package page

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/agent/page"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
)

// Commits of the app, the newest first.
var commits = []struct{ hash, message, actor string }{
	{"e02371ab6db3a60c3f9ead35e36187c91155b5a1", "Take orders in two currencies", "ada"},
	{"91d70fa2c8e4b36b5527c3ba03f1a4ce50d2b8f7", "Keep the stock of every shop", "grace"},
	{"4be1c0e55d0a8a0f0c4f7f3f3b6ad21c5d9e7a10", "Answer /healthz only once the database does", "ada"},
	{"7c0a5e19f3d24b8861e2f0bb5c7d9a3e18f6420d", "Say what a refund is for", "ada"},
	{"b85e2d7740c91fa6d3380e5f6a2c41d98b7e0f53", "Raise the limit for uploads to 20 MB", "grace"},
	{"08fd13c6e5a94b7290dd3e81f7b6c2a45e910d7b", "Send receipts in the customer's language", "ada"},
}

var logLines = []string{
	"listening on 127.0.0.1:3000", "GET /healthz 503 12 ms", "Error: SQLITE_BUSY: database is locked",
	"    at Database.exec (/srv/shop/current/lib/store.js:48:11)", "    at migrate (/srv/shop/current/lib/store.js:112:6)", "GET /healthz 503 11 ms",
}

const probeSays = "not healthy within 30s: GET http://127.0.0.1:3000/healthz: 503 Service Unavailable: database is locked (28 attempts)"

// shop is an app in the making; its times are before now.
type shop struct {
	page.App
	now time.Time
}

func newShop(key string, now time.Time) *shop {
	s := &shop{now: now}
	s.Environment = "production"
	s.Health = config.Health{HTTP: "http://127.0.0.1:3000/healthz", Expect: "{{hash}}", Stable: 5 * time.Second}
	s.Detail = deployment.Detail{Key: key, Unit: key + ".service"}
	for _, c := range commits {
		s.Detail.Releases = append(s.Detail.Releases, deployment.Release{Hash: c.hash, Msg: c.message})
	}
	s.Detail.Receipt.Seen = s.before(12 * time.Second)
	return s
}

func (s *shop) before(d time.Duration) string { return s.now.Add(-d).UTC().Format(time.RFC3339) }

// ended puts a deployment of a commit before those that there are.
func (s *shop) ended(commit int, ago time.Duration, outcome deployment.Outcome, reason string, log ...string) *shop {
	c, n := commits[commit], uint64(184-commit)
	at := func(d time.Duration) string { return s.before(ago - d) }
	rec := deployment.Record{
		ID: fmt.Sprintf("%06d-x", 100+len(s.Detail.Deployments)), Seq: n, Hash: c.hash, Outcome: outcome, Reason: reason, Started: s.before(ago + 3*time.Second), Finished: s.before(ago),
		Origin: &deployment.Origin{Kind: "deploy", Actor: c.actor, Run: fmt.Sprintf("https://github.com/acme/shop/actions/runs/%d", 9714227731-uint64(commit)*1311)},
	}
	event := func(step deployment.Step, state deployment.State, took int64, message string) {
		rec.Events = append(rec.Events, deployment.Event{N: len(rec.Events) + 1, Time: at(0), Step: step, State: state, TookMS: took, Message: message})
	}
	event(deployment.Fetch, deployment.Done, 141, "1 of 24 frames")
	rec.Events[0].Bytes = 94 << 10
	event(deployment.Unpack, deployment.Done, 38, "")
	event(deployment.Activate, deployment.Done, 412, "")
	total := int64(6790)
	if outcome == deployment.Deployed {
		event(deployment.Check, deployment.Done, 6203, "")
		event(deployment.Confirm, deployment.Done, 4, "")
	} else {
		event(deployment.Check, deployment.StepFail, 30_000, probeSays)
		total = 36_400
		if outcome == deployment.RolledBack {
			event(deployment.RollBack, deployment.Done, 5630, "")
		} else {
			event(deployment.RollBack, deployment.StepFail, 31_000, "not healthy within 30s: connection refused")
			total = 62_100
		}
	}
	rec.Events = append(rec.Events, deployment.Event{Step: deployment.End, Outcome: outcome, Reason: reason, Log: log, TookMS: total, Time: at(0)})
	s.Detail.Deployments = append([]deployment.Record{rec}, s.Detail.Deployments...)
	last := rec
	last.Events = nil
	s.Detail.Receipt.Deployment = &last
	if outcome == deployment.Deployed {
		s.Detail.Receipt.Live = deployment.ReceiptLive{Seq: n, Hash: c.hash, Since: s.before(ago)}
	}
	return s
}

// calm is an app with a past.
func (s *shop) calm(newest int) *shop {
	s.ended(5, 31*24*time.Hour, deployment.Deployed, "").ended(4, 16*24*time.Hour, deployment.Deployed, "").ended(3, 6*24*time.Hour, deployment.Deployed, "")
	s.ended(2, 5*24*time.Hour, deployment.RolledBack, probeSays, logLines...).ended(2, 5*24*time.Hour-40*time.Minute, deployment.Deployed, "")
	if newest <= 1 {
		s.ended(1, 26*time.Hour, deployment.Deployed, "")
	}
	if newest == 0 {
		s.ended(0, 47*time.Minute, deployment.Deployed, "")
	}
	return s
}

// deploying is in the middle of the check of the newest commit.
func (s *shop) deploying() *shop {
	event := func(n int, ago time.Duration, step deployment.Step, state deployment.State, took int64, message string, bytes int64) deployment.Event {
		return deployment.Event{N: n, Time: s.now.Add(-ago).UTC().Format("2006-01-02T15:04:05.000Z"), Step: step, State: state, TookMS: took, Message: message, Bytes: bytes}
	}
	s.Running = &deployment.Record{
		ID: "000999-x", Seq: 184, Hash: commits[0].hash, Started: s.before(8 * time.Second),
		Origin: &deployment.Origin{Actor: "ada", Run: "https://github.com/acme/shop/actions/runs/9714227731"},
		Events: []deployment.Event{
			event(1, 8*time.Second, deployment.Fetch, deployment.Started, 0, "2 of 24 frames, 1.2 MiB", 0),
			event(2, 7*time.Second, deployment.Fetch, deployment.Done, 913, "", 1_240_000), event(3, 7*time.Second, deployment.Unpack, deployment.Done, 38, "", 0),
			event(4, 7*time.Second, deployment.Activate, deployment.Started, 0, "184-e02371ab6db3", 0), event(5, 6*time.Second, deployment.Activate, deployment.Done, 412, "", 0),
			event(6, 6*time.Second, deployment.Check, deployment.Started, 0, "", 0), event(7, 2*time.Second, deployment.Check, deployment.Progress, 0, "healthy: 200 from the new process, watching for another 3.1s", 0),
		},
	}
	running := *s.Running
	running.Events = nil
	s.Detail.Receipt.Deployment = &running
	return s
}

// scenes are what the page may have to show.
func scenes(now time.Time) map[string]page.Server {
	server := func(apps ...*shop) page.Server {
		s := page.Server{Name: "web-1", Pin: strings.Repeat("5fa2b09c", 8), Started: now.Add(-9 * 24 * time.Hour)}
		for _, a := range apps {
			s.Apps = append(s.Apps, a.App)
		}
		return s
	}
	rolledBack := newShop("shop", now).calm(1).ended(0, 3*time.Minute, deployment.RolledBack, probeSays, logLines...)
	rolledBack.Detail.Receipt.Status = "release e02371ab6db3 did not become healthy; it is not tried again until another pointer arrives or a person forces it"
	broken := newShop("shop", now).calm(1).ended(0, 90*time.Second, deployment.Broken, probeSays+"; then the previous release 91d70fa2c8e4: not healthy within 30s: connection refused", logLines...)
	broken.Detail.Receipt.Status, broken.Detail.Receipt.Live.Since = rolledBack.Detail.Receipt.Status, ""

	held := newShop("admin", now).calm(1)
	held.Detail.Receipt.Held, held.Detail.Receipt.Status = "stock-taking until Monday", "on hold: stock-taking until Monday"
	stale := newShop("blog", now).calm(2)
	stale.Detail.Receipt.Status = "stale: the pointer expired at 2026-11-20T10:00:00Z"
	notReady := newShop("cron", now).calm(1)
	notReady.Ready = errors.New("not ready: unit cron.service: there is none of that name")
	notReady.Detail.Receipt.Status = notReady.Ready.Error()
	waiting := newShop("search", now)
	waiting.Detail.Receipt.Status = "nothing is published yet: object search/production/version.json: not there"
	waiting.Health, waiting.Detail.Unit = config.Health{}, ""
	ten := server(held, newShop("api", now).calm(0), stale, notReady, newShop("docs", now).calm(2), newShop("images", now).calm(1), newShop("mail", now).calm(1).deploying(),
		waiting, newShop("shop", now).calm(1).ended(0, 3*time.Minute, deployment.RolledBack, probeSays, logLines...), newShop("web", now).calm(0))

	mean := newShop("mean", now).calm(1)
	text := `<img src=x onerror=alert(1)></section></style></script>"'&` + "\u202etxt.exe \u2067\x1b[31m\x00 \u05e9\u05dc\u05d5\u05dd " + strings.Repeat("W", 150)
	for i := range mean.Detail.Releases {
		mean.Detail.Releases[i].Msg = text
	}
	for i := range mean.Detail.Deployments {
		d := &mean.Detail.Deployments[i]
		d.Reason, d.Origin.Actor, d.Origin.Reason, d.Origin.Run = text, text, text, "javascript:alert(1)//"+text
		for j := range d.Events {
			d.Events[j].Message, d.Events[j].Log = text, []string{text, strings.Repeat("x", 4000), text}
		}
	}
	mean.Detail.Receipt.Held, mean.Detail.Receipt.Status = text, "refused: "+text
	long := newShop(strings.Repeat("a-very-long-name.", 3)+"of-an-app", now).calm(0)
	long.Environment = strings.Repeat("staging-", 7) + "eu"
	hostile := server(mean, long)
	hostile.Name = strings.Repeat("server-", 8) + ".example"
	return map[string]page.Server{
		"calm": server(newShop("shop", now).calm(0)), "deploying": server(newShop("shop", now).calm(1).deploying()),
		"rolled-back": server(rolledBack), "broken": server(broken), "ten": ten, "none": server(), "waiting": server(waiting), "held": server(held),
		"not-ready": server(notReady), "stale": server(stale), "hostile": hostile,
	}
}

// serve serves a scene as the agent serves the page, with a stream that has nothing to tell.
func serve(t *testing.T, s page.Server, now time.Time) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", page.Policy())
		fmt.Fprint(w, s.HTML(now))
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: now\nid: %s\ndata: %s\n\n", page.ID(s.Parts(now)), time.Now().UTC().Format(time.RFC3339))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL + "/"
}
