package publish

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const one = "https://one.example:8422"

func event(step deployment.Step, state deployment.State) deployment.Event {
	return deployment.Event{Seq: 1, Hash: commit(1), Step: step, State: state}
}

func end(o deployment.Outcome) deployment.Event {
	e := event(deployment.End, deployment.Done)
	e.Outcome, e.Reason = o, "because"
	return e
}

func receipt(t *testing.T, seq uint64, live string, o deployment.Outcome) deployment.Receipt {
	t.Helper()
	c := deployment.Receipt{Type: deployment.ReceiptType, App: "web", Environment: "production", Server: "web-1",
		Pointer: deployment.ReceiptPointer{Seq: seq, Hash: commit(1)}, Live: deployment.ReceiptLive{Seq: seq, Hash: live}}
	if o != "" {
		c.Deployment = &deployment.Record{ID: "d9", Seq: seq, Hash: commit(1), Outcome: o, Reason: "the receipt says so"}
	}
	return c
}

// leave puts a receipt into the bucket after a while.
func (s *site) leave(after time.Duration, c any) {
	data, err := json.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	time.AfterFunc(after, func() { s.bucket.place(release.ReceiptKey("web", "production", "web-1"), data) })
}

func unreachable(context.Context, func(deployment.Event)) error {
	return errors.New("ping: unreachable")
}

