package agent

import (
	"strings"
	"testing"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/service"
)

func TestStatusTellsHowTheLiveReleaseIsNow(t *testing.T) {
	site := newSick(t)
	live := deployment.Receipt{Live: deployment.ReceiptLive{Hash: hash("1")}}
	of := func(c config.App, r deployment.Receipt) string {
		one := &app{App: c, lane: &lane{}}
		one.alive = one.aliver(&unit{Service: unmanaged{service.None{}}})
		return one.health(t.Context(), r)
	}
	probed := config.App{Health: config.Health{HTTP: site.URL}}
	if got := of(probed, live); got != "ok" {
		t.Errorf("got %q, want ok", got)
	}
	site.ill.Store(true)
	if got := of(probed, live); !strings.Contains(got, "database is gone") {
		t.Errorf("got %q, want what the probe says", got)
	}
	busy := live
	busy.Deployment = &deployment.Record{}
	for name, got := range map[string]string{
		"nothing is live": of(probed, deployment.Receipt{}), "a deployment runs": of(probed, busy), "nothing to look at": of(config.App{}, live),
		"a program of the app's own": of(config.App{Unit: "web.service", Health: config.Health{Exec: []string{"/bin/false"}}}, live),
	} {
		if got != "" {
			t.Errorf("%s: got %q, want nothing said", name, got)
		}
	}
}
