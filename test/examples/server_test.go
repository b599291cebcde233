package examples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// programs are the real ones, built once for all tests.
var programs struct{ dir, towline, action string }

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "towline-examples-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir, "./cmd/towline", "./cmd/towline-action", "./cmd/towline-agent")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		programs.dir, programs.towline, programs.action = dir, filepath.Join(dir, "towline"), filepath.Join(dir, "towline-action")
		return m.Run()
	}()
	os.Exit(code)
}

func newKey(t *testing.T) release.PrivateKey {
	t.Helper()
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// configs are the agents' configurations, with a key where one is to be pasted.
func configs(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range find(t, func(file string) bool { return path.Base(file) == "agent.yaml" }, "examples") {
		text := strings.ReplaceAll(read(t, file), "ed25519:PASTE THE PUBLIC KEY HERE", newKey(t).Public().String())
		out[file] = strings.ReplaceAll(text, "//ACCOUNT.", "//account.")
	}
	if len(out) < 7 {
		t.Fatalf("only %d configurations were found", len(out))
	}
	return out
}

func TestConfigurationsAreRight(t *testing.T) {
	for file, text := range configs(t) {
		at := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(programs.towline, "config", "check", at).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "is right") {
			t.Errorf("%s: towline config check: %v\n%s", file, err, out)
		}
	}
}

// The workflow, the configuration, the unit and the web server of an example mean the same app, directory and port.
func TestPartsOfAnAppFit(t *testing.T) {
	for file, text := range configs(t) {
		dir := path.Dir(file)
		s, err := config.Parse(file, []byte(text), "web-1")
		if err != nil || len(s.Apps) != 1 {
			t.Errorf("%s: got %d apps, %v, want one", file, len(s.Apps), err)
			continue
		}
		app := s.Apps[0]
		for _, u := range uses(t) {
			if strings.HasPrefix(u.name, dir+"/") && u.with["app"] != app.App {
				t.Errorf("%s: app %v, in agent.yaml %s", u.name, u.with["app"], app.App)
			}
			if bucket := fmt.Sprint(u.with["bucket"]); strings.HasPrefix(u.name, dir+"/") && strings.HasPrefix(bucket, "s3:") &&
				!strings.EqualFold(bucket, s.Bucket) {
				t.Errorf("%s: bucket %s, in agent.yaml %s", u.name, bucket, s.Bucket)
			}
		}
		if strings.HasPrefix(dir, "examples/patterns/") {
			continue // the app itself is not there
		}
		port := regexp.MustCompile(`:(\d+)/`).FindStringSubmatch(app.Health.HTTP)
		if port == nil {
			t.Errorf("%s: got health %+v, want http with a port", file, app.Health)
			continue
		}
		listens := false
		for _, name := range find(t, func(string) bool { return true }, dir) {
			switch path.Ext(name) {
			case ".service":
				if path.Base(name) != app.Unit {
					t.Errorf("%s: in agent.yaml the unit is %q", name, app.Unit)
				}
				if unit := read(t, name); !strings.Contains(unit, "WorkingDirectory="+app.Dir+"/current\n") {
					t.Errorf("%s: does not begin in %s/current", name, app.Dir)
				}
				fallthrough
			case ".conf", "":
				listens = listens || strings.Contains(read(t, name), port[1])
			}
		}
		if !listens {
			t.Errorf("%s: neither the unit nor a web server's configuration speaks of port %s", file, port[1])
		}
	}
	// nginx hands over to the socket that php-fpm listens on, in the directory that the unit makes.
	const socket = "/run/phpapp/fpm.sock"
	for file, want := range map[string]string{
		"server/nginx.conf": "fastcgi_pass unix:" + socket + ";",
		"server/fpm.conf":   "\nlisten = " + socket + "\n",
		"phpapp.service":    "\nRuntimeDirectory=phpapp\n",
	} {
		if !strings.Contains(read(t, "examples/php-app/"+file), want) {
			t.Errorf("examples/php-app/%s: there is no %q", file, want)
		}
	}
	for _, file := range []string{"nginx.conf", "Caddyfile"} {
		if got := strings.Count(read(t, "examples/static-site/"+file), "/srv/site/current"); got != 2 {
			t.Errorf("examples/static-site/%s: got %d times the root, want 2: for visitors and for the health check", file, got)
		}
	}
}

