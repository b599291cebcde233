package artifact

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var corpus = flag.String("corpus", "", "directory with the trees A, B-code, B and B-big, for the benchmarks Cuts and Levels")

// BenchmarkCuts prints the table by which the rule for cutting frames was chosen: what an archive of A weighs under each, and
// what a server that has A pulls for each of the trees that come after it, the index included, in per cent of that archive.
func BenchmarkCuts(b *testing.B) {
	trees := corpusTrees(b)
	reference := referenceSize(b, trees[0].dir)
	vary := func(change func(*cutRule)) func([]Entry) []frame {
		r := cuts
		change(&r)
		return r.plan
	}
	rules := []struct {
		name string
		plan func([]Entry) []frame
	}{
		{"paths by hash, 256 kB", func(e []Entry) []frame { return planByPath(e, 256<<10) }},
		{"paths by hash, 1 MB", func(e []Entry) []frame { return planByPath(e, 1<<20) }},
		{"directories by hash, 256 kB", func(e []Entry) []frame { return planByFolder(e, 256<<10) }},
		{"directories by hash, 1 MB: the rule before", func(e []Entry) []frame { return planByFolder(e, 1<<20) }},
		{"directories by hash, 4 MB", func(e []Entry) []frame { return planByFolder(e, 4<<20) }},
		{"as chosen, but no small regions", vary(func(r *cutRule) { r.share = 0 })},
		{"but small regions from 64 kB on", vary(func(r *cutRule) { r.least = 64 << 10 })},
		{"but no edges of packages", vary(func(r *cutRule) { r.edge = 0 })},
		{"but edges from a quarter of the aim on", vary(func(r *cutRule) { r.edge = 4 })},
		{"but edges from a sixteenth on", vary(func(r *cutRule) { r.edge = 16 })},
		{"but files alone from the aim on", vary(func(r *cutRule) { r.alone = 1 })},
		{"but files alone from a quarter on", vary(func(r *cutRule) { r.alone = 4 })},
		{"but files alone from an eighth on", vary(func(r *cutRule) { r.alone = 8 })},
		{"but an aim of 512 kB", vary(func(r *cutRule) { r.target = 512 << 10 })},
		{"but 1 MB", vary(func(r *cutRule) { r.target = 1 << 20 })},
		{"but 2 MB", vary(func(r *cutRule) { r.target = 2 << 20 })},
		{"but 4 MB", vary(func(r *cutRule) { r.target = 4 << 20 })},
		{"**as chosen**", cuts.plan},
	}
	made := map[string]Frame{} // by what is in them
	for b.Loop() {
		fmt.Print("| rule | frames | archive | of R | index | B-code | B | B-big | processor |\n|---|---|---|---|---|---|---|---|---|\n")
		for _, rule := range rules {
			began := cpuTime(b)
			keys := trees[0].pack(b, rule.plan(trees[0].entries), nil, made)
			took := cpuTime(b) - began
			have, index := map[string]bool{}, indexSize(len(keys))
			full := float64(index)
			for _, key := range keys {
				have[key] = true
				full += float64(made[key].Size)
			}
			line := fmt.Sprintf("| %s | %d | %.2f MB | %.3f | %.1f kB |", rule.name, len(keys), full/1e6, full/reference, float64(index)/1e3)
			for _, tree := range trees[1:] {
				keys := tree.pack(b, rule.plan(tree.entries), have, made)
				pulled := indexSize(len(keys))
				for _, key := range keys {
					if !have[key] {
						pulled += made[key].Size
					}
				}
				line += fmt.Sprintf(" %.3f %% |", float64(pulled)/full*100)
			}
			fmt.Printf("%s %.2f s |\n", line, took.Seconds())
		}
	}
}

// cpuTime is the processor time that the process has had. On a machine that others use too it tells more than a clock.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func indexSize(frames int) int64 { return indexHead + indexEntry*int64(frames) }

// BenchmarkLevels prints what each level of compression costs and saves, with the frames as they are cut.
func BenchmarkLevels(b *testing.B) {
	trees := corpusTrees(b)[:1]
	reference := referenceSize(b, trees[0].dir)
	for b.Loop() {
		fmt.Print("| level | packed in | processor | MB/s of it | archive | of R | of what was packed |\n|---|---|---|---|---|---|---|\n")
		for _, level := range []int{1, 3, 7, 11} {
			out, err := os.Create(filepath.Join(b.TempDir(), "out"))
			must(b, err)
			began, cpu := time.Now(), cpuTime(b)
			a, err := Pack(context.Background(), out, PackOptions{Dir: trees[0].dir, Level: level})
			must(b, err)
			took, work := time.Since(began).Seconds(), cpuTime(b)-cpu
			must(b, out.Close())
			must(b, os.Remove(out.Name()))
			names := map[int]string{1: "fastest", 3: "default", 7: "better", 11: "best"}
			size, bytes := float64(a.Size), float64(a.UnpackedSize)
			fmt.Printf("| %s (zstd:%d) | %.2f s | %.2f s | %.0f | %.2f MB | %.3f | %.1f %% |\n",
				names[level], level, took, work.Seconds(), bytes/1e6/work.Seconds(), size/1e6, size/reference, size/bytes*100)
		}
	}
}

