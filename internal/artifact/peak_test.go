package artifact

import (
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var largeMiB = flag.Int64("large", 64, "MiB of the large file of TestPackingPeak, which is sparse")

// packMark in the environment makes TestPackingPeak pack what it names, compressed as packLevel says, and print the process's
// peak of memory.
const (
	packMark  = "TOWLINE_TEST_PACK"
	packLevel = "TOWLINE_TEST_LEVEL"
)

// A publisher has at most 192 MiB at once, whatever it packs and on however many cores. It is the whole process that counts, with the
// limit that publishing sets: what compresses to nothing and what does not compress at all, both in slices of the largest size.
func TestPackingPeak(t *testing.T) {
	if dir := os.Getenv(packMark); dir != "" {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		must(t, err)
		defer out.Close()
		format, level, err := ParseCompression(os.Getenv(packLevel))
		must(t, err)
		_, err = Pack(t.Context(), out, PackOptions{Dir: dir, Format: format, Level: level})
		must(t, err)
		peak, err := memoryOf("VmHWM")
		must(t, err)
		os.Stdout.WriteString("peak " + strconv.FormatInt(peak, 10) + "\n")
		return
	}
	dir := writeTree(t, map[string]string{"sparse": "", "a/few": "1", "z/more": "2"})
	must(t, os.Truncate(filepath.Join(dir, "sparse"), *largeMiB<<20))
	noise, err := os.Create(filepath.Join(dir, "noise"))
	must(t, err)
	_, err = io.CopyN(noise, rand.NewChaCha8([32]byte{1}), 64<<20)
	must(t, err)
	must(t, noise.Close())

	program, err := os.Executable()
	must(t, err)
	if raced {
		program = filepath.Join(t.TempDir(), "child")
		if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
			t.Fatalf("build without race detector: %v\n%s", err, out)
		}
	}
	for _, c := range []struct{ cores, level string }{{"1", "zstd"}, {"8", "zstd"}, {"64", "zstd"}, {"8", "gzip"}, {"8", "zstd:7"}, {"8", "zstd:22"}} {
		cmd := exec.Command(program, "-test.run=^TestPackingPeak$")
		cmd.Env = append(os.Environ(), packMark+"="+dir, packLevel+"="+c.level, "GOMAXPROCS="+c.cores, "GOMEMLIMIT=160MiB")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, text, _ := strings.Cut(string(out), "peak ")
		text, _, _ = strings.Cut(text, "\n")
		peak, err := strconv.ParseInt(text, 10, 64)
		must(t, err)
		t.Logf("%s cores, %s: %d MiB", c.cores, c.level, peak>>20)
		if peak > 192<<20 {
			t.Errorf("%s cores, %s: the process had %d MiB, at most 192 are wanted", c.cores, c.level, peak>>20)
		}
	}
}
