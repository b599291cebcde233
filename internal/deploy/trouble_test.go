package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func TestSameArtifactThatIsNotWellIsActivatedAgain(t *testing.T) {
	r := newRig(t, nil)
	r.put(r.sign(1, "aaaaaaa", "content", nil), time.Unix(1, 0))
	r.once(deployment.Deployed)
	r.dead = errors.New("the unit is failed")
	r.put(r.sign(2, "aaaaaaa", "content", nil), time.Unix(2, 0))
	r.once(deployment.Deployed)
	if got, want := r.restarts, []string{"1-aaaaaaa", "1-aaaaaaa"}; !slices.Equal(got, want) {
		t.Errorf("restarts: got %q, want %q", got, want)
	}
}

func TestPromotingTheOldReleaseAfterBrokenProvesItAgain(t *testing.T) {
	r := newRig(t, nil)
	r.put(r.sign(1, "aaaaaaa", "aaaaaaa", nil), time.Unix(1, 0))
	r.once(deployment.Deployed)
	r.sick["aaaaaaa"], r.sick["bbbbbbb"] = true, true
	r.publish(2, "bbbbbbb")
	r.once(deployment.Broken)
	r.put(r.sign(3, "aaaaaaa", "aaaaaaa", nil), time.Unix(3, 0))
	if rec := r.engine.Receipt(); rec.Live.Seq == 3 {
		t.Errorf("receipt: got %+v before the release was proven again", rec.Live)
	}
	n := len(r.restarts)
	r.sick["aaaaaaa"] = false
	r.once(deployment.Deployed)
	if len(r.restarts) != n+1 {
		t.Error("the release that failed was taken for healthy without a restart")
	}
}

func TestStaleReadAfterAPing(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.engine.Offer(r.sign(2, "bbbbbbb", "bbbbbbb", nil)) // the bucket still shows the first one
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	// However often it is looked at: nobody restored what was there all the time.
	for range staleLooks + 1 {
		if _, err := r.engine.Once(t.Context()); !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "freeze suspected") {
			t.Fatalf("got %v, want the suspicion of a freeze", err)
		}
		r.live("bbbbbbb")
	}
	r.publish(2, "bbbbbbb") // the bucket catches up
	r.once(deployment.Deployed)
	r.put(r.sign(1, "aaaaaaa", "aaaaaaa", nil), r.modified.Add(time.Minute))
	r.once(deployment.Deployed)
	r.live("aaaaaaa")
}

// full is a journal on a disk that has no space left.
type full struct{ Journal }

func (full) Save([]byte) error { return syscall.ENOSPC }

// shut is a journal that may not be read, as one that another user has written.
type shut struct{ Journal }

func (shut) Load() ([]byte, error) {
	return nil, fmt.Errorf("load state: %w", &fs.PathError{Op: "open", Path: "state.json", Err: syscall.EACCES})
}

// What cannot be read is not lost: nobody is told to begin a new memory for it.
func TestStateThatCannotBeReadIsNotLost(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	o := r.engine.Options
	o.Journal = shut{o.Journal}
	if e, err := New(o); !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrLocked) || e != nil {
		t.Errorf("got %v, want an error that asks for no recover", err)
	}
}

func TestNothingIsBegunThatCouldNotBeWrittenDown(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	j := r.engine.Journal
	r.engine.Journal = full{j}
	if _, err := r.try("rollback", deployment.Command{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("rollback: got %v, want ENOSPC", err)
	}
	r.engine.Journal = j
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
}

func TestHeldPayloadIsNotTakenUpAfterADeath(t *testing.T) {
	for die := 1; die < 4; die++ {
		r := newRig(t, nil)
		r.publish(1, "aaaaaaa")
		r.once(deployment.Deployed)
		r.do("hold", deployment.Command{Reason: "inventory"})
		r.publish(2, "bbbbbbb")
		r.engine.Journal = &mortal{Journal: r.engine.Journal, saves: die}
		func() {
			defer func() { _ = recover() }()
			_, _ = r.engine.Once(t.Context())
		}()
		r.start()
		r.once(deployment.Held)
		r.live("aaaaaaa")
	}
}

func TestTroubleOfTheServerIsNotHeldAgainstTheRelease(t *testing.T) {
	for name, trouble := range map[string]func(r *rig, on bool){
		"the bus is gone": func(r *rig, on bool) {
			if r.stateErr = nil; on {
				r.stateErr = errors.New("dial unix /run/dbus/system_bus_socket: connection refused")
			}
		},
		"nobody could tell": func(r *rig, on bool) {
			if r.gateErr = nil; on {
				r.gateErr = errors.New("read the unit's state: no answer")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.publish(1, "aaaaaaa")
			r.once(deployment.Deployed)
			trouble(r, true)
			r.publish(2, "bbbbbbb")
			if out, err := r.engine.Once(t.Context()); err != nil || out == deployment.RolledBack || out == deployment.Deployed {
				t.Errorf("got %q, %v", out, err)
			}
			trouble(r, false)
			if r.engine.state.Settled && r.last().Outcome != deployment.Broken {
				t.Error("the release is not tried again")
			}
		})
	}
}

func TestBlamelessFailuresAfterTheSwitchAreTriedAFewTimes(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.refused = fmt.Errorf("restart: %w", fs.ErrPermission)
	r.publish(2, "bbbbbbb")
	tries := 0
	for range maxActivations + 5 {
		n := len(r.events)
		r.once(deployment.Failed)
		if len(r.events) > n {
			tries++
		}
		r.engine.retryAt = time.Time{}
	}
	if got, want := tries, maxActivations+1; got != want {
		t.Errorf("tried %d times, want %d", got, want)
	}
}

func TestInterruptedOftenBeforeTheSwitchTouchesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	for range maxInterruptions + 1 {
		ctx, cancel := context.WithCancel(t.Context())
		r.onFetch = func(context.Context, string) { cancel() }
		if _, err := r.engine.Once(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the interruption", err)
		}
		cancel()
		r.start()
	}
	r.onFetch = nil
	n := len(r.restarts)
	r.once(deployment.Failed)
	if len(r.restarts) != n {
		t.Error("the live app was restarted although nothing had touched it")
	}
}

