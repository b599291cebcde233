package artifact

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// hostile is one archive and what must come of it.
type hostile struct {
	name   string
	data   []byte
	want   release.Artifact
	max    int64
	must   string // "accepted", "refused", or "" for either
	saying string // in the refusal
	stream []byte // what is in the frame, where that is known
}

// TestHostileArchives unpacks, in a process whose memory is measured: what keeps and what breaks every rule of the archive,
// Go's own odd archives, others' where they are found, and bombs. Nothing but the stage may change, what is in the stage
// must be plain, each refusal must name itself as one, and none may take more than 64 MiB of memory.
//
// Further collections of *.tar are read from the directories in TOWLINE_TEST_CORPORA, separated by colons.
func TestHostileArchives(t *testing.T) {
	unpack := startChild(t)
	groups := []struct {
		name string
		all  []hostile
	}{{"rules", ruleCases(t)}, {"layers", layerCases(t)}, {"Go", collection(t, filepath.Join(goroot(t), "src/archive/tar/testdata/*.tar*"))}, {"bombs", bombs(t)}}
	corpora := append(filepath.SplitList(os.Getenv("TOWLINE_TEST_CORPORA")), "../../../shared/corpora/*")
	for _, dir := range corpora {
		groups = append(groups, struct {
			name string
			all  []hostile
		}{"others", collection(t, filepath.Join(dir, "*.tar"))})
	}
	if len(groups[2].all) == 0 {
		parts.Skip(t, "Go's source tree with src/archive/tar/testdata")
	}
	for _, g := range groups {
		began := time.Now()
		refused, peak, of := 0, int64(0), ""
		for _, h := range g.all {
			a := h.unpack(t, unpack)
			if a.Err != "" {
				refused++
			}
			if a.Peak > peak {
				peak, of = a.Peak, h.name
			}
		}
		t.Logf("%s: %d archives, %d refused, at most %.1f MiB of memory (%s), %.1f s", g.name, len(g.all), refused, float64(peak)/(1<<20), of, time.Since(began).Seconds())
	}
}

// unpack has the child unpack h beside a directory that must stay as it is.
func (h hostile) unpack(t *testing.T, child func(order) answer) answer {
	t.Helper()
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	for _, p := range []string{"beside/secret", "stage-file", "etc/passwd", "canary"} {
		must(t, os.MkdirAll(filepath.Join(dir, "canary", filepath.Dir(p)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "canary", p), []byte("canary"), 0o640))
	}
	stage := filepath.Join(dir, "canary", "in", "stage")
	must(t, os.MkdirAll(stage, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "archive"), h.data, 0o600))
	outside := func() map[string]string {
		all := snapshot(t, dir)
		maps.DeleteFunc(all, func(p, _ string) bool { return within(p, "canary/in/stage") })
		maps.Copy(all, elsewhere(h.data))
		return all
	}
	before := outside()
	limit := h.max
	if limit == 0 {
		limit = 64 << 20
	}
	a := child(order{File: filepath.Join(dir, "archive"), Stage: stage, Want: h.want, MaxBytes: limit})
	if after := outside(); !maps.Equal(before, after) {
		t.Errorf("%s: outside of the stage there was %v, now there is %v", h.name, before, after)
	}
	root, err := os.OpenRoot(stage)
	must(t, err)
	defer root.Close()
	checkContained(t, root)
	if a.Peak > maxMemory {
		t.Errorf("%s: %d MiB of memory, at most %d", h.name, a.Peak>>20, maxMemory>>20)
	}
	switch {
	case a.Err == "" && h.must == "refused" || a.Err != "" && h.must == "accepted":
		t.Errorf("%s: must be %s, err = %q", h.name, h.must, a.Err)
	case a.Err != "" && (!a.Verify || !strings.Contains(a.Err, h.saying)):
		t.Errorf("%s: err = %q, want ErrVerify with %q", h.name, a.Err, h.saying)
	case a.Err == "":
		if got, err := DigestTree(root, nil); err != nil || got != a.Digest {
			t.Errorf("%s: DigestTree = %s, %v, want %s", h.name, got, err, a.Digest)
		}
	}
	return a
}

// elsewhere describes what lies at the absolute paths that an archive names, by size and time.
func elsewhere(data []byte) map[string]string {
	out := map[string]string{}
	var stream io.Reader = bytes.NewReader(data)
	if z, err := zstd.NewReader(stream, zstd.WithDecoderConcurrency(1)); err == nil {
		defer z.Close()
		stream = z
	}
	tr := tar.NewReader(stream)
	for n := 0; n < 10_000; n++ {
		h, err := tr.Next()
		if err != nil {
			break
		}
		for _, p := range []string{h.Name, h.Linkname} {
			if filepath.IsAbs(p) && !strings.ContainsRune(p, 0) {
				info, err := os.Lstat(p)
				if err != nil {
					out[p] = "none"
				} else {
					out[p] = fmt.Sprint(info.Mode(), info.ModTime(), info.Mode().IsRegular() && info.Size() > 0)
				}
			}
		}
	}
	return out
}

func ruleCases(t *testing.T) (out []hostile) {
	for _, r := range allRules() {
		plain := release.Artifact{Format: release.FormatZstd}
		out = append(out,
			hostile{r.name + ", kept", rawFrame(r.accepted(t)), plain, 0, "accepted", "", nil},
			hostile{r.name + ", broken", rawFrame(r.refused(t)), plain, 0, "refused", r.says, nil})
	}
	return out
}

