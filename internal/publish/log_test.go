package publish

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 entries", 1: "1 entry", 2: "2 entries"} {
		if got := Count(n, "entry", "entries"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &recorder{}
		m := newMeter(log, "uploaded", 1000)
		for done := int64(0); done <= 1000; done += 10 { // 100 steps of 50 ms: tenths, at most one a second
			m.at(done, 0)
			time.Sleep(50 * time.Millisecond)
		}
		m.end()
		if got := strings.Count(log.text(), "\n"); got < 3 || got > 5 {
			t.Errorf("in 5 s: got %d lines, want about one a second:\n%s", got, log.text())
		}
		time.Sleep(time.Minute)
		if got := strings.Count(log.text(), "\n"); got > 5 {
			t.Errorf("after its end: got %d lines:\n%s", got, log.text())
		}
	})
}

// What stands still is said to be alive every ten seconds, although nobody tells of any progress.
func TestMeterOfWhatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &recorder{}
		m := newMeter(log, "uploaded", 1000)
		m.at(50, 0)
		time.Sleep(31 * time.Second)
		m.end()
		if got, want := log.text(), "uploaded 50 B of 1000 B, 5 %, after 10.0 s\nuploaded 50 B of 1000 B, 5 %, after 20.0 s\nuploaded 50 B of 1000 B, 5 %, after 30.0 s\n"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// The whole is known only once the tree was read.
func TestMeterLearnsTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &recorder{}
		m := newMeter(log, "packed", 0)
		time.Sleep(10500 * time.Millisecond)
		m.at(20, 40)
		time.Sleep(1500 * time.Millisecond)
		m.end()
		if got, want := log.text(), "packed 0 B, after 10.0 s\npacked 20 B of 40 B, 50 %, after 11.0 s\n"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestTextLog(t *testing.T) {
	story := func(colors bool) string {
		var out strings.Builder
		l := NewTextLog(&out, false, colors)
		l.Phase("Pack")
		l.Line(Plain, "3 entries")
		l.Quote(Bad, "web-1", "check failed")
		l.Debug("unseen")
		l.Warn("careful")
		l.Phase("")
		return out.String()
	}
	if got, want := story(false), "Pack\n  3 entries\n  web-1  check failed\nwarning: careful\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := story(true), "Pack\n  3 entries\n  \x1b[36mweb-1\x1b[0m  \x1b[31mcheck failed\x1b[0m\n\x1b[33mwarning:\x1b[0m careful\n"; got != want {
		t.Errorf("colours: got %q, want %q", got, want)
	}
}

// A runner obeys this anywhere in a line, and towline publish may be a step of a workflow.
func TestTextLogSteersNobody(t *testing.T) {
	var out strings.Builder
	l := NewTextLog(&out, false, false)
	l.Line(Plain, "x ##[error]boom")
	l.Quote(Plain, "##[group]web", "| ##[add-mask]boom")
	l.Warn("##[set-output name=a]boom")
	if strings.Contains(out.String(), "##[") {
		t.Errorf("got %q", out.String())
	}
}

// Green is for nothing but what is proven.
func TestToneOf(t *testing.T) {
	for _, o := range []deployment.Outcome{deployment.Deployed, deployment.Unchanged, deployment.RolledBack, deployment.Failed, deployment.Broken, deployment.Superseded,
		deployment.Held, deployment.TimedOut, deployment.Skipped, deployment.Published, deployment.DryRun} {
		if got, want := ToneOf(o) == Good, healthy(o); got != want {
			t.Errorf("%s: good is %v, want %v", o, got, want)
		}
		if o.ExitCode() == deployment.ExitOK && ToneOf(o) == Bad {
			t.Errorf("%s: bad, and green", o)
		}
	}
}
