package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/release"
)

const key1, key2 = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

func TestEveryKey(t *testing.T) {
	s, err := Parse("agent.yaml", []byte(`
server: web-1
labels: [canary]
bucket: s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com
trust:
  keys: ["`+key1+`", "`+key2+`"]
  threshold: 2
  reverts: refuse
poll: 5s
listen: ":8422"
tls: {cert: /etc/towline/cert.pem, key: /etc/towline/key.pem}
ping_token_file: /etc/towline/token
receipts: file:///srv/receipts
metrics: true
status_page: true
state: /srv/state/
socket: /run/t.sock
credentials: {access_key_id_file: /etc/a, secret_access_key_file: /etc/b}
apps:
  nodeapi:
    app: api
    prefix: team/api
    environment: staging
    dir: /srv/api
    unit: nodeapi.service
    health:
      http: http://127.0.0.1:3000/version
      expect: "{{hash}}"
      within: 1m
      stable: 2s
      passes: 3
    keep: 5
    shared: [.env, uploads/]
    hooks: {before-activate: [./bin/migrate, --all], after-healthy: [./bin/warm]}
    trust: {keys: ["`+key2+`"]}
  old:
    trust: none
    restart: [supervisorctl, restart, old]
    health: {tcp: "127.0.0.1:80"}
    pointer: version.json
    artifact: "builds/{hash}.tar.gz"
notify: [{webhook: https://hooks.example/secret, on: [failed]}]
`), "HOST")
	if err != nil {
		t.Fatal(err)
	}
	two := apps(t, s)
	if got, want := two[0].Trust.Keys(), []string{key2}; !cmp.Equal(got, want) || !two[0].RevertsRefused {
		t.Errorf("got keys %v, reverts refused %v, want %v and those of above", got, two[0].RevertsRefused, want)
	}
	if !two[1].Trust.None() {
		t.Error("got an app with trust, want none")
	}
	for i := range two {
		two[i].Trust = release.Trust{}
	}
	want := []App{{
		Key: "nodeapi", App: "api", Prefix: "team/api", Environment: "staging", Dir: "/srv/api", Unit: "nodeapi.service",
		Health: Health{HTTP: "http://127.0.0.1:3000/version", Expect: "{{hash}}", Within: time.Minute, Stable: 2 * time.Second, Passes: 3},
		Keep:   5, Shared: []string{".env", "uploads/"}, RevertsRefused: true, Pointer: "team/api/staging/version.json",
		Hooks: Hooks{BeforeActivate: []string{"./bin/migrate", "--all"}, AfterHealthy: []string{"./bin/warm"}},
	}, {
		Key: "old", App: "old", Prefix: "old", Environment: "production", Dir: "/srv/old", Restart: []string{"supervisorctl", "restart", "old"},
		Health: Health{TCP: "127.0.0.1:80", Within: 30 * time.Second, Passes: 1}, Keep: 3, RevertsRefused: true,
		Pointer: "version.json", Artifact: "builds/{hash}.tar.gz",
	}}
	if diff := cmp.Diff(want, two, cmp.AllowUnexported(), cmp.Comparer(func(a, b release.Trust) bool { return true })); diff != "" {
		t.Errorf("apps (-want +got):\n%s", diff)
	}
	got := fmt.Sprint(s.Server, s.Labels, s.Poll, s.Listen, s.TLS, s.PingToken, s.Receipts, s.Metrics, s.StatusPage, s.State, s.Socket, s.Credentials, s.Notify)
	if want := "web-1[canary]5s:8422{files /etc/towline/cert.pem /etc/towline/key.pem}/etc/towline/token{false file:///srv/receipts}truetrue/srv/state/run/t.sock{/etc/a /etc/b}[{*** [failed]}]"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got %s, want %s", got, want)
	}
	if s.Notify[0].Webhook.Reveal() != "https://hooks.example/secret" {
		t.Errorf("got webhook %q", s.Notify[0].Webhook.Reveal())
	}
}

