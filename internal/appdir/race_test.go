package appdir

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/test/parts"
)

// racing is set for the other user's process: the directory that it is to break into.
const racing = "TOWLINE_TEST_RACE"

// raceTime bounds each race.
const raceTime = 20 * time.Second

// Nobody on the server but the agent's own user gets anything into a release or out of it while it is unpacked, and not
// even that user makes the unpacker write beyond the stage.
func TestLocalUserRacesTheStage(t *testing.T) {
	if dir := os.Getenv(racing); dir != "" {
		r := otherUser(dir)
		_ = json.NewEncoder(os.Stderr).Encode(r)
		os.Exit(0)
	}
	t.Run("another user", raceOfAnotherUser)
	t.Run("the agent's own user", raceOfTheAgentsUser)
}

// raceReport is what the other user's process has to say.
type raceReport struct {
	Tries    int      // things that it tried
	Stages   int      // different stages that it saw
	Breaches []string // what worked and must not
}

// packed is an artifact with some directories, and what is in it.
func packed(t *testing.T) func(*Dir, string) (artifact.Tree, error) {
	t.Helper()
	src := t.TempDir()
	for i := range 60 {
		dir := filepath.Join(src, fmt.Sprintf("d%d", i%6), "sub")
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), bytes.Repeat([]byte{byte(i)}, 4000), 0o644))
	}
	must(t, os.Symlink("d0/sub/f0", filepath.Join(src, "link")))
	out, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	must(t, err)
	t.Cleanup(func() { _ = out.Close() })
	want, err := artifact.Pack(t.Context(), out, artifact.PackOptions{Dir: src})
	must(t, err)
	data, err := os.ReadFile(out.Name())
	must(t, err)
	return func(d *Dir, stage string) (artifact.Tree, error) {
		root, err := os.OpenRoot(d.ReleasePath(stage))
		if err != nil {
			return artifact.Tree{}, err
		}
		defer root.Close()
		return artifact.Unpack(context.Background(), root, bytes.NewReader(data), artifact.UnpackOptions{Want: want, Mtime: time.Unix(1, 0)})
	}
}

func raceOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, to act as another user")
	}
	// The way to the app is open, as it is on a server.
	base := t.TempDir()
	must(t, os.Chmod(filepath.Dir(base), 0o755))
	must(t, os.Chmod(base, 0o755))
	d, err := Open(Options{Path: filepath.Join(base, "app")})
	must(t, err)
	defer func() { _ = d.Close() }()
	outside := filepath.Join(base, "outside")
	must(t, os.Mkdir(outside, 0o777))
	must(t, os.Chmod(outside, 0o777))

	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	program := filepath.Join(base, "racer")
	must(t, os.WriteFile(program, self, 0o755))
	racer := exec.Command(program, "-test.run=^TestLocalUserRacesTheStage$")
	racer.Dir, racer.Env = "/", append(os.Environ(), racing+"="+base)
	racer.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	racer.Stderr = &said
	leash, err := racer.StdinPipe()
	must(t, err)
	must(t, racer.Start())

	unpack, names := packed(t), []string(nil)
	for end := time.Now().Add(raceTime); time.Now().Before(end); {
		name := fmt.Sprintf("%d-aaaaaaaaaaaa", len(names)+1)
		stage, root, err := d.Stage()
		must(t, err)
		must(t, root.Close())
		tree, err := unpack(d, stage)
		if err != nil {
			t.Fatalf("unpack: %v", err)
		}
		if _, err := d.Seal(stage, name, nil); err != nil {
			t.Fatalf("seal: %v", err)
		}
		names = append(names, name)
		digestIs(t, d, name, tree.Digest)
		if seen, _ := os.ReadDir(filepath.Join(outside)); len(names) >= 20 && len(seen) >= 10 {
			break // it has seen enough stages; each left a mark
		}
	}
	must(t, leash.Close())
	if err := racer.Wait(); err != nil {
		t.Fatalf("the other user: %v: %s", err, said.String())
	}
	var report raceReport
	if err := json.Unmarshal(said.Bytes(), &report); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if report.Stages < 10 || report.Tries < 100 {
		t.Errorf("the other user saw %d stages and tried %d things: that is no race", report.Stages, report.Tries)
	}
	for _, b := range report.Breaches {
		t.Errorf("another user could %s", b)
	}
	entries, err := os.ReadDir(d.releases())
	must(t, err)
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) {
			t.Errorf("left in releases/: %s", e.Name())
		}
	}
	// What lies outside is the other user's marks and nothing else.
	must(t, filepath.WalkDir(outside, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == outside {
			return err
		}
		info, err := e.Info()
		if err == nil && (info.Sys().(*syscall.Stat_t).Uid != 65534 || info.Size() != 0) {
			t.Errorf("outside: %s belongs to %d and has %d bytes", path, info.Sys().(*syscall.Stat_t).Uid, info.Size())
		}
		return err
	}))
}

// digestIs reads the release and demands the digest.
func digestIs(t *testing.T, d *Dir, name, want string) {
	t.Helper()
	root, err := os.OpenRoot(d.ReleasePath(name))
	must(t, err)
	defer root.Close()
	if got, err := artifact.DigestTree(root, nil); err != nil || got != want {
		t.Errorf("%s: got digest %s, %v, want %s", name, got, err, want)
	}
}

