package parts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Engine is a container engine (Debian's dockerd) of our own, apart from any other on the machine. It makes no bridge
// and no packet filter rules: containers share the machine's network (--network=host) or have none, which is what
// "docker build" gets.
type Engine struct {
	Host string // value for DOCKER_HOST

	docker string // the client
	run    string // short-lived state, removed in the end
	data   string // images, kept from run to run
	proc   *process
}

// engineGroup is the control group below which all of the engine's containers are.
const engineGroup = "towline-test-engine"

// Docker starts the container engine with the images JobImage and GoImage and stops it when the test ends, with all
// containers and volumes. One engine runs at a time on a machine: a second caller waits for the first one's test to
// end, so call it once per test and hand it on. It needs root; without, the test is skipped.
func Docker(t testing.TB) *Engine {
	t.Helper()
	needRoot(t, "a container engine")
	need(t, "dockerd", "docker.io", "docker", "docker.io")
	root := tree(t)
	unlock := lock(t, "docker")
	run, err := os.MkdirTemp("", "towline-engine-")
	if err != nil {
		unlock()
		t.Fatal(err)
	}
	e := &Engine{Host: "unix://" + run + "/docker.sock", run: run, data: filepath.Join(cacheDir(t), "docker")}
	t.Cleanup(func() {
		defer unlock()
		if err := e.stop(); err != nil {
			t.Errorf("stop the container engine: %v", err)
		}
	})
	if e.docker, err = exec.LookPath("/usr/bin/docker"); err != nil {
		e.docker, _ = lookPath("docker")
	}
	if err := e.start(); err != nil {
		Skip(t, "a container engine: "+err.Error())
	}
	e.clean()
	e.images(t, root)
	return e
}

func (e *Engine) start() error {
	dockerd, err := lookPath("dockerd")
	if err != nil {
		return err
	}
	// An engine whose test process was killed may still be ending; it has the data directory until then.
	if err := waitUnused(filepath.Join(e.data, "in-use")); err != nil {
		return err
	}
	if err := os.MkdirAll(e.data, 0o710); err != nil {
		return err
	}
	cmd := exec.Command(dockerd, "--host="+e.Host, "--data-root="+e.data, "--exec-root="+e.run+"/exec",
		"--pidfile="+e.run+"/pid", "--cgroup-parent=/"+engineGroup, "--storage-driver=overlay2",
		"--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
	if e.proc, err = start(cmd, filepath.Join(e.run, "log")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(e.data, "in-use"), fmt.Appendf(nil, "%d %s", e.proc.pid(), e.run), 0o644); err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.run+"/docker.sock")
		},
	}}
	ready := e.proc.poll(60*time.Second, func() bool {
		resp, err := client.Get("http://docker/_ping")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if !ready {
		return fmt.Errorf("dockerd did not answer:\n%s", e.proc.tail())
	}
	return nil
}

// waitUnused waits for the end of the engine that the file tells of, process id and run directory, and removes what
// it left when its test process was killed.
func waitUnused(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	pid, run, _ := strings.Cut(string(text), " ")
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		if string(comm) != "dockerd\n" {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("dockerd of an earlier test, process %s, still runs", pid)
		}
	}
	if filepath.IsAbs(run) {
		if err := removeTree(run); err != nil {
			return err
		}
	}
	return os.Remove(file)
}

func (e *Engine) stop() error {
	var errs []error
	if e.proc != nil {
		if e.proc.running() {
			e.clean()
		}
		errs = append(errs, e.proc.stop(syscall.SIGTERM, 60*time.Second), os.Remove(filepath.Join(e.data, "in-use")))
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + engineGroup)
	errs = append(errs, removeGroups(append(groups, "/sys/fs/cgroup/"+engineGroup)))
	errs = append(errs, unmountUnder(e.data), removeTree(e.run))
	return errors.Join(errs...)
}

// clean removes containers and volumes, and images that lost their name more than a day ago: the younger ones are the
// build steps that the next run need not repeat.
func (e *Engine) clean() {
	containers, _ := e.TryCLI("ps", "--all", "--quiet")
	for _, id := range strings.Fields(containers) {
		_, _ = e.TryCLI("rm", "--force", "--volumes", id)
	}
	volumes, _ := e.TryCLI("volume", "ls", "--quiet")
	for _, name := range strings.Fields(volumes) {
		_, _ = e.TryCLI("volume", "rm", "--force", name)
	}
	_, _ = e.TryCLI("image", "prune", "--force", "--filter=until=24h")
}

// CLI runs the docker client against this engine and returns its output; the test fails when it does.
func (e *Engine) CLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := e.TryCLI(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryCLI is CLI, handing over the error, whose text has the exit code and the end of the output.
func (e *Engine) TryCLI(args ...string) (string, error) {
	out, err := e.Command(args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, tail(out))
	}
	return string(out), err
}

// Command prepares the docker client, for whoever wants to start it by itself. Builds are done by the classic builder, as act does them.
func (e *Engine) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(e.docker, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Host, "DOCKER_CONFIG="+e.run, "DOCKER_BUILDKIT=0")
	return cmd
}
