package bench

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

var (
	growthFiles  = flag.String("growth-files", "1k,10k,100k", "numbers of files, of 100 MiB together")
	growthBytes  = flag.String("growth-bytes", "10M,100M,1G,5G", "sizes of a tree of 1000 files; 5G takes 25 GB of the disk of temporary files")
	growthShares = flag.String("growth-shares", "0,0.1,1,10,100", "shares of 10,000 files, in per cent, that the next release changes")
	growthRounds = flag.Int("growth-rounds", 1, "rounds of every point; one more does not count, unless it is one alone, as above 10,000 files or 100 MiB")
)

// BenchmarkGrowth measures how the cost grows with the number of files, with their bytes and with the share that changes:
//
//	go test -run '^$' -bench Growth -timeout 60m ./test/bench
func BenchmarkGrowth(b *testing.B) {
	w := &world{bin: programs(b)}
	for _, axis := range []struct {
		name, title, what, values string
		forest                    func(v float64) forest
	}{
		{"files", "Number of files, 100 MiB together, 1 % of them changed", "files", *growthFiles,
			func(v float64) forest { return forest{files: int(v), bytes: 100 << 20, changed: 0.01} }},
		{"bytes", "Size of 1000 files, 1 % of them changed", "bytes", *growthBytes,
			func(v float64) forest { return forest{files: 1000, bytes: int64(v), changed: 0.01} }},
		{"share", "Share of 10,000 files, 100 MiB together, that changes", "per cent changed", *growthShares,
			func(v float64) forest { return forest{files: 10_000, bytes: 100 << 20, changed: v / 100} }},
	} {
		b.Run(axis.name, func(b *testing.B) {
			for b.Loop() {
				t, began := &table{load: load()}, time.Now()
				steps := strings.Split(axis.values, ",")
				var points []map[string]sample
				for _, step := range steps {
					v, err := quantity(step)
					if err != nil {
						b.Fatal(err)
					}
					at := time.Now()
					points = append(points, w.grow(b, t, axis.forest(v)))
					fmt.Fprintf(os.Stderr, "growth, %s %s: %.0f s, %v\n", axis.name, step, time.Since(at).Seconds(), points[len(points)-1])
				}
				t.took("Growth/"+axis.name, began)
				report(b, t, axis.name, axis.title, axis.what, steps, points)
			}
		})
	}
}

// quantity reads 10, 0.1, 1k, 10M or 5G; M and G are powers of 1024.
func quantity(text string) (float64, error) {
	factor := 1.0
	for unit, f := range map[string]float64{"k": 1000, "M": 1 << 20, "G": 1 << 30} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			text, factor = number, f
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	return v * factor, err
}

// forest is a tree of files of equal size, a hundred a directory; half of each file is compressible.
type forest struct {
	files   int
	bytes   int64
	changed float64
}

// plant writes the files numbered from..to, in a version.
func (f forest) plant(dir string, from, to, version int) error {
	size := int(f.bytes / int64(f.files))
	for i := from; i < to; i++ {
		path := filepath.Join(dir, fmt.Sprintf("d%04d", i/100), fmt.Sprintf("file-%06d", i))
		if i%100 == 0 || i == from {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
		}
		random := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(version)})
		data := make([]byte, size)
		_, _ = random.Read(data[:size/2])
		for at := size / 2; at < size; {
			at += copy(data[at:], "a line of text that comes again and again; ")
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// change gives the share of files a new version: every so-manieth directory's first ones, as changes are seldom everywhere.
func (f forest) change(dir string, version int) error {
	n := int(math.Round(f.changed * float64(f.files)))
	for from := 0; from < f.files && n > 0; from += 100 {
		to := min(from+100, from+n, f.files)
		if err := f.plant(dir, from, to, version); err != nil {
			return err
		}
		n -= to - from
	}
	return nil
}

// grow measures one point: all of a tree to an empty server, then a change of it.
func (w *world) grow(b *testing.B, t *table, f forest) map[string]sample {
	b.Helper()
	scratch := filepath.Join(b.TempDir(), "tree")
	defer os.RemoveAll(scratch)
	rounds := *growthRounds + 1
	if *growthRounds == 1 || f.files > 10_000 || f.bytes > 100<<20 {
		rounds = 1
	}
	r := results{}
	for range rounds {
		if err := f.plant(scratch, 0, f.files, 0); err != nil {
			b.Fatal(err)
		}
		got := figures{}
		w.growthTurn(b, t, f, scratch, got)
		r.add("ours", got)
	}
	out := map[string]sample{}
	for name := range r["ours"] {
		out[name] = r.of("ours", name)
	}
	return out
}

func (w *world) growthTurn(b *testing.B, t *table, f forest, tree string, got figures) {
	one := &turn{TB: b}
	defer one.end()
	one.ground = groundOf(one, t, max(6<<30, 5*f.bytes))
	// What people would do by hand, in the same round.
	archive, out := filepath.Join(one.ground, "a.tar.zst"), filepath.Join(one.ground, "out")
	got["R"] = bash(one, nil, nil, reference, tree, archive).wall
	syscall.Sync()
	got["tar"] = bash(one, nil, nil, `mkdir "$2"; tar -C "$2" --zstd -xf "$1"; sync -f "$2"`, archive, out).wall
	for _, path := range []string{archive, out} {
		if err := os.RemoveAll(path); err != nil {
			b.Fatal(err)
		}
	}
	syscall.Sync()
	_ = exec.Command("fstrim", one.ground).Run() // the image of the filesystem gives back what was deleted, where that can be

	o := w.newOurs(one, got)
	name := 0
	mark := func() string {
		name++
		if err := os.WriteFile(filepath.Join(tree, "RELEASE"), fmt.Appendf(nil, "%d\n", name), 0o644); err != nil {
			b.Fatal(err)
		}
		return tree
	}
	// Two small releases follow, so that the next one brings the directory of the large one forward.
	small := one.TempDir()
	o.bring("A", "web", mark(), false)
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(small, "RELEASE"), fmt.Appendf(nil, "small %d\n", i), 0o644); err != nil {
			b.Fatal(err)
		}
		o.bring("", "web", small, false)
	}
	if err := f.change(tree, 1); err != nil {
		b.Fatal(err)
	}
	o.bring("B", "web", mark(), false)
	if got["B publisher"] > 0 {
		got["publisher"] = max(got["A publisher"], got["B publisher"])
	}
}