// corpusTree is a tree as scanned, with the digests of its files.
type corpusTree struct {
	dir     string
	root    *os.Root
	entries []Entry
	sums    map[string][32]byte
}

func corpusTrees(b *testing.B) []corpusTree {
	b.Helper()
	if *corpus == "" {
		b.Skip("needs -corpus")
	}
	var trees []corpusTree
	for _, name := range []string{"A", "B-code", "B", "B-big"} {
		t := corpusTree{dir: filepath.Join(*corpus, name), sums: map[string][32]byte{}}
		var err error
		t.root, t.entries, err = scan(context.Background(), PackOptions{Dir: t.dir})
		must(b, err)
		b.Cleanup(func() { t.root.Close() })
		for _, e := range t.entries {
			if e.Mode.IsRegular() {
				data, err := t.root.ReadFile(e.Path)
				must(b, err)
				t.sums[e.Path] = sha256.Sum256(data)
			}
		}
		trees = append(trees, t)
	}
	return trees
}

// pack makes those of the frames that are not in have, puts them into made, and gives the names of all.
func (t corpusTree) pack(b *testing.B, frames []frame, have map[string]bool, made map[string]Frame) []string {
	b.Helper()
	var keys, missing []string
	var todo []frame
	for _, f := range frames {
		sum := sha256.New()
		fmt.Fprintln(sum, f.sliced, f.from, f.to)
		for _, e := range f.entries {
			fmt.Fprintf(sum, "%q %v %d %q %x\n", e.Path, e.Mode, e.Size, e.Link, t.sums[e.Path])
		}
		key := string(sum.Sum(nil))
		keys = append(keys, key)
		if !have[key] {
			todo, missing = append(todo, f), append(missing, key)
		}
	}
	p := packer{ctx: context.Background(), root: t.root, out: io.Discard}
	must(b, p.run(todo))
	for i, key := range missing {
		made[key] = p.frames[i]
	}
	return keys
}

// referenceSize is what R, tar and zstd as people use them, make of the tree.
func referenceSize(b *testing.B, dir string) float64 {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "sh", "-ec", `tar -C "$1" -cf - . | zstd -T0 -3 -q | wc -c`, "sh", dir).Output()
	must(b, err)
	n, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	must(b, err)
	return n
}

// planByFolder cuts at changes of directory: once a frame has the target size, or half of it and one in four directories,
// by hash. All artifacts were cut so, by 1 MiB, before small regions and edges of packages counted.
func planByFolder(entries []Entry, target int64) []frame {
	return planBy(entries, target, func(size int64, last, dir string, e Entry) bool {
		if dir != last {
			return size >= target || size >= target/2 && oneIn(4, dir)
		}
		return size >= target && oneIn(8, e.Path)
	})
}

// planByPath cuts after a path by its hash, the likelier the more its file brings to the target.
func planByPath(entries []Entry, target int64) []frame {
	cut := false
	return planBy(entries, target, func(_ int64, _, _ string, e Entry) bool {
		now := cut
		cut = oneIn(uint64(max(1, target/tarSize(e))), e.Path)
		return now
	})
}

func planBy(entries []Entry, target int64, cutBefore func(size int64, last, dir string, e Entry) bool) []frame {
	var frames []frame
	start, size, last := 0, int64(0), ""
	for i, e := range entries {
		n, dir := tarSize(e), folder(e)
		if by := cutBefore(size, last, dir, e); i > start && (by || n >= target || size+n > cutLimit) {
			frames = append(frames, frame{entries: entries[start:i]})
			start, size = i, 0
		}
		last, size = dir, size+n
		switch {
		case n > cutLimit:
			frames = append(frames, sliced(entries[i:i+1])...)
		case n >= target || i == len(entries)-1:
			frames = append(frames, frame{entries: entries[start : i+1]})
		default:
			continue
		}
		start, size = i+1, 0
	}
	return append(frames, frame{})
}

func oneIn(n uint64, s string) bool {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()>>32%n == 0
}
