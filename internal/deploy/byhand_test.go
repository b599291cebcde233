package deploy

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// A new release that fails while current is gone is no reason to stop the app, which runs on from where current led.
func TestCurrentRemovedIsGoneBackTo(t *testing.T) {
	r := deployed(t, "aaaaaaa")
	must(t, os.Remove(filepath.Join(r.root, "app", "current")))
	r.sick["bbbbbbb"] = true
	r.publish(2, "bbbbbbb")
	r.once(deployment.RolledBack)
	r.live("aaaaaaa")
	if r.stops != 0 {
		t.Errorf("got the app stopped %d times", r.stops)
	}
}

// An app's directory that is empty all of a sudden is more likely not mounted than new.
func TestEmptiedDirectoryIsNotInstalledInto(t *testing.T) {
	r := deployed(t, "aaaaaaa", "bbbbbbb")
	must(t, os.Remove(filepath.Join(r.root, "app", "current")))
	must(t, os.RemoveAll(r.path("1-aaaaaaa")))
	must(t, os.RemoveAll(r.path("2-bbbbbbb")))
	restarts := slices.Clone(r.restarts)
	r.publish(3, "ccccccc")
	r.once(deployment.Failed)
	if got := r.last().Reason; !strings.Contains(got, "is its disk mounted?") {
		t.Errorf("got %q", got)
	}
	if !slices.Equal(r.restarts, restarts) || r.stops != 0 {
		t.Errorf("restarts: got %q, want %q", r.restarts, restarts)
	}
	if got := r.do("deploy", deployment.Command{Force: true}); got.Outcome != deployment.Deployed {
		t.Errorf("by force: got %+v", got)
	}
	r.live("ccccccc")
}

// The clock was years ahead when a deployment began, and is put right while no agent runs.
func TestClockPutBackDuringADeployment(t *testing.T) {
	r := deployed(t, "aaaaaaa")
	ctx, cancel := context.WithCancel(t.Context())
	r.onFetch = func(context.Context, string) { cancel() }
	r.publish(2, "bbbbbbb")
	if _, err := r.engine.Once(ctx); err == nil {
		t.Fatal("got no interruption")
	}
	r.onFetch = nil
	must(t, r.engine.change(func(l *ledger) {
		l.Attempt.Started = l.Attempt.Started.AddDate(6, 0, 0)
		l.Attempt.ID = "000002-20321126T101112Z"
		l.Since = l.Since.AddDate(6, 0, 0)
	}))
	r.start()
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	if got := r.last(); got.TookMS < 0 {
		t.Errorf("got a deployment of %d ms", got.TookMS)
	}
	r.publish(3, "ccccccc")
	r.once(deployment.Deployed)
	rec := r.engine.Receipt()
	if rec.Deployment == nil || rec.Deployment.Hash != "ccccccc" || !strings.HasPrefix(rec.Deployment.ID, "000003-") {
		t.Errorf("newest record: got %+v, want that of ccccccc: they go by number, not by clock", rec.Deployment)
	}
	if since, err := time.Parse(time.RFC3339, rec.Live.Since); err != nil || since.After(time.Now().Add(time.Minute)) {
		t.Errorf("live since: got %s, %v", rec.Live.Since, err)
	}
}
