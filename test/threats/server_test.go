package threats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/agent"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// server is a machine with an agent on it.
type server struct {
	*site
	name string
	file string // its configuration
}

// server writes a configuration. $srv stands for the server's directory, $dir for the site's.
func (s *site) server(name, head, apps string) *server {
	s.t.Helper()
	v := &server{site: s, name: name, file: filepath.Join(s.dir, name+".yaml")}
	v.configure(head, apps)
	return v
}

func (v *server) configure(head, apps string) {
	v.t.Helper()
	if !strings.Contains(head, "bucket:") {
		head = "bucket: " + v.bucket + "\n" + head
	}
	if !strings.Contains(head, "poll:") {
		head = "poll: 1h\n" + head
	}
	text := fmt.Sprintf("server: %s\nstate: $srv/state\nsocket: $srv/agent.sock\n%s\napps:\n%s", v.name, head, apps)
	v.must(os.MkdirAll(v.srv(), 0o755))
	v.must(os.WriteFile(v.file, []byte(strings.NewReplacer("$srv", v.srv(), "$dir", v.dir).Replace(text)), 0o600))
}

func (v *server) srv() string { return filepath.Join(v.dir, "srv", v.name) }

// trust is a line of configuration.
func trust(keys ...pair) string { return "trust: {keys: [" + list(keys...) + "]}\n" }

func list(keys ...pair) string {
	var quoted []string
	for _, k := range keys {
		quoted = append(quoted, fmt.Sprintf("%q", k.Public))
	}
	return strings.Join(quoted, ", ")
}

// oneApp is web, whose restarts are counted.
const oneApp = "  web:\n    dir: $srv/web\n    restart: [sh, -c, \"echo x >> $srv/web.restarts\"]\n"

// once runs the agent with --once.
func (v *server) once() ran {
	v.t.Helper()
	var out parts.Buffer
	code := agent.Run(v.t.Context(), agent.Options{Args: []string{"--config", v.file, "--once"}, Stdout: &out, Stderr: &out})
	return ran{code, out.String()}
}

// live is the version that current leads to, empty when there is none.
func (v *server) live(app string) string {
	data, err := os.ReadFile(filepath.Join(v.srv(), app, "current/index.html"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.t.Error(err)
	}
	return string(data)
}

func (v *server) wantLive(version string) {
	v.t.Helper()
	if got := v.live("web"); got != version {
		v.t.Errorf("live: got %q, want %q", got, version)
	}
}

// footprint is everything of the server but the agent's own state: what is on disk, where links lead, how often the apps
// were restarted.
func (v *server) footprint() string {
	v.t.Helper()
	var b strings.Builder
	v.must(filepath.WalkDir(v.srv(), func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(v.srv(), path)
		switch {
		case err != nil:
			return err
		case rel == "state":
			return fs.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			fmt.Fprintf(&b, "%s -> %s\n", rel, to)
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%s %q\n", rel, data)
			return err
		case d.IsDir():
			fmt.Fprintf(&b, "%s/\n", rel)
		}
		return nil
	}))
	return b.String()
}

// untouched demands that attack leaves the server as it is, and that what it returns has the exit code and the words.
func (v *server) untouched(code int, say string, attack func() ran) {
	v.t.Helper()
	before := v.footprint()
	attack().want(v.t, code, say)
	if after := v.footprint(); after != before {
		v.t.Errorf("the server was touched: before\n%s\nafter\n%s", before, after)
	}
}

// says is what the server's receipt in the bucket says that a person should know.
func (v *server) says(k track) string {
	v.t.Helper()
	var r deployment.Receipt
	v.must(json.Unmarshal(v.get(k.receipt(v.name)), &r))
	return r.Status
}

// refused looks once, and demands that the pointer is refused: exit code 6, said in the output, in the receipt and in
// towline status; nothing on the server is touched.
func (v *server) refused(k track, say string) {
	v.t.Helper()
	v.untouched(deployment.ExitRefused, say, v.once)
	if got := v.says(k); !strings.Contains(got, "refused: ") || !strings.Contains(got, say) {
		v.t.Errorf("receipt: got status %q, want it refused with %q", got, say)
	}
}

// daemon is an agent at work.
type daemon struct {
	*server
	*agent.Agent
	log  *parts.Buffer
	stop func()
}

func (v *server) start() *daemon {
	v.t.Helper()
	settings, err := config.Load(v.file)
	v.must(err)
	d := &daemon{server: v, log: &parts.Buffer{}}
	d.Agent, err = agent.New(settings, slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	v.must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(v.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			v.t.Errorf("agent: %v", err)
		}
		if v.t.Failed() {
			v.t.Log(d.log.String())
		}
	})
	v.t.Cleanup(d.stop)
	return d
}

// ask runs a verb against the agent's socket.
func (d *daemon) ask(args ...string) ran {
	d.t.Helper()
	return towline(d.t, map[string]string{"TOWLINE_SOCKET": d.SocketPath()}, args...)
}

// address is the agent's, for --servers.
func (d *daemon) address() string {
	return fmt.Sprintf("%s=https://%s#sha256=%s", d.name, d.Addr(), d.Pin())
}

// overview is what towline status --json prints of web.
func (d *daemon) overview() deployment.Receipt {
	d.t.Helper()
	got := d.ask("status", "web", "--json")
	var o deployment.Overview
	if err := json.Unmarshal([]byte(got.out), &o); err != nil || len(o.Apps) != 1 {
		d.t.Fatalf("status: got %d, %v:\n%s", got.code, err, got.out)
	}
	return o.Apps[0]
}

// until waits for the status to be so.
func (d *daemon) until(what string, so func(deployment.Receipt) bool) {
	d.t.Helper()
	var got deployment.Receipt
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if got = d.overview(); so(got) {
			return
		}
	}
	d.t.Fatalf("status never shows %s, but %+v\n%s", what, got, d.log)
}

// settled waits until a version is live and its deployment has ended.
func (d *daemon) settled(version string) {
	d.t.Helper()
	d.until(version+" live", func(r deployment.Receipt) bool {
		return r.Live.Hash == version && r.Deployment != nil && r.Deployment.Outcome != ""
	})
	d.wantLive(version)
}

// saying waits until the status says the words.
func (d *daemon) saying(words string) {
	d.t.Helper()
	d.until(words, func(r deployment.Receipt) bool { return strings.Contains(r.Status, words) })
}
