package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestExec(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hook"), []byte("#!/bin/sh\necho from $PWD\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plain"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		argv []string
		dir  string
		env  []string
		user string
		want []string
		err  string
		is   error
	}{
		{name: "both outputs", argv: sh("echo one; echo two >&2"), want: []string{"one", "two"}},
		{name: "relative to the directory", argv: []string{"./hook"}, dir: dir, want: []string{"from " + dir}},
		{name: "status", argv: sh("echo why; exit 3"), want: []string{"why"}, err: "run sh: exit status 3"},
		{name: "signal", argv: sh("kill -SEGV $$"), err: "run sh: killed by signal 11 (segmentation fault)"},
		{name: "not in PATH", argv: []string{"no-such-program"}, err: "run no-such-program: not found in PATH " + defaultPath, is: fs.ErrNotExist},
		{name: "not there", argv: []string{"./no-such-hook"}, dir: dir, err: "run ./no-such-hook: ./no-such-hook: no such file"},
		{name: "not executable", argv: []string{"./plain"}, dir: dir, err: "run ./plain: ./plain: permission denied"},
		{name: "no directory", argv: sh("true"), dir: dir + "/none", err: "run sh: "},
		{name: "nothing to run", err: "run: no command"},
		{name: "own PATH", argv: []string{"hook"}, dir: dir, env: []string{"PATH=/nowhere:" + dir}, want: []string{"from " + dir}},
		{name: "no user of that name", argv: sh("true"), user: "towline-nobody", err: "run sh: look up user towline-nobody"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Exec(t.Context(), tt.argv, tt.dir, tt.env, tt.user)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got output %q, want %q", got, tt.want)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got %v, want %q", err, tt.err)
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Errorf("got %v, want it to be %v", err, tt.is)
			}
		})
	}
}

func TestExecGivesNothingOfTheCallersEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	got, err := Exec(t.Context(), []string{"env"}, "/", []string{"TOWLINE_HASH=e02371a", "HOME=/x"}, "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, kv := range got {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "USER" || n == "LOGNAME" || n == "PWD" }) // a nameless uid has no USER
	if want := []string{"HOME", "PATH", "TOWLINE_HASH"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if !slices.Contains(got, "HOME=/x") {
		t.Errorf("got %q, want the HOME that was given", got)
	}
}

func TestExecCapsOutput(t *testing.T) {
	got, err := Exec(t.Context(), sh("yes 0123456789 | head -c 10000000; echo end"), "", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != keepLines || !strings.HasSuffix(got[len(got)-1], "end") {
		t.Errorf("got %d lines ending in %q, want the last %d", len(got), got[len(got)-1], keepLines)
	}
}

// TestExecKillsTheGroup has a program and its child both ignore SIGTERM.
func TestExecKillsTheGroup(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	out, err := Exec(ctx, sh(`trap "" TERM; echo begun; sh -c 'trap "" TERM; echo $$ > child; while :; do sleep 1; done' & wait; while :; do sleep 1; done`), dir, nil, "")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "run sh: stopped after ") {
		t.Errorf("got %v, want that it was stopped", err)
	}
	if len(out) == 0 || out[0] != "begun" {
		t.Errorf("got %q, want what was written before", out)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	text, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

// gone waits for the end of a process that is not our child.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}

// TestExecDoesNotWaitForTheBackground leaves a child that holds the output, and lets it live.
func TestExecDoesNotWaitForTheBackground(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c := NewCommand(sh(`(echo $BASHPID; read line < go; echo it said $line) & echo started`), dir)
	began := time.Now()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s, want no waiting for the child", took)
	}
	if err := os.WriteFile(fifo, []byte("on\n"), 0); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 500 {
		if got, _ = c.Log(t.Context(), 1); len(got) == 1 && got[0] == "it said on" {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("got %q, want the words of the program in the background", got)
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	c := NewCommand(sh(`for i in 1 2 3; do echo $i; done; pwd; exit ${STATUS:-0}`), dir)
	if got, err := c.Log(t.Context(), 40); err != nil || got != nil {
		t.Errorf("before the first restart: got %q, %v", got, err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Log(t.Context(), 2); !slices.Equal(got, []string{"3", dir}) {
		t.Errorf("got %q, want the last two lines", got)
	}
	c.Env = []string{"STATUS=4"}
	if err, want := c.Restart(t.Context()), "restart: run sh: exit status 4"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if st, err := c.State(t.Context()); err != nil || st.Managed {
		t.Errorf("got %+v, %v, want no unit", st, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Restart(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// A restart script that the new release lacks, or left without its mode bits, is the release's fault: it must not look
// like a unit that the server lacks.
func TestRestartScriptOfTheRelease(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "current"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "current", "plain"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{"current/gone": "no such file", "current/plain": "permission denied"} {
		err := NewCommand([]string{script}, dir).Restart(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", script, err, want)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: got a sentinel of trouble of the server in %v", script, err)
		}
	}
}

func TestExecAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, err := Exec(t.Context(), []string{"id"}, "/", nil, "root"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want fs.ErrPermission", err)
		}
		parts.Skip(t, "root, to become another user")
	}
	got, err := Exec(t.Context(), sh("id -un; id -Gn; echo $HOME $USER"), "/", nil, "daemon")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := exec.Command("id", "-Gn", "daemon").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"daemon", strings.TrimSpace(string(groups)), "/usr/sbin daemon"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
