package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/cli/doctor"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
	"github.com/towline/towline/test/schema"
)

// check finds the worst finding of that name in a report as JSON, which must be what the schema says.
func check(t *testing.T, out, name string) (found doctor.Check) {
	t.Helper()
	schema.Check(t, "doctor", out)
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, c := range r.Checks {
		if c.Name == name && (found.Name == "" || c.Level == doctor.Fail) {
			found = c
		}
	}
	return found
}

func TestDoctorOfConfiguration(t *testing.T) {
	f := newFakeAgent(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("server: web-1\nbucket: file:///srv/b\ntrust: none\nbuckett: x\napps: {web: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ file, found, fix string }{
		{bad, bad + ":4: unknown key", "towline config check"},
		{filepath.Join(dir, "gone.yaml"), "there is no ", "sudo towline init"},
	} {
		code, out, _ := f.run(t, t.Context(), "doctor", "--config", test.file, "--json")
		if c := check(t, out, "config"); code != 2 || c.Level != doctor.Fail || !strings.Contains(c.Found, test.found) || !strings.Contains(c.Fix, test.fix) {
			t.Errorf("%s: got exit code %d, %+v, want 2, %q, %q", test.file, code, c, test.found, test.fix)
		}
	}
}

// good writes a configuration of one app without a unit, in a bucket that is a directory.
func good(t *testing.T) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("server: web-1\nbucket: file://%s/bucket\ntrust: none\nstate: %s\napps: {nodeapi: {dir: %s/app, restart: [/bin/true]}}\n", dir, dir, dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDoctorOfServer(t *testing.T) {
	f := newFakeAgent(t)
	d := nodeapi()
	d.Receipt.AgentVersion, d.Unit = release.Version, ""
	f.add(d)
	file := good(t)
	code, out, _ := f.run(t, t.Context(), "doctor", "--config", file, "--json")
	if c := check(t, out, "bucket"); code != 1 || c.Level != doctor.Fail || !strings.HasPrefix(c.Fix, "sudo mkdir -p /") {
		t.Errorf("without a bucket: got exit code %d, %+v, want 1 and the command that makes it", code, c)
	}
	if c := check(t, out, "config"); c.Level != doctor.OK || !strings.Contains(c.Found, "server web-1, 1 app") {
		t.Errorf("got %+v, want what is configured", c)
	}
	if c := check(t, out, "agent"); c.Level != doctor.OK || !strings.Contains(c.Found, f.path) {
		t.Errorf("got %+v, want that it answers at %s", c, f.path)
	}
	if c := check(t, out, "last deployment"); c.Level != doctor.Warn || c.App != "nodeapi" || !strings.Contains(c.Found, "probe: GET /version: 500") {
		t.Errorf("got %+v, want a warning of what was rolled back", c)
	}
	code, text, _ := f.run(t, t.Context(), "doctor", "nodeapi", "--config", file)
	for _, want := range []string{"\nfail  bucket           look in", "\n                       → sudo mkdir -p ", "\nnodeapi\n", "\nfail: "} {
		if !strings.Contains(text, want) || code != 1 || strings.Contains(text, "\x1b") {
			t.Errorf("got exit code %d:\n%s\nwant %q in it, without colours", code, text, want)
		}
	}
	if _, painted, _ := f.run(t, t.Context(), "doctor", "--config", file, "--color", "always"); !strings.Contains(painted, red+"fail\x1b[0m") {
		t.Errorf("got %q, want fail in red", painted)
	}
	if code, _, errs := f.run(t, t.Context(), "doctor", "other", "--config", file); code != 4 || !strings.Contains(errs, "has no app other") {
		t.Errorf("an app that is not there: got exit code %d, %s, want 4", code, errs)
	}
}

// CI finds its printed policy right, as this store answers and as AWS would; and so does the agent.
func TestDoctorFindsThePrintedPoliciesRight(t *testing.T) {
	for name, like := range map[string]func(*rights){"bucket policy": func(*rights) {}, "identity policies of AWS": (*rights).likeAWS} {
		t.Run(name, func(t *testing.T) {
			r := newRights(t)
			like(r)
			r.start()
			_, before := r.root.Do(t, "GET", "/"+shared+"?prefix=web%2Freleases&versions=", nil)
			out := r.run("doctor", "--app", "web", "--json")
			for _, name := range []string{"bucket", "pointer", "upload", "releases", "create", "history", "conditions", "move", "receipts", "rights", "listing"} {
				if c := check(t, out, name); c.Level != doctor.OK {
					t.Errorf("%s: got %s: %s, want ok", name, c.Level, c.Found)
				}
			}

			schema.Check(t, "releases", r.run("releases", "--app", "web", "--json"))

			dir := t.TempDir()
			for file, text := range map[string]string{"id": r.agent.AccessKey, "secret": r.agent.SecretKey} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			settings, err := config.Parse("agent.yaml", fmt.Appendf(nil, "server: web-1\nbucket: %q\ntrust: {keys: [%q]}\nstate: %s\n"+
				"credentials: {access_key_id_file: %s/id, secret_access_key_file: %s/secret}\napps: {web: {dir: %s/web, restart: [/bin/true]}}\n",
				r.url(), r.key.Public(), dir, dir, dir, dir), "web-1")
			if err != nil {
				t.Fatal(err)
			}
			report := doctor.NewReport("web-1")
			s := doctor.Server{Machine: doctor.NewMachine(), Settings: settings}
			receipt := deployment.Receipt{AgentVersion: release.Version, Seen: time.Now().UTC().Format(time.RFC3339)}
			s.Overview = func(context.Context) (deployment.Overview, error) {
				return deployment.Overview{Apps: []deployment.Receipt{receipt}}, nil
			}
			s.Detail = func(context.Context, string) (deployment.Detail, error) {
				return deployment.Detail{Receipt: receipt}, nil
			}
			s.Grants = func(context.Context, config.App) (doctor.Grants, error) { return doctor.Grants{}, nil }
			s.Inspect = func(context.Context, string) (service.Description, error) {
				return service.Description{LoadState: "loaded"}, nil
			}
			s.Run(t.Context(), report)
			text, _ := json.Marshal(report)
			for _, name := range []string{"key", "bucket", "pointer", "receipt", "conditions", "rights", "listing"} {
				if c := check(t, string(text), name); c.Level != doctor.OK {
					t.Errorf("the agent's %s: got %s: %q, want ok", name, c.Level, c.Found)
				}
			}
			if _, after := r.root.Do(t, "GET", "/"+shared+"?prefix=web%2Freleases&versions=", nil); !bytes.Equal(before, after) {
				t.Errorf("the releases have changed: got %s, want %s", after, before)
			}
			if status, uploads := r.root.Do(t, "GET", "/"+shared+"?uploads=", nil); status != http.StatusOK || bytes.Contains(uploads, []byte("<UploadId>")) {
				t.Errorf("an upload is left: %s", uploads)
			}
		})
	}
}
