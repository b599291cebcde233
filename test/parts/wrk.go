package parts

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// Load is what a run of wrk found.
type Load struct {
	Requests  int
	PerSecond float64
	// Failed is what a client would call a failure, by kind: connections refused or broken, answers that never came, wrong ones.
	Failed map[string]int
	// Longest is the longest that an answer took.
	Longest time.Duration
	Text    string // as wrk says it
}

// Errors counts all that failed.
func (l Load) Errors() (n int) {
	for _, k := range l.Failed {
		n += k
	}
	return n
}

// Put has wrk ask for the URL all the time while work runs: twenty connections that are kept open, each with a little pause before
// every request, which is two thousand requests a second and more while they are answered.
func Put(t testing.TB, url string, work func()) Load {
	t.Helper()
	wrk := Program(t, "wrk", "wrk")
	script := filepath.Join(t.TempDir(), "pace.lua")
	if err := os.WriteFile(script, []byte("function delay() return math.random(2, 12) end\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(wrk, "--threads=2", "--connections=20", "--duration=120s", "--timeout=10s", "--script="+script, url)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	work()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("wrk ended early: %v\n%s", err, out.String())
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("wrk: %v\n%s", err, out.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("wrk does not end:\n%s", out.String())
	}
	load, err := readWrk(out.String())
	if err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	return load
}

var (
	wrkTotal   = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
	wrkRate    = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)$`)
	wrkSocket  = regexp.MustCompile(`(?m)^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$`)
	wrkStatus  = regexp.MustCompile(`(?m)^\s*Non-2xx or 3xx responses: (\d+)$`)
	wrkLatency = regexp.MustCompile(`(?m)^\s*Latency\s+\S+\s+\S+\s+([0-9.]+)(us|ms|s|m)\s`)
)

// readWrk reads what wrk prints. Lines about failures are there only when there were any.
func readWrk(text string) (Load, error) {
	l := Load{Failed: map[string]int{}, Text: text}
	total, rate, latency := wrkTotal.FindStringSubmatch(text), wrkRate.FindStringSubmatch(text), wrkLatency.FindStringSubmatch(text)
	if total == nil || rate == nil || latency == nil {
		return l, fmt.Errorf("wrk: no figures")
	}
	l.Requests, _ = strconv.Atoi(total[1])
	l.PerSecond, _ = strconv.ParseFloat(rate[1], 64)
	l.Longest, _ = time.ParseDuration(latency[1] + latency[2])
	if m := wrkSocket.FindStringSubmatch(text); m != nil {
		for i, kind := range []string{"connect", "read", "write", "timeout"} {
			l.Failed[kind], _ = strconv.Atoi(m[i+1])
		}
	}
	if m := wrkStatus.FindStringSubmatch(text); m != nil {
		l.Failed["status"], _ = strconv.Atoi(m[1])
	}
	return l, nil
}
