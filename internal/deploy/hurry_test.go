package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// running runs the rig's engine until the test's end; tick lets so much time pass.
func running(t *testing.T, r *rig) (tick func(time.Duration)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.engine.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return func(d time.Duration) { time.Sleep(d); synctest.Wait() }
}

// fetches is how often the artifact was asked for.
func (r *rig) fetches() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetched
}

// spoilt makes an artifact one that cannot be fetched, for a reason that is not the release's, or, with nil, mends it.
func (r *rig) spoilt(hash string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad[hash] = err
}

// Whoever repairs the store and runs the job again does not wait for the pause after the failure to end.
func TestPingAfterAFailedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Poll = time.Hour })
		r.publish(1, "aaaaaaa")
		r.once(deployment.Deployed)
		v := r.publish(2, "bbbbbbb")
		r.spoilt("bbbbbbb", errors.New("get object: connection refused"))
		tick := running(t, r)
		if got := r.fetches(); got != 2 {
			t.Fatalf("got %d fetches, want the first release's and one that failed", got)
		}
		// Sent again and again, as anybody can, it has the store asked every five seconds at most.
		for range 20 {
			r.engine.Offer(v)
			tick(time.Second)
		}
		if got := r.fetches() - 2; got < 3 || got > 4 {
			t.Errorf("pinged each second for 20 s: got %d tries, want one each five seconds", got)
		}
		tick(10 * time.Second)
		before := r.fetches()
		r.engine.Wake()
		tick(time.Second)
		if got := r.fetches(); got != before {
			t.Errorf("woken without the pointer: got %d tries, want none", got-before)
		}
		r.spoilt("bbbbbbb", nil)
		r.engine.Offer(v)
		tick(0)
		r.live("bbbbbbb")
	})
}

// What failed after the switch restarts the app with each try: a ping does not hurry that.
func TestPingAfterAFailedRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Poll = time.Hour })
		r.publish(1, "aaaaaaa")
		r.once(deployment.Deployed)
		v := r.publish(2, "bbbbbbb")
		r.refused = fmt.Errorf("restart: %w", fs.ErrPermission)
		tick := running(t, r)
		before := len(r.engine.Detail().Deployments)
		for range 20 {
			r.engine.Offer(v)
			tick(time.Second)
		}
		if got := len(r.engine.Detail().Deployments); got != before {
			t.Errorf("got %d more tries within 20 s, want none before the pause ends", got-before)
		}
	})
}

// After a retry that went well, and while a hold keeps one from being made, the store is asked at the usual pace.
func TestPaceAfterARetry(t *testing.T) {
	for _, held := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var looks atomic.Int64
			r := newRig(t, func(o *Options) { o.Source = counting{o.Source, &looks} })
			r.publish(1, "aaaaaaa")
			r.once(deployment.Deployed)
			r.publish(2, "bbbbbbb")
			r.spoilt("bbbbbbb", errors.New("get object: connection refused"))
			tick := running(t, r)
			if held {
				if _, err := r.engine.Do(t.Context(), "hold", deployment.Command{Reason: "a test"}); err != nil {
					t.Fatal(err)
				}
			} else {
				r.spoilt("bbbbbbb", nil)
			}
			tick(2 * time.Minute)
			if !held {
				r.live("bbbbbbb")
			}
			before := looks.Load()
			tick(10 * time.Minute)
			if got := looks.Load() - before; got < 15 || got > 26 {
				t.Errorf("held %v: got %d looks in ten minutes, want one each half minute", held, got)
			}
		})
	}
}

// The line says since when the pointer cannot be read, and is logged once for each reason.
func TestStoreAwaySinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		r.publish(1, "aaaaaaa")
		r.once(deployment.Deployed)
		lose := func(err error) {
			r.mu.Lock()
			r.gone = err
			r.mu.Unlock()
		}
		lose(errors.New("get object: connection refused"))
		tick := running(t, r)
		since := time.Now().UTC().Format(time.RFC3339)
		want := "cannot read the pointer: get object: connection refused (since " + since + ")"
		for range 30 {
			if got := r.engine.Receipt().Status; got != want {
				t.Fatalf("got status %q, want %q", got, want)
			}
			tick(time.Minute)
		}
		if got := strings.Count(log.String(), "cannot read the pointer"); got != 1 {
			t.Errorf("got %d lines in the log, want one:\n%s", got, log.String())
		}
		lose(errors.New("get object: 503"))
		tick(10 * time.Minute)
		if got, want := r.engine.Receipt().Status, "cannot read the pointer: get object: 503 (since "+since+")"; got != want {
			t.Errorf("another reason: got status %q, want %q", got, want)
		}
		lose(nil)
		tick(10 * time.Minute)
		if got := r.engine.Receipt().Status; got != "" {
			t.Errorf("back: got status %q, want none", got)
		}
		lose(errors.New("get object: 503"))
		tick(time.Minute)
		if got := r.engine.Receipt().Status; strings.Contains(got, since) || !strings.Contains(got, "(since ") {
			t.Errorf("away again: got status %q, want since when this time", got)
		}
	})
}

// An artifact that is not what the pointer says is not fetched again and again; a person's word, or another pointer, is the way
// out, and the status says so.
func TestRefusedArtifactSaysTheWayOut(t *testing.T) {
	for name, out := range map[string]func(*rig){
		"forced":          func(r *rig) { r.do("deploy", deployment.Command{Force: true}) },
		"another pointer": func(r *rig) { r.publish(3, "bbbbbbb"); r.once(deployment.Deployed) },
	} {
		r := newRig(t, nil)
		r.publish(1, "aaaaaaa")
		r.once(deployment.Deployed)
		r.publish(2, "bbbbbbb")
		r.spoilt("bbbbbbb", fmt.Errorf("object: %w: it has 9 bytes, the pointer says 10", release.ErrVerify))
		for range 3 {
			r.once(deployment.Failed)
		}
		want := "release bbbbbbb was refused as it lies in the store; it is not tried again until another pointer arrives or a person forces it"
		if got := r.engine.Receipt().Status; got != want || r.fetches() != 2 {
			t.Errorf("%s: got status %q after %d fetches, want %q after 2", name, got, r.fetches(), want)
		}
		r.spoilt("bbbbbbb", nil)
		out(r)
		r.live("bbbbbbb")
		if got := r.engine.Receipt().Status; got != "" {
			t.Errorf("%s: got status %q, want none", name, got)
		}
	}
}
