package bench

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"testing"
)

// chart is a picture of curves over steps of one quantity; the upright scale is logarithmic.
type chart struct {
	title  string
	what   string   // the quantity
	steps  []string // its values, at equal distances
	curves []curve
	format func(float64) string
}

type curve struct {
	name   string
	values []float64 // one a step; what is not greater than nothing is left out
}

const (
	chartWidth, chartHeight  = 720, 400
	left, right, top, bottom = 76, 190, 44, 52
	plotWidth, plotHeight    = chartWidth - left - right, chartHeight - top - bottom
	chartStyle               = `text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:15px}.s{fill:#57606a}.g{stroke:#d0d7de}` +
		`.c0{--c:#0969da}.c1{--c:#bc4c00}.c2{--c:#1a7f37}.c3{--c:#8250df}polyline{fill:none;stroke:var(--c);stroke-width:2}circle,.n{fill:var(--c)}` +
		`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.g{stroke:#3d444d}` +
		`.c0{--c:#4493f8}.c1{--c:#f0883e}.c2{--c:#3fb950}.c3{--c:#ab7df8}.n{fill:var(--c)}}`
)

// svg draws the chart; it reads on light and on dark ground.
func (c chart) svg() string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, one := range c.curves {
		for _, v := range one.values {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if low > high {
		low, high = 1, 1
	}
	least, most := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if most == least {
		most++
	}
	x := func(step int) float64 { return left + plotWidth*(float64(step)+0.5)/float64(len(c.steps)) }
	y := func(v float64) float64 { return top + plotHeight*(most-math.Log10(v))/(most-least) }

	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s"><style>%s</style>`+"\n",
		chartWidth, chartHeight, html.EscapeString(c.title), chartStyle)
	fmt.Fprintf(&out, `<text class="t" x="%d" y="24">%s</text>`+"\n", left, html.EscapeString(c.title))
	for decade := least; decade <= most; decade++ {
		v := math.Pow(10, decade)
		fmt.Fprintf(&out, `<path class="g" d="M%d %.1fh%d"/><text class="s" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y(v), plotWidth, left-8, y(v)+4, c.format(v))
	}
	for i, step := range c.steps {
		fmt.Fprintf(&out, `<text class="s" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(i), chartHeight-bottom+20, html.EscapeString(step))
	}
	fmt.Fprintf(&out, `<text class="s" x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+plotWidth/2, chartHeight-10, html.EscapeString(c.what))
	beside := c.beside(y)
	for i, one := range c.curves {
		var points, dots strings.Builder
		for step, v := range one.values {
			if v > 0 {
				fmt.Fprintf(&points, "%.1f,%.1f ", x(step), y(v))
				fmt.Fprintf(&dots, `<circle cx="%.1f" cy="%.1f" r="3"/>`, x(step), y(v))
			}
		}
		fmt.Fprintf(&out, `<g class="c%d"><polyline points="%s"/>%s<text class="n" x="%d" y="%.1f">%s</text></g>`+"\n",
			i%4, strings.TrimSpace(points.String()), dots.String(), chartWidth-right+4, beside[i]+4, html.EscapeString(one.name))
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// beside is where the names of the curves stand: at their ends, but none over another.
func (c chart) beside(y func(float64) float64) []float64 {
	at := make([]float64, len(c.curves))
	for i, one := range c.curves {
		at[i] = top + plotHeight
		for _, v := range one.values {
			if v > 0 {
				at[i] = y(v)
			}
		}
	}
	for moved := true; moved; {
		moved = false
		for i := range at {
			for k := range i {
				if math.Abs(at[i]-at[k]) < 16 {
					// The lower of the two goes down.
					if at[i] < at[k] {
						at[k] = at[i] + 16.5
					} else {
						at[i] = at[k] + 16.5
					}
					moved = true
				}
			}
		}
	}
	return at
}

func TestChart(t *testing.T) {
	c := chart{title: "Time & files", what: "files", steps: []string{"1k", "10k", "<100k>"}, format: seconds, curves: []curve{
		{"publish", []float64{0.1, 1, 10}}, {"bring", []float64{0.1, 1.01, 10.1}}, {"nothing", []float64{0, 0, 0}}}}
	text := c.svg()
	for dec := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v\n%s", err, text)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Errorf("a place that is no number:\n%s", text)
	}
	if got, want := strings.Count(text, "<circle"), 6; got != want {
		t.Errorf("points: got %d, want %d", got, want)
	}
	at := c.beside(func(v float64) float64 { return 100 / v })
	if math.Abs(at[0]-at[1]) < 16 {
		t.Errorf("names over each other: %v", at)
	}
	if empty := (chart{steps: []string{"a"}, curves: []curve{{"x", []float64{0}}}, format: number}).svg(); strings.Contains(empty, "NaN") {
		t.Errorf("a chart of nothing:\n%s", empty)
	}
}
