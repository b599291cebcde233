package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// moment is what a fake unit or probe shows from a time on, counted from the start of the check.
type moment[T any] struct {
	from time.Duration
	show T
}

// at returns what the script shows now.
func at[T any](began time.Time, script []moment[T]) T {
	var shown T
	for _, m := range script {
		if time.Since(began) >= m.from {
			shown = m.show
		}
	}
	return shown
}

// script is a probe that passes while its text is empty.
type script struct {
	began time.Time
	lines []moment[string]
	takes time.Duration
}

func (s script) Try(ctx context.Context) (string, error) {
	select {
	case <-ctx.Done():
		return "", errors.New("no answer in time")
	case <-time.After(s.takes):
	}
	if text := at(s.began, s.lines); text != "" {
		return "", errors.New(text)
	}
	return "GET /: 200", nil
}

// unit makes a state: active, sub, then changes.
func unit(activeSub string, changes ...func(*deployment.UnitState)) deployment.UnitState {
	active, sub, _ := strings.Cut(activeSub, "/")
	st := deployment.UnitState{Managed: true, Active: active, Sub: sub, Result: "success", Type: "simple",
		Invocation: "new", MainPID: 100}
	for _, c := range changes {
		c(&st)
	}
	return st
}

func pid(n int) func(*deployment.UnitState) { return func(s *deployment.UnitState) { s.MainPID = n } }
func restarts(n int) func(*deployment.UnitState) {
	return func(s *deployment.UnitState) { s.Restarts = n }
}
func kind(t string) func(*deployment.UnitState) { return func(s *deployment.UnitState) { s.Type = t } }
func call(id string) func(*deployment.UnitState) {
	return func(s *deployment.UnitState) { s.Invocation = id }
}
func ended(r string, code int) func(*deployment.UnitState) {
	return func(s *deployment.UnitState) { s.Result, s.ExitCode, s.MainPID = r, code, 0 }
}

const (
	refused = "connection refused"
	passes  = ""
)

