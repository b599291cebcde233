package cli

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/gc"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/schema"
)

// lot is a bucket in a directory, and a key to publish with.
type lot struct {
	t   *testing.T
	dir string
	key release.PrivateKey
}

func newLot(t *testing.T) *lot {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &lot{t, t.TempDir(), key}
}

func (l *lot) run(want int, args ...string) (stdout, stderr string) {
	l.t.Helper()
	var out, errs bytes.Buffer
	p := &program{now: time.Now, settle: time.Millisecond, env: Env{Args: args, Stdin: strings.NewReader("yes\n"), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string {
			return map[string]string{"TOWLINE_SIGNING_KEY": l.key.Reveal(), "TOWLINE_BUCKET": "file://" + l.dir}[name]
		}}}
	if got := p.run(l.t.Context()); got != want {
		l.t.Fatalf("towline %s: got exit code %d, want %d:\n%s%s", strings.Join(args, " "), got, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func (l *lot) publish(version string, more ...string) {
	l.t.Helper()
	dir := l.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(version), 0o644); err != nil {
		l.t.Fatal(err)
	}
	l.run(0, append([]string{"publish", "--app", "web", "--path", dir, "--version", version, "--message", "m", "--date", "2026-11-23T13:06:43Z"}, more...)...)
}

// age makes everything that is there 40 days old.
func (l *lot) age() {
	l.t.Helper()
	old := time.Now().AddDate(0, 0, -40)
	err := filepath.WalkDir(l.dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			err = os.Chtimes(path, old, old)
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lot) releases() []string {
	l.t.Helper()
	all, err := filepath.Glob(l.dir + "/web/releases/*")
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range all {
		version, _, _ := strings.Cut(filepath.Base(all[i]), "-")
		all[i] = version
	}
	return slices.Compact(all)
}

func TestGC(t *testing.T) {
	l := newLot(t)
	l.publish("one", "--promote")
	l.publish("two")
	l.publish("three", "--promote")
	l.age()
	l.publish("four") // young
	all := l.releases()

	out, _ := l.run(0, "gc", "--app", "web", "--dry-run", "--json")
	schema.Check(t, "gc", out)
	var plan gc.Plan
	if err := json.Unmarshal([]byte(out), &plan); err != nil || !plan.DryRun || len(plan.Remove) != 1 || plan.Remove[0].Version != "two" || len(plan.Keep) != 3 {
		t.Errorf("got %s, %v, want two to go and three to stay", out, err)
	}
	if out, _ = l.run(0, "gc", "--app", "web", "--dry-run"); !strings.Contains(out, "web: 3 releases referred to or young, in production") ||
		!strings.Contains(out, "two") || !strings.Contains(out, "would delete 1 release (") || !strings.Contains(out, "nothing was deleted") {
		t.Errorf("got %s, want what would be deleted", out)
	}
	if _, errs := l.run(2, "gc", "--app", "web"); !strings.Contains(errs, "nobody can be asked here") || !strings.Contains(errs, "--yes") {
		t.Errorf("got %s, want that somebody has to say yes", errs)
	}
	if got := l.releases(); !slices.Equal(got, all) {
		t.Fatalf("got %q, want %q still there", got, all)
	}
	if out, _ = l.run(0, "gc", "--app", "web", "--yes"); !strings.Contains(out, "\ndeleted 1 release (") {
		t.Errorf("got %s, want what was deleted", out)
	}
	if got := l.releases(); !slices.Equal(got, []string{"four", "one", "three"}) {
		t.Errorf("got %q, want all but two", got)
	}
	if out, _ = l.run(0, "gc", "--app", "web", "--yes", "--json"); !strings.Contains(out, `"remove": []`) {
		t.Errorf("again: got %s, want nothing to delete", out)
	} else {
		schema.Check(t, "gc", out)
	}
	l.run(4, "promote", "two", "--app", "web")
	l.run(0, "rollback", "--app", "web")

	// Of the history, only the last entry counts now: that is one again.
	l.age()
	l.run(0, "gc", "--app", "web", "--keep", "1", "--older-than", "39d", "--yes")
	if got := l.releases(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("got %q, want one alone", got)
	}
}

func TestGCFlags(t *testing.T) {
	l := newLot(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--keep", "0"}, "--keep 0"}, {[]string{"--older-than", "30"}, "--older-than"}, {[]string{"--older-than", "3h"}, "at least 1d"},
		{[]string{"--older-than", "0d"}, "--older-than"}, {[]string{"--older-than", "99999999999999d"}, "--older-than"}, {[]string{"web"}, "unexpected argument"},
	} {
		if _, errs := l.run(2, append([]string{"gc", "--app", "web", "--yes"}, test.args...)...); !strings.Contains(errs, test.want) {
			t.Errorf("%q: got %s, want %q", test.args, errs, test.want)
		}
	}
	if _, errs := l.run(2, "gc", "--yes"); !strings.Contains(errs, "--app") {
		t.Errorf("got %s, want that --app is missing", errs)
	}
	l.dir += "/gone"
	l.run(2, "gc", "--app", "web", "--yes")
}

// CI's key deletes nothing; one with the rights that the help names does.
func TestRightsOfGC(t *testing.T) {
	r := newRights(t)
	r.start()
	before, _, _ := r.ours()
	run := func(args ...string) (code int, stderr string) {
		var out, errs bytes.Buffer
		p := &program{now: func() time.Time { return time.Now().AddDate(0, 0, 40) }, settle: time.Millisecond,
			env: Env{Args: args, Stdout: &out, Stderr: &errs, Getenv: func(name string) string {
				return map[string]string{"TOWLINE_BUCKET": r.url()}[name]
			}}}
		code = p.run(t.Context())
		t.Logf("%q\n%s%s", args, out.String(), errs.String())
		return code, errs.String()
	}
	t.Setenv("AWS_ACCESS_KEY_ID", r.ci.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", r.ci.SecretKey)
	r.publish(t.TempDir(), "v2")
	if code, errs := run("gc", "--app", "web", "--yes"); code != 2 || !strings.Contains(errs, "says which rights it needs") {
		t.Errorf("as CI: got exit code %d, %s, want 2 and what is missing", code, errs)
	}

	janitor := r.root.User(t, "janitor")
	var policy bucket.Policy
	if err := json.Unmarshal(r.printed.Bucket, &policy); err != nil {
		t.Fatal(err)
	}
	allow := func(action, at string) {
		policy.Statement = append(policy.Statement, bucket.Statement{Effect: "Allow", Principal: &bucket.Principal{AWS: "janitor"},
			Action: []string{action}, Resource: []string{"arn:aws:s3:::" + shared + at}})
	}
	for _, action := range []string{"s3:ListBucket", "s3:ListBucketMultipartUploads"} {
		allow(action, "")
	}
	allow("s3:GetObject", "/web/*")
	allow("s3:DeleteObject", "/web/releases/*")
	allow("s3:AbortMultipartUpload", "/web/releases/*")
	if status, answer := r.root.Do(t, "PUT", "/"+shared+"?policy=", []byte(policy.String())); status/100 != 2 {
		t.Fatalf("put bucket policy: got status %d: %s", status, answer)
	}
	for key, text := range map[string]string{"web/production/receipts/web-2.json": "{}", "web/staging/version.json": `{"hash":"v0"}`} {
		if status, answer := r.root.Do(t, "PUT", "/"+shared+"/"+key, []byte(text)); status != http.StatusOK {
			t.Fatalf("put %s: got status %d: %s", key, status, answer)
		}
	}
	if status, answer := r.root.Do(t, "POST", "/"+shared+"/web/releases/x?uploads=", nil); status != http.StatusOK {
		t.Fatalf("begin an upload: got status %d: %s", status, answer)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", janitor.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", janitor.SecretKey)
	if code, errs := run("gc", "--app", "web", "--yes"); code != 0 {
		t.Errorf("with the rights of the help: got exit code %d, %s, want 0", code, errs)
	}
	after, _, _ := r.ours()
	if !slices.Equal(before, after) {
		t.Errorf("got %q, want %q: v2 is gone and nothing else", after, before)
	}
	if _, answer := r.root.Do(t, "GET", "/"+shared+"?uploads=", nil); bytes.Contains(answer, []byte("<UploadId>")) {
		t.Errorf("an upload is left: %s", answer)
	}
	for _, key := range theirs {
		r.denied(janitor, "DELETE", "/"+key)
	}
}
