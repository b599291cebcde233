package parts

import (
	"bytes"
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
)

// DropletOptions says how a droplet is made; the zero value will do.
type DropletOptions struct {
	Name   string // host name; "droplet" when empty
	NoBoot bool   // leave it powered off, so that the first boot can be prepared
}

// Droplet is a small server: Debian 12 booted with its own systemd, D-Bus, polkit, journal and process tree, on its own
// copy of the file system. It has node, npm, git, curl and zstd, root and Debian's system users. Network and loopback
// are the machine's: choose ports with FreeAddr.
type Droplet struct {
	name   string
	dir    string // state of this droplet in the cache: upper and work directory of the overlay, mount point, console
	root   string // its file system, seen from outside
	groups []string
	nspawn *process // nil while powered off
	init   int      // process id of its systemd, seen from outside
}

// bootTime is how long a boot and an orderly power-off may take.
const bootTime = 90 * time.Second

// environment is what commands inside see, whatever the test was started with.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb",
}

// NewDroplet makes a droplet and boots it; when the test ends it is powered off and nothing of it is left. A failed
// test logs the end of its journal. Droplets of one machine do not disturb each other, but for the ports they share.
// It needs root; without, the test is skipped.
func NewDroplet(t testing.TB, o DropletOptions) *Droplet {
	t.Helper()
	needRoot(t, "a droplet")
	need(t, "systemd-nspawn", "systemd-container", "nsenter", "util-linux")
	base := tree(t)
	home := filepath.Join(cacheDir(t), "droplets")
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock := lock(t, "droplets")
	sweepDroplets(t, home)
	dir, err := os.MkdirTemp(home, "")
	if err != nil {
		t.Fatal(err)
	}
	alive, err := flock(filepath.Join(dir, "alive"), syscall.LOCK_EX) // tells the sweep of others that it is in use
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	d := &Droplet{name: o.Name, dir: dir, root: filepath.Join(dir, "root")}
	if d.name == "" {
		d.name = "droplet"
	}
	t.Cleanup(func() {
		defer alive.Close()
		if t.Failed() && d.nspawn != nil {
			journal, _ := d.TryRun(t, "journalctl", "--boot", "--no-pager", "--lines=60")
			t.Logf("journal of %s:\n%s", d.name, journal)
		}
		if err := d.remove(); err != nil {
			t.Errorf("remove droplet: %v", err)
		}
	})
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, dir, dir)
	if err := syscall.Mount("overlay", d.root, "overlay", 0, layers); err != nil {
		Skip(t, fmt.Sprintf("overlayfs on %s: %v", home, err))
	}
	d.WriteFile(t, "/etc/hostname", []byte(d.name+"\n"), 0o644)
	d.WriteFile(t, "/etc/hosts", []byte("127.0.0.1 localhost "+d.name+"\n::1 localhost\n"), 0o644)
	if !o.NoBoot {
		d.Boot(t)
	}
	return d
}

// Boot switches the droplet on and waits until its systemd has started everything.
func (d *Droplet) Boot(t testing.TB) {
	t.Helper()
	if d.nspawn != nil {
		t.Fatal("the droplet is on already")
	}
	join := ""
	d.groups = nil
	for _, hierarchy := range cgroupHierarchies() {
		group := filepath.Join(hierarchy, "towline-test-"+filepath.Base(d.dir))
		if err := os.Mkdir(group, 0o755); err != nil && !os.IsExist(err) {
			Skip(t, fmt.Sprintf("a control group for the droplet: %v", err))
		}
		d.groups = append(d.groups, group)
		join += fmt.Sprintf("echo $$ > %s/cgroup.procs && ", group)
	}
	// --keep-unit makes the machine's systemd, if it has one, unnecessary; but then every droplet would use the control
	// groups "payload" and "supervisor" below our own, so that each gets a group to itself first.
	cmd := exec.Command("/bin/sh", "-c", join+`exec systemd-nspawn "$@"`, "sh", "--quiet", "--register=no", "--keep-unit",
		"--machine="+d.name, "--directory="+d.root, "--console=read-only", "--boot")
	p, err := start(cmd, filepath.Join(d.dir, "console"))
	if err != nil {
		t.Fatal(err)
	}
	d.nspawn = p
	up := p.poll(bootTime, func() bool {
		if d.init = initOf(p.pid()); d.init == 0 {
			return false
		}
		state, _ := d.TryRun(t, "systemctl", "is-system-running")
		return strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded")
	})
	if !up {
		t.Fatalf("the droplet did not boot:\n%s", p.tail())
	}
}

// Poweroff shuts the droplet down in order, as an administrator would. Boot switches it on again.
func (d *Droplet) Poweroff(t testing.TB) {
	t.Helper()
	d.Run(t, "systemctl", "poweroff")
	select {
	case <-d.nspawn.done:
	case <-time.After(bootTime):
		t.Errorf("the droplet did not power off:\n%s", d.nspawn.tail())
	}
	d.Kill(t)
}

// Kill stops every process of the droplet at once, without a chance to clean up: a power cut, but for what the
// machine's page cache still holds. Boot switches it on again.
func (d *Droplet) Kill(t testing.TB) {
	t.Helper()
	if err := d.kill(); err != nil {
		t.Fatal(err)
	}
}