func TestGate(t *testing.T) {
	type units = []moment[deployment.UnitState]
	type probe = []moment[string]
	running := units{{0, unit("active/running")}}
	before := unit("active/running", call("old"), pid(50))
	for _, tt := range []struct {
		name   string
		before *deployment.UnitState // the old process when nil
		unit   units                 // no unit when nil
		probe  probe                 // no probe when nil
		takes  time.Duration         // of one attempt
		passes int
		stable time.Duration // 5s when zero, none when negative
		within time.Duration // 30s when zero

		want     string // part of the reason; empty: healthy
		from, to time.Duration
	}{
		// A release that works.
		{name: "unit and probe", unit: running, probe: probe{{0, passes}}, from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "unit alone", unit: running, from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "probe alone without soak", probe: probe{{0, passes}}, stable: -1, to: time.Millisecond},
		{name: "neither without soak", stable: -1, to: time.Millisecond},
		{name: "neither soaks", from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "slow start of the app", unit: running, probe: probe{{0, refused}, {20 * time.Second, passes}},
			from: 20 * time.Second, to: 21200 * time.Millisecond},
		{name: "slow start of the unit", unit: units{{0, unit("activating/start")}, {28 * time.Second, unit("active/running")}},
			probe: probe{{0, passes}}, from: 33 * time.Second, to: 34 * time.Second},
		{name: "oneshot that remains", unit: units{{0, unit("active/exited", kind("oneshot"), pid(0))}},
			from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "reload in the soak", unit: units{{0, unit("active/running")}, {2 * time.Second, unit("reloading/reload")}, {3 * time.Second, unit("active/running")}},
			from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "forking, pid found later", unit: units{{0, unit("active/running", kind("forking"), pid(0))}, {time.Second, unit("active/running", kind("forking"))}},
			from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "three passes in a row", probe: probe{{0, passes}, {50 * time.Millisecond, refused}, {350 * time.Millisecond, passes}},
			passes: 3, stable: -1, from: 2500 * time.Millisecond, to: 2600 * time.Millisecond},
		{name: "first start, nothing before", before: &deployment.UnitState{}, unit: running, from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "failed and restart-counted before", before: new(unit("failed/failed", call("old"), ended("exit-code", 1), restarts(5))),
			unit: running, from: 5 * time.Second, to: 5200 * time.Millisecond},

		// Crashes are failures at once.
		{name: "exits 1", unit: units{{0, unit("active/running")}, {time.Second, unit("failed/failed", ended("exit-code", 1))}},
			want: "unit exited with status 1 (exit-code)", from: time.Second, to: 1200 * time.Millisecond},
		{name: "exits 1 before it was seen", unit: units{{0, unit("failed/failed", ended("exit-code", 1))}},
			want: "unit exited with status 1 (exit-code)"},
		{name: "program missing", unit: units{{0, unit("failed/failed", ended("exit-code", 203))}}, want: "the program is missing"},
		{name: "exits 0", unit: units{{0, unit("inactive/dead", ended("success", 0))}}, want: "unit exited with status 0"},
		{name: "puts itself in the background", unit: units{{0, unit("deactivating/final-sigterm", ended("success", 0))}},
			want: "unit exited with status 0 and is deactivating: a program that puts itself in the background needs Type=forking"},
		{name: "ended by a signal from outside", unit: units{{0, unit("deactivating/final-sigterm", ended("success", 15))}},
			want: "unit is stopping (final-sigterm)"},
		{name: "exits 0 and is unloaded", unit: units{{0, unit("inactive/dead", ended("success", 0), call(""))}}, want: "Type=forking"},
		{name: "exits 0 under RemainAfterExit", unit: units{{0, unit("active/exited", ended("success", 0))}}, want: "the main process is gone"},
		{name: "exits 0 under RemainAfterExit in the soak", unit: units{{0, unit("active/running")}, {time.Second, unit("active/exited", ended("success", 0))}},
			want: "the main process is gone", from: time.Second, to: 1200 * time.Millisecond},
		{name: "oneshot that ends", unit: units{{0, unit("inactive/dead", kind("oneshot"), ended("success", 0))}}, want: "RemainAfterExit=yes"},
		{name: "killed", unit: units{{0, unit("failed/failed", ended("signal", 11))}}, want: "killed by signal 11 (segmentation fault)"},
		{name: "out of memory", unit: units{{0, unit("failed/failed", ended("oom-kill", 9))}}, want: "oom-kill"},
		{name: "start limit", unit: units{{0, unit("failed/failed", ended("start-limit-hit", 1), call("old"))}}, want: "start limit hit"},
		{name: "waits for its restart", unit: units{{0, unit("activating/auto-restart", ended("exit-code", 1), restarts(3))}},
			want: "unit exited with status 1 (exit-code), restarted 3 times"},
		{name: "crash loop seen running", unit: units{{0, unit("active/running", restarts(2))}}, want: "restarted 2 times"},
		{name: "crash loop in the soak", unit: units{{0, unit("active/running")}, {3 * time.Second, unit("active/running", restarts(1), pid(101), call("third"))}},
			probe: probe{{0, passes}}, want: "restarted once", from: 3 * time.Second, to: 3200 * time.Millisecond},
		{name: "main pid changes in the soak", unit: units{{0, unit("active/running")}, {2 * time.Second, unit("active/running", pid(101))}},
			probe: probe{{0, passes}}, want: "from pid 100 to 101", from: 2 * time.Second, to: 2200 * time.Millisecond},
		{name: "restarted by hand in the soak", unit: units{{0, unit("active/running")}, {2 * time.Second, unit("active/running", pid(101), call("third"))}},
			want: "restarted by somebody else", from: 2 * time.Second, to: 2200 * time.Millisecond},
		{name: "stopped by hand in the soak", unit: units{{0, unit("active/running")}, {2 * time.Second, unit("deactivating/stop-sigterm")}},
			want: "unit is stopping (stop-sigterm)", from: 2 * time.Second, to: 2200 * time.Millisecond},
		{name: "healthy then dead in the soak", unit: units{{0, unit("active/running")}, {4 * time.Second, unit("failed/failed", ended("exit-code", 7))}},
			probe: probe{{0, passes}, {3990 * time.Millisecond, refused}}, want: "unit exited with status 7", from: 4 * time.Second, to: 4200 * time.Millisecond},

		// The app does not do what the unit says.
		{name: "never ready", unit: units{{0, unit("activating/start", kind("notify"))}}, want: "not healthy within 30s: unit is still starting (start)",
			from: 30 * time.Second, to: 30100 * time.Millisecond},
		{name: "never answers", unit: running, probe: probe{{0, refused}}, want: "not healthy within 30s: connection refused",
			from: 30 * time.Second, to: 30100 * time.Millisecond},
		{name: "answers too slowly", unit: running, probe: probe{{0, passes}}, takes: 7 * time.Second, want: "no answer in time",
			from: 30 * time.Second, to: 30100 * time.Millisecond},
		{name: "not restarted at all", unit: units{{0, unit("active/running", call("old"))}}, probe: probe{{0, passes}},
			want: "unit was not restarted", from: 30 * time.Second, to: 30100 * time.Millisecond},
		{name: "old process still answers", unit: running, probe: probe{{0, `200: answer does not contain "e02371a": got "old"`}},
			want: `does not contain "e02371a"`, from: 30 * time.Second, to: 30100 * time.Millisecond},
		{name: "answers before it is active, not after", unit: units{{0, unit("activating/start")}, {time.Second, unit("active/running")}},
			probe: probe{{0, passes}, {time.Second, refused}}, want: "not healthy within 30s", from: 30 * time.Second, to: 30100 * time.Millisecond},
		{name: "stops answering in the soak", unit: running, probe: probe{{0, passes}, {2500 * time.Millisecond, "500: boom"}},
			want: "was healthy, then failed", from: 2500 * time.Millisecond, to: 3700 * time.Millisecond},
		{name: "stops answering at the end of the soak", unit: running, probe: probe{{0, passes}, {4990 * time.Millisecond, "500: boom"}},
			want: "500: boom", from: 5 * time.Second, to: 5200 * time.Millisecond},
		{name: "hangs in the soak", unit: running, probe: probe{{0, passes}, {time.Second, "hang"}}, takes: 900 * time.Millisecond, want: "hang",
			from: time.Second, to: 4 * time.Second},
		{name: "flaps before k passes", probe: probe{{0, passes}, {time.Second, refused}}, passes: 10, stable: -1, within: 10 * time.Second,
			want: "not healthy within 10s: connection refused", from: 10 * time.Second, to: 10100 * time.Millisecond},
		{name: "too few passes in time", probe: probe{{0, refused}, {9 * time.Second, passes}}, passes: 10, stable: -1, within: 10 * time.Second,
			want: "of 10 times in a row", from: 10 * time.Second, to: 10100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				g := Gate{Within: tt.within, Stable: tt.stable, Passes: tt.passes}
				if g.Stable == 0 {
					g.Stable = 5 * time.Second
				}
				g.Stable = max(g.Stable, 0)
				g.Unit = func(context.Context) (deployment.UnitState, error) { return at(began, tt.unit), nil }
				if tt.probe != nil {
					g.Probe = script{began, tt.probe, tt.takes}
				}
				old := before
				if tt.before != nil {
					old = *tt.before
				}
				var lines []string
				err := g.Wait(t.Context(), old, func(l string) { lines = append(lines, l) })

				took := time.Since(began)
				if took < tt.from || tt.to > 0 && took > tt.to {
					t.Errorf("took %s, want between %s and %s", took, tt.from, tt.to)
				}
				if tt.want == "" {
					if err != nil {
						t.Errorf("got %v, want healthy", err)
					}
				} else {
					var f *Failure
					if !errors.As(err, &f) || !strings.Contains(f.Reason, tt.want) {
						t.Fatalf("got %v, want a failure with %q", err, tt.want)
					}
					if f.Unit != at(began, tt.unit) {
						t.Errorf("got unit %+v, want the last state", f.Unit)
					}
				}
				for i, l := range lines {
					if i > 0 && lines[i-1] == l {
						t.Errorf("reported twice: %s", l)
					}
				}
				if len(lines) > 12 {
					t.Errorf("got %d lines, want changes only: %q", len(lines), lines)
				}
			})
		})
	}
}

