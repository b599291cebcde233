package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func TestDeployThenDeployNewer(t *testing.T) {
	r := newRig(t, nil)
	if _, err := r.engine.Once(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("nothing published: got %v, want fs.ErrNotExist", err)
	}
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.live("aaaaaaa")
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	r.once(deployment.Deployed) // nothing new: the outcome stays
	if got, want := r.restarts, []string{"1-aaaaaaa", "2-bbbbbbb"}; !slices.Equal(got, want) {
		t.Errorf("restarts: got %q, want %q", got, want)
	}
	rec := r.engine.Receipt()
	if rec.Live.Seq != 2 || rec.Live.Hash != "bbbbbbb" || rec.Pointer.Seq != 2 || rec.Deployment.Outcome != deployment.Deployed {
		t.Errorf("receipt: got %+v", rec)
	}
	steps := []string{}
	for _, ev := range rec.Deployment.Events {
		steps = append(steps, fmt.Sprintf("%d %s %s", ev.N, ev.Step, ev.State))
	}
	want := []string{"1 fetch started", "2 fetch done", "3 unpack started", "4 unpack done", "5 activate started", "6 activate done",
		"7 check started", "8 check done", "9 confirm done", "10 end done"}
	if !slices.Equal(steps, want) {
		t.Errorf("events: got %q, want %q", steps, want)
	}
}

func TestReceiptDoesNotCallAReleaseLiveBeforeItIsProven(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.receipts = nil
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	for _, rec := range r.receipts {
		if done := rec.Deployment.Seq == 2 && rec.Deployment.Outcome != ""; rec.Live.Hash == "bbbbbbb" && !done {
			t.Errorf("live %s while its deployment has no outcome: %+v", rec.Live.Hash, rec.Deployment)
		}
	}
	if got := r.receipts[len(r.receipts)-1]; got.Live.Hash != "bbbbbbb" {
		t.Errorf("at the end: got %+v", got.Live)
	}
}

func TestSameArtifactIsUnchanged(t *testing.T) {
	r := newRig(t, nil)
	r.put(r.sign(1, "aaaaaaa", "content", nil), time.Unix(1, 0))
	r.once(deployment.Deployed)
	r.put(r.sign(2, "bbbbbbb", "content", nil), time.Unix(2, 0))
	r.once(deployment.Unchanged)
	if got := len(r.restarts); got != 1 {
		t.Errorf("restarts: got %d, want 1", got)
	}
	if rec := r.engine.Receipt(); rec.Live.Seq != 2 || rec.Pointer.Hash != "bbbbbbb" {
		t.Errorf("receipt: got %+v, want seq 2", rec)
	}
}

