package system

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/fakegithub"
	"github.com/towline/towline/test/parts"
)

// poll is the agent's interval in these tests.
const poll = 2 * time.Second

const jobToken = "the-token-of-the-job"

// story is one repository with the example app, one bucket and one server.
type story struct {
	*server
	t      *testing.T
	engine *parts.Engine
	s3     *parts.S3Server
	github *fakegithub.Server
	key    release.PrivateKey
	repo   string
	bucket string // URL
	vars   map[string]string
	head   string // commit pushed last
}

// TestMainJob is the reason for all the rest: a push is live and proven healthy on the server; a push that does not start is
// taken back and the job is red; rolling back works in all three ways; and without any ping it is the same, one poll later.
func TestMainJob(t *testing.T) {
	s := &story{t: t, s3: parts.S3(t), key: newKey(t)}
	s.bucket = s.s3.URL(s.s3.Bucket(t, "deploys"))
	s.engine = parts.Docker(t)
	s.github = fakegithub.New(t, fakegithub.Options{Repository: "acme/node-api", Token: jobToken})
	s.server = newServer(t, s.config, s.s3)
	s.readPin(t)
	s.repo = t.TempDir()
	if err := os.CopyFS(s.repo, os.DirFS(filepath.Join(root, "examples/node-api"))); err != nil {
		t.Fatal(err)
	}
	s.vars = map[string]string{
		"TOWLINE_BUCKET":  s.bucket,
		"TOWLINE_SERVERS": fmt.Sprintf("web-1=https://%s#sha256=%s", s.listen, s.pin),
	}

	first := s.push("add the page views")
	s.firstPush(first)
	second := s.changeOneFile()
	s.brokenPush(second)
	s.rollBackOnTheServer(first)
	s.rollBackByTheAction(second)
	s.restoreAnOldVersion(first)
	s.deployWithoutPing()
}

func (s *story) config(app, listen string) string {
	s.t.Helper()
	return fmt.Sprintf(`server: web-1
bucket: %s
credentials: {access_key_id_file: /etc/towline/access-key-id, secret_access_key_file: /etc/towline/secret-access-key}
trust:
  keys: [%q]
poll: %s
listen: %q
apps:
  nodeapi:
    unit: nodeapi.service
    health:
      http: %s/version
      expect: "{{hash}}"
      within: 20s
      stable: 1s
    shared: [data/]
`, s.bucket, s.key.Public().String(), poll, listen, app)
}

// push commits what is in the repository.
func (s *story) push(message string) (hash string) {
	s.t.Helper()
	hash = parts.Commit(s.t, s.repo, "acme/node-api", message)
	s.github.AddCommit(hash, s.head, message, time.Now().UTC().Format(time.RFC3339))
	s.head = hash
	return hash
}

// run runs the example's workflow on the pushed commit and returns the step of the action.
func (s *story) run(event string, inputs map[string]string) (parts.ActResult, parts.ActStep) {
	s.t.Helper()
	here, err := filepath.Abs(root)
	if err != nil {
		s.t.Fatal(err)
	}
	r := parts.Act(s.t, s.engine, parts.ActOptions{
		Dir: s.repo, Event: event, Workflow: "deploy.yml", Inputs: inputs, Vars: s.vars,
		Repositories: map[string]string{
			"towline/towline@v1": here,
			"actions/setup-node@a0853c24544627f65ddf259abe73b1d18a591444": parts.SetupNode(s.t),
		},
		Secrets: map[string]string{
			"TOWLINE_SIGNING_KEY":   s.key.Reveal(),
			"AWS_ACCESS_KEY_ID":     s.s3.AccessKey,
			"AWS_SECRET_ACCESS_KEY": s.s3.SecretKey,
			"GITHUB_TOKEN":          jobToken,
		},
		Env: map[string]string{"GITHUB_API_URL": s.github.URL},
	})
	if strings.Contains(r.Log, s.key.Reveal()) {
		s.t.Error("the log shows the signing key")
	}
	return r, r.Step(s.t, "towline")
}

// wantOutputs checks outputs of the step by name.
func (s *story) wantOutputs(step parts.ActStep, want map[string]string) {
	s.t.Helper()
	for name, value := range want {
		if got := step.Outputs[name]; got != value {
			s.t.Errorf("output %s: got %q, want %q", name, got, value)
		}
	}
}

func (s *story) wantInLog(step parts.ActStep, want ...string) {
	s.t.Helper()
	for _, text := range want {
		if !strings.Contains(step.Log, text) {
			s.t.Errorf("the step's log does not say %q:\n%s", text, step.Log)
		}
	}
}

