package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/schema"
)

func TestStatusOfServer(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	f.add(deployment.Detail{Key: "site", Receipt: deployment.Receipt{Held: "until the launch", Status: "on hold: until the launch", Health: "ok"}})
	f.add(deployment.Detail{Key: "shop", Receipt: deployment.Receipt{Health: "probe: GET /: 500", Status: "stale"}})
	f.add(deployment.Detail{Key: "wiki", Receipt: deployment.Receipt{Status: "not ready: no such unit"}})
	code, out, _ := f.run(t, t.Context(), "status")
	if code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	wantText(t, out, `
STATE        APP      ENVIRONMENT  LIVE               SINCE        HEALTH     LAST DEPLOYMENT
rolled-back  nodeapi  production   #184 e02371ab6db3  113 min ago  -          rolled-back #185 0c1f4b7d2a9e 59 min ago
held         site     production   -                  -            ok         none yet
empty        shop     production   -                  -            ailing     none yet
empty        wiki     production   -                  -            not ready  none yet
nodeapi: rolled-back: probe: GET /version: 500
nodeapi: the pointer says #185 0c1f4b7d2a9e
site: on hold: until the launch
shop: stale
shop: ailing: probe: GET /: 500
wiki: not ready: no such unit
`)
}

func TestStatusOfApp(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	code, out, _ := f.run(t, t.Context(), "status", "nodeapi")
	if code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	wantText(t, out, `
nodeapi in production on web-1: rolled-back
  live     #184 e02371ab6db3, since 2026-11-23 13:06 (113 min ago)
  pointer  #185 0c1f4b7d2a9e, looked at 12 s ago
  unit     nodeapi.service
  dir      /srv/nodeapi

OUTCOME      RELEASE            STARTED           TOOK    REASON
rolled-back  #185 0c1f4b7d2a9e  2026-11-23 14:00  31.2 s  probe: GET /version: 500
deployed     #184 e02371ab6db3  2026-11-23 13:06  -       -

The unit's last lines:
    | Error: no config
    | [31mexit
`)
}

func TestStatusJSONHasReceiptsWithoutEvents(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	for _, args := range [][]string{{"status", "--json"}, {"status", "nodeapi", "--json"}} {
		code, out, _ := f.run(t, t.Context(), args...)
		var got deployment.Overview
		if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
			t.Fatalf("%v: got exit code %d, %v", args, code, err)
		}
		want := f.details["nodeapi"].Receipt
		record := *want.Deployment
		record.Events, want.Deployment = nil, &record
		if diff := cmp.Diff(deployment.Overview{Apps: []deployment.Receipt{want}}, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
	}
}

func TestJSONOfABucketIsAsTheSchemasSay(t *testing.T) {
	l := newLot(t)
	for _, version := range []string{"one", "two"} {
		out, _ := l.run(0, "releases", "--app", "web", "--json")
		schema.Check(t, "releases", out)
		out, _ = l.run(0, "status", "--app", "web", "--json")
		schema.Check(t, "status", out)
		l.publish(version, "--promote")
		receipt := nodeapi().Receipt
		receipt.App, receipt.Environment, receipt.Server = "web", "production", "web-1"
		text, err := json.Marshal(receipt)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(l.dir, release.ReceiptsPrefix("web", "production"))
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "web-1.json"), text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := l.run(0, "status", "--app", "web", "--json")
	schema.Check(t, "status", out)
	if !strings.Contains(out, `"outcome": "rolled-back"`) {
		t.Errorf("got %s, want what the server left", out)
	}
}
