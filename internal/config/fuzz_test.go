package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/towline/towline/internal/release"
)

// FuzzConfig offers arbitrary files: each is either refused with problems that can be shown, or gives settings within
// their rules, whose effective form says the same; and what is taken, the schema takes too.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(ok))
	f.Add([]byte(ok + `
server: web-1
labels: [canary]
poll: 5s
listen: ":8422"
tls: {cert: /etc/towline/cert.pem, key: /etc/towline/key.pem}
ping_token_file: /etc/towline/token
receipts: file:///srv/receipts
metrics: true
notify: [{webhook: "https://example.com/hook", on: [failed]}]
`))
	f.Add([]byte(`
server: web-1
bucket: s3://my-deploys?region=fra1&endpoint=https://fra1.example.com
trust: {keys: ["` + key1 + `", "` + key2 + `"], threshold: 2, reverts: refuse}
apps:
  api:
    unit: api.service
    health: {http: "http://127.0.0.1:3000/version", expect: "{{hash}}", within: 1m, stable: 2s, passes: 3}
    keep: 5
    shared: [.env, uploads/]
    hooks: {before-activate: [./bin/migrate, --all]}
  old:
    trust: none
    restart: [supervisorctl, restart, old]
    health: {tcp: "127.0.0.1:80"}
    pointer: version.json
`))
	for _, odd := range []string{
		"a: &a [*a]", "a: &a {b: *a}", "&a [&b [*a, *b]]", "<<: {server: x}", "server: !!binary aGk=", "apps: {a: {}, a: {}}", "poll: 1e9h",
		"apps: {../x: {}}", "---\n---\n", "server: \"\\x00\"", "\t", "? {}\n: {}", "apps:\n  a: &x\n    trust: none\n  b: *x\n", "\xef\xbb\xbfserver: a", "keep: 99999999999999999999",
		strings.Repeat("[", 500), strings.Repeat("a: {", 300), "trust: {keys: [], threshold: 0}", "trust: {threshold: -1}",
	} {
		f.Add([]byte(odd))
	}
	judged := compiled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16<<10 {
			return // an agent's file is small, and a large one only slows this down
		}
		s, err := Parse("a.yaml", data, "host")
		if err != nil {
			problems, ok := errors.AsType[*Error](err)
			if !ok || len(problems.Problems) == 0 || problems.Error() == "" {
				t.Errorf("err = %v, want problems", err)
			}
			return
		}
		checkSettings(t, s)
		judge(t, judged, data)
		if len(s.Notify) > 0 {
			return // the effective form hides the webhook, so it cannot be read back
		}
		again, err := Parse("a.yaml", []byte(s.Effective()), "other")
		if err != nil {
			t.Fatalf("the effective configuration has problems: %v\n%s", err, s.Effective())
		}
		if again.Effective() != s.Effective() {
			t.Errorf("the effective configuration gives another one:\n%s\nof\n%s", again.Effective(), s.Effective())
		}
	})
}

// checkSettings demands what the agent relies on: names that can be parts of a path, directories that are absolute, and a
// trust that demands signatures unless none is asked for in words.
func checkSettings(t *testing.T, s Settings) {
	t.Helper()
	if release.CheckServer(s.Server) != nil || s.Bucket == "" || s.Poll <= 0 || len(s.Apps) == 0 {
		t.Errorf("accepted server %q, bucket %q, poll %s, %d apps", s.Server, s.Bucket, s.Poll, len(s.Apps))
	}
	if !utf8.ValidString(s.Effective()) {
		t.Errorf("the effective configuration is not UTF-8: %q", s.Effective())
	}
	for _, a := range s.Apps {
		if release.CheckApp(a.Key) != nil || release.CheckApp(a.App) != nil || release.CheckEnvironment(a.Environment) != nil || release.CheckPrefix(a.Prefix) != nil {
			t.Errorf("accepted names %q, %q, %q, %q", a.Key, a.App, a.Environment, a.Prefix)
		}
		if !filepath.IsAbs(a.Dir) || filepath.Clean(a.Dir) != a.Dir || a.Dir == "/" {
			t.Errorf("accepted directory %q", a.Dir)
		}
		if a.Unit != "" && release.CheckUnit(a.Unit) != nil || a.Keep < 2 {
			t.Errorf("accepted unit %q, keep %d", a.Unit, a.Keep)
		}
		for _, p := range a.Shared {
			if !filepath.IsLocal(p) {
				t.Errorf("accepted shared path %q", p)
			}
		}
		if !a.Trust.None() && len(a.Trust.Keys()) == 0 {
			t.Error("accepted a trust without keys")
		}
		if _, err := a.Trust.Pointer([]byte(`{"hash":"abc"}`), release.Want{}); (err == nil) != a.Trust.None() {
			t.Errorf("an unsigned pointer: err = %v with trust none = %v", err, a.Trust.None())
		}
	}
}