func (d *Droplet) kill() error {
	if d.nspawn == nil {
		return nil
	}
	if d.nspawn.running() {
		// The end of process 1 is the end of all in its namespace.
		if d.init > 0 {
			_ = syscall.Kill(d.init, syscall.SIGKILL)
		}
		_ = d.nspawn.stop(syscall.SIGKILL, 10*time.Second)
	}
	d.nspawn, d.init = nil, 0
	return removeGroups(d.groups)
}

func (d *Droplet) remove() error {
	if err := d.kill(); err != nil {
		return err
	}
	return removeTree(d.dir)
}

// command prepares a command in the droplet; while it is powered off the command runs in its file system only.
func (d *Droplet) command(t testing.TB, argv []string) *exec.Cmd {
	var cmd *exec.Cmd
	if d.init > 0 {
		cmd = exec.Command("nsenter", append([]string{"--target=" + strconv.Itoa(d.init), "--all", "--"}, argv...)...)
	} else {
		cmd = exec.Command("chroot", append([]string{d.root}, argv...)...)
	}
	cmd.Env = environment
	return cmd
}

// Run runs a command as root in the droplet and returns its standard output; the test fails when the command does.
// Prefix the argv with "runuser", "-u", USER, "--" for another user.
func (d *Droplet) Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := d.TryRun(t, argv...)
	if err != nil {
		t.Fatalf("%s: %s: %v", d.name, strings.Join(argv, " "), err)
	}
	return out
}

// TryRun is Run, handing over the error, whose text has the exit code and what the command wrote to standard error.
func (d *Droplet) TryRun(t testing.TB, argv ...string) (string, error) {
	t.Helper()
	cmd := d.command(t, argv)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// WriteFile writes a file in the droplet, owned by root, making the directories above it.
func (d *Droplet) WriteFile(t testing.TB, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	// Inside, because only there do absolute links lead where they should.
	cmd := d.command(t, []string{"sh", "-ec", `mkdir -p "$(dirname "$1")"; rm -f "$1"; cat > "$1"; chmod "$2" "$1"`,
		"sh", path, fmt.Sprintf("%04o", mode.Perm())})
	cmd.Stdin = bytes.NewReader(data)
	run(t, cmd)
}

// CopyIn copies a file of this machine into the droplet, as WriteFile does.
func (d *Droplet) CopyIn(t testing.TB, from, path string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	d.WriteFile(t, path, data, mode)
}

// ReadFile reads a file in the droplet.
func (d *Droplet) ReadFile(t testing.TB, path string) []byte {
	t.Helper()
	return []byte(d.Run(t, "cat", "--", path))
}

// WaitActive waits until the unit is active; when it is not within 30 seconds the test fails with its journal.
func (d *Droplet) WaitActive(t testing.TB, unit string) {
	t.Helper()
	var state string
	active := d.nspawn != nil && d.nspawn.poll(30*time.Second, func() bool {
		state, _ = d.TryRun(t, "systemctl", "is-active", unit)
		return state == "active\n"
	})
	if !active {
		t.Fatalf("%s: got state %q, want active:\n%s", unit, strings.TrimSpace(state), d.Journal(t, unit))
	}
}

// Journal returns the messages of a unit since boot, oldest first, one a line.
func (d *Droplet) Journal(t testing.TB, unit string) string {
	t.Helper()
	return d.Run(t, "journalctl", "--boot", "--no-pager", "--output=cat", "--unit="+unit)
}

// sweepDroplets removes what droplets of test processes that were killed have left behind.
func sweepDroplets(t testing.TB, home string) {
	t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(home, "*"))
	for _, dir := range dirs {
		alive, err := flock(filepath.Join(dir, "alive"), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue
		}
		var groups []string
		for _, hierarchy := range cgroupHierarchies() {
			groups = append(groups, filepath.Join(hierarchy, "towline-test-"+filepath.Base(dir)))
		}
		if err := removeGroups(groups); err != nil {
			t.Log(err)
		} else if err := removeTree(dir); err != nil {
			t.Log(err)
		}
		alive.Close()
	}
}

// cgroupHierarchies returns the roots of the control group trees in which systemd-nspawn makes groups: cgroup v2
// alone, or the named and unified trees beside v1.
func cgroupHierarchies() []string {
	roots := []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}
	return slices.DeleteFunc(roots, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "cgroup.procs"))
		return err != nil
	})
}

// removeGroups ends whatever still runs in the control groups and removes them.
func removeGroups(groups []string) error {
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var left error
		for _, group := range groups {
			var dirs []string
			_ = filepath.WalkDir(group, func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for _, dir := range slices.Backward(dirs) {
				procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
				for _, pid := range strings.Fields(string(procs)) {
					if n, err := strconv.Atoi(pid); err == nil && n > 1 {
						_ = syscall.Kill(n, syscall.SIGKILL)
					}
				}
				if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
					left = err
				}
			}
		}
		if left == nil || time.Now().After(deadline) {
			return left
		}
	}
}

// initOf returns the process id of the systemd that the given systemd-nspawn has started, 0 while there is none.
func initOf(nspawn int) int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	for _, child := range strings.Fields(string(children)) {
		if comm, _ := os.ReadFile("/proc/" + child + "/comm"); string(comm) == "systemd\n" {
			pid, _ := strconv.Atoi(child)
			return pid
		}
	}
	return 0
}