// otherUser tries, as whoever it runs as, to get into what the agent unpacks, until its standard input ends.
func otherUser(base string) raceReport {
	var r raceReport
	var ended atomic.Bool
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); ended.Store(true) }()
	releases, outside := filepath.Join(base, "app", "releases"), filepath.Join(base, "outside")
	try := func(what string, err error) {
		r.Tries++
		if err == nil && !slices.Contains(r.Breaches, what) {
			r.Breaches = append(r.Breaches, what)
		}
	}
	seen := map[string]bool{}
	for end := time.Now().Add(2 * raceTime); !ended.Load() && time.Now().Before(end); {
		try("make a directory in releases/", os.Mkdir(filepath.Join(releases, ".stage-mine"), 0o777))
		try("put a link into releases/", os.Symlink(outside, filepath.Join(releases, "7-mine")))
		try("rename releases/", os.Rename(releases, filepath.Join(base, "app", "elsewhere")))
		try("lead current elsewhere", os.Symlink(outside, filepath.Join(base, "app", "current")))
		entries, _ := os.ReadDir(releases)
		for _, e := range entries {
			at := filepath.Join(releases, e.Name())
			if strings.HasPrefix(e.Name(), ".stage-") && !seen[e.Name()] {
				seen[e.Name()] = true
				// A mark of its own, which also proves that it can write where it may.
				if os.WriteFile(filepath.Join(outside, e.Name()), nil, 0o600) == nil {
					r.Stages++
				}
			}
			try("rename a stage or release", os.Rename(at, filepath.Join(releases, ".stage-theirs")))
			try("put a link in a directory's place", os.Symlink(outside, filepath.Join(at, "d5")))
			try("make a file in it", os.WriteFile(filepath.Join(at, "mine"), nil, 0o666))
			try("make a file below it", os.WriteFile(filepath.Join(at, "d0", "sub", "mine"), nil, 0o666))
			try("rename a directory in it", os.Rename(filepath.Join(at, "d0"), filepath.Join(at, "d9")))
			try("change a file in it", os.WriteFile(filepath.Join(at, "d0", "sub", "f0"), []byte("mine"), 0o666))
			try("remove a file of it", os.Remove(filepath.Join(at, "d0", "sub", "f0")))
			try("give a file of it another name", os.Link(filepath.Join(at, "d0", "sub", "f0"), filepath.Join(outside, "f0-"+e.Name())))
			try("open it up", os.Chmod(at, 0o777))
			if ended.Load() {
				break
			}
		}
	}
	return r
}

// The agent's own user may do what it likes in the stage; the unpacker stays in it all the same.
func raceOfTheAgentsUser(t *testing.T) {
	d := open(t)
	outside := t.TempDir()
	canary := filepath.Join(outside, "canary")
	must(t, os.WriteFile(canary, []byte("canary"), 0o600))
	unpack := packed(t)
	var swaps, broken int
	for end := time.Now().Add(raceTime); time.Now().Before(end) && (swaps < 200 || broken < 5); {
		stage, root, err := d.Stage()
		must(t, err)
		must(t, root.Close())
		var done atomic.Bool
		var racer sync.WaitGroup
		racer.Go(func() {
			for !done.Load() {
				swaps += swap(d.ReleasePath(stage), outside, canary)
			}
		})
		_, err = unpack(d, stage)
		done.Store(true)
		racer.Wait()
		if err != nil {
			broken++
		}
		must(t, d.Discard(stage))
		entries, err := os.ReadDir(outside)
		must(t, err)
		if data, err := os.ReadFile(canary); len(entries) != 1 || err != nil || string(data) != "canary" {
			t.Fatalf("outside: got %v and %q, %v, want the canary alone as it was", entries, data, err)
		}
		if info, err := os.Stat(canary); err != nil || info.Mode() != 0o600 {
			t.Fatalf("the canary has mode %v, %v, want 0600", info.Mode(), err)
		}
	}
	if swaps < 200 || broken < 5 {
		t.Errorf("%d swaps, of which the unpacker noticed %d: that is no race", swaps, broken)
	}
}

// swap puts links to outside in the place of directories and files of the stage, and counts how many.
func swap(stage, outside, canary string) (n int) {
	for i := range 6 {
		dir := filepath.Join(stage, fmt.Sprintf("d%d", i))
		for _, at := range []string{dir, filepath.Join(dir, "sub")} {
			if os.Rename(at, at+"-away") == nil && os.Symlink(outside, at) == nil {
				n++
			}
		}
		file := filepath.Join(dir+"-away", "sub-away", fmt.Sprintf("f%d", i))
		if os.Remove(file) == nil && os.Symlink(canary, file) == nil {
			n++
		}
		for _, at := range []string{filepath.Join(dir, "sub"), dir} {
			if target, err := os.Readlink(at); err == nil && target == outside {
				_ = os.Remove(at)
				_ = os.Rename(at+"-away", at)
			}
		}
	}
	return n
}