func TestSickReleaseIsRolledBackAndQuarantined(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.sick["bbbbbbb"] = true
	r.publish(2, "bbbbbbb")
	r.once(deployment.RolledBack)
	r.live("aaaaaaa")
	end := r.last()
	if end.Reason != "GET /version: 500" || !slices.Contains(end.Log, "the app's last words") {
		t.Errorf("terminal event: got %+v, want the probe's answer and the unit's log", end)
	}
	r.once(deployment.RolledBack) // the same payload is not tried again
	r.start()
	r.once(deployment.RolledBack) // nor by a new process
	if got, want := r.restarts, []string{"1-aaaaaaa", "2-bbbbbbb", "1-aaaaaaa"}; !slices.Equal(got, want) {
		t.Errorf("restarts: got %q, want %q", got, want)
	}
	if r.tree.Has("2-bbbbbbb") {
		t.Error("the tree of the release that was rolled back is still there")
	}
	r.sick["bbbbbbb"] = false
	r.publish(3, "bbbbbbb") // another payload, the same artifact
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func TestForceTriesAQuarantinedReleaseAgain(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.sick["bbbbbbb"] = true
	r.publish(2, "bbbbbbb")
	r.once(deployment.RolledBack)
	r.sick["bbbbbbb"] = false
	if got := r.do("deploy", deployment.Command{}); got.Outcome != deployment.RolledBack {
		t.Errorf("without force: got %q, want rolled-back", got.Outcome)
	}
	if got := r.do("deploy", deployment.Command{Force: true}); got.Outcome != deployment.Deployed {
		t.Errorf("with force: got %+v, want deployed", got)
	}
	r.live("bbbbbbb")
}

func TestBothReleasesSickIsBroken(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.sick["aaaaaaa"], r.sick["bbbbbbb"] = true, true
	r.publish(2, "bbbbbbb")
	r.once(deployment.Broken)
	r.live("aaaaaaa")
	if got := r.last().Reason; !strings.Contains(got, "then the previous release aaaaaaa") {
		t.Errorf("reason: got %q", got)
	}
	n := len(r.restarts)
	r.once(deployment.Broken)
	if len(r.restarts) != n {
		t.Error("it flaps: the unit was restarted again")
	}
}

func TestFirstReleaseSickLeavesNothingLive(t *testing.T) {
	r := newRig(t, nil)
	r.sick["aaaaaaa"] = true
	r.publish(1, "aaaaaaa")
	r.once(deployment.Failed)
	r.live("")
	if r.stops != 1 {
		t.Errorf("stops: got %d, want 1", r.stops)
	}
	r.once(deployment.Failed)
	if len(r.restarts) != 1 {
		t.Errorf("restarts: got %q, want the release tried once", r.restarts)
	}
}

func TestTroubleWithTheBucketIsTriedAgain(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.bad["bbbbbbb"] = errors.New("connection reset")
	r.publish(2, "bbbbbbb")
	r.once(deployment.Failed)
	r.live("aaaaaaa")
	delete(r.bad, "bbbbbbb")
	r.engine.clearRetry()
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func TestCorruptArtifactIsNotTriedAgain(t *testing.T) {
	r := newRig(t, nil)
	r.bad["aaaaaaa"] = fmt.Errorf("artifact: %w", release.ErrVerify)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Failed)
	n := r.fetched
	r.engine.clearRetry()
	r.once(deployment.Failed)
	if r.fetched != n {
		t.Error("it was fetched again")
	}
}

func TestUnitTroubleFailsBeforeAnythingIsTouched(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.notReady = fmt.Errorf("unit web.service: %w", fs.ErrNotExist)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Failed)
	r.live("aaaaaaa")
	if err := r.engine.Ready(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ready: got %v, want the unit's error", err)
	}
	r.notReady = nil
	r.engine.clearRetry()
	r.once(deployment.Deployed)
}

func TestDeniedRestartIsNotTheReleasesFault(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.refused = fmt.Errorf("restart web.service: %w", fs.ErrPermission)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Failed)
	r.live("aaaaaaa")
	r.refused = nil
	r.engine.clearRetry()
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func TestHooks(t *testing.T) {
	var r *rig
	r = newRig(t, func(o *Options) {
		o.Hooks = Hooks{}
		for _, name := range []string{"before-activate", "after-healthy"} {
			o.Hooks[name] = func(_ context.Context, dir string) ([]string, error) { return r.hook(name, dir) }
		}
	})
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	if got, want := r.hooks, []string{"before-activate 1-aaaaaaa", "after-healthy 1-aaaaaaa"}; !slices.Equal(got, want) {
		t.Errorf("hooks: got %q, want %q", got, want)
	}
	r.hookErr = errors.New("exit status 1")
	r.publish(2, "bbbbbbb")
	r.once(deployment.Failed)
	r.live("aaaaaaa")
	if got := r.last(); got.Reason != "hook before-activate: exit status 1" || len(got.Log) == 0 {
		t.Errorf("terminal event: got %+v", got)
	}
	if r.tree.Has("2-bbbbbbb") {
		t.Error("the tree is still there")
	}
	n := len(r.hooks)
	r.once(deployment.Failed)
	if len(r.hooks) != n {
		t.Error("a hook that said no was run again")
	}
}

func TestPruneKeepsCurrentAndPrevious(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Keep = 2 })
	for i, hash := range []string{"aaaaaaa", "bbbbbbb", "ccccccc", "ddddddd"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	names, err := r.tree.Names()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if want := []string{"3-ccccccc", "4-ddddddd"}; !slices.Equal(names, want) {
		t.Errorf("on disk: got %q, want %q", names, want)
	}
	if got := r.engine.Detail().Releases; len(got) != 4 || !got[0].Live || !got[1].OnDisk || got[3].OnDisk {
		t.Errorf("releases: got %+v", got)
	}
}

