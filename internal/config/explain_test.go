package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryValueHasItsOrigin(t *testing.T) {
	const file = `server: web-1
bucket: deploys
trust:
  keys: ["` + key1 + `"]
  reverts: refuse
apps:
  api:
    unit: api.service
    shared:
      - .env
      - uploads/
    health: &h {http: "http://u:secret@127.0.0.1/", within: 9s}
    trust: {keys: ["` + key2 + `"]}
  site: {health: *h}
  old:
    trust: none
notify:
  - webhook: https://hooks.example/secret
`
	e, err := explain("/etc/towline/agent.yaml", []byte(file), "host")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"server": "web-1 1", "bucket": "deploys 2", "trust.keys": "[" + key1 + "] 4", "trust.reverts": "refuse 5", "poll": "30s 0", "receipts": "true 0",
		"apps.api.unit": "api.service 8", "apps.api.shared": "[.env uploads/] 9", "apps.api.health.within": "9s 12", "apps.api.keep": "3 0",
		"apps.api.health.http": "http://u:xxxxx@127.0.0.1/ 12",
		"apps.api.trust.keys":  "[" + key2 + "] 13", "apps.api.trust.threshold": "1 0", "apps.api.trust.reverts": "refuse 5",
		"apps.site.trust.keys": "[" + key1 + "] 4", "apps.site.trust.threshold": "1 0", "apps.site.health.within": "9s 12", "apps.site.dir": "/srv/site 0",
		"apps.old.trust": "none 16", "apps.old.pointer": "old/production/version.json 0",
		"notify[0].webhook": "*** 18", "notify[0].on": "[rolled-back failed broken recovered] 0",
	}
	for _, v := range e.Values {
		if w, ok := want[v.Path]; ok && w != fmt.Sprintf("%v %d", v.Value, v.Line) {
			t.Errorf("%s: got %v of line %d, want %s", v.Path, v.Value, v.Line, w)
		}
		delete(want, v.Path)
	}
	for path := range want {
		t.Errorf("%s: it is missing", path)
	}
	column := 0
	for line := range strings.Lines(e.Annotated()) {
		if at := strings.Index(line, "  # "); at > 0 && column > 0 && at != column {
			t.Errorf("the origin in %q is not below the others", line)
		} else if at > 0 {
			column = at
		}
	}
	lines := strings.Join(strings.Fields(e.Annotated()), " ")
	for _, line := range []string{"server: web-1 # agent.yaml:1", "- " + key2 + " # agent.yaml:13", "- uploads/ # agent.yaml:11", "keep: 3 # default"} {
		if !strings.Contains(lines, line) {
			t.Errorf("missing %q in:\n%s", line, e.Annotated())
		}
	}
	if strings.Contains(e.Annotated()+fmt.Sprint(e.Values), "secret") {
		t.Errorf("a secret shows in:\n%s", e.Annotated())
	}
}

// What is shown with its origins means what is shown without; every line that holds a value has one.
func TestAnnotatedMeansTheSame(t *testing.T) {
	v, _ := instance([]byte(full))
	rapid.Check(t, func(r *rapid.T) {
		now := v
		for range 3 {
			all := places(now, nil)
			data := with(t, now, all[rapid.IntRange(0, len(all)-1).Draw(r, "place")], rapid.SampledFrom(odd).Draw(r, "value"))
			next, _ := instance(data)
			e, err := explain("a.yaml", data, "host")
			if err != nil {
				continue
			}
			now = next
			bare, err := Parse("a.yaml", []byte(strings.ReplaceAll(e.Effective(), `webhook: "***"`, "webhook: https://h/")), "host")
			if err != nil {
				r.Fatal(err)
			}
			noted, err := Parse("a.yaml", []byte(strings.ReplaceAll(e.Annotated(), `webhook: "***"`, "webhook: https://h/")), "host")
			if err != nil || noted.Effective() != bare.Effective() {
				r.Fatalf("%v: got\n%s\nof\n%s", err, noted.Effective(), e.Annotated())
			}
			block := -1 // indentation of the line that a text of several lines began on
			for _, line := range strings.Split(strings.TrimSpace(e.Annotated()), "\n") {
				indent := len(line) - len(strings.TrimLeft(line, " "))
				if block >= 0 && indent > block {
					continue
				}
				block = -1
				if before, _, _ := strings.Cut(line, "  # "); strings.HasSuffix(strings.TrimRight(before, " +-"), "|") {
					block = indent
				}
				if !strings.HasSuffix(line, ":") && !strings.Contains(line, "  # ") {
					r.Fatalf("no origin in %q of\n%s", line, e.Annotated())
				}
			}
		}
	})
}

func TestAdvice(t *testing.T) {
	const calm = "server: web\nbucket: deploys\ntrust: {keys: [\"" + key1 + "\"]}\nlisten: \":8422\"\napps:\n  api: {unit: api.service, health: {tcp: \"127.0.0.1:80\"}}\n  site:\n"
	for _, test := range []struct {
		old, new string
		line     int
		message  string
	}{
		{"", "", 0, ""},
		{"listen: \":8422\"", "listen: \"127.0.0.1:1\"\ntls: off", 0, ""},
		{"listen: \":8422\"", "listen: \":8422\"\ntls: off", 5, "open to others without TLS"},
		{"listen: \":8422\"", "tls: off", 4, "tls: it means nothing without listen"},
		{"listen: \":8422\"", "metrics: true", 4, "metrics: it means nothing without listen"},
		{"listen: \":8422\"", "status_page: false", 0, ""},
		{"server: web", "notify: [{webhook: \"http://hooks.example/SECRET\"}]", 1, "notify[0].webhook: it is not https"},
		{"server: web", "notify: [{webhook: \"http://localhost:3000/SECRET\"}]", 0, ""},
		{"bucket: deploys", "bucket: s3://deploys?endpoint=http://minio.example:9000", 2, "bucket: the endpoint is not https"},
		{"bucket: deploys", "bucket: s3://deploys?endpoint=http://127.0.0.1:9000", 0, ""},
		{", health: {tcp: \"127.0.0.1:80\"}", "", 6, "without a probe a release counts as healthy once its unit has stayed active for 5s"},
		{"unit: api.service, health: {tcp: \"127.0.0.1:80\"}", "restart: [x]", 6, "nothing proves a release"},
		{"unit: api.service", "keep: 2, unit: api.service", 6, "apps.api.keep: with 2"},
		{"  site:\n", "  site: {trust: none}\n", 7, "whoever may write to the bucket"},
		{"  site:\n", "  site: {app: api, environment: staging}\n", 7, "shares a key with api"},
	} {
		text := strings.Replace(calm, test.old, test.new, 1)
		e, err := explain("a.yaml", []byte(text), "host")
		if err != nil {
			t.Fatalf("%s: %v", test.new, err)
		}
		if test.message == "" && len(e.Advice) == 0 {
			continue
		}
		if len(e.Advice) != 1 || e.Advice[0].Line != test.line || !strings.Contains(e.Advice[0].Message, test.message) || test.message == "" {
			t.Errorf("%s: got %v, want %q at line %d", test.new, e.Advice, test.message, test.line)
		}
		if slices.ContainsFunc(e.Advice, func(p Problem) bool { return strings.Contains(p.String(), "SECRET") }) {
			t.Errorf("a secret shows in %v", e.Advice)
		}
	}
}
