//go:build droplet

// The tests of this file change units of the machine that they run on. They are for a machine that may be thrown away:
// test/system builds this package with the tag droplet and runs it as root inside a booted one.

package service

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

const unitDir = "/run/systemd/system"

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		t.Fatalf("systemctl %q: %v: %s", args, err, out)
	}
}

// install writes a unit file, and removes the unit when the test is over.
func install(t *testing.T, unit, text string) {
	t.Helper()
	if err := os.MkdirAll(unitDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unitDir, unit), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	systemctl(t, "daemon-reload")
	t.Cleanup(func() {
		exec.Command("systemctl", "kill", "--signal=KILL", unit).Run()
		exec.Command("systemctl", "stop", unit).Run()
		exec.Command("systemctl", "reset-failed", unit).Run()
		os.Remove(filepath.Join(unitDir, unit))
		exec.Command("systemctl", "daemon-reload").Run()
	})
}

// newUnit installs a unit of that name whose [Service] section is given.
func newUnit(t *testing.T, name, service string) *Systemd {
	t.Helper()
	unit := "towline-test-" + name + ".service"
	install(t, unit, "[Unit]\nDescription="+name+"\nStartLimitIntervalSec=0\n[Service]\n"+service)
	return open(t, unit)
}

func open(t *testing.T, unit string) *Systemd {
	t.Helper()
	s, err := NewSystemd(unit, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// await polls the unit until ok.
func await(t *testing.T, s *Systemd, ok func(deployment.UnitState) bool) deployment.UnitState {
	t.Helper()
	var st deployment.UnitState
	for range 500 {
		var err error
		if st, err = s.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ok(st) {
			return st
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("the unit stays %+v", st)
	return st
}

func failed(st deployment.UnitState) bool { return st.Active == "failed" }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func contains(lines []string, text string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, text) })
}

func TestSystemdHealthy(t *testing.T) {
	s := newUnit(t, "healthy", `ExecStart=/bin/sh -c 'trap "echo last words of $INVOCATION_ID; exit 0" TERM; echo hello from $INVOCATION_ID; while :; do sleep 0.1; done'
`)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var old string
	for range 6 { // more than a default start limit allows
		if err := s.Restart(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		st, err := s.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := deployment.UnitState{Managed: true, Active: "active", Sub: "running", Result: "success", Type: "simple",
			MainPID: st.MainPID, Invocation: st.Invocation}
		if st != want || st.MainPID <= 1 || len(st.Invocation) != 32 || st.Invocation == old {
			t.Errorf("got %+v, want it running in a new invocation", st)
		}
		old = st.Invocation
		// journald is to have caught up: it dates what it reads, and the last restart was milliseconds ago.
		for range 500 {
			if lines, err := s.Log(t.Context(), 40); err != nil || contains(lines, "hello from "+old) && contains(lines, "Started ") {
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	st := await(t, s, func(deployment.UnitState) bool { return true })
	var lines []string
	for range 100 { // a running unit's log is not awaited
		var err error
		if lines, err = s.Log(t.Context(), 40); err != nil {
			t.Fatal(err)
		}
		if contains(lines, "hello") {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if !contains(lines, "hello from "+st.Invocation) || !contains(lines, "Started ") || contains(lines, "last words") {
		t.Errorf("got log %q, want that of the newest invocation and of systemd", lines)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := s.State(t.Context()); err != nil || st.Active != "inactive" {
		t.Errorf("got %+v, %v, want it inactive", st, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

// TestSystemdCrash: systemd finds nothing wrong with such a restart.
func TestSystemdCrash(t *testing.T) {
	script := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(script, []byte("printf 'Pok\\303\\251mon \\377\\n'\necho no such database\nexit 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newUnit(t, "crash", "ExecStart=/bin/sh "+script+"\n")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := await(t, s, failed)
	if st.Result != "exit-code" || st.ExitCode != 7 || st.MainPID != 0 || st.Invocation == "" {
		t.Errorf("got %+v, want the exit status", st)
	}
	lines, err := s.Log(t.Context(), 40)
	if err != nil || !contains(lines, "no such database") || !contains(lines, "code=exited, status=7") {
		t.Errorf("got log %q, %v", lines, err)
	}
	if !contains(lines, "Pokémon \uFFFD") {
		t.Errorf("got log %q, want the line that is no UTF-8", lines)
	}
	if lines, err := s.Log(t.Context(), 1); err != nil || len(lines) != 1 {
		t.Errorf("got log %q, %v, want one line", lines, err)
	}
}

func TestSystemdMissingProgram(t *testing.T) {
	simple := newUnit(t, "missing-simple", "ExecStart=/nonexistent/program\n")
	if err := simple.Restart(t.Context()); err != nil {
		t.Logf("this systemd reports it at once: %v", err)
	}
	if st := await(t, simple, failed); st.ExitCode != 203 {
		t.Errorf("got %+v, want status 203", st)
	}
	sure := newUnit(t, "missing-exec", "Type=exec\nExecStart=/nonexistent/program\n")
	err := sure.Restart(t.Context())
	if want := "job failed, unit is failed (failed), exited with status 203 (EXEC: the program is missing"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if lines, err := sure.Log(t.Context(), 40); err != nil || !contains(lines, "/nonexistent/program") {
		t.Errorf("got log %q, %v", lines, err)
	}
}

// TestSystemdLogOfTheForked writes what a process of systemd's wrote that journald could not ask for its unit, and what
// another user would make of that.
func TestSystemdLogOfTheForked(t *testing.T) {
	s := newUnit(t, "forked", "ExecStart=/bin/sleep 1000\n")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"root", "nobody"} {
		cmd := exec.Command("setpriv", "--reuid="+who, "--clear-groups", "logger", "--journald")
		cmd.Stdin = strings.NewReader("MESSAGE=" + who + " says: failed to locate executable\nUNIT=" + s.unit + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if out, err := exec.Command("journalctl", "--sync").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines, err := s.Log(t.Context(), 40)
	if err != nil {
		t.Fatal(err)
	}
	if !contains(lines, "root says") || contains(lines, "nobody says") {
		t.Errorf("got %q, want what root says and nothing else", lines)
	}
}

func TestSystemdCrashLoop(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "works")
	s := newUnit(t, "loop", "Restart=always\nRestartSec=200ms\nExecStart=/bin/sh -c 'test -e "+flag+" && exec sleep 1000; echo round $INVOCATION_ID; exit 1'\n")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rounds []string
	st := await(t, s, func(st deployment.UnitState) bool {
		if n := len(rounds); n == 0 || rounds[n-1] != st.Invocation {
			rounds = append(rounds, st.Invocation)
		}
		return st.Restarts >= 3
	})
	if failed(st) {
		t.Errorf("got %+v: a unit that restarts for ever is not failed", st)
	}
	lines, err := s.Log(t.Context(), 40)
	if err != nil || !contains(lines, "round "+rounds[0]) || !contains(lines, "round "+rounds[1]) {
		t.Errorf("got log %q, %v, want the rounds %q", lines, err, rounds)
	}
	// A restart by hand counts from zero, whatever state it meets.
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := s.State(t.Context()); err != nil || st.Active != "active" || st.Restarts != 0 {
		t.Errorf("got %+v, %v, want it running with 0 restarts", st, err)
	}
	lines, err = s.Log(t.Context(), 40)
	if err != nil || contains(lines, "round") {
		t.Errorf("got log %q, %v, want nothing of the earlier rounds", lines, err)
	}
}

func TestSystemdStartLimit(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "works")
	unit := "towline-test-limit.service"
	install(t, unit, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nRestart=always\nRestartSec=20ms\n"+
		"ExecStart=/bin/sh -c 'test -e "+flag+" && exec sleep 1000; exit 1'\n")
	s := open(t, unit)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// systemd keeps the result of the crash or says start-limit-hit, depending on its version.
	if st := await(t, s, failed); st.Result != "start-limit-hit" && st.Result != "exit-code" {
		t.Errorf("got %+v", st)
	}
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSystemdRefusals(t *testing.T) {
	missing := open(t, "towline-test-missing.service")
	for name, err := range map[string]error{"check": missing.Check(t.Context()), "restart": missing.Restart(t.Context())} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name+" towline-test-missing.service: no such unit") {
			t.Errorf("missing: got %v", err)
		}
	}
	if err := missing.Stop(t.Context()); err != nil {
		t.Errorf("missing: stop: %v", err)
	}
	if st, err := missing.State(t.Context()); err != nil || st.Active != "inactive" || st.Invocation != "" {
		t.Errorf("missing: got %+v, %v", st, err)
	}

	masked := newUnit(t, "masked", "")
	path := filepath.Join(unitDir, masked.unit)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	systemctl(t, "daemon-reload")
	for _, err := range []error{masked.Check(t.Context()), masked.Restart(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "the unit is masked: run systemctl unmask "+masked.unit) {
			t.Errorf("masked: got %v", err)
		}
	}

	bad := newUnit(t, "bad", "Type=simple\n")
	if err := bad.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot load the unit (bad-setting") {
		t.Errorf("bad: got %v", err)
	}
	if err := bad.Restart(t.Context()); err == nil {
		t.Error("bad: restart: got no error")
	}
}

func TestSystemdNeverReady(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "works")
	s := newUnit(t, "ready", "Type=notify\nNotifyAccess=all\nTimeoutStartSec=1h\nExecStart=/bin/sh -c 'test -e "+flag+" && systemd-notify --ready; exec sleep 1000'\n")
	err := s.Restart(within(t, 500*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not finished in time, unit is activating (start)") {
		t.Errorf("got %v, want what the unit is doing", err)
	}
	// The job of that restart still runs; the next one must not just wait for it.
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(within(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestSystemdIgnoresSigterm(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "deaf")
	s := newUnit(t, "stubborn", "TimeoutStopSec=3s\nExecStart=/bin/sh -c 'trap \"\" TERM; touch "+flag+"; while :; do sleep 0.1; done'\n")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, func(st deployment.UnitState) bool {
		_, err := os.Stat(flag)
		return st.Sub == "running" && err == nil
	})
	err := s.Restart(within(t, 500*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "unit is deactivating (stop-sigterm)") {
		t.Errorf("got %v, want that it does not stop", err)
	}
	if err := s.Restart(within(t, 20*time.Second)); err != nil {
		t.Errorf("restart with time to kill: %v", err)
	}
}

func TestSystemdReconnects(t *testing.T) {
	s := newUnit(t, "reconnect", "ExecStartPre=/bin/sleep 1\nExecStart=/bin/sleep 1000\n")
	if _, err := s.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.bus.conn.Close()
	if _, err := s.State(t.Context()); err != nil {
		t.Errorf("after the connection broke: %v", err)
	}
	// Re-execution closes the private socket's connections, and with them the word of the job's end.
	reexec := time.AfterFunc(300*time.Millisecond, func() { exec.Command("systemctl", "daemon-reexec").Run() })
	defer reexec.Stop()
	if err := s.Restart(within(t, 30*time.Second)); err != nil {
		t.Errorf("while systemd re-executes itself: %v", err)
	}
	if st, err := s.State(t.Context()); err != nil || st.Sub != "running" {
		t.Errorf("got %+v, %v, want it running", st, err)
	}
}
