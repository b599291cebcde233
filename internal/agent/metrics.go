package agent

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// counts are the deployments since the agent was started, by app and outcome.
type counts struct {
	mu          sync.Mutex
	deployments map[[2]string]int
}

func (c *counts) event(app string, e deployment.Event) {
	if !e.Terminal() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deployments == nil {
		c.deployments = map[[2]string]int{}
	}
	c.deployments[[2]string{app, string(e.Outcome)}]++
}

// metrics answers in the text format of Prometheus.
func (a *Agent) metrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	head := func(name, kind, help string) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }

	head("towline_build_info", "gauge", "The version of the agent.")
	sample(w, "towline_build_info", 1, "version", release.Version)
	head("towline_start_time_seconds", "gauge", "When the agent was started, in Unix time.")
	sample(w, "towline_start_time_seconds", float64(a.started.Unix()))

	head("towline_deployments_total", "counter", "Deployments that ended since the agent was started.")
	a.counts.mu.Lock()
	ended := maps.Clone(a.counts.deployments)
	a.counts.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(ended), func(x, y [2]string) int { return slices.Compare(x[:], y[:]) })
	for _, k := range keys {
		sample(w, "towline_deployments_total", float64(ended[k]), "app", k[0], "outcome", k[1])
	}

	receipts := make([]deployment.Receipt, len(a.apps))
	for i, one := range a.apps {
		receipts[i] = one.receipt()
	}
	head("towline_app_ready", "gauge", "1 when the app could be deployed now.")
	for _, one := range a.apps {
		ready := 0.0
		if one.ready(r.Context()) == nil {
			ready = 1
		}
		sample(w, "towline_app_ready", ready, "app", one.Key)
	}
	head("towline_release_info", "gauge", "The release that is live.")
	for i, one := range a.apps {
		if live := receipts[i].Live; live.Hash != "" {
			sample(w, "towline_release_info", 1, "app", one.Key, "environment", one.Environment, "release", live.Hash)
		}
	}
	head("towline_pointer_seq", "gauge", "The sequence number of the pointer that is followed.")
	for i, one := range a.apps {
		sample(w, "towline_pointer_seq", float64(receipts[i].Pointer.Seq), "app", one.Key)
	}
	for _, t := range []struct {
		name, help string
		of         func(deployment.Receipt) string
	}{
		{"towline_last_success_timestamp_seconds", "When the live release proved healthy, in Unix time.", func(r deployment.Receipt) string { return r.Live.Since }},
		{"towline_last_look_timestamp_seconds", "When the pointer was read last, in Unix time.", func(r deployment.Receipt) string { return r.Seen }},
	} {
		head(t.name, "gauge", t.help)
		for i, one := range a.apps {
			if when, err := time.Parse(time.RFC3339, t.of(receipts[i])); err == nil {
				sample(w, t.name, float64(when.Unix()), "app", one.Key)
			}
		}
	}
	head("towline_poll_errors_total", "counter", "Looks at the pointer that failed since the agent was started.")
	for _, one := range a.apps {
		if _, source, err := one.now(); err == nil {
			sample(w, "towline_poll_errors_total", float64(source.Errors()), "app", one.Key)
		}
	}
}

// sample writes one line; labels are names and values in turn.
func sample(w io.Writer, name string, value float64, labels ...string) {
	var pairs []string
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+escape.Replace(labels[i+1])+`"`)
	}
	if len(pairs) > 0 {
		name += "{" + strings.Join(pairs, ",") + "}"
	}
	fmt.Fprintf(w, "%s %g\n", name, value)
}
