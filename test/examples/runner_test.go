package examples

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// called is a workflow that has the reusable one make something that is not Node.js, with all that a shell would trip over
// in its commands, and looks at its outputs.
const called = `name: Deploy
on: push
permissions: {contents: read}
jobs:
  deploy:
    uses: towline/towline/.github/workflows/deploy.yml@v1
    with:
      node-version: ''
      build: |
        mkdir dist
        # "quotes", 'single ones', $(false) and a backslash \ are the commands' own
        echo "it's \"made\" in $(basename "$PWD")" | tr m M > 'dist/in dex.html'
      app: site
      path: dist
      bucket: ${{ vars.TOWLINE_BUCKET }}
      deployment: 'off'
    secrets:
      TOWLINE_SIGNING_KEY: ${{ secrets.TOWLINE_SIGNING_KEY }}
      AWS_ACCESS_KEY_ID: ${{ secrets.AWS_ACCESS_KEY_ID }}
      AWS_SECRET_ACCESS_KEY: ${{ secrets.AWS_SECRET_ACCESS_KEY }}
  after:
    needs: deploy
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0
      - run: |
          test "$OUTCOME" = published
          test "$SEQ" = 1
          test "$SIZE" -gt 0
          echo "$REPORT" | grep '"outcome"'
        env:
          OUTCOME: ${{ needs.deploy.outputs.outcome }}
          SEQ: ${{ needs.deploy.outputs.seq }}
          SIZE: ${{ needs.deploy.outputs.artifact-size }}
          REPORT: ${{ needs.deploy.outputs.report }}
`

// TestReusableWorkflowBuilds runs the reusable workflow, for what is not Node.js, on a real runner; TestMainJob of
// test/system does it for Node.js.
func TestReusableWorkflowBuilds(t *testing.T) {
	s3 := parts.S3(t)
	engine := parts.Docker(t)
	bucket := s3.Bucket(t, "my-deploys")
	repo := t.TempDir()
	file := filepath.Join(repo, ".github/workflows/deploy.yml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(called), 0o644); err != nil {
		t.Fatal(err)
	}
	hash := parts.Commit(t, repo, "acme/site", "say hello")
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	r := parts.Act(t, engine, parts.ActOptions{
		Dir: repo, Workflow: "deploy.yml",
		Vars: map[string]string{"TOWLINE_BUCKET": s3.URL(bucket)},
		Repositories: map[string]string{
			"towline/towline@v1": here,
			"actions/setup-node@a0853c24544627f65ddf259abe73b1d18a591444": parts.SetupNode(t),
		},
		Secrets: map[string]string{
			"TOWLINE_SIGNING_KEY": newKey(t).Reveal(), "AWS_ACCESS_KEY_ID": s3.AccessKey, "AWS_SECRET_ACCESS_KEY": s3.SecretKey,
		},
	})
	if r.ExitCode != 0 {
		t.Fatalf("got exit code %d, want a green job and the outputs that it checks:\n%s", r.ExitCode, r.Log)
	}
	var ran []string
	for _, step := range r.Steps {
		ran = append(ran, step.Name)
	}
	if all := strings.Join(ran, ", "); !strings.Contains(all, "Build") || strings.Contains(all, "npm") || strings.Contains(all, "setup-node") {
		t.Errorf("steps: got %s, want Build and nothing of Node.js", all)
	}
	step := r.Step(t, "towline")
	if step.Outputs["version"] != hash || step.Outputs["outcome"] != "published" {
		t.Errorf("outputs: got %v, want published, version %s", step.Outputs, hash)
	}
	if status, _ := s3.Do(t, http.MethodGet, "/my-deploys/"+step.Outputs["artifact-key"], nil); status != http.StatusOK {
		t.Errorf("artifact %s: got status %d, want it in the bucket", step.Outputs["artifact-key"], status)
	}
}
