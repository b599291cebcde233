package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// yard is an S3 server behind a gateway, and one who publishes into it.
type yard struct {
	*publisher
	gateway *gateway
	bucket  string
	url     string // of the bucket, through the gateway
	env     []string

	// What agents have of their own, where they have it.
	below    string   // the bucket's URL
	settings []string // environment
	cage     *cage
}

func newYard(b testing.TB, bin string) *yard {
	b.Helper()
	s3 := parts.S3(b)
	y := &yard{bucket: s3.Bucket(b, "releases"), gateway: newGateway(b, s3), env: s3.Env()}
	y.url = y.gateway.url(y.bucket)
	y.publisher = newPublisher(b, bin, y.env)
	return y
}

// arrival is one release's way to one server.
type arrival struct {
	version string
	live    float64 // seconds from the moment that the store had the new pointer to the server's last word
	told    float64 // seconds from the pointer's move to the last word, as the publisher saw it
	steps   map[deployment.Step]float64
}

// deploy publishes a release that no other equals, waits for the server and says how it went.
func (y *yard) deploy(b testing.TB, a *agent, app, dir string) arrival {
	b.Helper()
	await := []string{"--promote", "--expect-servers", a.server}
	if a.url != "" {
		await = []string{"--promote", "--servers", a.url}
	}
	version, text, _ := y.publish(b, app, dir, y.url, await...)
	var report struct {
		Servers []struct {
			TookMS float64 `json:"took_ms"`
		}
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Servers) != 1 {
		b.Fatalf("report: %v\n%s", err, text)
	}
	record := a.last(b, app, version)
	at, _ := ended(b, record)
	out := arrival{version: version, told: report.Servers[0].TookMS / 1e3, steps: map[deployment.Step]float64{}}
	out.live = at.Sub(y.gateway.since(y.bucket, app)).Seconds()
	if out.live <= 0 || out.live > 60 {
		b.Fatalf("%s: live %v s after the pointer moved: the clock or the gateway is wrong", app, out.live)
	}
	for _, e := range record.Events {
		if e.State == deployment.Done && !e.Terminal() {
			out.steps[e.Step] += float64(e.TookMS) / 1e3
		}
	}
	return out
}

// arrivals are the ways of several releases of one app.
type arrivals []arrival

func (a arrivals) live() (s sample) {
	for _, one := range a {
		s = append(s, one.live)
	}
	return s.counted()
}

func (a arrivals) told() (s sample) {
	for _, one := range a {
		s = append(s, one.told)
	}
	return s.counted()
}

// steps are the medians of the agent's own steps.
func (a arrivals) steps() string {
	var out []string
	for _, step := range []deployment.Step{deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm} {
		var s sample
		for _, one := range a {
			s = append(s, one.steps[step])
		}
		out = append(out, fmt.Sprintf("%s %s", step, seconds(s.counted().median())))
	}
	return strings.Join(out, ", ")
}

// measureLatency measures the way from the pointer's move to the last word of a server: woken by a ping, and by polling
// alone, by turns; then of the large tree; then the way back on the server.
func measureLatency(b testing.TB, t *table, bin string, trees []input) {
	y, soil := newYard(b, bin), ground(b, t)
	small := trees[len(trees)-1]
	pinged := newAgent(b, y, soil, "pinged", 30*time.Second, true, "small", "large")
	polling := newAgent(b, y, soil, "polling", time.Second, false, "polled")

	var ping, poll, large arrivals
	alternate(2*often(5), func() {
		ping = append(ping, y.deploy(b, pinged, "small", small.dir))
	}, func() {
		// Anywhere in the agent's interval, not always at the same distance from its last look.
		<-time.After(rand.N(time.Second))
		poll = append(poll, y.deploy(b, polling, "polled", small.dir))
	})
	t.add(
		row{what: "pointer to live with ping, " + small.String(), have: ping.live(), format: seconds, goal: 1},
		row{what: "the same, as the publisher sees it", have: ping.told(), format: seconds},
		row{what: "pointer to live by polling every second", have: poll.live(), format: seconds},
	)
	t.note("Steps of the agent with %s, medians: %s.", small.name, ping.steps())

	// Rollback goes between the last two releases, which are on the server's disk.
	last, before := ping[len(ping)-1].version, ping[len(ping)-2].version
	var own, whole sample
	for i := range 2*len(ping) - 1 {
		to := before
		if i%2 == 1 {
			to = last
		}
		_, c := run(b, nil, filepath.Join(bin, "towline"), "rollback", "--socket", pinged.socket, "--app", "small", "--version", to, "--json")
		_, took := ended(b, pinged.last(b, "small", to))
		own, whole = append(own, took), append(whole, c.wall)
	}
	t.add(
		row{what: "rollback on the server: the agent", have: own.counted(), format: seconds, goal: 0.05},
		row{what: "rollback on the server: the whole command", have: whole.counted(), format: seconds},
	)

	if in := trees[0]; in != small {
		var unpacked, extracted sample
		archive, out := filepath.Join(soil, "a.tar.zst"), filepath.Join(soil, "out")
		run(b, nil, "sh", "-ec", reference, "sh", in.dir, archive)
		alternate(often(5), func() {
			one := y.deploy(b, pinged, "large", in.dir)
			large, unpacked = append(large, one), append(unpacked, one.steps[deployment.Unpack])
			eventually(b, "old releases are pruned", func() bool {
				names, err := os.ReadDir(filepath.Join(pinged.dir, "srv", "large", "releases"))
				return err == nil && len(names) <= 3
			})
		}, func() {
			_, c := run(b, nil, "sh", "-ec", `mkdir "$2"; tar -C "$2" --zstd -xf "$1"; sync -f "$2"`, "sh", archive, out)
			extracted = append(extracted, c.wall)
			if err := os.RemoveAll(out); err != nil {
				b.Fatal(err)
			}
		})
		t.add(
			row{what: "pointer to live with ping, " + in.String(), have: large.live(), format: seconds, goal: 1},
			row{what: "of it unpack, one syncfs included", have: unpacked.counted(), format: seconds,
				peer: "`tar --zstd -x; sync -f`", other: extracted.counted(), goal: 1},
		)
		t.note("Steps of the agent with %s, medians: %s.", in.name, large.steps())
	}
	peak, err := status(pinged.pid, "VmHWM")
	if err != nil {
		b.Fatal(err)
	}
	t.add(row{what: "agent at work, its peak memory", have: sample{peak}, format: mebibytes, goal: 64 << 20})
}
