package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// root is the checkout, seen from this directory.
const root = "../.."

// programs compiles the programs as they are released: static, for a machine that has nothing.
func programs(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), "./cmd/"+name)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// server is a droplet that was set up as the README says, with the example app.
type server struct {
	*parts.Droplet
	app    string // URL of the app
	listen string // host:port of the agent's ping port
	pin    string // SPKI digest of the agent's certificate
}

// readmeBlock returns the shell block of the README that follows the line with the mark.
func readmeBlock(t *testing.T, mark string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), mark)
	if !ok {
		t.Fatalf("README.md has no %q", mark)
	}
	_, rest, ok = strings.Cut(rest, "```sh\n")
	if !ok {
		t.Fatalf("README.md has no shell block after %q", mark)
	}
	block, _, _ := strings.Cut(rest, "```")
	return block
}

// newServer boots a droplet and runs the README's commands on it. config is written before the agent starts.
func newServer(t *testing.T, config func(app, listen string) string, s3 *parts.S3Server) *server {
	t.Helper()
	bin := programs(t, "towline", "towline-agent")
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"})
	s := &server{Droplet: d, listen: parts.FreeAddr(t)}
	appAddr := parts.FreeAddr(t)
	s.app = "http://" + appAddr
	for _, name := range []string{"towline", "towline-agent"} {
		d.CopyIn(t, filepath.Join(bin, name), "/root/"+name, 0o755)
	}
	for _, name := range []string{"packaging/towline-agent.service", "examples/node-api/nodeapi.service"} {
		d.CopyIn(t, filepath.Join(root, name), "/root/"+filepath.Base(name), 0o644)
	}
	// The droplet shares the machine's loopback, so the app gets a port of its own.
	_, port, _ := strings.Cut(appAddr, ":")
	d.WriteFile(t, "/etc/systemd/system/nodeapi.service.d/port.conf", []byte("[Service]\nEnvironment=PORT="+port+"\n"), 0o644)
	d.WriteFile(t, "/root/agent.yaml", []byte(config(s.app, s.listen)), 0o644)
	d.WriteFile(t, "/root/access-key-id", []byte(s3.AccessKey), 0o600)
	d.WriteFile(t, "/root/secret-access-key", []byte(s3.SecretKey), 0o600)
	d.WriteFile(t, "/root/setup.sh", []byte("set -eux\ncd /root\n"+readmeBlock(t, "<!-- test: server -->")), 0o755)
	d.Run(t, "sh", "/root/setup.sh")
	d.WaitActive(t, "towline-agent.service")
	return s
}

// readPin takes the pin out of what the agent logs at start.
func (s *server) readPin(t *testing.T) {
	t.Helper()
	pin := regexp.MustCompile(`pin=([0-9a-f]{64})`).FindStringSubmatch(s.Journal(t, "towline-agent.service"))
	if pin == nil {
		t.Fatalf("the agent's log shows no pin:\n%s", s.Journal(t, "towline-agent.service"))
	}
	s.pin = pin[1]
}

// version is the hash that the app itself answers, "" when it does not answer.
func (s *server) version() string {
	var v struct{ Hash string }
	if body, err := get(s.app + "/version"); err == nil {
		_ = json.Unmarshal(body, &v)
	}
	return v.Hash
}

// status is what `towline status --json` prints on the server for its only app.
func (s *server) status(t *testing.T) deployment.Receipt {
	t.Helper()
	out := s.Run(t, "towline", "status", "--json")
	var o deployment.Overview
	if err := json.Unmarshal([]byte(out), &o); err != nil || len(o.Apps) != 1 {
		t.Fatalf("status --json: %v:\n%s", err, out)
	}
	return o.Apps[0]
}

// eventually waits until the condition holds; it gives up, with what the server says of itself, after within.
func (s *server) eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s\nthe agent's log:\n%s", within, what, s.Journal(t, "towline-agent.service"))
		case <-tick.C:
		}
	}
}

func get(url string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func newKey(t *testing.T) release.PrivateKey {
	t.Helper()
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