func TestWait(t *testing.T) {
	silent := func(ctx context.Context, on func(deployment.Event)) error {
		e := event(deployment.Check, deployment.Started)
		e.N = 1
		on(e)
		<-ctx.Done()
		return ctx.Err()
	}
	foreign := end(deployment.Deployed)
	foreign.Hash = commit(7)
	newer := end(deployment.Deployed)
	newer.Seq = 2
	older := end(deployment.Superseded)
	older.Seq = 0
	stranger := receipt(t, 1, commit(1), deployment.Deployed)
	stranger.App = "other"
	heldBefore := deployment.Receipt{Type: deployment.ReceiptType, App: "web", Environment: "production", Server: "web-1", Held: "audit"}

	for _, tt := range []struct {
		name    string
		inputs  []string
		agent   func(context.Context, func(deployment.Event)) error
		receipt any
		want    deployment.Outcome
		reason  string
		exit    int
	}{
		{"deployed by stream", []string{"servers", one}, story(event(deployment.Fetch, deployment.Done), end(deployment.Deployed)), nil, deployment.Deployed, "", 0},
		{"unchanged", []string{"servers", one}, story(end(deployment.Unchanged)), nil, deployment.Unchanged, "", 0},
		{"rolled back", []string{"servers", one}, story(end(deployment.RolledBack)), nil, deployment.RolledBack, "because", 3},
		{"broken", []string{"servers", one}, story(end(deployment.Broken)), nil, deployment.Broken, "because", 3},
		{"failed", []string{"servers", one}, story(end(deployment.Failed)), nil, deployment.Failed, "because", 1},
		{"held", []string{"servers", one}, story(end(deployment.Held)), nil, deployment.Held, "because", 5},
		{"a word that no server may say", []string{"servers", one}, story(end("published")), nil, deployment.Failed, "because", 1},
		{"healthy on another release", []string{"servers", one}, story(foreign), nil, deployment.Failed, "not of " + commit(1), 1},
		{"a newer pointer won", []string{"servers", one}, story(newer), "newer", deployment.Superseded, "because", 0},
		{"a newer pointer that the bucket does not have", []string{"servers", one}, story(newer), nil, deployment.Failed, "it follows seq 2, which this bucket does not have; see towline recover", 1},
		{"superseded by nothing", []string{"servers", one}, story(end(deployment.Superseded)), nil, deployment.Failed, "nothing newer than seq 1", 1},
		{"superseded is red when asked", []string{"servers", one, "on-superseded", "fail"}, story(newer), "newer", deployment.Superseded, "because", 1},
		{"silent to the end", []string{"servers", one}, silent, nil, deployment.TimedOut, "last seen: check started", 1},
		{"unreachable and nameless", []string{"servers", one}, unreachable, nil, deployment.Failed, "unreachable", 1},
		{"stream of an older pointer, nameless", []string{"servers", one}, story(older), nil, deployment.Failed, "spoke of seq 0", 1},
		{"unreachable, receipt", []string{"servers", "web-1=" + one}, unreachable, receipt(t, 1, commit(1), deployment.Deployed), deployment.Deployed, "", 0},
		{"stream of an older pointer, receipt", []string{"servers", "web-1=" + one}, story(older), receipt(t, 1, commit(1), deployment.Unchanged), deployment.Unchanged, "", 0},
		{"no ping, receipt", []string{"expect-servers", "web-1"}, nil, receipt(t, 1, commit(1), deployment.Deployed), deployment.Deployed, "", 0},
		{"receipt without its deployment", []string{"expect-servers", "web-1"}, nil, receipt(t, 1, commit(1), ""), deployment.Deployed, "", 0},
		{"receipt of a roll back", []string{"expect-servers", "web-1"}, nil, receipt(t, 1, commit(0), deployment.RolledBack), deployment.RolledBack, "the receipt says so", 3},
		{"receipt whose live release is another", []string{"expect-servers", "web-1"}, nil, receipt(t, 1, commit(0), deployment.Deployed), deployment.Failed, "now release", 1},
		{"receipt of a newer pointer", []string{"expect-servers", "web-1"}, nil, receipt(t, 2, commit(5), deployment.Deployed), deployment.Superseded, "newer seq 2", 0},
		{"receipt of a pointer that the bucket does not have", []string{"expect-servers", "web-1"}, nil, receipt(t, 5, commit(5), deployment.Deployed), deployment.Failed, "seq 5, which this bucket does not have", 1},
		{"receipt of a held server", []string{"expect-servers", "web-1"}, nil, heldBefore, deployment.Held, "audit", 5},
		{"receipt of another app", []string{"expect-servers", "web-1"}, nil, stranger, deployment.TimedOut, "last seen: nothing", 1},
		{"receipt that is none", []string{"expect-servers", "web-1"}, nil, "hello", deployment.TimedOut, "last seen: nothing", 1},
		{"no receipt", []string{"expect-servers", "web-1"}, nil, nil, deployment.TimedOut, "last seen: nothing", 1},
		{"nobody", nil, nil, nil, deployment.Published, "no servers were named", 0},
		{"not waiting", []string{"servers", one, "wait", "false"}, silent, nil, deployment.Published, "wait: false", 0},
		{"not waiting, unreachable", []string{"servers", one, "wait", "false"}, unreachable, nil, deployment.Published, "wait: false", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t).with(tt.inputs...)
				s.t = t
				s.ping = agents{one: tt.agent}
				if tt.receipt != nil && tt.receipt != "newer" {
					s.leave(20*time.Second, tt.receipt)
				}
				if tt.want == deployment.Superseded { // by what another publisher wrote
					time.AfterFunc(500*time.Millisecond, func() {
						first := s.verify(s.bucket.get(release.HistoryKey("web", "production", 1)))
						s.bucket.place(release.HistoryKey("web", "production", 2), s.pointerFile(2, first.Digest(), commit(5)))
					})
				}
				p := s.parts(commit(1))
				r, err := Run(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				if r.Outcome != tt.want || !strings.Contains(r.Reason, tt.reason) {
					t.Errorf("got %s, %q, want %s, %q", r.Outcome, r.Reason, tt.want, tt.reason)
				}
				if got := ExitCode(p.Options, r, err); got != tt.exit {
					t.Errorf("exit code: got %d, want %d", got, tt.exit)
				}
				if len(tt.inputs) > 0 && len(r.Servers) != 1 {
					t.Errorf("servers: got %+v, want one", r.Servers)
				}
				if r.Outcome == deployment.TimedOut && r.Took < 10*time.Minute {
					t.Errorf("timed out after %v", r.Took)
				}
			})
		})
	}
}

func TestHTTPServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := strings.Replace(one, "https", "http", 1)
		noStream := func(context.Context, func(deployment.Event)) error { return errors.ErrUnsupported }
		s := newSite(t).with("servers", plain)
		s.ping = agents{plain: noStream}
		if r := s.must(commit(1)); r.Outcome != deployment.Published || len(r.Warnings) != 2 {
			t.Errorf("nameless: got %s, warnings %q, want published and a word about it", r.Outcome, r.Warnings)
		}
		s = newSite(t).with("servers", "web-1="+plain)
		s.ping = agents{plain: noStream}
		s.leave(5*time.Second, receipt(t, 1, commit(1), deployment.Deployed))
		if r := s.must(commit(1)); r.Outcome != deployment.Deployed {
			t.Errorf("named: got %s, want deployed by its receipt", r.Outcome)
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t).with("expect-servers", "web-1")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(context.Canceled) })
		r, err := Run(ctx, s.parts(commit(1)))
		if !errors.Is(err, context.Canceled) || r.Outcome != deployment.Failed || r.Took > 61*time.Second ||
			len(r.Servers) != 1 || r.Servers[0].Reason != "interrupted; last seen: nothing" {
			t.Errorf("got %s, %v, after %v, servers %+v", r.Outcome, err, r.Took, r.Servers)
		}
		if s.pointer().Pointer().Seq != 1 {
			t.Error("the pointer is not whole")
		}
	})
}

// The log of a run with two servers, word for word: one ends well, one rolls back and tells the app's own words.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t).with("servers", "web-1="+one+"\nweb-2=https://two.example")
		fetched := event(deployment.Fetch, deployment.Done)
		fetched.Bytes, fetched.TookMS, fetched.Message = 2048, 800, "3 of 210 frames\x1b[31m"
		checking := event(deployment.Check, deployment.Started)
		back := end(deployment.RolledBack)
		back.Reason, back.Log = "probe: 503", []string{"::error::boom", "  at line 3"}
		s.ping = agents{
			one: story(event(deployment.Fetch, deployment.Started), fetched, event(deployment.Fetch, deployment.Heartbeat), end(deployment.Deployed)),
			"https://two.example": func(ctx context.Context, on func(deployment.Event)) error {
				time.Sleep(10 * time.Second)
				checking.N, checking.Deployment = 1, "d2"
				on(checking)
				on(checking) // told twice
				time.Sleep(25 * time.Second)
				back.N, back.Deployment = 2, "d2"
				on(back)
				return nil
			},
		}
		s.must(commit(1))
		want := `[Pack]
web 00000000000000 of 2026-11-23T13:06:43Z
message> say 0001
2 entries, 100 B, packed to 53 B in 0 ms
sha256 SHA
[Upload]
web/releases/KEY: 53 B in 0 ms
[Promote]
history: seq 1
web/production/version.json now points to 000000000000
[Ping and wait]
web-1> fetch started
web-1> fetch done, 2.0 KiB, in 800 ms: 3 of 210 frames [31m
web-1> deployed: live and healthy: because, after 4.0 s
web-2> check started
waiting, 30.0 s of 10m0s: web-2 (check started)
web-2> | ::error::boom
web-2> |   at line 3
web-2> rolled-back: probe: 503, after 35.0 s
[]
`
		a := s.pointer().Pointer().Artifact
		got := strings.NewReplacer(a.Key, "web/releases/KEY", a.SHA256, "SHA").Replace(s.log.text())
		want = strings.Replace(want, "00000000000000 of", short(commit(1))+" of", 1)
		want = strings.Replace(want, "to 000000000000", "to "+short(commit(1)), 1)
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestStatus(t *testing.T) {
	s := newSite(t)
	if r := s.with("command", "status").must(""); r.Outcome != deployment.Published || r.Status.Pointer != nil {
		t.Errorf("nothing yet: got %+v", r)
	}
	s.must(commit(1))
	good := receipt(t, 1, commit(1), deployment.Deployed)
	back := receipt(t, 1, commit(0), deployment.RolledBack)
	behind := receipt(t, 0, commit(0), "")
	refusing := behind
	refusing.Status = "refused: seq 1 was recorded with another payload"
	ahead := receipt(t, 9, commit(9), deployment.Deployed)
	for _, tt := range []struct {
		name     string
		expect   string
		receipts map[string]any
		want     deployment.Outcome
		reason   string
		exit     int
	}{
		{"all live", "web-1", map[string]any{"web-1": good, "web-2": good}, deployment.Deployed, "", 0},
		{"none, none expected", "", nil, deployment.Published, "", 0},
		{"one is missing", "web-1\nweb-2", map[string]any{"web-1": good}, deployment.TimedOut, "web-2: no receipt", 1},
		{"one is on the way", "", map[string]any{"web-1": good, "web-2": behind}, deployment.TimedOut, "web-2: on the way to seq 1", 1},
		{"one refuses", "", map[string]any{"web-1": refusing, "web-2": good}, deployment.Failed, "web-1: refused: seq 1", 1},
		{"one rolled back", "web-2", map[string]any{"web-1": good, "web-2": back}, deployment.RolledBack, "the receipt says so", 3},
		{"one is ahead of the bucket", "", map[string]any{"web-1": ahead}, deployment.Failed, "seq 9, which this bucket does not have", 1},
		{"no receipt at all", "", map[string]any{"web-1": "{"}, deployment.Failed, "not a receipt", 1},
	} {
		for name, c := range tt.receipts {
			if r, ok := c.(deployment.Receipt); ok {
				r.Server = name
				c = r
			}
			data, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			s.bucket.place(release.ReceiptKey("web", "production", name), data)
		}
		status := s.with("command", "status", "signing-key", "", "trusted-keys", s.key.Public().String(), "expect-servers", tt.expect)
		p := status.parts("")
		r, err := Run(t.Context(), p)
		if err != nil || r.Outcome != tt.want || !strings.Contains(r.Reason, tt.reason) || ExitCode(p.Options, r, err) != tt.exit {
			t.Errorf("%s: got %s, %q, %v, servers %+v, want %s, %q", tt.name, r.Outcome, r.Reason, err, r.Servers, tt.want, tt.reason)
		}
		s.bucket.mu.Lock()
		for name := range tt.receipts {
			delete(s.bucket.objects, release.ReceiptKey("web", "production", name))
		}
		s.bucket.mu.Unlock()
	}
}

