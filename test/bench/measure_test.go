package bench

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"syscall"
	"testing"
	"time"
)

// sample is what one thing measured, a value a round, in the order of the rounds.
type sample []float64

// median is the middle value, or the mean of the two in the middle.
func (s sample) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// over is s divided by other, round by round: what disturbed the machine in a round disturbed both.
func (s sample) over(other sample) sample {
	out := make(sample, len(s))
	for i := range s {
		out[i] = s[i] / other[i]
	}
	return out
}

// beside is over, or the ratio of the medians where one side ran more rounds than the other.
func (s sample) beside(other sample) sample {
	if len(s) != len(other) {
		return sample{s.median() / other.median()}
	}
	return s.over(other)
}

// show is the median with the least and the greatest value, each written by format. Where these are written alike there is no spread.
func (s sample) show(format func(float64) string) string {
	text := format(s.median())
	if len(s) < 2 {
		return text
	}
	least, greatest := format(slices.Min(s)), format(slices.Max(s))
	if least == greatest {
		return text
	}
	return fmt.Sprintf("%s (%s–%s)", text, least, greatest)
}

// turns gives the order in which so many sides run: each once a round, after one round that does not count. The side that
// begins changes from round to round, so that none always runs in the wake of the same other.
func turns(rounds, sides int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for round := -1; round < rounds; round++ {
			for i := range sides {
				if !yield((i + max(round, 0)) % sides) {
					return
				}
			}
		}
	}
}

// alternate runs the sides by turns. What one has left to write is written before the next begins.
func alternate(rounds int, sides ...func()) {
	for i := range turns(rounds, len(sides)) {
		syscall.Sync()
		sides[i]()
	}
}

// counted is the sample without the round that does not count.
func (s sample) counted() sample { return s[min(1, len(s)):] }

// Formats of values. Times are seconds, sizes are bytes.
func seconds(v float64) string {
	switch {
	case v < 0.001:
		return fmt.Sprintf("%.2f ms", v*1e3)
	case v < 0.0995:
		return fmt.Sprintf("%.1f ms", v*1e3)
	case v < 1:
		return fmt.Sprintf("%.0f ms", v*1e3)
	}
	return fmt.Sprintf("%.2f s", v)
}

func mebibytes(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) }
func megabytes(v float64) string { return fmt.Sprintf("%.1f MB", v/1e6) }
func kilobytes(v float64) string {
	if v >= 1e6 {
		return fmt.Sprintf("%.2f MB", v/1e6)
	}
	return fmt.Sprintf("%.1f kB", v/1e3)
}
func trim(v float64, digits int) string { return fmt.Sprintf("%.*f", digits, v) }
func bytes(v float64) string            { return fmt.Sprintf("%.0f B", v) }
func ratio(v float64) string            { return fmt.Sprintf("%.2f", v) }
func percent(v float64) string          { return fmt.Sprintf("%.3f %%", v*100) }
func number(v float64) string           { return fmt.Sprintf("%.3g", v) }

func TestSample(t *testing.T) {
	for _, test := range []struct {
		in   sample
		want string
	}{
		{sample{3, 1, 2}, "2 (1–3)"},
		{sample{4, 1, 2, 3}, "2.5 (1–4)"},
		{sample{7}, "7"},
		{sample{7, 7}, "7"},
		{sample{9, 1, 2, 3}.counted(), "2 (1–3)"},
		{sample{2, 9}.over(sample{1, 3}), "2.5 (2–3)"},
		{sample{2, 9}.beside(sample{1, 3}), "2.5 (2–3)"},
		{sample{2, 9, 4}.beside(sample{2}), "2"},
		{sample{}.counted(), "NaN"},
	} {
		if got := test.in.show(number); got != test.want {
			t.Errorf("%v: got %q, want %q", []float64(test.in), got, test.want)
		}
	}
}

func TestTurns(t *testing.T) {
	got := slices.Collect(turns(3, 2))
	if want := []int{0, 1, 0, 1, 1, 0, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("got order %v, want %v", got, want)
	}
}

func TestSeconds(t *testing.T) {
	for in, want := range map[time.Duration]string{
		40 * time.Microsecond: "0.04 ms", 31400 * time.Microsecond: "31.4 ms", 250 * time.Millisecond: "250 ms", 1500 * time.Millisecond: "1.50 s",
	} {
		if got := seconds(in.Seconds()); got != want {
			t.Errorf("%v: got %q, want %q", in, got, want)
		}
	}
}
