package bench

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

var (
	rounds = flag.Int("rounds", 0, "rounds of everything that takes seconds, 5 of BenchmarkTable and 2 of BenchmarkPeers unless said; deployments of the small app take twice as many")
	rest   = flag.Duration("rest", time.Minute, "how long the agent is watched at rest")
	tree   = flag.String("tree", "", "a directory, as an absolute path, to measure instead of Go's source tree")
)

// often is how many rounds there are: what was said, or else so many.
func often(usual int) int { return cmp.Or(*rounds, usual) }

// BenchmarkTable measures everything and prints the table. One part of it is had with -bench Table/pack and so on.
func BenchmarkTable(b *testing.B) {
	t := &table{load: load()}
	bin := programs(b)
	trees := corpus(b, t)
	for _, part := range []struct {
		name    string
		measure func(*testing.B)
	}{
		{"pack", func(b *testing.B) { measurePack(b, t, bin, trees) }},
		{"upload", func(b *testing.B) { measureUpload(b, t, bin, trees[0]) }},
		{"latency", func(b *testing.B) { measureLatency(b, t, bin, trees) }},
		{"start", func(b *testing.B) { measureStart(b, t) }},
		{"rest", func(b *testing.B) { measureRest(b, t, bin, *rest) }},
	} {
		b.Run(part.name, func(b *testing.B) {
			for b.Loop() {
				part.measure(b)
			}
		})
	}
	measureSize(b, t, bin)
	if len(t.rows) > 0 && !b.Failed() {
		t.print(os.Stdout)
	}
}

// input is a directory that is packed.
type input struct {
	name, dir string
	files     int
	bytes     float64 // of its files
}

func (i input) String() string {
	return fmt.Sprintf("%s (%s, %d files)", i.name, megabytes(i.bytes), i.files)
}

// corpus is the large tree, which every machine with Go has, and the example app as CI leaves it, where npm can be had.
func corpus(b testing.TB, t *table) []input {
	b.Helper()
	if *tree != "" && !filepath.IsAbs(*tree) {
		b.Fatalf("-tree %s: want an absolute path", *tree)
	}
	trees := []input{{name: "the tree " + filepath.Base(*tree), dir: *tree}}
	if *tree == "" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			b.Fatalf("go env GOROOT: %v", err)
		}
		trees[0] = input{name: "Go's source tree", dir: filepath.Join(strings.TrimSpace(string(out)), "src")}
	}
	if dir, err := nodeAPI(b); err != nil {
		if parts.Required() {
			b.Fatal(err)
		}
		t.note("not measured, for want of npm: the example app (%v)", err)
	} else {
		trees = append(trees, input{name: "`examples/node-api`", dir: dir})
	}
	for i := range trees {
		var err error
		if trees[i].dir, err = filepath.EvalSymlinks(trees[i].dir); err != nil {
			b.Fatal(err)
		}
		err = filepath.WalkDir(trees[i].dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			info, err := e.Info()
			trees[i].files++
			trees[i].bytes += float64(info.Size())
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return trees
}

// nodeAPI copies the example app and installs what it needs.
func nodeAPI(b testing.TB) (dir string, err error) {
	b.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(b.TempDir(), "node-api")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(parts.Root(b), "examples/node-api"))); err != nil {
		return "", err
	}
	if err := os.RemoveAll(filepath.Join(dir, "node_modules")); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(b.Context(), npm, "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, lastLines(string(out)))
	}
	return dir, nil
}

// publisher publishes releases of one app after the other with the real program.
type publisher struct {
	program string
	key     release.PrivateKey
	env     []string
	made    int
	plain   bool // the tree is published as it is
}

func newPublisher(b testing.TB, bin string, env []string) *publisher {
	b.Helper()
	key, err := release.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	return &publisher{program: filepath.Join(bin, "towline"), key: key, env: append(env, "TOWLINE_SIGNING_KEY="+key.Reveal())}
}

// publish makes a release and returns its version, the report and the cost. With the version in version.js no other equals it.
func (p *publisher) publish(b testing.TB, app, dir, bucket string, more ...string) (version, report string, c cost) {
	b.Helper()
	p.made++
	version = fmt.Sprintf("%012x%028d", p.made, 0) // directories are named by its beginning
	args := []string{"publish", "--json", "--app", app, "--path", dir, "--bucket", bucket, "--version", version,
		"--message", "Measure", "--date", "2026-01-02T03:04:05Z"}
	if !p.plain {
		args = append(args, "--version-file", "version.js")
	}
	report, c = run(b, p.env, p.program, append(args, more...)...)
	return version, report, c
}