func TestStatusWhereAbsentLooksForbidden(t *testing.T) {
	s := newSite(t)
	s.must(commit(1))
	s.bucket.denyList = true
	r, err := Run(t.Context(), s.with("command", "status", "expect-servers", "web-1").parts(""))
	if want := "no receipt, or no leave to read it"; err != nil || r.Outcome != deployment.TimedOut || !strings.Contains(r.Reason, want) {
		t.Errorf("got %s, %q, %v, want timed-out, %q", r.Outcome, r.Reason, err, want)
	}
}

// The first release under the printed policy: there is no receipt yet, which looks forbidden and alarms nobody.
func TestFirstReceiptWhereAbsentLooksForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t).with("servers", "", "expect-servers", "web-1")
		s.bucket.denyList = true
		s.leave(time.Minute, receipt(t, 1, commit(1), deployment.Deployed))
		r := s.must(commit(1))
		if text := s.log.text(); r.Outcome != deployment.Deployed || strings.Contains(text, "denied") || strings.Count(text, "web-1> no receipt yet, or no leave to read it\n") != 1 {
			t.Errorf("got %s, want deployed and one quiet word of the receipt:\n%s", r.Outcome, text)
		}
	})
}

// A receipt that is written between the switch and the health check must not make a job green.
func TestReceiptUnderWayIsNoLastWord(t *testing.T) {
	c := deployment.Receipt{
		Pointer:    deployment.ReceiptPointer{Seq: 7, Hash: "new"},
		Live:       deployment.ReceiptLive{Seq: 7, Hash: "new"},
		Deployment: &deployment.Record{Seq: 7, Hash: "new"},
	}
	if s, ok := judgeReceipt(c, 7, "new"); ok {
		t.Errorf("under way: got %+v as the last word", s)
	}
	c.Deployment.Outcome = deployment.Deployed
	if s, ok := judgeReceipt(c, 7, "new"); !ok || s.Outcome != deployment.Deployed {
		t.Errorf("ended: got %+v, %v, want deployed", s, ok)
	}
}
