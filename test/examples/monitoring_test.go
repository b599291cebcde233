package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/test/parts"
)

const monitoring = "examples/monitoring"

// rule is an alert of towline-alerts.yml.
type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

// alerts are all alerts.
func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(read(t, monitoring+"/towline-alerts.yml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 10 {
		t.Fatalf("got %+v", file)
	}
	return file.Groups[0].Rules
}

// The alerts, their cases and the scrape job are what Prometheus takes; the cases are run.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, monitoring))); err != nil {
		t.Fatal(err)
	}
	cert, _, err := ping.Keep(filepath.Join(t.TempDir(), "state", "tls"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(cert, filepath.Join(dir, "towline-agents.pem")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "rules", "towline-alerts.yml"}, {"test", "rules", "towline-alerts.test.yml"}, {"check", "config", "prometheus.yml"},
	} {
		cmd := exec.Command(parts.Promtool(t), args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Every alert says what, where and what to do, fires in a case, and asks for series that the agent has; in the first case, in
// which nothing fires, each of these series is there.
func TestAlertsAreComplete(t *testing.T) {
	cases, series := read(t, monitoring+"/towline-alerts.test.yml"), read(t, "docs/monitoring.md")
	well := strings.Split(cases, "\n  - name: ")[1]
	names := regexp.MustCompile(`\b(towline|node|process)_[a-z_]+\b`)
	for _, r := range alerts(t) {
		if !strings.Contains(cases, `{alertname="`+r.Alert+`", severity="`+r.Labels["severity"]+`"`) {
			t.Errorf("%s: fires in no case with severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || len(r.Annotations) != 2 || len(r.Labels) != 1 {
			t.Errorf("%s: got labels %v and annotations %v", r.Alert, r.Labels, r.Annotations)
		}
		if !regexp.MustCompile(`\b(towline|systemctl|journalctl|df) |scrape_configs`).MatchString(r.Annotations["description"]) {
			t.Errorf("%s: no command in %q", r.Alert, r.Annotations["description"])
		}
		for _, name := range names.FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(r.Expr, ""), -1) {
			if !strings.HasPrefix(name, "node_") && !strings.Contains(series, "| `"+name+"` |") {
				t.Errorf("%s: the agent has no series %s", r.Alert, name)
			}
			if !strings.Contains(well, "'"+name+"{") {
				t.Errorf("%s: %s is not in the case in which all is well", r.Alert, name)
			}
		}
	}
}

// The numbers come to node_exporter's directory, none but Towline's own, and stay as they were when the agent is gone.
func TestNumbersForNodeExporter(t *testing.T) {
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "web-1"})
	d.CopyIn(t, filepath.Join(programs.dir, "towline-agent"), "/usr/bin/towline-agent", 0o755)
	d.WriteFile(t, "/etc/towline/agent.yaml", []byte("bucket: file:///srv/bucket\ntrust: none\napps: {web: {}}\n"), 0o644)
	d.Run(t, "mkdir", "-p", "/srv/bucket", "/srv/web", "/var/lib/prometheus/node-exporter", "/run/towline")
	d.WriteFile(t, "/etc/systemd/system/towline-agent.service", []byte("[Service]\nType=notify\nExecStart=/usr/bin/towline-agent\n"), 0o644)
	for _, unit := range []string{"towline-metrics.service", "towline-metrics.timer"} {
		d.CopyIn(t, filepath.Join(root, monitoring, unit), "/etc/systemd/system/"+unit, 0o644)
	}
	if out := d.Run(t, "systemd-analyze", "verify", "/etc/systemd/system/towline-metrics.service", "/etc/systemd/system/towline-metrics.timer"); out != "" {
		t.Errorf("systemd-analyze verify: got %s", out)
	}
	d.Run(t, "systemctl", "daemon-reload")
	d.Run(t, "systemctl", "start", "towline-agent.service")
	d.Run(t, "systemctl", "enable", "--now", "towline-metrics.timer")
	d.Run(t, "systemctl", "start", "towline-metrics.service") // now, and to its end
	const path = "/var/lib/prometheus/node-exporter/towline.prom"
	text := string(d.ReadFile(t, path))
	if !strings.Contains(text, "\n# TYPE towline_app_ready gauge\ntowline_app_ready{app=\"web\"} ") {
		t.Errorf("got\n%s", text)
	}
	lint := exec.Command(parts.Promtool(t), "check", "metrics")
	lint.Stdin = strings.NewReader(text)
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	for line := range strings.Lines(text) {
		if !regexp.MustCompile(`^(# (HELP|TYPE) )?towline_`).MatchString(line) {
			t.Errorf("got line %q", line)
		}
	}
	d.Run(t, "systemctl", "stop", "towline-metrics.timer", "towline-agent.service")
	before := string(d.ReadFile(t, path))
	if _, err := d.TryRun(t, "systemctl", "start", "towline-metrics.service"); err == nil {
		t.Error("without an agent: got no error")
	}
	if got := string(d.ReadFile(t, path)); got != before {
		t.Errorf("without an agent: got\n%s", got)
	}
}
