//go:build droplet

package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSystemdRunInstance(t *testing.T) {
	install(t, "towline-app-test@.service", `[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "this is %i"; case %i in fails) echo "no such table" >&2; exit 3;; hangs) sleep 1000;; esac'
`)
	s := open(t, "towline-test-any.service")
	out, err := s.RunInstance(t.Context(), "towline-app-test@after-healthy.service")
	if err != nil || !slices.Equal(out, []string{"this is after-healthy"}) {
		t.Errorf("got %q, %v, want its output", out, err)
	}
	for range 2 {
		out, err = s.RunInstance(t.Context(), "towline-app-test@fails.service")
		if err == nil || !strings.Contains(err.Error(), "run towline-app-test@fails.service: job failed, unit is failed (failed), exited with status 3") {
			t.Errorf("got %v, want the status", err)
		}
		if !slices.Equal(out, []string{"this is fails", "no such table"}) {
			t.Errorf("got %q, want the output of this run", out)
		}
	}
	out, err = s.RunInstance(within(t, time.Second), "towline-app-test@hangs.service")
	if !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(out, []string{"this is hangs"}) {
		t.Errorf("got %q, %v, want the time limit", out, err)
	}
	if st, err := open(t, "towline-app-test@hangs.service").State(t.Context()); err != nil || st.MainPID != 0 {
		t.Errorf("got %+v, %v, want it stopped", st, err)
	}
	if _, err := s.RunInstance(t.Context(), "towline-app-none@fails.service"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestSystemdStartedFrom(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "current")
	if err := os.Symlink("1", link); err != nil {
		t.Fatal(err)
	}
	s := newUnit(t, "origin", "WorkingDirectory="+link+"\nExecStart=/bin/sleep 1000\n")
	if got, err := s.StartedFrom(t.Context()); err != nil || got != "" {
		t.Errorf("before the start: got %q, %v", got, err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("2", link); err != nil {
		t.Fatal(err)
	}
	if got, err := s.StartedFrom(t.Context()); err != nil || got != filepath.Join(dir, "1") {
		t.Errorf("got %q, %v, want the old directory", got, err)
	}
}

// polkitRule is what lets the user daemon handle one unit.
const polkitRule = `polkit.addRule(function(action, subject) {
  if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "daemon" &&
      action.lookup("unit") == "towline-test-mine.service" &&
      ["start", "stop", "restart", "reload", "reset-failed"].indexOf(action.lookup("verb")) >= 0) return polkit.Result.YES;
});
`

// asDaemon runs one test of this program as the user daemon.
func asDaemon(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+name+"$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// TestSystemdUnprivileged runs itself as a user without rights.
func TestSystemdUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		s := newUnit(t, "mine", "WorkingDirectory=/usr\nExecStart=/bin/sh -c 'echo secret; exec sleep 1000'\n")
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		asDaemon(t, "TestSystemdUnprivileged")
		return
	}
	s := open(t, "towline-test-mine.service")
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if st, err := s.State(t.Context()); err != nil || st.Sub != "running" {
		t.Errorf("got %+v, %v, want to see it running", st, err)
	}
	err := s.Restart(within(t, 20*time.Second))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "unit towline-test-mine.service and verb reset-failed") {
		t.Errorf("restart: got %v, want the missing rule", err)
	}
	if err := s.Stop(within(t, 20*time.Second)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("stop: got %v, want fs.ErrPermission", err)
	}
	lines, err := s.Log(t.Context(), 40)
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0], "group systemd-journal") {
		t.Errorf("got log %q, %v, want what is missing", lines, err)
	}
	if got, err := s.StartedFrom(t.Context()); err != nil || got != "/usr" {
		t.Errorf("got %q, %v, want the unit's working directory", got, err)
	}
}

// TestSystemdPolkit runs itself as a user whom a rule lets handle one unit, and no other.
func TestSystemdPolkit(t *testing.T) {
	if os.Geteuid() == 0 {
		newUnit(t, "mine", "ExecStart=/bin/sleep 1000\n")
		newUnit(t, "other", "ExecStart=/bin/sleep 1000\n")
		rule := "/etc/polkit-1/rules.d/50-towline-test.rules"
		if err := os.WriteFile(rule, []byte(polkitRule), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(rule) })
		systemctl(t, "restart", "polkit.service") // it would notice by itself, a little later
		asDaemon(t, "TestSystemdPolkit")
		return
	}
	mine, other := open(t, "towline-test-mine.service"), open(t, "towline-test-other.service")
	for _, err := range []error{mine.Restart(within(t, 20*time.Second)), mine.Restart(within(t, 20*time.Second)), mine.Stop(within(t, 20*time.Second))} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := other.Restart(within(t, 20*time.Second)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another unit: got %v, want fs.ErrPermission", err)
	}
}