func allRules() []rule {
	return append(append(append([]rule{}, rules...), rawRules...), kindRules()...)
}

func layerCases(t *testing.T) (out []hostile) {
	for _, l := range layers(t) {
		h := hostile{name: l.name, data: l.data, want: release.Artifact{Format: l.format}, must: "refused"}
		if l.ok {
			h.must = "accepted"
		}
		out = append(out, h)
	}
	return out
}

// collection are the archives that a pattern finds, unpacked from what they are wrapped in.
func collection(t *testing.T, pattern string) (out []hostile) {
	found, err := filepath.Glob(pattern)
	must(t, err)
	for _, file := range found {
		data, err := os.ReadFile(file)
		must(t, err)
		switch filepath.Ext(file) {
		case ".base64":
			data, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(data)))
		case ".bz2":
			data, err = io.ReadAll(bzip2.NewReader(bytes.NewReader(data)))
		}
		must(t, err)
		out = append(out, hostile{name: filepath.Base(file), data: rawFrame(data), want: release.Artifact{Format: release.FormatZstd}, stream: data})
	}
	return out
}

// goroot is where the toolchain that runs the tests keeps its sources.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// bombs are small archives that become large: on disk, in memory, or in the time that they take.
func bombs(t *testing.T) []hostile {
	plain := release.Artifact{Format: release.FormatZstd}
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	// many packs n entries, made one at a time.
	many := func(n int, entry func(i int) raw) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
		must(t, err)
		for i := range n {
			_, err := w.Write(entry(i).bytes())
			must(t, err)
		}
		_, err = w.Write(make([]byte, 1024))
		must(t, err)
		must(t, w.Close())
		return b.Bytes()
	}
	described := func(data []byte, entries, bytes int64) release.Artifact {
		return describe(data, release.FormatZstd, entries, bytes)
	}
	zero := zst(t, tarOf(t, reg("zeros", zeros(48<<20))))
	deep := many(500, func(i int) raw { return raw{flag: '0', prefix: fmt.Sprint(i), name: strings.Repeat("d/", 45) + "f"} })
	tiny := many(10_000, func(i int) raw { return raw{flag: '5', name: fmt.Sprint(i)} })
	longNames := many(140_000, func(i int) raw {
		if i%2 == 0 {
			return records(fmt.Sprintf("path=%07d-%s", i, strings.Repeat("n", 240)))
		}
		return raw{flag: '2', name: "x", link: "y"}
	})
	links := many(MaxEntries+1, func(i int) raw {
		return raw{flag: '2', name: fmt.Sprintf("%s/%040d", strings.Repeat("p", 30), i), link: "x"}
	})
	longLinks := many(60_000, func(i int) raw {
		if i%2 == 0 {
			return records(fmt.Sprintf("path=%07d-%s", i, strings.Repeat("n", 240)), "linkpath="+strings.Repeat("./", 510)+"x")
		}
		return raw{flag: '2', name: "x", link: "x"}
	})
	headers := many(200, func(i int) raw { return records("uname=" + strings.Repeat("n", 1<<20-64)) })
	huge := bytes.Clone(rawFrame(tarOf(t, reg("a", ""))))
	copy(huge[5:9], "\xff\xff\xff\x7f")                                    // says that it is 2 GiB
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00} // says that it needs a window of 2 TiB
	return []hostile{
		{"zeros, described", zero, described(zero, 1, 48<<20), 1 << 30, "accepted", "", nil},
		{"zeros, described as less", zero, described(zero, 1, 48<<20-1), 1 << 30, "refused", "may be unpacked", nil},
		{"zeros", zero, plain, 1 << 30, "refused", "times its size", nil},
		{"zeros, gzip", gz(t, tarOf(t, reg("zeros", zeros(20<<20)))), release.Artifact{Format: release.FormatGzip}, 20<<20 - 1, "refused", "may be unpacked", nil},
		{"zeros after the end", zst(t, append(tarOf(t, reg("a", "")), zeros(2<<20)...)), described(zero, 1, 0), 0, "refused", "", nil},
		{"one directory after the other", tiny, described(tiny, 10_000, 0), 0, "accepted", "", nil},
		{"one too many", tiny, described(tiny, 9_999, 0), 0, "refused", "entries", nil},
		{"directories that nobody lists", deep, described(deep, 500, 0), 0, "refused", "directories", nil},
		{"long names", longNames, plain, 0, "refused", "names of all entries", nil},
		{"more symlinks than there may be", links, plain, 0, "refused", "that there may be", nil},
		{"long names and targets", longLinks, plain, 0, "refused", "names of all entries", nil},
		{"headers of headers", headers, plain, 0, "refused", "", nil},
		{"header of 2 MiB", zst(t, append(records("uname="+strings.Repeat("n", 2<<20)).bytes(), tarOf(t, reg("a", ""))...)), plain, 0, "refused", "header", nil},
		{"frame that says it is huge", huge, plain, 0, "refused", "", nil},
		{"frame that wants a huge window", window, plain, 0, "refused", "", nil},
		{"hard links that multiply", zst(t, tarOf(t, reg("a", zeros(1<<20)), hard("b", "a"), hard("c", "a"))), plain, 2 << 20, "refused", "may be unpacked", nil},
		{"symlinks that multiply", zst(t, tarOf(t, link("a", "b"), link("b", "c"), link("c", "a"))), plain, 0, "refused", "not in the tree", nil},
	}
}
