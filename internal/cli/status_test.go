package cli

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deployment"
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