func apps(t *testing.T, s Settings) []App {
	t.Helper()
	if len(s.Apps) != 2 {
		t.Fatalf("got %d apps, want 2", len(s.Apps))
	}
	return append([]App(nil), s.Apps...)
}

func TestDefaults(t *testing.T) {
	s, err := Parse("agent.yaml", []byte("bucket: deploys\ntrust: {keys: [\""+key1+"\"]}\napps:\n  site:\n  api: {unit: api.service}\n"), "Web-1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	two := apps(t, s)
	api, site := two[0], two[1]
	if s.Server != "web-1.example.com" || s.Poll != 30*time.Second || s.State != "/var/lib/towline" || s.Socket != "/run/towline/agent.sock" || s.Receipts != (Receipts{}) || s.Listen != "" {
		t.Errorf("got %+v", s)
	}
	if api.Dir != "/srv/api" || api.Health.Stable != 5*time.Second || api.Keep != 3 || api.Environment != "production" || api.Artifact != "" {
		t.Errorf("got %+v", api)
	}
	if site.Health.Stable != 0 || site.Health.Within != 30*time.Second {
		t.Errorf("got %+v", site.Health)
	}
	// What is shown is a file that means the same.
	again, err := Parse("agent.yaml", []byte(s.Effective()), "other")
	if err != nil {
		t.Fatalf("%v in:\n%s", err, s.Effective())
	}
	if got, want := again.Effective(), s.Effective(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !strings.Contains(s.Effective(), "within: 30s") {
		t.Errorf("got:\n%s", s.Effective())
	}
}

func TestSecretsAreHidden(t *testing.T) {
	s, err := Parse("agent.yaml", []byte("bucket: deploys\ntrust: none\napps: {site: }\nnotify: [{webhook: \"https://hooks.example/s3cret\"}]\n"), "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{s.Effective(), fmt.Sprintf("%v %+v %#v %s %q", s.Notify, s.Notify, s.Notify, s.Notify, s.Notify)} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("the secret shows in %s", text)
		}
	}
}

// ok is a file without problems; a case replaces one of its lines.
const ok = `server: web
bucket: deploys
trust: {keys: ["` + key1 + `"]}
listen: ":8422"
apps:
  api:
    unit: api.service
    health: {http: "http://127.0.0.1/"}
`

func TestBadValues(t *testing.T) {
	for _, test := range []struct {
		old, new string // of a part of ok
		line     int
		source   string // of the line that is shown
		message  string // part of it
	}{
		{"unit:", "unti:", 7, "unti: api.service", `unknown key "unti" in apps.api; did you mean "unit"?`},
		{"server: web", "sever: web", 1, "sever: web", `unknown key "sever"; did you mean "server"?`},
		{"server: web", "colour: blue", 1, "colour", `unknown key "colour"`},
		{"server: web", "server: Web 1", 1, "Web 1", "server"},
		{"server: web", "server: [web]", 1, "[web]", "want text, not a list"},
		{"server: web", "server:", 1, "server:", "it has no value"},
		{"server: web", "poll: 100ms", 1, "poll", "poll: 100ms: want 1s to 24h"},
		{"server: web", "poll: 30", 1, "30", "want a time with its unit"},
		{"server: web", "metrics: maybe", 1, "maybe", `want true or false, not "maybe"`},
		{"server: web", "labels: canary", 1, "canary", "want a list"},
		{"server: web", "labels: [A]", 1, "[A]", `labels[0]: label "A"`},
		{"server: web", "receipts: yes please", 1, "yes", "receipts"},
		{"server: web", "tls: on", 1, "on", "want auto, off"},
		{"server: web", "tls: {cert: /a}", 1, "cert", "want both"},
		{"server: web", "state: here", 1, "here", "absolute path"},
		{"server: web", "credentials: {access_key_id_file: /a}", 1, "credentials", "belong together"},
		{"server: web", "notify: [{webhook: \"not a url\"}]", 1, "webhook", "want https://"},
		{"server: web", "notify: [{webhook: \"https://h/\", on: [deployed]}]", 1, "deployed", "want some of rolled-back"},
		{"server: web", "ping_token_file: /a", 1, "ping_token_file", "pings need no token"},
		{"bucket: deploys", "poll: 3s", 0, "", "bucket: it is missing"},
		{"bucket: deploys", "bucket: ftp://host/x", 2, "ftp", "want a bucket's name"},
		{"bucket: deploys", "bucket: s3://AKIA:secret@deploys", 2, "bucket", "no key belongs into the URL"},
		{"bucket: deploys", "bucket: file://srv/bucket", 2, "file", "three slashes"},
		{`{keys: ["` + key1 + `"]}`, "all", 3, "all", `"all": want none, or keys`},
		{`{keys: ["` + key1 + `"]}`, "{keys: [abc]}", 3, "abc", "public key"},
		{`{keys: ["` + key1 + `"]}`, "{keys: []}", 3, "trust", "no keys"},
		{`"]}`, `"], threshold: 2}`, 3, "threshold", "can never be met"},
		{`"]}`, `"], reverts: maybe}`, 3, "reverts", "want follow or refuse"},
		{`trust: {keys: ["` + key1 + `"]}`, "labels: []", 6, "api:", "trust: it is missing"},
		{`listen: ":8422"`, "listen: 8422", 4, "listen", "want text, not 8422; put it into quotes"},
		{`listen: ":8422"`, `listen: "8422"`, 4, "listen", "want host:port"},
		{`listen: ":8422"`, `listen: ""`, 4, "listen", "it is empty"},
		{`listen: ":8422"`, `tls: ""`, 4, "tls", "it is empty"},
		{"unit: api.service", `keep: "3"`, 7, "keep", "want a whole number"},
		{"unit: api.service", "trust: {threshold: 0}", 7, "threshold", "want 1 to 16"},
		{"bucket: deploys", "bucket: S3://deploys", 2, "S3", "want a bucket's name"},
		{"  api:", "  Api:", 6, "Api", "lower-case"},
		{"unit: api.service", "unit: api", 7, "unit", "full name of a service unit"},
		{"unit: api.service", "app: Api", 7, "app", "lower-case"},
		{"unit: api.service", "environment: releases", 7, "environment", "taken"},
		{"unit: api.service", "prefix: /a", 7, "prefix", "prefix"},
		{"unit: api.service", "dir: srv", 7, "dir", "absolute"},
		{"unit: api.service", "restart: []", 7, "restart", "names no program"},
		{"unit: api.service", "{unit: a.service, restart: [x]}", 7, "", ""},
		{"unit: api.service", "unit: a.service\n    restart: [x]", 8, "restart", "not both"},
		{"unit: api.service", "keep: 1", 7, "keep", "at least 2"},
		{"unit: api.service", "keep: few", 7, "few", "whole number"},
		{"unit: api.service", "shared: [../x]", 7, "../x", "inside the release"},
		{"unit: api.service", "shared: [a/, a/b]", 7, "a/b", "it lies in a/, which is shared already"},
		{"unit: api.service", "shared: [a/b, a]", 7, "a/b", "it lies in a, which is shared already"},
		{"unit: api.service", "shared: [a, a/]", 7, "a/", "it lies in a, which is shared already"},
		{"unit: api.service", `shared: ["a\nb"]`, 7, "shared", "inside the release"},
		{"unit: api.service", "hooks: {after: [x]}", 7, "after", `unknown key "after" in apps.api.hooks`},
		{"unit: api.service", "hooks: {after-healthy: []}", 7, "after-healthy", "names no program"},
		{"unit: api.service", "pointer: version.json", 7, "pointer", "only apps with trust: none"},
		{"unit: api.service", "trust: none\n    artifact: x.tar.gz", 8, "artifact", "want {hash} in it"},
		{"unit: api.service", "trust: none\n    pointer: /version.json", 8, "pointer", "object's key"},
		{`http: "http://127.0.0.1/"`, `http: "127.0.0.1:80"`, 8, "http", "want a URL"},
		{`http: "http://127.0.0.1/"`, `http: "http://h/", tcp: "h:1"`, 8, "health", "one of http, tcp and exec"},
		{`http: "http://127.0.0.1/"`, `tcp: "h"`, 8, "tcp", "host:port"},
		{`http: "http://127.0.0.1/"`, `tcp: "h:1", expect: x`, 8, "expect", "only http"},
		{`http: "http://127.0.0.1/"`, `within: 0s`, 8, "within", "want 1s"},
		{`http: "http://127.0.0.1/"`, `stable: -1s`, 8, "stable", "want 0s"},
		{`http: "http://127.0.0.1/"`, `passes: 0`, 8, "passes", "at least 1"},
		{`http: "http://127.0.0.1/"`, `expect: {{hash}}`, 8, "expect", ""},
		{"  api:", "  two: {trust: none, app: api}\n  api:", 6, "two", "production, as api is already"},
		{"  api:", "  two: {dir: /srv/api/x}\n  api:", 6, "dir", "must lie apart"},
		{"server: web", "server: web\nserver: web", 2, "server", "already defined"},
		{"server: web", "server: web: x", 1, "server", "not YAML"},
	} {
		text := strings.Replace(ok, test.old, test.new, 1)
		t.Run(test.new, func(t *testing.T) {
			_, err := Parse("/etc/agent.yaml", []byte(text), "host")
			var problems *Error
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want problems in:\n%s", err, text)
			}
			p := problems.Problems[0]
			if test.source == "" && test.line != 0 {
				return // that it is refused is enough
			}
			if p.Line != test.line || !strings.Contains(p.Source, test.source) || !strings.Contains(p.Message, test.message) {
				t.Errorf("got %d %q %q, want %d %q %q", p.Line, p.Source, p.Message, test.line, test.source, test.message)
			}
			if p.Line > 0 && !strings.HasPrefix(err.Error(), fmt.Sprintf("/etc/agent.yaml:%d: ", test.line)) {
				t.Errorf("got %q, want it to begin with file and line", err)
			}
		})
	}
}

