package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/service"
)

// Machine is how the machine is asked. New fills in all but what the command line knows; tests put others in their place.
type Machine struct {
	Now func() time.Time
	UID int // whom we run as

	// What the command line hands in.
	Overview func(context.Context) (deployment.Overview, error)
	Detail   func(ctx context.Context, app string) (deployment.Detail, error)
	Grants   func(context.Context, config.App) (Grants, error)

	Inspect func(ctx context.Context, unit string) (service.Description, error)
	Systemd func(context.Context) (version int, err error) // exec.ErrNotFound where there is none
	Synced  func() (bool, error)
	Space   func(path string) (Space, error)
	// Peer is the process that listens on the agent's socket.
	Peer func(ctx context.Context, socket string) (Peer, error)
	// MayRestart asks polkit whether the process may restart the unit.
	MayRestart func(ctx context.Context, p Peer, unit string) (bool, error)
	// ReadOnly reports whether the process sees a directory in its sandbox as read-only.
	ReadOnly func(p Peer, dir string) (bool, error)
	// Environ is the environment that the process was started with.
	Environ func(p Peer) ([]string, error)
	// Credential is a file that systemd hands to the agent's unit.
	Credential func(name string) string
}

// Grants is what the agent was granted for an app.
type Grants struct {
	Findings []Finding // about the app's unit
	Missing  []string  // what towline app add would do
	AsRoot   bool      // polkit cannot tell units apart
	User     string    // of the unit
	// Unseen is why what is granted cannot be looked at; nil when it was.
	Unseen error
}

// Finding is one thing about a unit.
type Finding struct {
	Level Level
	Text  string
}

// Space is what is left in a filesystem.
type Space struct {
	Free   int64 // bytes
	Inodes int64 // -1 where the filesystem has no fixed number of them
}

// Peer is the process at the other end of the socket.
type Peer struct {
	PID    int // 0 where it lives in another world of processes
	UID    int
	User   string
	GIDs   []int
	Groups []string
}

// NewMachine asks this machine.
func NewMachine() Machine {
	return Machine{
		Now: time.Now, UID: os.Geteuid(), Inspect: service.Inspect, Systemd: systemdVersion, Synced: synced, Space: space, Peer: peer,
		MayRestart: mayRestart, ReadOnly: readOnly, Environ: environ,
		Credential: func(name string) string { return "/run/credentials/" + agentUnit + "/" + name },
	}
}

const (
	agentUnit = "towline-agent.service"
	agentUser = "towline"
	noSystemd = "there is no systemd here"
)

// systemdVersion is the first number that systemctl prints.
func systemdVersion(ctx context.Context) (int, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return 0, err
	}
	words := strings.Fields(string(out)) // systemd 252 (252.30-1~deb12u2)
	if len(words) < 2 {
		return 0, errors.New("systemctl --version: it says nothing")
	}
	number := words[1][:len(words[1])-len(strings.TrimLeft(words[1], "0123456789"))] // 257~rc1, 249.11
	version, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("systemctl --version: %q is no number", words[1])
	}
	return version, nil
}

// synced asks the kernel whether somebody keeps its clock.
func synced() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
}

// space looks at the filesystem that path is on, or will be.
func space(path string) (Space, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	for errors.Is(err, unix.ENOENT) && path != "/" {
		path = filepath.Dir(path)
		err = unix.Statfs(path, &st)
	}
	if err != nil {
		return Space{}, fmt.Errorf("look at the filesystem of %s: %w", path, err)
	}
	s := Space{Free: int64(st.Bavail) * st.Bsize, Inodes: int64(st.Ffree)} // #nosec G115 -- of a filesystem
	if st.Files == 0 {
		s.Inodes = -1
	}
	return s, nil
}

// peer connects to the socket and asks the kernel who listens.
func peer(ctx context.Context, socket string) (Peer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return Peer{}, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return Peer{}, errors.Join(err, credErr)
	}
	p := Peer{PID: int(cred.Pid), UID: int(cred.Uid), User: strconv.Itoa(int(cred.Uid)), GIDs: []int{int(cred.Gid)}}
	if u, err := user.LookupId(p.User); err == nil {
		p.User = u.Username
	}
	p.GIDs = append(p.GIDs, processGroups(p.PID)...)
	for _, gid := range p.GIDs {
		if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil && !slices.Contains(p.Groups, g.Name) {
			p.Groups = append(p.Groups, g.Name)
		}
	}
	return p, nil
}

// processGroups are the supplementary groups of a process.
func processGroups(pid int) (gids []int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Groups:"); ok {
			for _, word := range strings.Fields(list) {
				if gid, err := strconv.Atoi(word); err == nil {
					gids = append(gids, gid)
				}
			}
		}
	}
	return gids
}

// mayRestart runs polkit's own command, which tells root alone what others may do.
func mayRestart(ctx context.Context, p Peer, unit string) (bool, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false, err
	}
	// The name of the program, in parentheses, may hold anything; the start time is the 20th field after it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return false, fmt.Errorf("/proc/%d/stat: it is cut short", p.PID)
	}
	cmd := exec.CommandContext(ctx, "pkcheck", "--action-id", "org.freedesktop.systemd1.manage-units",
		"--process", fmt.Sprintf("%d,%s,%d", p.PID, fields[19], p.UID), "--detail", "unit", unit, "--detail", "verb", "restart")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &exit) && slices.Contains([]int{1, 2, 3}, exit.ExitCode()) && !strings.Contains(string(out), "Error"):
		return false, nil // not authorized, or only with somebody's password
	}
	return false, fmt.Errorf("pkcheck: %w: %s", err, strings.TrimSpace(string(out)))
}

func readOnly(p Peer, dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root%s", p.PID, dir), &st); err != nil {
		return false, err
	}
	return st.Flags&unix.ST_RDONLY != 0, nil
}

func environ(p Peer) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
	return strings.Split(string(data), "\x00"), err
}