// verify asks systemd about a unit. What the unit starts need not be on this machine.
func verify(t *testing.T, file string) []string {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		parts.Skip(t, "systemd-analyze (Debian package systemd)")
	}
	cmd := exec.Command(program, "verify", "--man=no", "--recursive-errors=no", file)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=notice", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	var lines []string
	for line := range strings.Lines(string(out)) {
		absent := regexp.MustCompile(`: Command \S+ is not executable: No such file or directory$`).MatchString(strings.TrimSpace(line))
		if strings.Contains(line, filepath.Base(file)) && !absent {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if err != nil && len(out) == 0 {
		lines = append(lines, err.Error())
	}
	return lines
}

func TestUnitsVerify(t *testing.T) {
	units := find(t, func(file string) bool { return path.Ext(file) == ".service" }, "examples")
	if len(units) < 4 {
		t.Fatalf("only %d units were found", len(units))
	}
	for _, unit := range units {
		for _, line := range verify(t, filepath.Join(root, unit)) {
			t.Errorf("%s: %s", unit, line)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken.service")
	text := strings.Replace(read(t, units[0]), "RestartSec=3", "RestartSecs=3", 1)
	if err := os.WriteFile(broken, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(verify(t, broken), "\n"); !strings.Contains(got, "RestartSecs") {
		t.Errorf("a unit with an unknown setting: got %q, want it named", got)
	}
}

// The policies of aws-oidc are what Towline itself prints: for the bucket, and for the role in both forms of the token's
// subject.
func TestPoliciesAreWhatTowlinePrints(t *testing.T) {
	const dir = "examples/patterns/aws-oidc"
	out, err := exec.Command(programs.towline, "init", "--print-policy", "--json", "--app", "web", "--bucket", "s3://my-deploys?region=eu-central-1",
		"--server", "web-1").Output()
	if err != nil {
		t.Fatal(err)
	}
	var printed struct{ CI, Agent json.RawMessage }
	if err := json.Unmarshal(out, &printed); err != nil {
		t.Fatal(err)
	}
	var role string
	for _, u := range uses(t) {
		if strings.HasPrefix(u.name, dir) {
			role = u.with["role-to-assume"].(string)
		}
	}
	names := github.Claims{
		Issuer: "https://token.actions.githubusercontent.com", Audience: "sts.amazonaws.com", Subject: "repo:acme/web:ref:refs/heads/main",
		Repository: "acme/web", RepositoryID: "987654321", RepositoryOwner: "acme", RepositoryOwnerID: "1234567",
	}
	ids := names
	ids.Subject = "repo:acme@1234567/web@987654321:ref:refs/heads/main"
	want := map[string]json.RawMessage{"ci-policy.json": printed.CI, "agent-policy.json": printed.Agent}
	for file, claims := range map[string]github.Claims{"trust-policy.json": ids, "trust-policy-names.json": names} {
		if want[file], err = github.TrustPolicy(role, claims); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(read(t, dir+"/README.md"), "`"+claims.Subject+"`") {
			t.Errorf("README.md of aws-oidc does not show %s", claims.Subject)
		}
	}
	if !ids.HasIDs() || names.HasIDs() {
		t.Error("the two subjects are not of the two forms")
	}
	for file, policy := range want {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, policy, "", "  "); err != nil {
			t.Fatal(err)
		}
		pretty.WriteByte('\n')
		at := filepath.Join(root, dir, file)
		if *update {
			if err := os.WriteFile(at, pretty.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(at)
		if err != nil || !bytes.Equal(got, pretty.Bytes()) {
			t.Errorf("%s/%s (go test ./test/examples -update writes it): %v, got\n%s\nwant\n%s", dir, file, err, got, pretty.Bytes())
		}
	}
}

// Every example is in the index, every link of the index and of the examples leads to something, and each has its README.
func TestIndexIsWhole(t *testing.T) {
	index := read(t, "examples/README.md")
	var dirs []string
	for _, parent := range []string{"examples", "examples/patterns"} {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() && e.Name() != "patterns" {
				dirs = append(dirs, path.Join(parent, e.Name()))
			}
		}
	}
	linked := regexp.MustCompile(`\[([a-z0-9-]+)\]\(([^)]+)\)`).FindAllStringSubmatch(index, -1)
	var listed []string
	for _, link := range linked {
		listed = append(listed, path.Join("examples", link[2]))
	}
	for _, dir := range dirs {
		if !slices.Contains(listed, dir) {
			t.Errorf("%s is not in examples/README.md", dir)
		}
		text := read(t, dir+"/README.md")
		if lines := strings.Count(text, "\n"); lines > 60 {
			t.Errorf("%s/README.md: %d lines are more than one screen", dir, lines)
		}
	}
	for _, file := range find(t, func(file string) bool { return path.Ext(file) == ".md" }, "examples") {
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(read(t, file), -1) {
			if _, err := os.Stat(filepath.Join(root, path.Dir(file), link[1])); err != nil {
				t.Errorf("%s: link to %s: %v", file, link[1], err)
			}
		}
	}
}
