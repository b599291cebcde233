package agent

import (
	"context"
	"errors"
	"sync"

	"github.com/towline/towline/internal/agent/exposition"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
)

// phaseBounds divide the time that a step, or a whole deployment, takes, in seconds.
var phaseBounds = []float64{0.1, 0.5, 1, 5, 15, 30, 60, 300}

// phases are the steps whose time is told.
var phases = []deployment.Step{
	deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm, deployment.RollBack,
}

// counts are what has happened since the agent was started: what nothing else remembers. The zero value is ready.
type counts struct {
	usage diskUse

	mu      sync.Mutex
	apps    map[string]*appCounts // by key
	pings   map[string]int        // by result
	scrapes int
}

// appCounts are those of one app.
type appCounts struct {
	ended   map[deployment.Outcome]int
	fetched int64 // bytes
	whole   *exposition.Histogram
	phases  map[deployment.Step]*exposition.Histogram
}

// of returns the counts of an app. The lock must be held.
func (c *counts) of(app string) *appCounts {
	if c.apps == nil {
		c.apps = map[string]*appCounts{}
	}
	if c.apps[app] == nil {
		c.apps[app] = &appCounts{
			ended: map[deployment.Outcome]int{}, whole: exposition.NewHistogram(phaseBounds), phases: map[deployment.Step]*exposition.Histogram{},
		}
	}
	return c.apps[app]
}

// event counts what has ended: a step, or a deployment.
func (c *counts) event(app string, e deployment.Event) {
	if !e.Terminal() && e.State != deployment.Done {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	one, took := c.of(app), float64(e.TookMS)/1000
	if e.Terminal() {
		one.ended[e.Outcome]++
		one.fetched += e.Bytes
		one.whole.Observe(took)
		return
	}
	if one.phases[e.Step] == nil {
		one.phases[e.Step] = exposition.NewHistogram(phaseBounds)
	}
	one.phases[e.Step].Observe(took)
}

// expose writes them for the apps that there are.
func (c *counts) expose(text *exposition.Text, apps []reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scrapes++
	f := text.Family("towline_deployments_total", exposition.KindCounter, "Deployments that ended, by outcome.")
	for _, r := range apps {
		for _, outcome := range outcomes {
			f.Sample(float64(c.of(r.Key).ended[outcome]), "app", r.Key, "outcome", string(outcome))
		}
	}
	f = text.Family("towline_deployment_seconds", exposition.KindHistogram, "Time of deployments that ended.")
	for _, r := range apps {
		f.Histogram(c.of(r.Key).whole, "app", r.Key)
	}
	f = text.Family("towline_deployment_phase_seconds", exposition.KindHistogram, "Time of the steps of deployments that were done.")
	for _, r := range apps {
		for _, phase := range phases {
			if h := c.of(r.Key).phases[phase]; h != nil {
				f.Histogram(h, "app", r.Key, "phase", string(phase))
			}
		}
	}
	f = text.Family("towline_fetched_bytes_total", exposition.KindCounter, "Bytes of artifacts that deployments fetched.")
	for _, r := range apps {
		f.Sample(float64(c.of(r.Key).fetched), "app", r.Key)
	}
	f = text.Family("towline_pings_total", exposition.KindCounter, "Pings, by what became of them.")
	for _, result := range []string{"accepted", "refused", "unknown", "limited"} {
		f.Sample(float64(c.pings[result]), "result", result)
	}
	text.Family("towline_scrapes_total", exposition.KindCounter, "Times that these numbers were put together.").Sample(float64(c.scrapes))
}

// rung counts the pings that reach ring, by what it makes of them.
func (c *counts) rung(ring ringer) ringer {
	return func(ctx context.Context, body []byte, token string) (ping.Answer, error) {
		answer, err := ring(ctx, body, token)
		switch {
		case err == nil:
			c.ping("accepted")
		case errors.Is(err, ping.ErrUnknownApp):
			c.ping("unknown")
		default:
			c.ping("refused")
		}
		return answer, err
	}
}

// ringer is what a ping's handler rings.
type ringer = func(ctx context.Context, body []byte, token string) (ping.Answer, error)

func (c *counts) limited() { c.ping("limited") }

func (c *counts) ping(result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pings == nil {
		c.pings = map[string]int{}
	}
	c.pings[result]++
}
