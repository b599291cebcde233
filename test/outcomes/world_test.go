package outcomes

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/fakegithub"
	"github.com/towline/towline/test/parts"
)

const (
	root       = "../.."
	repository = "acme/shop"
	jobToken   = "the-token-of-the-job"
	image      = "towline-test/action"
	bucketName = "deploys"
)

// apps are those of the agent: each begins without a release and is used by rows that do not disturb each other.
var apps = []string{"web", "frail", "kept", "loud", "site", "role", "cut"}

// world is the repository, the bucket, GitHub, and the one server.
type world struct {
	t      *testing.T
	engine *parts.Engine
	s3     *parts.S3Server
	store  bucket.Bucket
	gate   *gate // in front of the S3 server
	github *fakegithub.Server
	key    release.PrivateKey
	bin    string // programs
	dir    string // of the agent: its configuration, state and apps
	server string // line for the input servers
	here   string // URL of this test, for the app's probe and the job's marks
	repo   string // checkout
	action string // directory that stands for towline/towline@v1
	head   string // the commit that is pushed

	commits []string // all that GitHub knows, each the child of the one before, head last
	marks   *marks
	more    object // of the next job: its environment
	fatal   bool   // the next job ends with its last row, which is red
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, s3: parts.S3(t), dir: t.TempDir(), repo: t.TempDir()}
	w.engine = parts.Docker(t)
	w.github = fakegithub.New(t, fakegithub.Options{Repository: repository, Token: jobToken})
	var err error
	w.key, err = release.GenerateKey(nil)
	w.must(err)
	url := w.s3.URL(w.s3.Bucket(t, bucketName))
	t.Setenv("AWS_ACCESS_KEY_ID", w.s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", w.s3.SecretKey)
	w.store, err = bucket.Open(t.Context(), bucket.Options{URL: url})
	w.must(err)
	w.gate = newGate(t, w.s3)
	w.bin = programs(t)
	w.marks = &marks{w: w}
	w.serve()
	w.startAgent(url)
	w.checkout()
	w.makeAction()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// programs compiles the programs as they are released.
func programs(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./cmd/towline", "./cmd/towline-agent")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return dir
}

// serve answers the apps' probes, by what lies in the live release, and the job's marks.
func (w *world) serve() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /app/{app}", func(rw http.ResponseWriter, r *http.Request) {
		dir := w.appDir(r.PathValue("app"))
		version, err := os.ReadFile(filepath.Join(dir, "current/version.txt"))
		_, sick := os.Stat(filepath.Join(dir, "current/sick"))
		_, poisoned := os.Stat(filepath.Join(dir, "poisoned"))
		if err != nil || sick == nil || poisoned == nil {
			http.Error(rw, "the flux capacitor is missing", http.StatusInternalServerError)
			return
		}
		_, _ = rw.Write(version)
	})
	mux.HandleFunc("GET /mark/{name}", w.marks.take)
	server := httptest.NewServer(mux)
	w.t.Cleanup(server.Close)
	w.here = server.URL
}

func (w *world) appDir(app string) string { return filepath.Join(w.dir, "srv", app) }

// startAgent configures the agent and starts it as it is: restarting prints what the release has to say, and a release
// with the file poison spoils the app for all others.
func (w *world) startAgent(url string) {
	w.t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "server: web-1\nbucket: %q\ntrust: {keys: [%q]}\npoll: 2s\nlisten: %q\nstate: %s\nsocket: %s\napps:\n",
		url, w.key.Public(), parts.FreeAddr(w.t), filepath.Join(w.dir, "state"), filepath.Join(w.dir, "agent.sock"))
	for _, app := range apps {
		w.must(os.MkdirAll(w.appDir(app), 0o755))
		fmt.Fprintf(&text, "  %s:\n    dir: %s\n", app, w.appDir(app))
		text.WriteString("    restart: [sh, -c, \"cat current/says; if [ -e current/poison ]; then touch poisoned; fi\"]\n")
		fmt.Fprintf(&text, "    health: {http: %q, expect: '{{hash}}', within: 1s}\n    hooks: {before-activate: [./before]}\n", w.here+"/app/"+app)
	}
	config := filepath.Join(w.dir, "agent.yaml")
	w.must(os.WriteFile(config, []byte(text.String()), 0o600))
	log := filepath.Join(w.dir, "log")
	daemon(w.t, append(os.Environ(), w.s3.Env()...), log, filepath.Join(w.bin, "towline-agent"), "--config", config)
	running := regexp.MustCompile(`msg="towline-agent is running".* listen=(\S*) pin=(\S*) `)
	eventually(w.t, "the agent runs", 20*time.Second, func() bool {
		said, _ := os.ReadFile(log)
		at := running.FindSubmatch(said)
		if at != nil {
			w.server = fmt.Sprintf("web-1=https://%s#sha256=%s", at[1], at[2])
		}
		return at != nil
	})
	w.t.Cleanup(func() {
		if said, err := os.ReadFile(log); err == nil && w.t.Failed() {
			lines := strings.SplitAfter(string(said), "\n")
			w.t.Logf("the end of the agent's log:\n%s", strings.Join(lines[max(0, len(lines)-20):], ""))
		}
	})
}