func TestRollbackByCommand(t *testing.T) {
	r := newRig(t, nil)
	for i, hash := range []string{"aaaaaaa", "bbbbbbb", "ccccccc"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	for _, want := range []string{"bbbbbbb", "aaaaaaa"} { // back twice goes back two releases
		if got := r.do("rollback", deployment.Command{Reason: "it smells"}); got.Outcome != deployment.Deployed {
			t.Fatalf("got %+v", got)
		}
		r.live(want)
	}
	if _, err := r.try("rollback", deployment.Command{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("back before the first: got %v, want fs.ErrNotExist", err)
	}
	r.start()
	r.once(deployment.Held)
	r.live("aaaaaaa") // the pointer still says ccccccc, and is overridden, by a new process too
	if got := r.engine.Receipt().Held; !strings.Contains(got, "overridden") {
		t.Errorf("held: got %q", got)
	}
	r.publish(4, "ddddddd") // another payload ends the override
	r.once(deployment.Deployed)
	r.live("ddddddd")
}

func TestRollbackToWhatWasPruned(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Keep = 2 })
	for i, hash := range []string{"aaaaaaa", "bbbbbbb", "ccccccc"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	n := r.fetched
	if got := r.do("rollback", deployment.Command{Version: "aaaaaaa"}); got.Outcome != deployment.Deployed {
		t.Fatalf("got %+v", got)
	}
	r.live("aaaaaaa")
	if r.fetched != n+1 {
		t.Errorf("fetched %d times, want it fetched again", r.fetched-n)
	}
	if _, err := r.try("deploy", deployment.Command{Version: "eeeeeee"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown version: got %v, want fs.ErrNotExist", err)
	}
}

func TestAmbiguousPrefixListsCandidates(t *testing.T) {
	r := newRig(t, nil)
	for i, hash := range []string{"abcdefg1", "abcdefg2"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	_, err := r.try("deploy", deployment.Command{Version: "abcdefg"})
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), "abcdefg1, abcdefg2") {
		t.Errorf("got %v, want both candidates", err)
	}
	if got := r.do("deploy", deployment.Command{Version: "abcdefg1"}); got.Outcome != deployment.Deployed {
		t.Errorf("exact: got %+v", got)
	}
}

func TestHoldAndResume(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	if got := r.do("hold", deployment.Command{Reason: "inventory"}); got.Outcome != deployment.Held {
		t.Fatalf("got %+v", got)
	}
	r.publish(2, "bbbbbbb")
	r.start()
	r.once(deployment.Held)
	r.once(deployment.Held)
	r.live("aaaaaaa")
	if rec := r.engine.Receipt(); rec.Held != "inventory" || rec.Deployment.Outcome != deployment.Held || rec.Deployment.Seq != 2 || rec.Pointer.Seq != 1 {
		t.Errorf("receipt: got %+v %+v", rec, rec.Deployment)
	}
	if got := len(slices.Collect(terminal(r.events))); got != 2 {
		t.Errorf("terminal events: got %d, want the hold told once", got)
	}
	if _, err := r.try("deploy", deployment.Command{}); !errors.Is(err, ErrHeld) {
		t.Errorf("deploy while on hold: got %v, want ErrHeld", err)
	}
	r.do("resume", deployment.Command{})
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func TestResumeAfterRollbackFollowsThePointerAgain(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	r.do("rollback", deployment.Command{})
	r.live("aaaaaaa")
	r.do("resume", deployment.Command{})
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func TestRestoredPointerIsFollowed(t *testing.T) {
	r := newRig(t, nil)
	first := r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	n := r.fetched
	r.put(first, r.modified.Add(time.Minute)) // a person copied the old object over the new one
	r.once(deployment.Deployed)
	r.live("aaaaaaa")
	if r.fetched != n {
		t.Error("it was fetched although it is on disk")
	}
	if rec := r.engine.Receipt(); rec.Pointer.Seq != 1 || rec.Live.Seq != 1 {
		t.Errorf("receipt: got %+v, want seq 1", rec)
	}
}

func TestDeadPlainBucketDeploysByHash(t *testing.T) {
	r := newRig(t, nil)
	plain := func(hash, msg string) release.Verified {
		v, err := release.NoTrust().Pointer([]byte(fmt.Sprintf(`{"hash":%q,"msg":%q,"date":"today"}`, hash, msg)), release.Want{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	r.put(plain("aaaaaaa", "one"), time.Unix(1, 0))
	r.once(deployment.Deployed)
	r.put(plain("bbbbbbb", "two"), time.Unix(2, 0))
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	r.put(plain("bbbbbbb", "two, said otherwise"), time.Unix(3, 0))
	r.once(deployment.Unchanged)
	r.put(plain("aaaaaaa", "one"), time.Unix(4, 0)) // putting an old one back is how the recipe reverts
	r.once(deployment.Deployed)
	r.live("aaaaaaa")
	if got, want := r.restarts, []string{"p1-aaaaaaa", "p2-bbbbbbb", "p1-aaaaaaa"}; !slices.Equal(got, want) {
		t.Errorf("restarts: got %q, want %q", got, want)
	}
}

func TestMissingStateLocksRemoteInstalls(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	for name, spoil := range map[string]func(path string) error{
		"gone": os.Remove,
		"torn": func(p string) error { return os.WriteFile(p, []byte(`{"sha256":"x"`), 0o600) },
	} {
		if err := spoil(filepath.Join(r.root, "state", "state.json")); err != nil {
			t.Fatal(err)
		}
		r.start()
		if _, err := r.engine.Once(t.Context()); !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: got %v, want ErrLocked", name, err)
		}
		r.live("aaaaaaa")
		r.do("recover", deployment.Command{AcceptSeq: 0})
		r.once(deployment.Deployed)
		r.live("aaaaaaa")
	}
}

// An agent that dies at any save of its state must, after a restart, end with the old release live or the new one, and say
// so.
func TestResumeAfterDeathAtEverySave(t *testing.T) {
	for _, sick := range []bool{false, true} {
		for die := 1; ; die++ {
			r := newRig(t, nil)
			r.publish(1, "aaaaaaa")
			r.once(deployment.Deployed)
			r.sick["bbbbbbb"] = sick
			r.publish(2, "bbbbbbb")
			if r.deadAt(die, func() { _, _ = r.engine.Once(t.Context()) }) { // it lived through: every point has been tried
				if die < 5 {
					t.Errorf("only %d saves, want a journal written around each step", die-1)
				}
				break
			}
			r.start()
			want, hash := deployment.Deployed, "bbbbbbb"
			if sick {
				want, hash = deployment.RolledBack, "aaaaaaa"
			}
			r.once(want)
			r.live(hash)
			if r.engine.state.Attempt != nil {
				t.Errorf("death at save %d: an attempt is left", die)
			}
		}
	}
}

// deadAt calls f and has the agent die before it saves its state for the die-th time. It reports whether f lived through.
func (r *rig) deadAt(die int, f func()) (lived bool) {
	j := &mortal{Journal: r.engine.Journal, saves: die}
	r.engine.Journal = j
	defer func() {
		if p := recover(); p != nil && p != errDeath {
			panic(p)
		}
		lived = j.saves > 0
	}()
	f()
	return
}

var errDeath = errors.New("killed")

// mortal dies before it saves for the saves-th time.
type mortal struct {
	Journal
	saves int
}

func (m *mortal) Save(state []byte) error {
	if m.saves--; m.saves == 0 {
		panic(errDeath)
	}
	return m.Journal.Save(state)
}

func TestTenInterruptionsGiveUp(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	ctx, cancel := context.WithCancel(t.Context())
	r.onRestart = cancel // the agent is stopped in the middle of every check
	for range maxInterruptions + 1 {
		if _, err := r.engine.Once(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the interruption", err)
		}
		r.start()
		ctx, cancel = context.WithCancel(t.Context())
		r.onRestart = cancel
	}
	r.onRestart = nil
	cancel()
	r.once(deployment.Failed)
	r.live("aaaaaaa")
	if got := r.last().Reason; got != "interrupted 10 times in a row" {
		t.Errorf("reason: got %q", got)
	}
}

func TestNewerPointerDropsWorkOnTheOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.publish(1, "aaaaaaa")
		begun := make(chan struct{}, 1)
		r.onFetch = func(ctx context.Context, hash string) {
			if hash == "aaaaaaa" { // a download that never ends by itself
				begun <- struct{}{}
				<-ctx.Done()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()
		<-begun
		v := r.publish(2, "bbbbbbb")
		r.engine.Offer(v)
		synctest.Wait()
		r.live("bbbbbbb")
		var got []string
		for ev := range terminal(r.events) {
			got = append(got, ev.Hash+" "+string(ev.Outcome))
		}
		if want := []string{"aaaaaaa superseded", "bbbbbbb deployed"}; !slices.Equal(got, want) {
			t.Errorf("outcomes: got %q, want %q", got, want)
		}
		cancel()
		<-done
	})
}

func TestLoopPollsAndPingCutsTheWaitShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()
		synctest.Wait()
		r.publish(1, "aaaaaaa")
		begun := time.Now()
		for r.engine.Receipt().Live.Hash == "" {
			time.Sleep(time.Second)
		}
		if got := time.Since(begun); got > 37*time.Second {
			t.Errorf("polling: live after %v, want within one interval and its jitter", got)
		}
		synctest.Wait()
		r.publish(2, "bbbbbbb")
		begun = time.Now()
		for range 5 { // a burst of pings
			r.engine.Wake()
		}
		synctest.Wait()
		r.live("bbbbbbb")
		if got := time.Since(begun); got != 0 {
			t.Errorf("pinged: live after %v, want at once", got)
		}
		cancel()
		<-done
	})
}

func TestStaleReadIsNotBelievedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		first := r.publish(1, "aaaaaaa")
		firstWritten := r.modified
		r.once(deployment.Deployed)
		second := r.publish(2, "bbbbbbb")
		secondWritten := r.modified
		r.once(deployment.Deployed)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()
		r.put(first, firstWritten) // an eventually consistent store shows the old object for a while
		time.Sleep(50 * time.Second)
		r.put(second, secondWritten)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.live("bbbbbbb")
		r.put(first, firstWritten) // now the newest version was deleted for good
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.live("aaaaaaa")
		cancel()
		<-done
	})
}