// wantDeploymentState checks the last status of GitHub's newest deployment.
func (s *story) wantDeploymentState(want string) {
	s.t.Helper()
	deployments := s.github.Deployments()
	if len(deployments) == 0 {
		s.t.Error("no deployment on GitHub")
		return
	}
	statuses := s.github.Statuses(deployments[len(deployments)-1].ID)
	if len(statuses) == 0 || statuses[len(statuses)-1].State != want {
		s.t.Errorf("statuses of GitHub's deployment: got %+v, want %s at the end", statuses, want)
	}
}

func (s *story) wantLive(hash string) {
	s.t.Helper()
	if got := s.version(); got != hash {
		s.t.Errorf("/version: got %q, want %q", got, hash)
	}
}

func (s *story) wantViews(want int) {
	s.t.Helper()
	body, err := get(s.app + "/stats")
	var stats struct{ Total int }
	if err == nil {
		err = json.Unmarshal(body, &stats)
	}
	if err != nil || stats.Total != want {
		s.t.Errorf("recorded views: got %d, %v, want %d: they survive every deployment", stats.Total, err, want)
	}
}

func (s *story) firstPush(hash string) {
	s.t.Helper()
	r, step := s.run("push", nil)
	if r.ExitCode != 0 {
		s.t.Fatalf("got exit code %d, want a green job:\n%s", r.ExitCode, r.Log)
	}
	s.wantLive(hash)
	s.wantOutputs(step, map[string]string{"outcome": "deployed", "version": hash, "seq": "1", "previous-version": ""})
	var servers []struct {
		Name    string             `json:"name"`
		Outcome deployment.Outcome `json:"outcome"`
		Seq     uint64             `json:"seq"`
		Hash    string             `json:"hash"`
		TookMS  int64              `json:"took_ms"`
	}
	if err := json.Unmarshal([]byte(step.Outputs["servers"]), &servers); err != nil || len(servers) != 1 {
		s.t.Fatalf("output servers: %v: %s", err, step.Outputs["servers"])
	}
	if got := servers[0]; got.Name != "web-1" || got.Outcome != deployment.Deployed || got.Seq != 1 || got.Hash != hash || got.TookMS <= 0 {
		s.t.Errorf("output servers: got %+v", got)
	}
	s.wantDeploymentState("success")
	// One group for each phase, and what the server does as it does it.
	s.wantInLog(step, "::group::", "::endgroup::", "web-1", "fetch", "unpack", "activate", "check", "healthy")
	if !strings.Contains(step.Summary, "web-1") || !strings.Contains(step.Summary, release.ShortHash(hash)[:7]) {
		s.t.Errorf("summary: got\n%s", step.Summary)
	}
	// node_modules came along, and the version file was written into the package only.
	if _, err := s.TryRun(s.t, "test", "-d", "/srv/nodeapi/current/node_modules/express"); err != nil {
		s.t.Error("node_modules is not in the release")
	}
	if _, err := os.Stat(filepath.Join(s.repo, "version.js")); err == nil {
		s.t.Error("version.js was left in the checkout")
	}
	if owner := strings.TrimSpace(s.Run(s.t, "sh", "-c", "stat -c %U /proc/$(systemctl show -p MainPID --value towline-agent)")); owner != "towline" {
		s.t.Errorf("the agent runs as %q, want towline", owner)
	}
	for range 3 {
		if _, err := get(s.app + "/view?page=/about"); err != nil {
			s.t.Fatal(err)
		}
	}
	s.wantViews(3)
}

func (s *story) changeOneFile() (hash string) {
	s.t.Helper()
	s.edit("app.js", "// characters", "// letters")
	hash = s.push("say it better")
	r, step := s.run("push", nil)
	if r.ExitCode != 0 {
		s.t.Fatalf("got exit code %d, want a green job:\n%s", r.ExitCode, r.Log)
	}
	s.wantLive(hash)
	s.wantOutputs(step, map[string]string{"outcome": "deployed", "version": hash, "seq": "2"})
	if step.Outputs["previous-version"] == "" {
		s.t.Error("output previous-version is empty")
	}
	s.wantViews(3)
	return hash
}

func (s *story) brokenPush(live string) {
	s.t.Helper()
	// The app's own tests start it too; what is missing is missing in production.
	const fault = "\n  if (process.env.NODE_ENV === 'production') throw new Error('the flux capacitor is missing');"
	s.edit("server.js", "async function main() {", "async function main() {"+fault)
	hash := s.push("break the start")
	r, step := s.run("push", nil)
	if r.ExitCode == 0 {
		s.t.Errorf("the job is green although the release does not start:\n%s", r.Log)
	}
	s.wantOutputs(step, map[string]string{"outcome": "rolled-back", "version": hash, "seq": "3"})
	s.wantInLog(step, "flux capacitor", "::error")
	if !strings.Contains(step.Summary, "flux capacitor") {
		s.t.Errorf("the summary does not show the app's own words:\n%s", step.Summary)
	}
	s.wantDeploymentState("failure")
	s.wantLive(live)
	s.wantViews(3)
	if got := s.status(s.t); got.Live.Hash != live || got.Deployment.Outcome != deployment.RolledBack || got.Deployment.Reason == "" {
		s.t.Errorf("status: got %+v %+v", got, got.Deployment)
	}
	s.edit("server.js", fault, "")
}

