package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

var (
	corpusDir = flag.String("corpus", "", "a directory, as an absolute path, that has the trees A, B-code, B and B-big; made and kept unless said")
	only      = flag.String("sides", "", "a regular expression for the sides that BenchmarkPeers runs: ours, gzip, zstd, hand, rsync, casync")
	write     = flag.Bool("write", false, "put the tables into docs/performance.md")
)

// plan is one table of BenchmarkPeers.
type plan struct {
	name   string
	title  string
	trees  []string // that follow A
	sides  []string // beside Towline
	once   []string // of these, those with one round alone, which counts
	warm   bool
	cold   bool
	few    bool // without what only repeats
	shape  shape
	memory int64 // of the server; 0: the machine's
	cpu    string
	rounds func() int
}

var updates = []string{"B-code", "B", "B-big"}

var plans = []plan{
	{name: "loopback", title: "one machine, the loopback, a new ext4 for every turn", trees: updates,
		sides: []string{"gzip", "zstd", "hand", "rsync", "casync"}, once: []string{"casync"}, warm: true, rounds: func() int { return often(2) }},
	{name: "cold", title: "the same with cold caches, of the whole machine, the store's included", cold: true,
		sides: []string{"hand", "zstd"}, rounds: func() int { return max(1, often(2)/2) }},
	{name: "small", title: "the server in a control group: one processor, 192 MiB with the pages of its files, cold caches", cold: true,
		sides: []string{"hand", "zstd"}, memory: 192 << 20, cpu: "0", rounds: func() int { return max(1, often(2)/2) }},
	{name: "tight", title: "the agent in a control group of 64 MiB with the pages of its files", trees: updates, warm: true,
		memory: 64 << 20, rounds: func() int { return 0 }},
	{name: "link", title: "100 Mbit/s and 40 ms there and back, between publisher, store and server", trees: updates, few: true,
		sides: []string{"gzip", "zstd", "rsync"}, once: []string{"gzip", "rsync"}, warm: true, shape: shape{rate: 100e6 / 8, rtt: 40 * time.Millisecond},
		rounds: func() int { return max(1, often(2)/2) }},
}

var peers = []peer{
	{side: "gzip", whole: true, begin: s3cli(gzipSend, gzipFetch)},
	{side: "zstd", whole: true, begin: s3cli(zstdSend, zstdFetch)},
	{side: "hand", whole: true, begin: byHand},
	{side: "rsync", push: true, begin: rsync},
	{side: "casync", begin: casync},
}

// world is what all turns have in common.
type world struct {
	bin      string
	trees    string // directory of the corpus
	fill     string // A, to be changed in one file
	fresh    string // A, all files made anew
	plan     plan
	checking bool // what arrived is compared with what was sent
}

func (w *world) tree(name string) string { return filepath.Join(w.trees, name) }

// BenchmarkPeers brings the trees of the corpus to a server, by Towline and by what people use today, by turns, each turn on a
// filesystem of its own:
//
//	go test -run '^$' -bench Peers -timeout 60m ./test/bench
func BenchmarkPeers(b *testing.B) {
	w := &world{trees: *corpusDir, bin: programs(b)}
	if w.trees == "" {
		w.trees = parts.Corpus(b)
	}
	scratch := b.TempDir()
	w.fill, w.fresh = filepath.Join(scratch, "fill"), filepath.Join(scratch, "fresh")
	for to, how := range map[string]string{w.fill: "-a", w.fresh: "-dR"} {
		if out, err := exec.Command("cp", how, "--no-target-directory", w.tree("A"), to).CombinedOutput(); err != nil {
			b.Fatalf("copy A: %v\n%s", err, out)
		}
	}
	for _, p := range plans {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				w.plan = p
				t, r, began := &table{load: load()}, results{}, time.Now()
				w.rounds(b, t, r)
				t.took("Peers/"+p.name, began)
				w.report(b, t, r)
			}
		})
	}
}

// rounds lets the sides run by turns.
func (w *world) rounds(b *testing.B, t *table, r results) {
	type side struct {
		name string
		turn func(*turn, figures)
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		b.Fatalf("-sides: %v", err)
	}
	var sides []side
	if wanted.MatchString("ours") {
		sides = append(sides, side{"ours", w.oursTurn})
	}
	for _, p := range peers {
		if !slices.Contains(w.plan.sides, p.side) || !wanted.MatchString(p.side) {
			continue
		}
		if (p.side == "gzip" || p.side == "zstd") && !hasAWS(b, t) {
			continue
		}
		sides = append(sides, side{p.side, w.peerTurn(p)})
	}
	began, n := time.Now(), 0
	for i := range turns(w.plan.rounds(), len(sides)) {
		w.checking = n < len(sides)
		n++
		if !w.checking && slices.Contains(w.plan.once, sides[i].name) {
			continue
		}
		f := figures{}
		w.takeTurn(b, t, sides[i].turn, f)
		r.add(sides[i].name, f)
		fmt.Fprintf(os.Stderr, "%s: %.0f s, turn %d, %s: %v\n", w.plan.name, time.Since(began).Seconds(), n, sides[i].name, f)
	}
}

