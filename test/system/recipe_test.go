package system

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// pack is the shell recipe's half in CI, word for word: version.js, a tar of everything under the commit's hash, and
// version.json.
const pack = `set -eu
HASH=$(git rev-parse HEAD)
MSG=$(git log -1 --format=%s)
DATE=$(git log -1 --format=%cI)
printf 'module.exports = {"hash":"%s","msg":"%s","date":"%s"};\n' "$HASH" "$MSG" "$DATE" > version.js
printf '{"hash":"%s","msg":"%s","date":"%s"}\n' "$HASH" "$MSG" "$DATE" > "$OUT/version.json"
tar czf "$OUT/$HASH.tar.gz" .
`

// TestShellRecipe deploys a bucket that knows nothing of Towline: the script fills it, the agent follows, and putting the old
// version.json back reverts.
func TestShellRecipe(t *testing.T) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		parts.Skip(t, "npm")
	}
	s3 := parts.S3(t)
	bucket := s3.Bucket(t, "recipe")
	s := newServer(t, func(app, _ string) string {
		return fmt.Sprintf(`server: web-1
bucket: %s
credentials: {access_key_id_file: /etc/towline/access-key-id, secret_access_key_file: /etc/towline/secret-access-key}
trust: none
poll: 1s
receipts: false
apps:
  nodeapi:
    unit: nodeapi.service
    health: {http: "%s/version", expect: "{{hash}}", within: 20s, stable: 1s}
    pointer: version.json
    shared: [data/]
`, s3.URL(bucket), app)
	}, s3)

	repo := t.TempDir()
	if err := os.CopyFS(repo, os.DirFS(filepath.Join(root, "examples/node-api"))); err != nil {
		t.Fatal(err)
	}
	install := exec.Command(npm, "ci", "--omit=dev", "--no-audit", "--no-fund")
	install.Dir = repo
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	pointers := map[string][]byte{}
	publish := func(message string) (hash string) {
		t.Helper()
		hash = parts.Commit(t, repo, "acme/node-api", message)
		out := t.TempDir()
		script := exec.Command("sh", "-c", pack)
		script.Dir, script.Env = repo, append(os.Environ(), "OUT="+out)
		if text, err := script.CombinedOutput(); err != nil {
			t.Fatalf("the recipe: %v\n%s", err, text)
		}
		for _, name := range []string{hash + ".tar.gz", "version.json"} {
			data, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				t.Fatal(err)
			}
			if status, answer := s3.Do(t, http.MethodPut, "/"+bucket+"/"+name, data); status != http.StatusOK {
				t.Fatalf("put %s: %d %s", name, status, answer)
			}
			pointers[hash] = data // version.json is the last one
		}
		return hash
	}
	live := func(hash string) {
		t.Helper()
		s.eventually(t, hash+" is live", 30*time.Second, func() bool { return s.version() == hash })
		// The receipt follows when the soak is over.
		s.eventually(t, hash+" is recorded", 30*time.Second, func() bool {
			r := s.status(t)
			return r.Live.Hash == hash && r.Deployment != nil && r.Deployment.Outcome == deployment.Deployed
		})
	}

	first := publish("the first one")
	live(first)
	second := publish("the second one")
	live(second)
	if status, answer := s3.Do(t, http.MethodPut, "/"+bucket+"/version.json", pointers[first]); status != http.StatusOK {
		t.Fatalf("put the old version.json back: %d %s", status, answer)
	}
	live(first)
	if dirs := strings.Fields(s.Run(t, "ls", "/srv/nodeapi/releases")); len(dirs) != 2 || !strings.HasPrefix(dirs[0], "p1-") {
		t.Errorf("releases on disk: got %q, want p1-… and p2-…", dirs)
	}
}