func TestProvenReleaseIsNotProvenAgainAfterADeathInConfirm(t *testing.T) {
	var r *rig
	died := false
	r = newRig(t, func(o *Options) {
		o.Hooks = Hooks{"after-healthy": func(context.Context, string) ([]string, error) {
			if !died {
				died = true
				panic(errDeath)
			}
			return nil, nil
		}}
	})
	r.publish(1, "aaaaaaa")
	func() {
		defer func() { _ = recover() }()
		_, _ = r.engine.Once(t.Context())
	}()
	r.start()
	r.once(deployment.Deployed)
	if len(r.restarts) != 1 {
		t.Errorf("restarts: got %q, want one", r.restarts)
	}
}

func TestDeployUnderAnOverrideSaysHeld(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	r.once(deployment.Deployed)
	r.do("rollback", deployment.Command{})
	if got := r.do("deploy", deployment.Command{}); got.Outcome != deployment.Held {
		t.Errorf("got %q, want held: another release than the pointer's is live", got.Outcome)
	}
}

func TestForceLeavesTheHold(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.do("hold", deployment.Command{Reason: "inventory"})
	r.publish(2, "bbbbbbb")
	r.onRestart = func() {
		if r.engine.state.Held != "inventory" {
			t.Error("the hold is gone while the forced deployment runs: a death now would lose it")
		}
	}
	if got := r.do("deploy", deployment.Command{Force: true}); got.Outcome != deployment.Deployed {
		t.Errorf("got %+v", got)
	}
	r.live("bbbbbbb")
	r.publish(3, "ccccccc")
	r.once(deployment.Held)
}

func TestRefusedArtifactIsRemembered(t *testing.T) {
	r := newRig(t, nil)
	r.bad["aaaaaaa"] = fmt.Errorf("artifact: %w", release.ErrVerify)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Failed)
	r.start()
	r.once(deployment.Failed)
	if !r.engine.Refused() {
		t.Error("a new process does not know that the artifact was refused")
	}
}