// towline runs a verb of the people's command on the server.
func (w *world) towline(args ...string) {
	cmd := exec.Command(filepath.Join(w.bin, "towline"), args...)
	cmd.Env = append(os.Environ(), "TOWLINE_SOCKET="+filepath.Join(w.dir, "agent.sock"))
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Errorf("towline %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// live is the version that the server runs of an app, empty when there is none.
func (w *world) live(app string) string {
	text, _ := os.ReadFile(filepath.Join(w.appDir(app), "current/version.txt"))
	first, _, _ := strings.Cut(string(text), "\n")
	return first
}

// history makes commits, each the child of the one before, and tells GitHub of them. What a workflow says in version is
// one of these.
func (w *world) history(names ...string) (hashes []string) {
	for _, name := range names {
		hash := fmt.Sprintf("%x", sha1.Sum([]byte(name)))
		w.addCommit(hash, name)
		hashes = append(hashes, hash)
	}
	return hashes
}

func (w *world) addCommit(hash, message string) {
	parent := ""
	if n := len(w.commits); n > 0 {
		parent = w.commits[n-1]
	}
	w.github.AddCommit(hash, parent, message, "2026-11-23T13:06:43Z")
	w.commits = append(w.commits, hash)
}

// checkout makes the repository whose workflows are run; its first commit is what is pushed.
func (w *world) checkout() {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(w.repo, "README"), []byte("the shop\n"), 0o644))
	w.must(os.WriteFile(filepath.Join(w.repo, ".gitignore"), []byte("dist/\n"), 0o644))
	w.head = parts.Commit(w.t, w.repo, repository, "Open the shop\n\nBody of the message.")
	w.addCommit(w.head, "Open the shop\n\nBody of the message.")
}

// makeAction builds the image and a directory with the action.yml of a release, which names an image and not the
// Dockerfile.
func (w *world) makeAction() {
	w.t.Helper()
	w.engine.CLI(w.t, "build", "--quiet", "--tag="+image, parts.Root(w.t))
	text, err := os.ReadFile(filepath.Join(root, "action.yml"))
	w.must(err)
	const source = "\n  image: Dockerfile\n"
	if !bytes.Contains(text, []byte(source)) {
		w.t.Fatalf("action.yml does not hold %q", source)
	}
	w.action = w.t.TempDir()
	text = bytes.Replace(text, []byte(source), []byte("\n  image: docker://"+image+"\n"), 1)
	w.must(os.WriteFile(filepath.Join(w.action, "action.yml"), text, 0o644))
}

// daemon starts a program that runs until the test ends, with its output in the file log. Should this process die first,
// the kernel ends it.
func daemon(t *testing.T, env []string, log, program string, args ...string) {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel means the parent's thread, not the parent, when it speaks of a parent's death.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			t.Errorf("%s did not end within 15 s of SIGTERM", filepath.Base(program))
			_ = cmd.Process.Kill()
			<-ended
		}
	})
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, within time.Duration, holds func() bool) bool {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Errorf("not within %v: %s", within, what)
			return false
		case <-tick.C:
		}
	}
	return true
}

// runOptions are those of every workflow here; the caller changes what it needs.
func (w *world) runOptions(runID string) parts.ActOptions {
	return parts.ActOptions{
		Dir:          w.repo,
		Repositories: map[string]string{"towline/towline@v1": w.action},
		Secrets: map[string]string{
			"TOWLINE_SIGNING_KEY":   w.key.Reveal(),
			"AWS_ACCESS_KEY_ID":     w.s3.AccessKey,
			"AWS_SECRET_ACCESS_KEY": w.s3.SecretKey,
			"GITHUB_TOKEN":          jobToken,
		},
		Env:     map[string]string{"GITHUB_API_URL": w.github.URL, "GITHUB_RUN_ID": runID},
		Timeout: 3 * time.Minute,
	}
}