func TestGateSaysThatNothingIsChecked(t *testing.T) {
	var lines []string
	if err := (Gate{}).Wait(t.Context(), deployment.UnitState{}, func(l string) { lines = append(lines, l) }); err != nil {
		t.Fatal(err)
	}
	got, want := strings.Join(lines, "\n"), "healthy: nothing to check: no unit, no probe"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGateKeepsDistinctAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var lines []moment[string]
		for i := range 7 {
			lines = append(lines, moment[string]{time.Duration(i) * 4 * time.Second, fmt.Sprintf("50%d: boom", i)})
		}
		err := Gate{Probe: script{began: began, lines: lines}, Within: 30 * time.Second}.Wait(t.Context(), deployment.UnitState{}, nil)
		var f *Failure
		if !errors.As(err, &f) {
			t.Fatalf("got %v, want a failure", err)
		}
		if len(f.Attempts) != keepAttempts || !strings.HasPrefix(f.Attempts[0], "502: boom (4 times)") ||
			!strings.HasPrefix(f.Attempts[4], "506: boom") {
			t.Errorf("got attempts %q, want the last 5 distinct ones, counted", f.Attempts)
		}
	})
}

func TestGateBlindIsNoVerdict(t *testing.T) {
	for _, tt := range []struct {
		name  string
		blind func(since time.Duration) bool
		want  bool // an error
	}{
		{"always", func(time.Duration) bool { return true }, true},
		{"at first", func(d time.Duration) bool { return d < 10*time.Second }, false},
		{"in the soak", func(d time.Duration) bool { return d > time.Second && d < 4*time.Second }, false},
		{"from the soak on", func(d time.Duration) bool { return d > time.Second }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				bus := errors.New("connect to systemd: connection refused")
				g := Gate{Stable: 5 * time.Second, Probe: script{began: began}}
				g.Unit = func(context.Context) (deployment.UnitState, error) {
					if tt.blind(time.Since(began)) {
						return deployment.UnitState{}, bus
					}
					return unit("active/running"), nil
				}
				err := g.Wait(t.Context(), deployment.UnitState{}, nil)
				var f *Failure
				if errors.As(err, &f) {
					t.Fatalf("got the verdict %v from a bus that does not answer", f)
				}
				if errors.Is(err, bus) != tt.want {
					t.Errorf("got %v, want an error of the bus: %v", err, tt.want)
				}
				if took := time.Since(began); took > 41*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestGateEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		g := Gate{Probe: script{began: began, takes: time.Hour}, Stable: time.Hour}
		err := g.Wait(ctx, deployment.UnitState{}, nil)
		var f *Failure
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &f) {
			t.Errorf("got %v, want the context's error and no verdict", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %s, want 3s", took)
		}
	})
}

