package action

import (
	"strings"
	"testing"

	"github.com/towline/towline/test/fakegithub"
	"github.com/towline/towline/test/parts"
)

// With debug logging on the log says what was given and what was asked of whom, and shows no secret.
func TestRunnerDebug(t *testing.T) {
	hub := fakegithub.New(t, fakegithub.Options{Repository: "acme/web", Token: "a-token"})
	hub.AddCommit(sha, "", "m", "2026-11-23T10:00:00Z")
	s3 := parts.S3(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	j := newJob(t).with("bucket", s3.URL(s3.Bucket(t, "deploys")), "GITHUB_API_URL", hub.URL, "github-token", "a-token", "AWS_SECRET_ACCESS_KEY", s3.SecretKey,
		"exclude", "**/*.map\n# no notes\nnotes", "RUNNER_DEBUG", "1")
	e := j.run()
	for _, want := range []string{"::debug::towline-action ", "::debug::input app: web\n", "::debug::input exclude: **/*.map; # no notes; notes\n", "::debug::input signing-key: given\n",
		"::debug::input github-token: given\n", "::debug::signs with " + j.key.Public().String(), "::debug::GITHUB_SHA: " + sha, "::debug::github method=GET path=/repos/acme/web/commits/",
		"::debug::store method=PUT ", "path=/deploys/web/production/version.json", "status=200"} {
		if !strings.Contains(e.log, want) {
			t.Errorf("the log does not say %q:\n%s", want, e.log)
		}
	}
	for _, secret := range []string{j.key.Reveal(), "a-token", s3.SecretKey} {
		if got := strings.Count(e.log, secret); got != 1 { // where it is masked
			t.Errorf("the log holds a secret %d times, want once, as a mask:\n%s", got, e.log)
		}
	}
	if e := j.with("RUNNER_DEBUG", "", "version", "v2").run(); strings.Contains(e.log, "::debug::") {
		t.Errorf("without debug logging: got\n%s", e.log)
	}
}
