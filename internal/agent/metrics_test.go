package agent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/agent/exposition"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

var update = flag.Bool("update", false, "write the table of series into docs/monitoring.md")

// scraped is what one scrape gave.
type scraped struct {
	text   string
	values map[string]float64 // by series, as it is written
}

// scrape asks the socket, and demands that every line is one of the format.
func (r *running) scrape() scraped {
	r.w.t.Helper()
	s := scraped{values: map[string]float64{}}
	if code := r.call("/metrics", nil, &s.text); code != http.StatusOK {
		r.w.t.Fatalf("scrape: got %d %s", code, s.text)
	}
	for line := range strings.Lines(s.text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "# ") {
			continue
		}
		cut := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if _, twice := s.values[line[:cut]]; err != nil || twice {
			r.w.t.Errorf("scrape: line %q: %v, there before: %v", line, err, twice)
		}
		s.values[line[:cut]] = value
	}
	return s
}

// want demands values; a series with the value absent must not be there.
const absent = -1.5

func (s scraped) want(t *testing.T, what string, values map[string]float64) {
	t.Helper()
	for series, want := range values {
		got, ok := s.values[series]
		if !ok {
			got = absent
		}
		if got != want {
			t.Errorf("%s: %s: got %v, want %v", what, series, got, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	w, site := newWorld(t), newSick(t)
	began := time.Now()
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings(listening, "  web:\n    dir: $srv/web\n    health: {http: "+site.URL+", within: 1s}\n"))
	r.settled("web", hash("1"))
	s := r.scrape()
	s.want(t, "deployed", map[string]float64{
		`towline_build_info{version="0.1.0"}`: 1, `towline_app_ready{app="web"}`: 1, `towline_app_behind{app="web"}`: 0,
		`towline_app_held{app="web"}`: 0, `towline_app_quarantined{app="web"}`: 0, `towline_app_drifted{app="web"}`: 0,
		`towline_app_deploying{app="web"}`: 0, `towline_receipt_failing{app="web"}`: 0, `towline_pointer_seq{app="web"}`: 1,
		`towline_pointer_refused{app="web"}`: 0, `towline_releases{app="web"}`: 1,
		`towline_release_info{app="web",environment="production",release="` + hash("1") + `"}`: 1,
		`towline_last_deployment_info{app="web",outcome="deployed"}`:                           1,
		`towline_deployments_total{app="web",outcome="deployed"}`:                              1,
		`towline_deployments_total{app="web",outcome="broken"}`:                                0,
		`towline_deployment_seconds_count{app="web"}`:                                          1,
		`towline_deployment_phase_seconds_count{app="web",phase="unpack"}`:                     1,
		`towline_deployment_phase_seconds_bucket{app="web",phase="check",le="+Inf"}`:           1,
		`towline_poll_errors_total{app="web"}`:                                                 0, `towline_scrapes_total`: 1,
		`towline_notifications_total{result="sent"}`: 0, `towline_pings_total{result="accepted"}`: 0,
	})
	between := func(series string, low, high float64) {
		t.Helper()
		if got := s.values[series]; got < low || got > high {
			t.Errorf("%s: got %v, want %v to %v", series, got, low, high)
		}
	}
	past, now := float64(began.Unix()), float64(time.Now().Unix()+1)
	between(`towline_last_success_timestamp_seconds{app="web"}`, past, now)
	between(`towline_last_look_timestamp_seconds{app="web"}`, past, now)
	between(`towline_last_deployment_timestamp_seconds{app="web"}`, past, now)
	between(`process_start_time_seconds`, past, now)
	between(`towline_pointer_expires_timestamp_seconds{app="web"}`, past+3500, now+3700)
	between(`towline_looks_total{app="web"}`, 1, 5)
	between(`towline_fetched_bytes_total{app="web"}`, 50, 1<<20)
	between(`towline_releases_bytes{app="web"}`, 512, 1<<20)
	between(`towline_disk_free_bytes{app="web"}`, 1<<20, s.values[`towline_disk_size_bytes{app="web"}`])
	between(`process_resident_memory_bytes`, 1<<20, 1<<33)

	// A ping that says nothing, one for an app that is not here, a good one of a release that fails, a hold.
	r.call("/v1/ping", map[string]string{"hash": "1"}, nil)
	r.call("/v1/ping", json.RawMessage(w.pointer("api", "production", hash("1"), "one", w.key)), nil)
	r.call("/v1/ping", []string{}, nil)
	site.ill.Store(true)
	second := w.publish("web", hash("2"), "two")
	if events, err := r.ring(second, ""); err != nil || last(events).Outcome != deployment.RolledBack && last(events).Outcome != deployment.Broken {
		t.Fatalf("got %+v, %v", last(events), err)
	}
	failed := r.settled("web", hash("2")).Deployment.Outcome
	r.call("/v1/apps/web/hold", deployment.Command{Reason: "lunch"}, nil)
	s = r.scrape()
	s.want(t, "failed, and held", map[string]float64{
		`towline_app_behind{app="web"}`: 1, `towline_app_held{app="web"}`: 1, `towline_app_quarantined{app="web"}`: 1,
		`towline_last_deployment_info{app="web",outcome="deployed"}`:                           absent,
		`towline_last_deployment_info{app="web",outcome="` + string(failed) + `"}`:             1,
		`towline_deployments_total{app="web",outcome="` + string(failed) + `"}`:                1,
		`towline_deployment_phase_seconds_count{app="web",phase="check"}`:                      1,
		`towline_release_info{app="web",environment="production",release="` + hash("1") + `"}`: 1,
		`towline_pings_total{result="accepted"}`:                                               1, `towline_pings_total{result="refused"}`: 1, `towline_pings_total{result="unknown"}`: 2,
		`towline_scrapes_total`: 2,
	})
}

// While a deployment runs a scrape is answered, and says so.
func TestScrapeDuringADeployment(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	asked := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(asked) })
		<-release
	}))
	defer app.Close()
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings("", "  web:\n    dir: $srv/web\n    health: {http: "+app.URL+"}\n"))
	<-asked
	r.scrape().want(t, "during", map[string]float64{
		`towline_app_deploying{app="web"}`: 1, `towline_app_behind{app="web"}`: 1, `towline_app_ready{app="web"}`: 1,
		`towline_deployment_phase_seconds_count{app="web",phase="unpack"}`: 1, `towline_deployment_seconds_count{app="web"}`: 0,
		`towline_release_info{app="web",environment="production",release="` + hash("1") + `"}`: absent,
		`towline_last_deployment_info{app="web",outcome="deployed"}`:                           absent,
	})
	close(release)
	r.settled("web", hash("1"))
	r.scrape().want(t, "after", map[string]float64{
		`towline_app_deploying{app="web"}`: 0, `towline_app_behind{app="web"}`: 0, `towline_deployment_seconds_count{app="web"}`: 1,
	})
}

