package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// TestPeersListTheSame asks GNU tar and bsdtar about everything that Unpack accepts. All three must say the same of each
// entry: name, kind, size, target. Archives that readers understand differently are how one thing is checked and
// another is run.
func TestPeersListTheSame(t *testing.T) {
	gnu, bsd := tool(t, "tar"), bsdtar(t)
	counted := map[string]int{}
	compare := func(t testing.TB, group, name string, stream []byte) {
		t.Helper()
		_, _, err := unpackPlain(t, stream, UnpackOptions{MaxBytes: 64 << 20})
		if err != nil {
			return
		}
		counted[group]++
		file := filepath.Join(t.TempDir(), "a.tar")
		must(t, os.WriteFile(file, stream, 0o600))
		want := ours(t, stream)
		for peer, list := range map[string]func(testing.TB, string, string) ([]string, error){gnu: gnuList, bsd: bsdList} {
			got, err := list(t, peer, file)
			if err != nil {
				t.Errorf("%s, %s: accepted here, but %s: %v", group, name, peer, err)
			} else if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %s lists %q, here it is %q", group, name, peer, got, want)
			}
		}
	}
	for _, r := range allRules() {
		compare(t, "rules", r.name, r.accepted(t))
		compare(t, "rules", r.name+", broken", r.refused(t)) // refused, so nothing to compare
	}
	for _, c := range twoHeaders(t) {
		compare(t, "headers", c.name, c.accepted(t))
	}
	patterns := []string{filepath.Join(goroot(t), "src/archive/tar/testdata/*.tar*"), "../../../shared/corpora/*/*.tar"}
	for _, dir := range filepath.SplitList(os.Getenv("TOWLINE_TEST_CORPORA")) {
		patterns = append(patterns, filepath.Join(dir, "*.tar"))
	}
	for _, pattern := range patterns {
		for _, h := range collection(t, pattern) {
			compare(t, "collections", h.name, h.stream)
		}
	}
	files := maps.Clone(smallTree)
	files["big"] = strings.Repeat("0123456789", 1<<20)
	files[strings.Repeat("d", 120)+"/"+strings.Repeat("n", 200)] = "long"
	files["to-\u00fc"], files["\u00fc"] = "-> \u00fc", "umlaut"
	files["to-long"] = "-> " + strings.Repeat("d", 120) + "/" + strings.Repeat("n", 200)
	data, _ := pack(t, PackOptions{Dir: writeTree(t, files), Format: release.FormatGzip})
	compare(t, "packed", "tree", gunzip(t, data))
	checkRandom(t, counted, gnu, bsd)
	t.Logf("accepted and compared: %v", counted)
	for _, group := range []string{"rules", "headers", "packed", "collections", "random"} {
		if counted[group] == 0 {
			t.Errorf("nothing of %s was accepted", group)
		}
	}
}

func checkRandom(t *testing.T, counted map[string]int, gnu, bsd string) {
	if t.Failed() {
		return // what is known already is found here again
	}
	rapid.Check(t, func(r *rapid.T) {
		stream := drawArchive(r)
		dir := t.TempDir()
		defer os.RemoveAll(dir)
		root, err := os.OpenRoot(dir)
		must(t, err)
		defer root.Close()
		must(t, root.Mkdir("stage", 0o700))
		stage, err := root.OpenRoot("stage")
		must(t, err)
		defer stage.Close()
		if _, err := Unpack(context.Background(), stage, bytes.NewReader(rawFrame(stream)), UnpackOptions{Want: release.Artifact{Format: release.FormatZstd}, MaxBytes: 1 << 20}); err != nil {
			return
		}
		counted["random"]++
		file := filepath.Join(dir, "a.tar")
		must(t, os.WriteFile(file, stream, 0o600))
		want := ours(t, stream)
		for peer, list := range map[string]func(testing.TB, string, string) ([]string, error){gnu: gnuList, bsd: bsdList} {
			if got, err := list(t, peer, file); err != nil || !slices.Equal(got, want) {
				r.Fatalf("%s lists %q, %v, here it is %q", peer, got, err, want)
			}
		}
	})
}

