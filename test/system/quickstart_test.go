package system

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/fakegithub"
	"github.com/towline/towline/test/parts"
)

// quickstart is docs/quickstart.md, done by somebody who knows nothing else: every command in it is run as it stands there,
// with the values that are the reader's own put in. A push is what the runner makes of the workflow in the document.
type quickstart struct {
	*parts.Droplet
	t        *testing.T
	s3       *parts.S3Server
	towline  string            // the program, on this machine
	mine     *strings.Replacer // what the reader writes in the place of what stands there
	repo     string
	ci       *parts.S3Server // GitHub's key
	key      string          // the signing key, as init printed it
	commands int             // that were run on the server to set it up
	log      string          // of the last job
	engine   *parts.Engine
	github   *fakegithub.Server
	head     string // commit pushed last
	began    time.Time
	outputs  strings.Builder
}

// most is how many commands it may take to set the server up.
const most = 6

func TestQuickstart(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	q := &quickstart{t: t, repo: t.TempDir(), s3: parts.S3(t), towline: filepath.Join(programs(t, "towline"), "towline")}
	q.engine = parts.Docker(t)
	q.github = fakegithub.New(t, fakegithub.Options{Repository: "acme/hello", Token: jobToken})
	bucket := q.s3.Bucket(t, "my-deploys")
	q.ci = q.s3.User(t, "ci")
	agent := q.s3.User(t, "agent-of-web-1")
	site := packages(t)
	q.Droplet = parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"})
	// What the image of a provider has, and a droplet not.
	q.Run(t, "sh", "-c", "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 >/dev/null 2>&1")
	q.Run(t, "sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*") // only ours is asked
	_, port, err := net.SplitHostPort(parts.FreeAddr(t))                           // the droplet shares the machine's loopback
	if err != nil {
		t.Fatal(err)
	}
	q.mine = strings.NewReplacer(
		"https://towline.github.io/towline", site,
		"go run github.com/towline/towline/cmd/towline@latest", q.towline,
		"s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com", q.s3.URL(bucket),
		"KEY-ID-OF-WEB-1", agent.AccessKey, "SECRET-OF-WEB-1", agent.SecretKey, "3000", port,
	)
	git := func(args ...string) {
		q.here("git " + strings.Join(args, " "))
	}
	git("init", "--quiet", "--initial-branch=main")
	git("remote", "add", "origin", "https://github.com/acme/hello")

	marked := regexp.MustCompile("(?ms)^<!-- test: ([^\n]*) -->\n```[a-z]+\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(marked) < 12 {
		t.Fatalf("docs/quickstart.md has %d marked blocks, want more", len(marked))
	}
	for i, m := range marked {
		block := q.mine.Replace(m[2])
		switch kind, name, _ := strings.Cut(m[1], " "); kind {
		case "file":
			q.write(name, block)
		case "anywhere":
			q.policies(q.here(block))
		case "server":
			q.setUp(block)
		case "push":
			good := i+1 >= len(marked) || marked[i+1][1] != "log" || !strings.Contains(marked[i+1][2], "\nrolled-back: ")
			q.push(block, good)
		case "shows":
			q.shows("setting up", block, q.outputs.String())
		case "log":
			q.shows("the job's log", block, q.log)
		case "look":
			q.look(block)
		default:
			t.Errorf("docs/quickstart.md: what is a block %q?", m[1])
		}
	}
	if q.commands > most {
		t.Errorf("got %d commands on the server, want at most %d", q.commands, most)
	}
	if t.Failed() {
		t.Logf("what was printed:\n%s", &q.outputs)
	}
}

// write puts a file of the document into the repository.
func (q *quickstart) write(name, text string) {
	q.t.Helper()
	path := filepath.Join(q.repo, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		q.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		q.t.Fatal(err)
	}
}

