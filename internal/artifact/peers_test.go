package artifact

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		parts.Skip(t, name)
	}
	return p
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	c := exec.Command(tool(t, name), args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%s %q: %v, said %q", name, args, err, out)
	}
}

// Plain tar and zstd read what Pack writes, to the same tree, and have nothing to say about it.
func TestPlainTarReads(t *testing.T) {
	tool(t, "zstd")
	files := maps.Clone(smallTree)
	files["big"] = strings.Repeat("0123456789", 1<<20)
	src := writeTree(t, files)
	for format, suffix := range map[string]string{release.FormatZstd: "zst", release.FormatGzip: "gz"} {
		data, _ := pack(t, PackOptions{Dir: src, Format: format})
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "a.tar."+suffix), data, 0o644))
		must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
		if suffix == "zst" {
			run(t, dir, "zstd", "-tqq", "a.tar.zst")
		}
		run(t, dir, "tar", "-xpf", "a.tar."+suffix, "-C", "out")
		if got, want := snapshot(t, filepath.Join(dir, "out")), snapshot(t, src); !maps.Equal(got, want) {
			t.Errorf("%s: tar gives %v, want %v", format, got, want)
		}
	}
}

// What a shell script's tar writes is accepted, and becomes the same tree.
func TestPlainTarWrites(t *testing.T) {
	src := writeTree(t, smallTree)
	deep := strings.Repeat(strings.Repeat("d", 100)+"/", 3)
	must(t, os.MkdirAll(filepath.Join(src, deep), 0o755))
	must(t, os.WriteFile(filepath.Join(src, deep, strings.Repeat("n", 200)), []byte("deep"), 0o644))
	must(t, os.Symlink(deep+strings.Repeat("n", 200), filepath.Join(src, "to-deep")))
	must(t, os.Link(filepath.Join(src, "server.js"), filepath.Join(src, "twin.js")))
	for _, args := range [][]string{
		{"-czf", "A", "."}, {"-czf", "A", "--format=posix", "."}, {"-czf", "A", "-b", "2048", "."},
		{"-czf", "A", "--owner=someone:3000000", "--group=\u00fc:3000000", "--format=posix", "."}, {"-czf", "A", "--sort=name", "--exclude=./none", "."},
	} {
		file := filepath.Join(t.TempDir(), "a.tar.gz")
		args = append([]string{}, args...)
		args[1] = file
		run(t, src, "tar", args...)
		data, err := os.ReadFile(file)
		must(t, err)
		root := stageDir(t)
		tree, err := Unpack(context.Background(), root, bytes.NewReader(data), UnpackOptions{Want: release.Artifact{Format: release.FormatGzip}})
		if err != nil {
			t.Errorf("tar %q: %v", args, err)
			continue
		}
		if got, want := snapshot(t, root.Name()), snapshot(t, src); !maps.Equal(got, want) {
			t.Errorf("tar %q: got %v, want %v", args, got, want)
		}
		checkContained(t, root)
		if got, err := DigestTree(root, nil); err != nil || got != tree.Digest {
			t.Errorf("DigestTree = %s, %v, want %s", got, err, tree.Digest)
		}
	}
}

// Whatever tree can be packed comes back the same, by both ways of reading and in both formats.
func TestRoundTrip(t *testing.T) {
	name := rapid.StringMatching(`[a-zA-Z0-9 _.ü-]{0,7}[a-z0-9]`)
	rapid.Check(t, func(r *rapid.T) {
		files := map[string]string{"root": "always"}
		dirs := []string{""}
		taken := map[string]bool{"root": true, "large": true}
		for range rapid.IntRange(0, 25).Draw(r, "entries") {
			p := rapid.SampledFrom(dirs).Draw(r, "in") + name.Draw(r, "name")
			if taken[p] || strings.HasSuffix(p, ".git") {
				continue
			}
			taken[p] = true
			switch rapid.IntRange(0, 4).Draw(r, "kind") {
			case 0:
				files[p+"/"] = ""
				dirs = append(dirs, p+"/")
			case 1:
				files[p] = "-> " + strings.Repeat("../", strings.Count(p, "/")) + "root"
			case 2:
				files[p] = "+x " + strings.Repeat("x", rapid.IntRange(0, 2000).Draw(r, "size"))
			default:
				files[p] = strings.Repeat("y", rapid.SampledFrom([]int{0, 1, 511, 512, 513, 30_000}).Draw(r, "size"))
			}
		}
		if large := rapid.SampledFrom([]int{0, 0, 0, 0, 0, int(cuts.target), cutLimit + 1}).Draw(r, "large"); large > 0 {
			files["large"] = strings.Repeat("z", large)
		}
		src := writeTree(t, files)
		for _, format := range []string{release.FormatZstd, release.FormatGzip} {
			data, a := pack(t, PackOptions{Dir: src, Format: format, Level: 1})
			root := stageDir(t)
			tree, err := Unpack(context.Background(), root, bytes.NewReader(data), UnpackOptions{Want: a})
			must(t, err)
			if got, want := snapshot(t, root.Name()), snapshot(t, src); !maps.Equal(got, want) {
				t.Fatalf("%s: got %v, want %v", format, got, want)
			}
			if tree.Entries != a.Entries || tree.Bytes != a.UnpackedSize {
				t.Fatalf("%s: Tree = %+v, want %d entries, %d bytes", format, tree, a.Entries, a.UnpackedSize)
			}
			if a.Index == nil {
				continue
			}
			again, err := Bring(context.Background(), stageDir(t), readIndex(t, data, a), opener(data), BringOptions{UnpackOptions: UnpackOptions{Want: a}})
			must(t, err)
			if again.Digest != tree.Digest || again.Entries != tree.Entries || again.Bytes != tree.Bytes {
				t.Fatalf("by frames: %+v, want %+v", again, tree)
			}
		}
	})
}