func TestAllProblemsAtOnceInOrder(t *testing.T) {
	_, err := Parse("a.yaml", []byte("bucket: deploys\npol: 30s\ntrust: maybe\napps:\n  api:\n    keep: 0\n    unit: x\n  web: {dir: /srv/api}\n"), "host")
	var problems *Error
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	var got []int
	for _, p := range problems.Problems {
		got = append(got, p.Line)
	}
	if want := []int{2, 3, 6, 7, 8}; !cmp.Equal(got, want) {
		t.Errorf("got problems at lines %v, want %v:\n%v", got, want, err)
	}
}

func TestProblemShowsItsPlace(t *testing.T) {
	_, err := Parse("a.yaml", []byte(strings.Replace(ok, "    unit:", "    unti:", 1)), "host")
	want := `a.yaml:7: unknown key "unti" in apps.api; did you mean "unit"?
    7 |     unti: api.service
      |     ^`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestOddFiles(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "hello", "- a\n- b\n", "a: b: c", "\x00", "{", "apps: {a: *b}", "---\nbucket: abc\n---\nbucket: abc\n", "apps: {a: {health: ", "\tserver: x"} {
		var problems *Error
		if _, err := Parse("a.yaml", []byte(text), "host"); !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Errorf("%q: got %v, want problems", text, err)
		} else {
			_ = err.Error()
		}
	}
}

func TestAnchors(t *testing.T) {
	s, err := Parse("a.yaml", []byte("bucket: deploys\ntrust: none\napps:\n  a: {health: &h {tcp: \"h:1\", within: 9s}}\n  b: {health: *h}\n"), "host")
	if err != nil {
		t.Fatal(err)
	}
	if two := apps(t, s); two[1].Health.Within != 9*time.Second {
		t.Errorf("got %+v", two[1].Health)
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(file, []byte(ok), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(file)
	if err != nil || s.Path != file || s.Server != "web" {
		t.Errorf("got %+v, %v", s, err)
	}
}
