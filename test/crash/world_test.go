package crash

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// entry is one entry of a release: a directory, a link to Text, or a file that holds Text.
type entry struct {
	Mode fs.FileMode
	Text string
}

// versions are what is published, in this order. "bad" does not start: the restart command says so.
var versions = []string{"one", "two", "bad", "four"}

// stage is a bucket as it was at some time, and the agent's configurations for it: one that keeps two releases, and one that
// keeps three, so that the oldest is recycled.
type stage struct {
	bucket, config, three string
}

// recycling is the stage with the configuration that keeps three releases.
func (s stage) recycling() stage { return stage{bucket: s.bucket, config: s.three} }

// world is what all points of a run have in common: programs, releases, buckets. It lies outside of the disks that fail.
type world struct {
	dir    string
	agent  string
	strace string
	trees  map[string]map[string]entry // of each version
	stages map[string]stage            // after each version was published
	back   stage                       // after four, with the pointer of two restored
	next   stage                       // with five published after all that
	worse  stage                       // and then with one that does not start
	last   stage                       // and then with seven
}

// newWorld compiles the programs and publishes every version.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), strace: parts.Program(t, "strace", "strace"), trees: map[string]map[string]entry{}, stages: map[string]stage{}}
	root := parts.Root(t)
	for _, name := range []string{"towline", "towline-agent"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(w.dir, name), "./cmd/"+name)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		run(t, cmd)
	}
	w.agent = filepath.Join(w.dir, "towline-agent")
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	bucket := filepath.Join(w.dir, "bucket")
	must(t, os.Mkdir(bucket, 0o755))
	publish := func(day int, version string) stage {
		w.trees[version] = tree(version)
		source := filepath.Join(w.dir, "source-"+version)
		write(t, source, w.trees[version])
		cmd := exec.Command(filepath.Join(w.dir, "towline"), "publish", "--promote", "--app", "web", "--path", source, "--bucket", "file://"+bucket,
			"--version", version, "--message", "release "+version, "--date", fmt.Sprintf("2026-11-%02dT10:00:00Z", day))
		cmd.Env = append(os.Environ(), "TOWLINE_SIGNING_KEY="+key.Reveal())
		run(t, cmd)
		return w.keep(t, version, bucket, key)
	}
	for i, version := range versions {
		w.stages[version] = publish(i+1, version)
	}
	two, err := os.ReadFile(filepath.Join(w.stages["two"].bucket, "web/production/version.json"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(bucket, "web/production/version.json"), two, 0o644))
	w.back = w.keep(t, "back", bucket, key)
	w.next = publish(len(versions)+1, "five")
	w.worse = publish(len(versions)+2, "bad-six")
	w.last = publish(len(versions)+3, "seven")
	return w
}

// keep copies the bucket as it is now, and writes the configuration of an agent that looks at the copy. The words DISK
// and HEALTH in it are the worker's.
func (w *world) keep(t *testing.T, name, bucket string, key release.PrivateKey) stage {
	t.Helper()
	s := stage{
		bucket: filepath.Join(w.dir, "bucket-"+name), config: filepath.Join(w.dir, name+".yaml"), three: filepath.Join(w.dir, name+"-three.yaml"),
	}
	run(t, exec.Command("cp", "--archive", bucket, s.bucket))
	text := fmt.Sprintf(`server: web-1
bucket: file://%s
trust: {keys: [%q]}
state: "DISK/state"
socket: "DISK/agent.sock"
apps:
  web:
    dir: "DISK/web"
    restart: [/bin/grep, "-qv", bad, "DISK/web/current/version"]
    health: {http: "http://HEALTH/", expect: "{{hash}}", within: 1s, stable: 0s}
    keep: 2
    shared: [data/]
`, s.bucket, key.Public().String())
	must(t, os.WriteFile(s.config, []byte(text), 0o644))
	must(t, os.WriteFile(s.three, []byte(strings.Replace(text, "keep: 2", "keep: 3", 1)), 0o644))
	return s
}

// tree is what a version holds: files that all have, that some have, and that differ.
func tree(version string) map[string]entry {
	out := map[string]entry{
		".":               {Mode: fs.ModeDir | 0o755},
		"lib":             {Mode: fs.ModeDir | 0o755},
		"lib/deep":        {Mode: fs.ModeDir | 0o755},
		"version":         {Mode: 0o644, Text: version + "\n"},
		"run":             {Mode: 0o755, Text: "#!/bin/sh\nexec true " + version + "\n"},
		"large":           {Mode: 0o644, Text: strings.Repeat(version+" is one line of many in a larger file\n", 4000)},
		"lib/latest":      {Mode: fs.ModeSymlink | 0o777, Text: "deep/0"},
		"only-" + version: {Mode: 0o644},
		// What lies in frames of its own, and does not change.
		"lib/constant": {Mode: 0o644, Text: strings.Repeat("every release has this line, so often that it is a frame of its own\n", 1<<14)},
		// A directory that goes with its release.
		"gone-" + version:                {Mode: fs.ModeDir | 0o755},
		"gone-" + version + "/deep":      {Mode: fs.ModeDir | 0o755},
		"gone-" + version + "/deep/file": {Mode: 0o644, Text: version},
	}
	for i := range 12 {
		text := fmt.Sprintf("file %d\n", i)
		if i%3 == 0 {
			text += version + "\n"
		}
		out[fmt.Sprintf("lib/deep/%d", i)] = entry{Mode: 0o644, Text: strings.Repeat(text, 1+100*i)}
	}
	return out
}

// write puts a tree on disk.
func write(t *testing.T, dir string, tree map[string]entry) {
	t.Helper()
	for _, p := range sorted(tree) {
		e, path := tree[p], filepath.Join(dir, p)
		var err error
		switch e.Mode.Type() {
		case fs.ModeDir:
			err = os.MkdirAll(path, 0o755)
		case fs.ModeSymlink:
			err = os.Symlink(e.Text, path)
		default:
			err = os.WriteFile(path, []byte(e.Text), e.Mode)
		}
		must(t, err)
	}
}

// worker has a disk of its own, mounted at dir, and answers the health check with the version that is live on it.
type worker struct {
	*world
	disk   string // where its filesystem is mounted
	health string // host:port
}

func newWorker(t *testing.T, w *world) *worker {
	t.Helper()
	k := &worker{world: w, disk: t.TempDir()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	k.health = l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		text, err := os.ReadFile(filepath.Join(k.disk, "web/current/version"))
		if err != nil {
			rw.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = rw.Write(text)
	}), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return k
}

// config is the configuration of a stage for this worker.
func (k *worker) config(t testing.TB, s stage) string {
	t.Helper()
	text, err := os.ReadFile(s.config)
	must(t, err)
	path := filepath.Join(k.disk+"-config", filepath.Base(s.config))
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(strings.NewReplacer("DISK", k.disk, "HEALTH", k.health).Replace(string(text))), 0o644))
	return path
}

// patience is for one run of the agent, which takes hundredths of a second where nothing else goes on.
const patience = 5 * time.Minute

// lost is the exit code of an agent that did not start or end. It is no code of its own, and -1 is that of one that was killed.
const lost = -2

// once runs the agent once, under the command before it if there is one. code is -1 when a signal ended it.
func (k *worker) once(t testing.TB, s stage, before ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	argv := append(before[:len(before):len(before)], k.agent, "--once", "--config", k.config(t, s))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return lost, fmt.Sprintf("%q has not ended within %v:\n%s", argv, patience, text)
	}
	if cmd.ProcessState == nil {
		return lost, fmt.Sprintf("%q: %v", argv, err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