// Whoever may ask the port as often as he likes has the numbers put together once a second at most.
func TestScrapeFlood(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.settings(listening+"\nmetrics: true", oneApp))
	// As examples/monitoring has it: the agent's own certificate is the only one that is trusted.
	roots := x509.NewCertPool()
	own, err := os.ReadFile(filepath.Join(w.dir, "state", "tls", "cert.pem"))
	w.must(err)
	roots.AppendCertsFromPEM(own)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "towline-agent"}, MaxIdleConnsPerHost: 8, MaxConnsPerHost: 8,
	}}
	defer client.CloseIdleConnections()
	began := time.Now()
	var flood sync.WaitGroup
	for range 8 {
		flood.Go(func() {
			for range 100 {
				answer, err := client.Get("https://" + r.Addr() + "/metrics")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if kind := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || kind != exposition.ContentType {
					t.Errorf("got %s of %q", answer.Status, kind)
				}
			}
		})
	}
	flood.Wait()
	most := time.Since(began).Seconds() + 2 // and this one
	if got := r.scrape().values["towline_scrapes_total"]; got > most {
		t.Errorf("800 scrapes: got the numbers put together %v times, want %v at most", got, most)
	}
}

func TestReleasesOnDiskAreReadOnce(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, bytes int) {
		t.Helper()
		path := filepath.Join(dir, "releases", name, "deep", "file")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, bytes), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var u diskUse
	if got := u.of(dir); got != -1 {
		t.Errorf("no releases: got %d, want -1", got)
	}
	put("1-aaa", 1<<20)
	put(".stage-x", 1<<20)
	first := u.of(dir)
	if first < 1<<20 || first > 1<<20+64<<10 {
		t.Errorf("one release: got %d", first)
	}
	// What lies deeper is not looked at again.
	if err := os.WriteFile(filepath.Join(dir, "releases", "1-aaa", "deep", "more"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := u.of(dir); got != first {
		t.Errorf("again: got %d, want %d", got, first)
	}
	put("2-bbb", 2<<20)
	if got := u.of(dir) - first; got < 2<<20 || got > 2<<20+64<<10 {
		t.Errorf("another release: got %d more", got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "releases", "1-aaa")); err != nil {
		t.Fatal(err)
	}
	if got := u.of(dir); got < 2<<20 || got > 2<<20+64<<10 || len(u.known[dir]) != 1 {
		t.Errorf("the first is gone: got %d, and %d known", got, len(u.known[dir]))
	}
}

// Every series is as the linter of Prometheus wants it, and the table of docs/monitoring.md is theirs.
func TestSeriesAreDocumented(t *testing.T) {
	w, hook := newWorld(t), httptest.NewServer(http.NotFoundHandler())
	defer hook.Close()
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings("notify: [{webhook: \""+hook.URL+"\"}]", oneApp))
	r.settled("web", hash("1"))
	text := r.scrape().text

	lint := exec.Command(parts.Promtool(t), "check", "metrics")
	lint.Stdin = strings.NewReader(text)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	path := filepath.Join(parts.Root(t), "docs", "monitoring.md")
	page, err := os.ReadFile(path)
	w.must(err)
	const begin, end = "<!-- series -->\n", "<!-- /series -->\n"
	before, rest, ok := strings.Cut(string(page), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s", path, begin)
	}
	want := seriesTable(text)
	if *update {
		w.must(os.WriteFile(path, []byte(before+begin+want+end+after), 0o644))
	} else if table != want {
		t.Errorf("docs/monitoring.md: the table is not that of the agent; go test ./internal/agent -run TestSeriesAreDocumented -update writes\n%s", want)
	}
}

// seriesTable is a row for each family, in the order of the text.
func seriesTable(text string) string {
	var table bytes.Buffer
	fmt.Fprintln(&table, "| series | type | labels | what it says |\n|---|---|---|---|")
	labels := map[string][]string{}
	var names, kinds, helps []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "# HELP "):
			name, help, _ := strings.Cut(strings.TrimPrefix(line, "# HELP "), " ")
			names, helps = append(names, name), append(helps, help)
		case strings.HasPrefix(line, "# TYPE "):
			kinds = append(kinds, line[strings.LastIndexByte(line, ' ')+1:])
		default:
			name := names[len(names)-1]
			_, inside, _ := strings.Cut(line, "{")
			for pair := range strings.SplitSeq(inside, ",") {
				if label, _, ok := strings.Cut(pair, "="); ok && label != "le" && !slices.Contains(labels[name], "`"+label+"`") {
					labels[name] = append(labels[name], "`"+label+"`")
				}
			}
		}
	}
	for i, name := range names {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, kinds[i], strings.Join(labels[name], ", "), helps[i])
	}
	return table.String()
}