// here runs a command in the repository.
func (q *quickstart) here(command string) string {
	q.t.Helper()
	cmd := exec.Command("sh", "-ec", command)
	cmd.Dir = q.repo
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=Ada",
		"GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	q.note(command, string(out))
	if err != nil {
		q.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func (q *quickstart) note(command, out string) { fmt.Fprintf(&q.outputs, "$ %s\n%s", command, out) }

// policies gives the two keys what was printed for stores that take bucket policies.
func (q *quickstart) policies(printed string) {
	q.t.Helper()
	at := strings.LastIndex(printed, "\n\n{\n")
	if at < 0 {
		q.t.Fatalf("no policy was printed:\n%s", printed)
	}
	policy := strings.NewReplacer("arn:aws:iam::ACCOUNT:role/towline-ci", "ci", "arn:aws:iam::ACCOUNT:user/towline-agent", "agent-of-web-1").
		Replace(printed[at+2:])
	if status, answer := q.s3.Do(q.t, http.MethodPut, "/my-deploys?policy=", []byte(policy)); status/100 != 2 {
		q.t.Fatalf("the bucket's policy: got status %d: %s", status, answer)
	}
}

// setUp runs the commands on the server, which stand apart from each other.
func (q *quickstart) setUp(block string) {
	q.t.Helper()
	q.began = time.Now()
	for _, command := range strings.Split(strings.TrimSpace(block), "\n\n") {
		q.commands++
		out, err := q.TryRun(q.t, "sh", "-c", command)
		q.note(command, out)
		if err != nil {
			q.t.Fatalf("%s: %v\n%s\n%s", command, err, out, q.Journal(q.t, "towline-agent.service"))
		}
		switch words := strings.Fields(command); {
		case slices.Contains(words, "init"):
			q.key = regexp.MustCompile(`towline-secret-ed25519:[A-Za-z0-9+/=]+`).FindString(out)
			if q.key == "" || !strings.Contains(out, "expect-servers: web-1") {
				q.t.Fatalf("init: got no private key, or no workflow:\n%s", out)
			}
		case slices.Contains(words, "status"):
			if !strings.Contains(out, "nothing is published yet") {
				q.t.Errorf("status: got\n%s\nwant it to say that nothing is published", out)
			}
		case slices.Contains(words, "enable"):
			q.WaitActive(q.t, "towline-agent.service")
		}
	}
}

// push commits what the document says, and has the runner do what the workflow in the repository says.
func (q *quickstart) push(block string, good bool) {
	q.t.Helper()
	commit, ok := strings.CutSuffix(block, "git push\n")
	if !ok {
		q.t.Fatalf("the block does not end in git push:\n%s", block)
	}
	q.here(commit)
	line := strings.SplitN(strings.TrimSpace(q.here("git log -1 --format='%H %cI %s'")), " ", 3)
	q.github.AddCommit(line[0], q.head, line[2], line[1])
	q.head = line[0]
	action, err := filepath.Abs(root)
	if err != nil {
		q.t.Fatal(err)
	}
	const workflow = ".github/workflows/deploy.yml"
	text, err := os.ReadFile(filepath.Join(q.repo, workflow))
	if err != nil {
		q.t.Fatal(err)
	}
	q.write(workflow, strings.Replace(string(text), ", queue: max", "", 1)) // which this runner does not know
	defer q.write(workflow, string(text))
	r := parts.Act(q.t, q.engine, parts.ActOptions{
		Dir: q.repo, Workflow: "deploy.yml", Repositories: map[string]string{"towline/towline@v1": action},
		Secrets: map[string]string{
			"TOWLINE_SIGNING_KEY": q.key, "AWS_ACCESS_KEY_ID": q.ci.AccessKey, "AWS_SECRET_ACCESS_KEY": q.ci.SecretKey, "GITHUB_TOKEN": jobToken,
		},
		Env: map[string]string{"GITHUB_API_URL": q.github.URL},
	})
	if len(r.Steps) == 0 {
		q.t.Fatalf("no step was run:\n%s", r.Log)
	}
	step := r.Steps[len(r.Steps)-1]
	var shown strings.Builder
	for line := range strings.Lines(step.Log) { // what folds and colours it on GitHub is no text there
		line = regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(line, "")
		if line = strings.TrimPrefix(line, "::group::"); !strings.HasPrefix(line, "::") {
			shown.WriteString(line)
		}
	}
	q.log = shown.String()
	q.note("git push", q.log)
	if !q.began.IsZero() {
		q.t.Logf("%d commands on the server; %.0f s from the first of them to the end of the first job", q.commands, time.Since(q.began).Seconds())
		q.began = time.Time{}
	}
	if (r.ExitCode == 0) != good {
		q.t.Fatalf("push: got exit code %d, want it good: %v\n%s\n%s", r.ExitCode, good, r.Log, q.Journal(q.t, "towline-agent.service"))
	}
}

// look runs what stands after each # on the server, and compares what is printed with what stands below it.
func (q *quickstart) look(block string) {
	q.t.Helper()
	for _, part := range strings.Split("\n"+block, "\n# ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		out, err := q.TryRun(q.t, "sh", "-c", command)
		q.note(command, out)
		if err != nil {
			q.t.Errorf("%s: %v\n%s", command, err, out)
		}
		q.shows(command, want, out)
	}
}

// changing is what differs from run to run.
var changing = []struct{ find, with string }{
	{`, \S+ after it was up`, ""}, // said when it was seen up at all
	{`\b[0-9a-f]{12,40}\b`, "HASH"},
	{`20\d\d-\d\d-\d\dT[\d:]+(Z|\+00:00)`, "TIME"},
	{`just now|\d+ (s|min) ago`, "WHEN"},
	{`\b\d+(\.\d+)?\s?(ms|s|min|kB|B)\b`, "SIZE"},
	{` +`, " "},
}

// shows sees that the lines of the document are among what was printed, in their order.
func (q *quickstart) shows(what, document, printed string) {
	q.t.Helper()
	steady := func(s string) string {
		for _, c := range changing {
			s = regexp.MustCompile(c.find).ReplaceAllString(s, c.with)
		}
		return strings.TrimSpace(s)
	}
	rest := strings.Split(printed, "\n")
	for line := range strings.Lines(document) {
		i := slices.IndexFunc(rest, func(s string) bool { return steady(s) == steady(line) })
		if i < 0 {
			q.t.Errorf("%s: the document shows %q, which was not printed, or not there:\n%s", what, strings.TrimSpace(line), printed)
			return
		}
		rest = rest[i+1:]
	}
}

// packages makes this checkout's release and an apt repository with it, as a release of the project is made, and returns the
// address of a server that has it. install.sh there takes the packages from it.
func packages(t *testing.T) (address string) {
	t.Helper()
	dir := t.TempDir()
	source, out, site, key := dir+"/source", dir+"/out", dir+"/site", dir+"/key.asc"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/install.sh" {
			http.FileServer(http.Dir(site)).ServeHTTP(w, r)
			return
		}
		script, err := os.ReadFile(site + "/install.sh")
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(bytes.ReplaceAll(script, []byte("https://towline.github.io/towline"), []byte("http://"+r.Host)))
	}))
	t.Cleanup(server.Close)
	for _, program := range []string{"git", "jq", "gpg", "gpgconf", "apt-ftparchive", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			parts.Skip(t, program)
		}
	}
	home, err := os.MkdirTemp("", "gpg-") // not below t.TempDir, whose path is too long for the agent's socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	script := `
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory "$SOURCE"
cd "$SOURCE"
printf '\n## %s\n\n- A line.\n' "$VERSION" >>CHANGELOG.md
git init --quiet && git add --all && git commit --quiet --message=all
packaging/release "v$VERSION" "$OUT"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'test <test@example.com>' ed25519 sign never
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --armor --output "$KEY" --export-secret-keys
gpgconf --kill all
packaging/apt-repo "$SITE" "$KEY" "$OUT"/*.deb
`
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "SOURCE="+source, "OUT="+out, "SITE="+site, "KEY="+key, "VERSION="+release.Version,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a repository of packages: %v\n%s", err, text)
	}
	return server.URL
}