func TestGateInterval(t *testing.T) {
	for _, tt := range []struct {
		interval time.Duration
		want     []time.Duration // starts of the first attempts, in ms
	}{
		{0, []time.Duration{0, 100, 300, 700, 1500, 2500, 3500}},
		{250 * time.Millisecond, []time.Duration{0, 250, 500, 750}},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var got []time.Duration
			probe := Exec{func(context.Context) (string, error) {
				got = append(got, time.Since(began)/time.Millisecond)
				return "", errors.New("no")
			}}
			Gate{Probe: probe, Interval: tt.interval, Within: 5 * time.Second}.Wait(t.Context(), deployment.UnitState{}, nil)
			if g, w := fmt.Sprint(got[:len(tt.want)]), fmt.Sprint(tt.want); g != w {
				t.Errorf("interval %s: got attempts at %s, want %s", tt.interval, g, w)
			}
		})
	}
}

// A soak that nothing disturbs is over when it is, not when the next look happens to come.
func TestGateEndsWithTheSoak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		g := Gate{Stable: 1370 * time.Millisecond, Unit: func(context.Context) (deployment.UnitState, error) {
			return deployment.UnitState{Managed: true, Active: "active", Sub: "running", MainPID: 2, Invocation: "new"}, nil
		}}
		if err := g.Wait(t.Context(), deployment.UnitState{Managed: true, Invocation: "old"}, nil); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != g.Stable {
			t.Errorf("took %s, want %s", got, g.Stable)
		}
	})
}