func TestOldPointerByPingIsNotFollowed(t *testing.T) {
	r := newRig(t, nil)
	first := r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	r.engine.Offer(first)
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	third := r.sign(3, "ccccccc", "ccccccc", nil) // not in the bucket yet, but signed
	r.engine.Offer(third)
	r.once(deployment.Deployed)
	r.live("ccccccc")
}

func TestCurrentTouchedByHand(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	link := filepath.Join(r.root, "app", "current")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(link, 0o755); err != nil {
		t.Fatal(err)
	}
	r.publish(2, "bbbbbbb")
	r.once(deployment.Failed)
	if got := r.engine.Receipt().Status; !strings.Contains(got, "not a symbolic link") {
		t.Errorf("status: got %q", got)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	r.engine.clearRetry()
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func terminal(events []deployment.Event) func(func(deployment.Event) bool) {
	return func(yield func(deployment.Event) bool) {
		for _, ev := range events {
			if ev.Terminal() && !yield(ev) {
				return
			}
		}
	}
}

// try runs a command as the loop would.
func (r *rig) try(verb string, c deployment.Command) (deployment.Result, error) {
	return r.engine.command(r.t.Context(), command{verb: verb, body: c})
}

func (r *rig) do(verb string, c deployment.Command) deployment.Result {
	r.t.Helper()
	got, err := r.try(verb, c)
	if err != nil {
		r.t.Fatalf("%s: %v", verb, err)
	}
	return got
}

func TestResumeDoesNotForceAQuarantinedRelease(t *testing.T) {
	r := newRig(t, nil)
	for i, hash := range []string{"aaaaaaa", "bbbbbbb", "ccccccc"} {
		r.sick["ccccccc"] = true
		r.publish(uint64(i+1), hash)
		if _, err := r.engine.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.live("bbbbbbb")
	r.do("rollback", deployment.Command{})
	r.do("resume", deployment.Command{})
	r.once(deployment.RolledBack)
	r.live("aaaaaaa")
}