func bsdtar(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("bsdtar")
	if err != nil {
		parts.Skip(t, "bsdtar (Debian package libarchive-tools)")
	}
	return path
}

// ours lists an archive that was accepted: kind, name, size, target.
func ours(t testing.TB, stream []byte) (out []string) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(stream))
	for {
		h, err := tr.Next()
		if err != nil {
			return out
		}
		name, err := checkHeader(h)
		must(t, err)
		kind := map[byte]string{tar.TypeReg: "-", tar.TypeDir: "d", tar.TypeSymlink: "l", tar.TypeLink: "h"}[h.Typeflag]
		out = append(out, row(kind, name, h.Size, h.Linkname))
	}
}

func row(kind, name string, size int64, target string) string {
	name = strings.TrimPrefix(name, "./")
	if name = strings.TrimSuffix(name, "/"); name == "" {
		name = "."
	}
	if kind == "-" || kind == "d" {
		target = "" // whatever the header has there, nobody reads it
	}
	if kind == "h" {
		target, size = strings.TrimPrefix(target, "./"), 0
	}
	return fmt.Sprintf("%s %q %d %q", kind, name, size, target)
}

var (
	gnuLine = regexp.MustCompile(`^(.)\S{9}\S? +\S+ +(\d+) \S+ \S+ +(".*)$`)
	bsdLine = regexp.MustCompile(`^(.)\S{9}\S? +\d+ +\S+ +\S+ +(\d+) \w+ +\d+ +\S+ (.*)$`)
)

// gnuList lists with GNU tar, which quotes what is not plain ASCII as C does.
func gnuList(t testing.TB, tar, file string) ([]string, error) {
	t.Helper()
	return list3(exec.Command(tar, "--list", "--verbose", "--numeric-owner", "--utc", "--full-time", "--quoting-style=c", "--file", file), gnuLine, func(s string) (string, string, bool, error) {
		name, rest, err := unquoteC(s)
		if err != nil || rest == "" {
			return name, "", false, err
		}
		for _, sep := range []string{" -> ", " link to "} {
			if after, ok := strings.CutPrefix(rest, sep); ok {
				target, _, err := unquoteC(after)
				return name, target, sep == " link to ", err
			}
		}
		return "", "", false, fmt.Errorf("%q after the name", rest)
	})
}

// bsdList lists with bsdtar, which escapes what it cannot print by a backslash.
func bsdList(t testing.TB, tar, file string) ([]string, error) {
	t.Helper()
	return list3(exec.Command(tar, "--list", "--verbose", "--numeric-owner", "--file", file), bsdLine, func(s string) (string, string, bool, error) {
		if name, target, ok := strings.Cut(s, " link to "); ok {
			return name, target, true, nil
		}
		name, target, _ := strings.Cut(s, " -> ")
		return name, target, false, nil
	})
}

// list3 runs a peer and takes its lines apart.
func list3(cmd *exec.Cmd, shape *regexp.Regexp, parse func(string) (name, target string, hard bool, err error)) (out []string, err error) {
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.Bytes())
	}
	for l := range strings.Lines(string(text)) {
		m := shape.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			return nil, fmt.Errorf("says %q", l)
		}
		size, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			return nil, err
		}
		name, target, hard, err := parse(m[3])
		if err != nil {
			return nil, err
		}
		kind := m[1]
		if hard {
			kind = "h"
		}
		if kind != "-" {
			size = 0
		}
		out = append(out, row(kind, name, size, target))
	}
	return out, nil
}

// unquoteC takes a C string literal from the start of s.
func unquoteC(s string) (text, rest string, err error) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", fmt.Errorf("%q: %w", s, err)
	}
	text, err = strconv.Unquote(quoted)
	return text, s[len(quoted):], err
}