// takeTurn gives a side a filesystem, and its turn.
func (w *world) takeTurn(b *testing.B, t *table, do func(*turn, figures), f figures) {
	one := &turn{TB: b, shape: w.plan.shape}
	defer one.end()
	if w.plan.memory > 0 {
		var err error
		if one.cage, err = newCage(one, w.plan.memory, w.plan.cpu); err != nil {
			parts.Skip(b, fmt.Sprintf("a control group: %v", err))
		}
	}
	if w.plan.cold || w.checking { // what the last turn emptied, or nobody has read yet, is read
		for _, tree := range append([]string{"A", "B"}, w.plan.trees...) {
			read(b, w.tree(tree))
		}
		read(b, w.fill)
	}
	one.ground = ground(one, t)
	syscall.Sync()
	do(one, f)
}

// hasAWS says whether the S3 command line is there, installed where it can be.
func hasAWS(b *testing.B, t *table) bool {
	if _, err := awsProgram(); err == nil {
		return true
	}
	if os.Getuid() == 0 {
		_ = exec.Command("apt-get", "install", "-y", "-qq", "--no-install-recommends", "awscli").Run()
	}
	_, err := awsProgram()
	if err != nil {
		if parts.Required() {
			b.Fatal(err)
		}
		t.note("not measured, for want of an S3 command line: `tar` with it (%v)", err)
	}
	return err == nil
}

// read brings a tree into the caches.
func read(b testing.TB, dir string) {
	b.Helper()
	if out, err := exec.Command("sh", "-c", `tar -C "$1" -cf - . | cat >/dev/null`, "sh", dir).CombinedOutput(); err != nil {
		b.Fatalf("read %s: %v\n%s", dir, err, out)
	}
}

// empty writes what is to be written and empties the caches of files, of the whole machine.
func (w *world) empty(t testing.TB) {
	t.Helper()
	syscall.Sync()
	if err := dropCaches(); err != nil {
		parts.Skip(t, fmt.Sprintf("cold caches: %v", err))
	}
}

// same compares what arrived with what was sent, in the round that does not count.
func (w *world) same(t testing.TB, tree, dest string) {
	t.Helper()
	if !w.checking {
		return
	}
	if out, err := exec.Command("diff", "--recursive", "--no-dereference", "--brief", tree+"/", dest+"/").CombinedOutput(); err != nil {
		t.Fatalf("%s arrived otherwise than it was sent: %v\n%s", filepath.Base(tree), err, lastLines(string(out)))
	}
}

// report prints the table of a plan, and puts it into the document if told to.
func (w *world) report(b *testing.B, t *table, r results) {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s: %s", w.plan.name, w.plan.title)
	goals(t, r, w.plan)
	t.hold(b, "Peers/"+w.plan.name)
	t.print(&text)
	text.WriteString(r.matrix(lines(w.plan), columns) + "\n")
	fmt.Print(text.String())
	if *write && !b.Failed() {
		writeFigures(b, "peers-"+w.plan.name, text.String())
	}
}

// writeFigures puts text between the marks of docs/performance.md.
func writeFigures(b testing.TB, mark, text string) {
	b.Helper()
	path := filepath.Join(parts.Root(b), "docs/performance.md")
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	out, err := between(string(data), mark, text)
	if err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
		b.Fatal(err)
	}
}

// between replaces what stands between <!-- figures: mark --> and the next <!-- end -->.
func between(document, mark, text string) (string, error) {
	begin := "<!-- figures: " + mark + " -->\n"
	at := regexp.MustCompile(`(?s)` + regexp.QuoteMeta(begin) + `.*?<!-- end -->`).FindStringIndex(document)
	if at == nil {
		return "", fmt.Errorf("no marks for %s", mark)
	}
	return document[:at[0]] + begin + text + "<!-- end -->" + document[at[1]:], nil
}

func TestBetween(t *testing.T) {
	const before = "a\n<!-- figures: one -->\nold\n<!-- end -->\nb\n<!-- figures: two -->\nkept\n<!-- end -->\n"
	got, err := between(before, "one", "new\n")
	if want := "a\n<!-- figures: one -->\nnew\n<!-- end -->\nb\n<!-- figures: two -->\nkept\n<!-- end -->\n"; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := between(before, "three", "new\n"); err == nil {
		t.Error("marks that are not there: got no error")
	}
}