// report prints a table of an axis, and draws it.
func report(b *testing.B, t *table, name, title, what string, steps []string, points []map[string]sample) {
	b.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s. %s\n\n", title, t.machine())
	columns := []struct {
		head, figure, peer string
		format             func(float64) string
	}{
		{"publish, whole", "A publish", "R", seconds}, {"publisher's memory", "A publisher", "", mebibytes},
		{"bring, whole", "A pull", "tar", seconds}, {"agent's memory", "A server", "", mebibytes},
		{"publish the change", "B publish", "", seconds}, {"bring the change", "B pull", "", seconds},
		{"bytes for the change", "B down", "", kilobytes}, {"agent's memory", "B server", "", mebibytes},
	}
	fmt.Fprintf(&text, "| %s |", what)
	for _, c := range columns {
		fmt.Fprintf(&text, " %s |", c.head)
	}
	fmt.Fprintf(&text, "\n|%s\n", strings.Repeat("---|", len(columns)+1))
	for i, step := range steps {
		fmt.Fprintf(&text, "| %s |", step)
		for _, c := range columns {
			fmt.Fprintf(&text, " %s", points[i][c.figure].show(c.format))
			if c.peer != "" {
				fmt.Fprintf(&text, ", %s of `%s`", ratio(points[i][c.figure].over(points[i][c.peer]).median()),
					map[string]string{"R": "tar \\| zstd -T0 -3", "tar": "tar --zstd -x; sync -f"}[c.peer])
			}
			text.WriteString(" |")
		}
		text.WriteString("\n")
	}
	text.WriteString("\n")
	for _, note := range t.notes {
		fmt.Fprintf(&text, "- %s\n", note)
	}
	fmt.Print(text.String())
	if which := map[string]string{"files": "the most files of Growth", "bytes": "the largest tree of Growth"}[name]; which != "" {
		last, note := points[len(points)-1], " with "+steps[len(steps)-1]
		t.add(row{have: last["publisher"], format: mebibytes, note: note, goal: peakGoal, promise: "publisher's peak memory, " + which},
			row{have: last["A server"], format: mebibytes, note: note, goal: 64 << 20, promise: "agent's peak memory, " + which})
	}
	t.hold(b, "Growth/"+name)
	picture := chart{title: title, what: what, steps: steps, format: seconds}
	for _, c := range []struct{ name, figure string }{{"publish, whole", "A publish"}, {"bring, whole", "A pull"},
		{"publish the change", "B publish"}, {"bring the change", "B pull"}} {
		one := curve{name: c.name}
		for _, p := range points {
			one.values = append(one.values, p[c.figure].median())
		}
		picture.curves = append(picture.curves, one)
	}
	if *write && !b.Failed() {
		fmt.Fprintf(&text, "\n![%s](images/growth-%s.svg)\n\n", title, name)
		writeFigures(b, "growth-"+name, text.String())
		path := filepath.Join(parts.Root(b), "docs/images/growth-"+name+".svg")
		if err := os.WriteFile(path, []byte(picture.svg()), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// A forest is the same every time, and a change is of the share that was asked for.
func TestForest(t *testing.T) {
	f := forest{files: 250, bytes: 250 << 10, changed: 0.1}
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		if err := f.plant(dir, 0, f.files, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.change(two, 1); err != nil {
		t.Fatal(err)
	}
	before, after, differ := parts.Files(t, one), parts.Files(t, two), 0
	for name, text := range before {
		if len(text) != 1024 {
			t.Errorf("%s: got %d bytes, want 1024", name, len(text))
		}
		if after[name] != text {
			differ++
		}
	}
	if len(before) != 250 || differ != 25 {
		t.Errorf("got %d files of which %d changed, want 250 and 25", len(before), differ)
	}
	for text, want := range map[string]float64{"0.1": 0.1, "10k": 10_000, "1G": 1 << 30} {
		if got, err := quantity(text); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
}
