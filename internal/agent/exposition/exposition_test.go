package exposition

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	var text Text
	text.Family("left_out", KindGauge, "There is none.")
	f := text.Family("a_total", KindCounter, "Back\\slash and\nline.")
	f.Sample(1, "app", `q"b\`+"\nn", "outcome", "ok")
	f.Sample(0)
	text.Family("b_seconds", KindGauge, "Numbers.").Sample(0.25)
	g := text.Family("c", KindGauge, "Large ones.")
	g.Sample(1795696000)
	g.Sample(1<<60, "le", "x")
	g.Flag(true, "is", "set")
	g.Flag(false, "is", "not")
	h := NewHistogram([]float64{0.5, 10})
	for _, v := range []float64{0.5, 0.1, 3, 11, 12} {
		h.Observe(v)
	}
	text.Family("d_seconds", KindHistogram, "Times.").Histogram(h, "app", "web")
	want := `# HELP a_total Back\\slash and\nline.
# TYPE a_total counter
a_total{app="q\"b\\\nn",outcome="ok"} 1
a_total 0
# HELP b_seconds Numbers.
# TYPE b_seconds gauge
b_seconds 0.25
# HELP c Large ones.
# TYPE c gauge
c 1795696000
c{le="x"} 1.152921504606847e+18
c{is="set"} 1
c{is="not"} 0
# HELP d_seconds Times.
# TYPE d_seconds histogram
d_seconds_bucket{app="web",le="0.5"} 2
d_seconds_bucket{app="web",le="10"} 3
d_seconds_bucket{app="web",le="+Inf"} 5
d_seconds_sum{app="web"} 26.6
d_seconds_count{app="web"} 5
`
	if got := string(text.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestProcess(t *testing.T) {
	var text Text
	text.Process(time.UnixMilli(1795696000500))
	for _, want := range []string{
		"process_start_time_seconds 1795696000.5\n", "process_cpu_seconds_total 0.", "process_max_fds ", "go_goroutines ",
	} {
		if !strings.Contains(string(text.Bytes()), want) {
			t.Errorf("missing %q in\n%s", want, text.Bytes())
		}
	}
	before, err := openFiles()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if after, err := openFiles(); err != nil || after != before+1 {
		t.Errorf("open files: got %d, %v, want %d", after, err, before+1)
	}
	pages, err := resident()
	if mib := pages * uint64(os.Getpagesize()) >> 20; err != nil || mib < 2 || mib > 500 {
		t.Errorf("resident: got %d MiB, %v", mib, err)
	}
}
