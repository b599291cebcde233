package parts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cacheDir returns the directory <user cache>/towline-test, in which slow things (tools, the Debian tree, container
// images) are kept from one run to the next. Removing it while no test runs is always safe.
func cacheDir(t testing.TB) string {
	t.Helper()
	user, err := os.UserCacheDir()
	if err != nil {
		Skip(t, fmt.Sprintf("a user cache directory: %v", err))
	}
	dir := filepath.Join(user, "towline-test")
	if err := os.MkdirAll(filepath.Join(dir, "locks"), 0o755); err != nil {
		Skip(t, fmt.Sprintf("a writable user cache directory: %v", err))
	}
	return dir
}

// lock waits for the named lock, which is held by at most one test on this machine whatever its process, and returns
// the function that releases it. The kernel releases it too when the process dies.
func lock(t testing.TB, name string) (unlock func()) {
	t.Helper()
	path := filepath.Join(cacheDir(t), "locks", name)
	f, err := flock(path, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		began := time.Now()
		f, err = flock(path, syscall.LOCK_EX)
		t.Logf("waited %.1f s for %s, in use by another test", time.Since(began).Seconds(), name)
	}
	if err != nil {
		t.Fatalf("lock %s: %v", path, err)
	}
	return sync.OnceFunc(func() { f.Close() })
}

// flock opens path, creating it, and locks it.
func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Root returns the root directory of the repository, found upward from the test's directory.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/towline/towline\n") {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod of github.com/towline/towline above the working directory")
		}
		dir = up
	}
}

// lookPath finds a program; unlike exec.LookPath it also looks where Debian keeps administrators' programs, which
// is not on everyone's PATH.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	return path, err
}

// Program returns the path of a program of this machine, installing the Debian package that has it where it is missing: as
// root, with apt-get. Else the test is skipped.
func Program(t testing.TB, name, debian string) string {
	t.Helper()
	need(t, name, debian)
	path, err := lookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// need makes sure that the programs are there, installing the Debian package of each that is not. Pairs are
// program, or path of a file, and package. Without root or apt-get a missing one skips the test.
func need(t testing.TB, pairs ...string) {
	t.Helper()
	var programs, packages []string
	missing := func() {
		programs, packages = nil, nil
		for pair := range slices.Chunk(pairs, 2) {
			_, err := lookPath(pair[0])
			if filepath.IsAbs(pair[0]) {
				_, err = os.Stat(pair[0])
			}
			if err != nil {
				programs, packages = append(programs, pair[0]), append(packages, pair[1])
			}
		}
	}
	if missing(); len(programs) == 0 {
		return
	}
	apt, err := lookPath("apt-get")
	if err != nil || os.Getuid() != 0 {
		Skip(t, fmt.Sprintf("%s (Debian packages %s; as root they would be installed)",
			strings.Join(programs, ", "), strings.Join(packages, " ")))
	}
	defer lock(t, "apt")()
	if missing(); len(programs) == 0 {
		return
	}
	t.Logf("installing %s", strings.Join(packages, " "))
	install := append([]string{"install", "-y", "--no-install-recommends"}, packages...)
	for _, args := range [][]string{{"update"}, install} {
		cmd := exec.Command(apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			Skip(t, fmt.Sprintf("%s: apt-get %s: %v\n%s", strings.Join(programs, ", "), args[0], err, tail(out)))
		}
	}
	if missing(); len(programs) > 0 {
		Skip(t, fmt.Sprintf("%s, although %s is installed", strings.Join(programs, ", "), strings.Join(packages, " ")))
	}
}

// needRoot skips the test unless it runs as root.
func needRoot(t testing.TB, what string) {
	t.Helper()
	if os.Getuid() != 0 {
		Skip(t, what+" (needs root)")
	}
}

// tail returns the last few lines of a program's output.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// unmountUnder unmounts whatever is mounted at dir or below, deepest first, and waits for mounts that are still in
// use by a dying process.
func unmountUnder(dir string) error {
	var err error
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		points := mountsUnder(dir)
		if len(points) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		for _, point := range slices.Backward(points) {
			if e := syscall.Unmount(point, 0); e != nil {
				err = fmt.Errorf("unmount %s: %w", point, e)
			}
		}
	}
}

// mountsUnder lists the mount points at dir or below, in the order in which they were mounted.
func mountsUnder(dir string) []string {
	info, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			points = append(points, f[4])
		}
	}
	return points
}

// removeTree removes dir, but never anything that is mounted in it.
func removeTree(dir string) error {
	if err := unmountUnder(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