func TestRecordsGoOnAfterRecover(t *testing.T) {
	r := newRig(t, nil)
	for i, hash := range []string{"aaaaaaa", "bbbbbbb"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	if err := os.Remove(r.root + "/state/state.json"); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.do("recover", deployment.Command{})
	r.once(deployment.Deployed)
	if rec := r.engine.Receipt(); rec.Deployment == nil || !strings.HasPrefix(rec.Deployment.ID, "000003-") {
		t.Errorf("newest record: got %+v, want number 3", rec.Deployment)
	}
	if got := r.do("deploy", deployment.Command{Version: "aaaaaaa"}); got.Outcome != deployment.Deployed {
		t.Errorf("an adopted release: got %+v", got)
	}
	r.live("aaaaaaa")
}

func TestRecoverSetsTheMarkOfASoundState(t *testing.T) {
	r := newRig(t, nil)
	one := r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	far := r.publish(1<<63, "eeeeeee")
	r.once(deployment.Deployed)
	two := r.publish(2, "bbbbbbb")
	if _, err := r.engine.Once(t.Context()); !errors.Is(err, release.ErrVerify) {
		t.Fatalf("below the mark: got %v, want it refused", err)
	}
	if got := r.do("recover", deployment.Command{}); !strings.Contains(got.Reason, "nothing to recover") {
		t.Errorf("without a seq: got %+v", got)
	}
	if got := r.do("recover", deployment.Command{AcceptSeq: 1}); !strings.Contains(got.Reason, "above seq 1 are followed, before it was 9223372036854775808; 1 accepted above it forgotten") {
		t.Errorf("got %+v", got)
	}
	r.live("eeeeeee")
	if got := r.engine.Receipt(); got.Pointer.Seq != 0 {
		t.Errorf("followed: got %+v, want nothing", got.Pointer)
	}
	r.start()
	r.put(one, r.modified.Add(time.Minute)) // remembered still: it is a restore
	r.once(deployment.Deployed)
	r.live("aaaaaaa")
	r.put(two, r.modified.Add(time.Minute))
	r.once(deployment.Deployed)
	r.live("bbbbbbb")
	if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed {
		t.Fatalf("rollback: got %+v", got)
	}
	r.live("aaaaaaa")
	if got := r.do("recover", deployment.Command{AcceptSeq: 1 << 63}); got.Outcome != "" {
		t.Errorf("raise: got %+v", got)
	}
	r.put(far, r.modified.Add(time.Minute))
	if _, err := r.engine.Once(t.Context()); !errors.Is(err, release.ErrVerify) {
		t.Fatalf("at the raised mark: got %v, want it refused", err)
	}
	r.live("aaaaaaa")
}

// A thief who could not write the bucket drove the mark up by a ping: what the bucket has shown all the time is believed
// again once a person has lowered the mark, after the looks that any older pointer needs.
func TestRecoverAfterAPingGoesBackToTheBucket(t *testing.T) {
	r := newRig(t, nil)
	one := r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.engine.Offer(r.sign(1<<63, "eeeeeee", "eeeeeee", nil))
	r.once(deployment.Deployed)
	r.live("eeeeeee")
	r.do("recover", deployment.Command{AcceptSeq: 1})
	l := &r.engine.state
	if got := decide(l, one, r.modified, false, sighting{one.Digest(), 1, time.Now()}, time.Now()); got.verdict != wait {
		t.Errorf("first look: got %+v, want another one", got)
	}
	long := sighting{one.Digest(), staleLooks, time.Now().Add(-staleAfter)}
	if got := decide(l, one, r.modified, false, long, time.Now()); got.verdict != follow {
		t.Errorf("after some looks: got %+v, want it followed", got)
	}
}

func TestCommandWaitsForAnInterruptedDeployment(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	r.publish(2, "bbbbbbb")
	ctx, cancel := context.WithCancel(t.Context())
	r.onRestart = cancel
	_, _ = r.engine.Once(ctx)
	r.onRestart = nil
	r.start()
	r.engine.recover()
	if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed {
		t.Fatalf("got %+v", got)
	}
	r.live("aaaaaaa")
	var got []string
	for ev := range terminal(r.events) {
		got = append(got, ev.Hash+" "+string(ev.Outcome))
	}
	if want := []string{"aaaaaaa deployed", "bbbbbbb deployed", "aaaaaaa deployed"}; !slices.Equal(got, want) {
		t.Errorf("outcomes: got %q, want %q", got, want)
	}
}

func TestTheLastWordHasANumberOfItsOwn(t *testing.T) {
	r := newRig(t, func(o *Options) {
		check := o.Check
		o.Check = func(ctx context.Context, before deployment.UnitState, hash string, report func(string)) error {
			for i := range maxEvents + 50 {
				report(fmt.Sprintf("attempt %d", i))
			}
			return check(ctx, before, hash, report)
		}
	})
	r.publish(1, "aaaaaaa")
	r.once(deployment.Deployed)
	seen := map[int]bool{}
	for _, ev := range r.events {
		if seen[ev.N] {
			t.Fatalf("number %d was used twice, the second time by %+v", ev.N, ev)
		}
		seen[ev.N] = true
	}
}

func TestPingDuringALocalDeploymentIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		plain := func(hash string) release.Verified {
			v, err := release.NoTrust().Pointer([]byte(fmt.Sprintf(`{"hash":%q}`, hash)), release.Want{})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		r.put(plain("aaaaaaa"), time.Unix(1, 0))
		begun, goOn := make(chan struct{}, 1), make(chan struct{})
		r.onFetch = func(_ context.Context, hash string) {
			if hash == "aaaaaaa" {
				begun <- struct{}{}
				<-goOn
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()
		<-begun
		r.put(plain("bbbbbbb"), time.Unix(2, 0))
		r.engine.Wake() // rings while the first one is being fetched
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		r.live("bbbbbbb")
		cancel()
		<-done
	})
}