// rollBackOnTheServer is the first way back.
func (s *story) rollBackOnTheServer(want string) {
	s.t.Helper()
	out := s.Run(s.t, "towline", "rollback", "nodeapi", "--reason", "to be sure")
	s.wantLive(want)
	if !strings.Contains(out, want[:7]) {
		s.t.Errorf("towline rollback does not name %s:\n%s", want[:7], out)
	}
	s.wantViews(3)
}

// rollBackByTheAction is the second.
func (s *story) rollBackByTheAction(want string) {
	s.t.Helper()
	r, step := s.run("workflow_dispatch", map[string]string{"command": "rollback", "version": "previous", "reason": "it did not start"})
	if r.ExitCode != 0 {
		s.t.Fatalf("got exit code %d, want a green job:\n%s", r.ExitCode, r.Log)
	}
	s.wantLive(want)
	s.wantOutputs(step, map[string]string{"outcome": "deployed", "version": want, "seq": "4"})
}

// restoreAnOldVersion is the third: a person copies an old object version of version.json over the newest one.
func (s *story) restoreAnOldVersion(want string) {
	s.t.Helper()
	versions := s.objectVersions("nodeapi/production/version.json")
	if len(versions) != 4 {
		s.t.Fatalf("got %d versions of version.json, want 4", len(versions))
	}
	for _, id := range versions {
		status, body := s.s3.Do(s.t, http.MethodGet, "/deploys/nodeapi/production/version.json?versionId="+url.QueryEscape(id), nil)
		if status != http.StatusOK {
			s.t.Fatalf("get version %s: %d %s", id, status, body)
		}
		if bytes.Contains(body, []byte(want)) {
			if status, answer := s.s3.Do(s.t, http.MethodPut, "/deploys/nodeapi/production/version.json", body); status != http.StatusOK {
				s.t.Fatalf("put: %d %s", status, answer)
			}
			s.eventually(s.t, "the restored pointer is followed", 3*poll+20*time.Second, func() bool { return s.version() == want })
			return
		}
	}
	s.t.Fatalf("no version of version.json names %s", want)
}

// deployWithoutPing closes the port: the job follows the receipt.
func (s *story) deployWithoutPing() {
	s.t.Helper()
	config := slices.DeleteFunc(strings.SplitAfter(s.config(s.app, s.listen), "\n"), func(line string) bool { return strings.HasPrefix(line, "listen:") })
	s.WriteFile(s.t, "/etc/towline/agent.yaml", []byte(strings.Join(config, "")), 0o640)
	s.Run(s.t, "sh", "-c", "chown root:towline /etc/towline/agent.yaml && systemctl restart towline-agent")
	s.WaitActive(s.t, "towline-agent.service")
	if out := s.Run(s.t, "sh", "-c", "ss -ltnpH | grep towline-agent || true"); strings.TrimSpace(out) != "" {
		s.t.Errorf("the agent listens:\n%s", out)
	}
	delete(s.vars, "TOWLINE_SERVERS")
	s.vars["TOWLINE_EXPECT"] = "web-1"
	s.edit("app.js", "// letters", "// runes")
	hash := s.push("say it best")
	r, step := s.run("push", nil)
	if r.ExitCode != 0 {
		s.t.Fatalf("got exit code %d, want a green job:\n%s", r.ExitCode, r.Log)
	}
	s.wantLive(hash)
	s.wantOutputs(step, map[string]string{"outcome": "deployed", "version": hash, "seq": "5"})
	s.wantInLog(step, "web-1")
	s.wantViews(3)
}

// edit changes one text in a file of the repository.
func (s *story) edit(file, from, to string) {
	s.t.Helper()
	path := filepath.Join(s.repo, file)
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(from)) {
		s.t.Fatalf("%s does not hold %q", file, from)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(from), []byte(to), 1), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// objectVersions lists the version IDs of an object.
func (s *story) objectVersions(key string) []string {
	s.t.Helper()
	status, body := s.s3.Do(s.t, http.MethodGet, "/deploys?prefix="+url.QueryEscape(key)+"&versions=", nil)
	if status != http.StatusOK {
		s.t.Fatalf("list versions: %d %s", status, body)
	}
	var list struct {
		Version []struct {
			Key       string
			VersionID string `xml:"VersionId"`
		}
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, v := range list.Version {
		if v.Key == key {
			ids = append(ids, v.VersionID)
		}
	}
	return ids
}
