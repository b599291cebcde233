package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	keepLines = 40       // lines of output kept of a program
	keepBytes = 64 << 10 // and bytes

	termGrace = 2 * time.Second        // between SIGTERM and SIGKILL when the time is up
	pipeGrace = 300 * time.Millisecond // for output that is still in the pipe when the program has ended

	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Exec runs argv in dir and waits for it. It returns the last lines of its output, at most 40 and 64 KiB; a program
// that ends with another status than 0 is an error that names the status. One that is not there or cannot be executed
// is an error without a sentinel, see startError; only a name that is not in PATH is fs.ErrNotExist.
//
// The program gets env and nothing of the caller's own environment; PATH, HOME, USER and LOGNAME are set where env
// lacks them. argv[0] without a slash is looked up in PATH, one with a slash is relative to dir. With a user other
// than the caller's, it runs with that user's uid, gid and groups, for which the caller must be root (otherwise
// fs.ErrPermission).
//
// The program leads a process group of its own. When ctx ends the whole group gets SIGTERM, two seconds later
// SIGKILL. Children that it leaves in the background are neither awaited nor killed, and may go on writing.
func Exec(ctx context.Context, argv []string, dir string, env []string, user string) ([]string, error) {
	out := &tail{max: keepBytes}
	err := run(ctx, command{argv: argv, dir: dir, env: env, user: user}, out)
	return out.lines(keepLines), err
}

// command is one program to run.
type command struct {
	argv []string
	dir  string
	env  []string
	user string // "" is the caller's own
}

// run starts c, writes both its outputs to out and waits for its end. Writing to out goes on after the return for as
// long as children in the background hold the pipe: closing it would kill them at their next word.
func run(ctx context.Context, c command, out io.Writer) error {
	if len(c.argv) == 0 {
		return errors.New("run: no command")
	}
	op := "run " + c.argv[0]
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	who, cred, err := identity(c.user)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	env := environment(c.env, who)
	path, err := lookPath(c.argv[0], env)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}

	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Dir, cmd.Env = c.argv, c.dir, env
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
			return os.ErrProcessDone
		}
		return nil
	}
	cmd.WaitDelay = termGrace

	began := time.Now()
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Errorf("%s: %s", op, startError(err))
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer r.Close()
		io.Copy(out, r)
	}()
	err = cmd.Wait()
	stopped := ctx.Err() != nil && err != nil
	if stopped {
		// The leader is gone; what ignored SIGTERM in its group is not.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	select {
	case <-drained:
	case <-time.After(pipeGrace):
		if stopped {
			r.Close() // held by a process that left the group
			<-drained
		}
	}
	switch {
	case stopped:
		return fmt.Errorf("%s: stopped after %s: %w", op, time.Since(began).Round(time.Millisecond), ctx.Err())
	case err != nil:
		return fmt.Errorf("%s: %s", op, ending(err))
	}
	return nil
}

// startError says why a program could not be started, without the fork/exec prefix of os/exec, which repeats what the
// caller says. It is text only: a program that is missing or not executable belongs to the release as a rule, and must
// not pass for a unit that is missing or that the agent may not restart.
func startError(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Sprintf("%s: %v", pe.Path, pe.Err)
	}
	return err.Error()
}

// ending says how a program ended.
func ending(err error) string {
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return fmt.Sprintf("killed by signal %d (%s)", int(ws.Signal()), ws.Signal())
		}
		return fmt.Sprintf("exit status %d", ee.ExitCode())
	}
	return err.Error()
}

// identity looks up the user to run as; the credential is nil when that is the caller already.
func identity(name string) (*user.User, *syscall.Credential, error) {
	self := strconv.Itoa(os.Geteuid())
	if name == "" {
		u, err := user.LookupId(self)
		if err != nil {
			return &user.User{Uid: self, HomeDir: "/"}, nil, nil // a uid without a name is fine
		}
		return u, nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, nil, fmt.Errorf("look up user %s: %w", name, err)
	}
	if u.Uid == self {
		return u, nil, nil
	}
	if self != "0" {
		return nil, nil, fmt.Errorf("as user %s: only root may change the user: %w", name, fs.ErrPermission)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, nil, fmt.Errorf("look up groups of %s: %w", name, err)
	}
	cred := &syscall.Credential{}
	for _, f := range []struct {
		to   *uint32
		text string
	}{{&cred.Uid, u.Uid}, {&cred.Gid, u.Gid}} {
		n, err := strconv.ParseUint(f.text, 10, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("look up user %s: id %q is no number", name, f.text)
		}
		*f.to = uint32(n)
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("look up groups of %s: id %q is no number", name, id)
		}
		cred.Groups = append(cred.Groups, uint32(n))
	}
	return u, cred, nil
}

// environment is env with the variables that nearly every program expects.
func environment(env []string, u *user.User) []string {
	out := slices.Clone(env)
	for _, v := range [][2]string{{"PATH", defaultPath}, {"HOME", u.HomeDir}, {"USER", u.Username}, {"LOGNAME", u.Username}} {
		if _, ok := lookup(env, v[0]); !ok && v[1] != "" {
			out = append(out, v[0]+"="+v[1])
		}
	}
	return out
}

// lookup finds a variable; of several the last counts, as for the program itself.
func lookup(env []string, name string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// lookPath finds a program in the PATH of the environment that it will get, not in the caller's.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, _ := lookup(env, "PATH")
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("not found in PATH %s: %w", path, fs.ErrNotExist)
}
