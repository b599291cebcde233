package bench

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// turn is one side's time in one round, on a filesystem of its own. What it starts ends with it.
type turn struct {
	testing.TB
	ground string // of the server
	cage   *cage  // of the server; nil: the machine as it is
	shape  shape  // of its wires
	undo   []func()
}

func (t *turn) Cleanup(f func()) { t.undo = append(t.undo, f) }

func (t *turn) TempDir() string {
	dir, err := os.MkdirTemp("", "towline-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (t *turn) end() {
	for _, f := range slices.Backward(t.undo) {
		f()
	}
	t.undo = nil
}

// figures are what a turn found: "B pull" -> seconds.
type figures map[string]float64

// results are the rounds of all sides.
type results map[string]map[string]sample // side, figure

// add books a turn. A round that does not count has its place too, and is left out by of.
func (r results) add(side string, f figures) {
	if r[side] == nil {
		r[side] = map[string]sample{}
	}
	for name, value := range f {
		r[side][name] = append(r[side][name], value)
	}
}

// of are the rounds of one figure that count, none where the side does not have it. The first does where there is no other.
func (r results) of(side, figure string) sample {
	all := r[side][figure]
	if len(all) == 1 {
		return all
	}
	return all.counted()
}

// line is one row of a matrix: the same figure of all sides.
type line struct {
	what, figure string
	format       func(float64) string
}

// column is one side of a matrix.
type column struct {
	side string            // in the results
	head string            // over it
	as   map[string]string // figures that this side does not have, because another of its own is the same
}

// matrix writes lines of all sides in Markdown: the median with the spread, and how many times as much as the first side's it is.
func (r results) matrix(lines []line, columns []column) string {
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return r[c.side] == nil })
	if len(columns) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("| |")
	for _, c := range columns {
		out.WriteString(" " + c.head + " |")
	}
	out.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, l := range lines {
		cells, any := make([]string, len(columns)), false
		ours := r.of(columns[0].side, l.figure)
		for i, c := range columns {
			have := r.of(c.side, l.figure)
			if as := c.as[l.figure]; len(have) == 0 && as != "" {
				have = r.of(c.side, as)
			}
			if len(have) == 0 {
				continue
			}
			any = true
			cells[i] = have.show(l.format)
			if i > 0 && len(ours) > 0 && ours.median() > 0 {
				cells[i] += " = " + times(have.beside(ours).median())
			}
		}
		if any {
			out.WriteString("| " + l.what + " | " + strings.Join(cells, " | ") + " |\n")
		}
	}
	return out.String()
}

// times writes a ratio as a factor.
func times(v float64) string {
	switch {
	case v < 0.095:
		return "×" + trim(v, 3)
	case v < 9.5:
		return "×" + trim(v, 2)
	}
	return "×" + trim(v, 0)
}

func TestMatrix(t *testing.T) {
	r := results{}
	for _, v := range []float64{100, 2, 4, 3} {
		r.add("ours", figures{"a": v, "c": v})
		r.add("other", figures{"a": 10 * v, "b": v})
	}
	got := r.matrix([]line{{"one", "a", number}, {"two", "b", number}, {"none", "d", number}, {"same", "c", number}},
		[]column{{side: "ours", head: "Ours"}, {side: "absent", head: "Absent"}, {side: "other", head: "`other`", as: map[string]string{"c": "a"}}})
	want := `| | Ours | ` + "`other`" + ` |
|---|---|---|
| one | 3 (2–4) | 30 (20–40) = ×10 |
| two |  | 3 (2–4) |
| same | 3 (2–4) | 30 (20–40) = ×10 |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for in, want := range map[float64]string{0.0123: "×0.012", 0.5: "×0.50", 1.234: "×1.23", 23.4: "×23"} {
		if got := times(in); got != want {
			t.Errorf("times %v: got %s, want %s", in, got, want)
		}
	}
}

// A turn ends what it began, the last first.
func TestTurn(t *testing.T) {
	var order []int
	one := &turn{TB: t}
	dir := one.TempDir()
	one.Cleanup(func() { order = append(order, 1) })
	one.Cleanup(func() { order = append(order, 2) })
	one.end()
	if want := []int{2, 1}; !slices.Equal(order, want) {
		t.Errorf("got order %v, want %v", order, want)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the turn's directory is still there: %v", err)
	}
}
