// Package exposition writes numbers in the text format of Prometheus, version 0.0.4.
//
// The parties: package agent, which knows what there is to tell, and any program that scrapes. It is written here because
// a library does not pay: the Prometheus client makes the agent 2.2 MB larger and takes 2 MiB of memory more, and
// VictoriaMetrics' has no text for HELP. What both have beside it, a registry that is told of every change, has no use where
// nearly all numbers are read from what the apps know anyway.
package exposition

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ContentType is that of the format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Kind is the type of a family.
type Kind string

// The kinds that there are here.
const (
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
	KindHistogram Kind = "histogram"
)

// Text is an answer in the making. The zero value is empty.
type Text struct{ buf bytes.Buffer }

// Bytes is all that was written so far.
func (t *Text) Bytes() []byte { return t.buf.Bytes() }

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	valueEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// Family begins a family: all its samples must follow before the next one begins. What has no sample is left out.
func (t *Text) Family(name string, kind Kind, help string) *Family {
	return &Family{text: t, name: name, head: fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, helpEscapes.Replace(help), name, kind)}
}

// Family is a set of samples of one name.
type Family struct {
	text *Text
	name string
	head string // not written yet
}

// Sample writes one value; labels are names and values in turn.
func (f *Family) Sample(value float64, labels ...string) { f.sample("", value, labels) }

// Flag writes 1 or 0.
func (f *Family) Flag(set bool, labels ...string) {
	value := 0.0
	if set {
		value = 1
	}
	f.Sample(value, labels...)
}

func (f *Family) sample(suffix string, value float64, labels []string) {
	b := &f.text.buf
	b.WriteString(f.head)
	f.head = ""
	b.WriteString(f.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		b.WriteString(sep + labels[i] + `="` + valueEscapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(number(value))
	b.WriteByte('\n')
}

// number is written as people would where that is exact: times and bytes without an exponent.
func number(v float64) string {
	format := byte('g')
	if abs := math.Abs(v); abs >= 1e-4 && abs < 1e15 {
		format = 'f'
	}
	return strconv.FormatFloat(v, format, -1, 64)
}

// Histogram writes one histogram.
func (f *Family) Histogram(h *Histogram, labels ...string) {
	upTo := func(bound string) []string { return append(append([]string{}, labels...), "le", bound) }
	var all uint64
	for i, bound := range h.bounds {
		all += h.counts[i]
		f.sample("_bucket", float64(all), upTo(number(bound)))
	}
	all += h.counts[len(h.bounds)]
	f.sample("_bucket", float64(all), upTo("+Inf"))
	f.sample("_sum", h.sum, labels)
	f.sample("_count", float64(all), labels)
}

// Histogram counts values by their size. It is not safe for concurrent use.
type Histogram struct {
	bounds []float64
	counts []uint64 // of the values up to each bound and above the one before; the last is of those above all
	sum    float64
}

// NewHistogram returns an empty one with buckets up to these bounds, which rise.
func NewHistogram(bounds []float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// Observe counts a value.
func (h *Histogram) Observe(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.counts[i]++
	h.sum += v
}
