package examples

import (
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// TestGoAPIOnAServer sets a booted server up as the example's README says, by the commands of Towline's README with another
// name, and sees the release live there under the unit with all that it forbids. Then it asks `towline app add` about the
// units of the other examples.
func TestGoAPIOnAServer(t *testing.T) {
	s3 := parts.S3(t)
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"})
	p := pack(t, "go-api", "GOFLAGS=", "GOWORK=off")
	bucket := s3.Bucket(t, "my-deploys")
	err := fs.WalkDir(os.DirFS(p.bucket), ".", func(key string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(p.bucket, key))
		if status, answer := s3.Do(t, http.MethodPut, "/"+bucket+"/"+key, data); status != http.StatusOK {
			t.Fatalf("put %s: %d %s", key, status, answer)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	app := parts.FreeAddr(t)
	_, port, err := net.SplitHostPort(app)
	if err != nil {
		t.Fatal(err)
	}
	mine := strings.NewReplacer("8080", port, `":8422"`, `"`+parts.FreeAddr(t)+`"`, "ed25519:PASTE THE PUBLIC KEY HERE", p.key.Public().String(),
		"s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com", s3.URL(bucket))
	d.WriteFile(t, "/root/agent.yaml", []byte(mine.Replace(read(t, "examples/go-api/agent.yaml"))), 0o644)
	d.WriteFile(t, "/root/goapi.service", []byte(mine.Replace(read(t, "examples/go-api/goapi.service"))), 0o644)
	d.WriteFile(t, "/root/access-key-id", []byte(s3.AccessKey), 0o600)
	d.WriteFile(t, "/root/secret-access-key", []byte(s3.SecretKey), 0o600)
	d.CopyIn(t, filepath.Join(root, "packaging/towline-agent.service"), "/root/towline-agent.service", 0o644)
	for _, name := range []string{"towline", "towline-agent"} {
		d.CopyIn(t, filepath.Join(programs.dir, name), "/root/"+name, 0o755)
	}
	_, commands, _ := strings.Cut(read(t, "README.md"), "<!-- test: server -->\n```sh\n")
	commands, _, ok := strings.Cut(commands, "```")
	if !ok {
		t.Fatal("README.md has no commands for the server")
	}
	d.WriteFile(t, "/root/setup.sh", []byte("set -eux\ncd /root\n"+strings.ReplaceAll(commands, "nodeapi", "goapi")), 0o755)
	d.Run(t, "sh", "/root/setup.sh")
	live := false
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !live && time.Now().Before(deadline); <-tick.C {
		body, err := get("http://" + app + "/version")
		live = err == nil && strings.Contains(body, p.hash)
	}
	if !live {
		t.Fatalf("%s is not live:\n%s\n%s", p.hash, d.Journal(t, "towline-agent.service"), d.Journal(t, "goapi.service"))
	}
	wantTaken(t, d, "go-api", "goapi")
	for example, name := range map[string]string{"python-app": "pyapp", "php-app": "phpapp", "static-site": "site"} {
		d.Run(t, "useradd", "--system", "--home-dir", "/srv/"+name, "--shell", "/usr/sbin/nologin", name)
		if example != "static-site" {
			d.CopyIn(t, filepath.Join(root, "examples", example, name+".service"), "/etc/systemd/system/"+name+".service", 0o644)
			d.Run(t, "systemctl", "enable", name)
		}
		wantTaken(t, d, example, name)
	}
}

// wantTaken sees that `towline app add` has nothing against an example's unit.
func wantTaken(t *testing.T, d *parts.Droplet, example, name string) {
	t.Helper()
	at := path.Join("/root", name+".yaml")
	d.WriteFile(t, at, []byte(configs(t)["examples/"+example+"/agent.yaml"]), 0o644)
	d.Run(t, "systemctl", "daemon-reload")
	out, err := d.TryRun(t, "towline", "app", "add", name, "--config", at, "--dry-run", "--json")
	var report struct {
		App      string
		Findings []struct{ Level, Text string }
	}
	if e := json.Unmarshal([]byte(out), &report); err != nil || e != nil || report.App != name {
		t.Errorf("towline app add %s: %v, %v\n%s", name, err, e, out)
	}
	for _, f := range report.Findings {
		t.Errorf("towline app add %s: %s: %s", name, f.Level, f.Text)
	}
}
