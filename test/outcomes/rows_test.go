package outcomes

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxRequests bounds the calls to GitHub that one run makes here, where an environment has few deployments.
const maxRequests = 20

func actionFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const deploys = "Pack, Upload, Promote, Ping and wait"

// pointerOnly is what promote and rollback write.
var pointerOnly = []string{"history", "pointer"}

// TestOutcomes is everything that needs the engine: its parts share one world, which takes a while to make.
func TestOutcomes(t *testing.T) {
	w := newWorld(t)
	w.part("image", w.weigh)
	w.part("table", func() { w.run("table", w.runOptions("101"), w.table()...) })
	w.part("without secrets", w.withoutSecrets)
	w.part("environment", w.environment)
	w.part("role", w.role)
	w.part("loud", w.loud)
	w.part("cancel", w.cancel)
}

// part runs a part of the test by itself.
func (w *world) part(name string, do func()) {
	all := w.t
	all.Run(name, func(t *testing.T) {
		w.t = t
		do()
	})
	w.t = all
}

// table is every outcome that one job can reach, each step beginning where the one before ended.
func (w *world) table() []row {
	c := w.history("Paint it red", "Paint it green", "Paint it blue", "Paint it black", "Break it", "Say no", "Never arrive", "Come late")
	red, green, blue, black, breaks, no, lost, late := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
	return []row{
		{name: "first", want: want{
			outcome: "deployed", version: w.head, moved: true, servers: "web-1 deployed", states: "queued in_progress success", live: w.head, groups: deploys,
			log: []string{"Open the shop", "web/production/version.json", "live and healthy"}, summary: []string{"Open the shop"},
		}},
		{name: "unchanged", want: want{
			outcome: "unchanged", version: w.head, previous: w.head, moved: true, written: pointerOnly, servers: "web-1 unchanged",
			states: "queued in_progress success", inactive: 1, live: w.head, groups: deploys,
		}},
		{name: "deployed", with: map[string]string{"version": red}, want: want{
			outcome: "deployed", version: red, previous: w.head, moved: true, servers: "web-1 deployed", states: "queued in_progress success", inactive: 1,
			live: red, groups: deploys, log: []string{"Paint it red"}, summary: []string{"Paint it red"},
		}},
		{name: "dry-run", with: map[string]string{"version": green, "dry-run": "true"}, want: want{
			outcome: "dry-run", version: green, previous: red, live: red, groups: "Pack, Files, Pointer",
			log: []string{"index.html", "version.txt", "would upload", "- seq 3", red, "+ seq 4", green}, summary: []string{"nothing was written"},
		}},
		{name: "publish", with: map[string]string{"version": green, "command": "publish"}, want: want{
			outcome: "published", version: green, written: []string{"artifact", "release"}, live: red, groups: "Pack, Upload",
			summary: []string{"the pointer was left alone"},
		}},
		{name: "promote", with: map[string]string{"version": green, "command": "promote"}, want: want{
			outcome: "deployed", version: green, previous: red, moved: true, written: pointerOnly, servers: "web-1 deployed",
			states: "queued in_progress success", inactive: 1, live: green, groups: "Find the release, Promote, Ping and wait",
		}},
		{name: "not-awaited", with: map[string]string{"version": blue, "wait": "false"}, want: want{
			outcome: "published", version: blue, previous: green, moved: true, servers: "web-1 published", states: "queued success", inactive: 1,
			live: blue, later: true, groups: "Pack, Upload, Promote, Ping", warning: "green does not mean live", summary: []string{"wait: false"},
		}},
		{name: "nobody-named", with: map[string]string{"version": black, "servers": ""}, want: want{
			outcome: "published", version: black, previous: blue, moved: true, states: "queued success", inactive: 1,
			live: black, later: true, groups: "Pack, Upload, Promote", warning: "make green mean live", summary: []string{"no servers were named"},
		}},
		{name: "superseded", with: map[string]string{"version": green}, want: want{
			outcome: "superseded", version: green, live: black, notice: "superseded: seq 6, release " + black[:7], summary: []string{"is newer"},
		}},
		{name: "superseded-red", with: map[string]string{"version": green, "on-superseded": "fail"}, want: want{
			outcome: "superseded", red: true, version: green, live: black, errors: []string{"superseded: seq 6, release " + black[:7]},
			summary: []string{"is newer"},
		}},
		{name: "rolled-back", with: map[string]string{"version": breaks}, files: map[string]string{"sick": "yes\n", "says": "I feel unwell\n"}, want: want{
			outcome: "rolled-back", red: true, version: breaks, previous: black, moved: true, servers: "web-1 rolled-back",
			states: "queued in_progress failure", live: black, groups: deploys,
			log: []string{"flux capacitor", "I feel unwell", "check failed", "roll back done"}, errors: []string{"web-1: rolled-back: "},
			summary: []string{"flux capacitor", "I feel unwell"},
		}},
		{name: "previous", with: map[string]string{"command": "rollback", "reason": "it is unwell"}, want: want{
			outcome: "deployed", version: black, previous: breaks, moved: true, written: pointerOnly, servers: "web-1 unchanged",
			states: "queued in_progress success", inactive: 1, live: black, groups: "Find the release, Promote, Ping and wait",
		}},
		{name: "rollback-to-hash", with: map[string]string{"command": "rollback", "version": red}, want: want{
			outcome: "deployed", version: red, previous: black, moved: true, written: pointerOnly, servers: "web-1 deployed",
			states: "queued in_progress success", inactive: 1, live: red, groups: "Find the release, Promote, Ping and wait",
		}},
		{name: "rollback-to-prefix", with: map[string]string{"command": "rollback", "version": blue[:9]}, want: want{
			outcome: "deployed", version: blue, previous: red, moved: true, written: pointerOnly, servers: "web-1 deployed",
			states: "queued in_progress success", inactive: 1, live: blue, groups: "Find the release, Promote, Ping and wait",
		}},
		{name: "status", with: map[string]string{"command": "status"}, want: want{
			outcome: "deployed", version: blue, servers: "web-1 deployed", live: blue, groups: "Status",
		}},
		{name: "failed", with: map[string]string{"version": no}, files: map[string]string{"refuse": "yes\n", "notes": "the migration is not mine\n"}, want: want{
			outcome: "failed", red: true, version: no, previous: blue, moved: true, servers: "web-1 failed", states: "queued in_progress failure",
			live: blue, groups: deploys, log: []string{"the migration is not mine"}, errors: []string{"web-1: failed: "}, summary: []string{"the migration is not mine"},
		}},
		{name: "no-upload", with: map[string]string{"version": lost}, before: func() {
			w.gate.with(rule{refuse: func(r *http.Request) int {
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/releases/") {
					return http.StatusForbidden
				}
				return 0
			}})
		}, want: want{
			outcome: "failed", red: true, version: lost, live: blue, groups: "Pack, Upload", errors: []string{"cannot deploy web on production: "},
		}},
		{name: "endpoint-down", with: map[string]string{"version": lost, "bucket": "s3://deploys?region=us-east-1&endpoint=http://127.0.0.1:1"},
			before: func() { w.gate.with(rule{}) }, want: want{
				outcome: "failed", red: true, version: lost, live: blue, errors: []string{"cannot deploy web on production: "},
			}},
		{name: "timed-out", with: map[string]string{"version": late, "expect-servers": "ghost", "wait-timeout": "3s"}, want: want{
			outcome: "timed-out", red: true, version: late, previous: no, moved: true, servers: "web-1 deployed, ghost timed-out",
			states: "queued in_progress error", live: late, groups: deploys, errors: []string{"ghost: timed-out: no last word within 3.0 s"}, summary: []string{"no last word"},
		}},
		{name: "frail", app: "frail", with: map[string]string{"version": red}, want: want{
			outcome: "deployed", version: red, moved: true, servers: "web-1 deployed", states: "queued in_progress success", live: red, groups: deploys,
		}},
		{name: "broken", app: "frail", with: map[string]string{"version": green}, files: map[string]string{"poison": "yes\n"}, want: want{
			outcome: "broken", red: true, version: green, previous: red, moved: true, servers: "web-1 broken", states: "queued in_progress failure",
			live: red, groups: deploys, errors: []string{"web-1: broken: "}, log: []string{"flux capacitor"}, summary: []string{"flux capacitor"},
		}},
		{name: "kept", app: "kept", with: map[string]string{"version": red}, want: want{
			outcome: "deployed", version: red, moved: true, servers: "web-1 deployed", states: "queued in_progress success", live: red, groups: deploys,
		}},
		{name: "held", app: "kept", with: map[string]string{"version": green}, before: func() { w.towline("hold", "kept", "-m", "the fair is on") }, want: want{
			outcome: "held", red: true, version: green, previous: red, moved: true, servers: "web-1 held", states: "queued in_progress failure",
			live: red, groups: deploys, errors: []string{"web-1: held: the fair is on"}, summary: []string{"the fair is on"},
		}},
	}
}
