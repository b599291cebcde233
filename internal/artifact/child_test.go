package artifact

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/towline/towline/internal/release"
)

// childMark in the environment makes this program the child that unpacks.
const childMark = "TOWLINE_TEST_UNPACK"

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		if err := child(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// order asks the child to unpack a file into an empty directory.
type order struct {
	File, Stage string
	Want        release.Artifact
	MaxBytes    int64
}

// answer is what came of it.
type answer struct {
	Err      string // "" when it was accepted
	Verify   bool   // Err wraps release.ErrVerify
	Entries  int64
	Bytes    int64
	Digest   string
	Peak     int64 // bytes of memory that were held at once, beyond what the idle child holds
	Warnings int
}

// child unpacks what it is told to, one order after the other, and measures its own memory.
func child(in io.Reader, out io.Writer) error {
	debug.SetMemoryLimit(-1)
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		a, err := obey(o)
		if err != nil {
			return err
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

func obey(o order) (answer, error) {
	root, err := os.OpenRoot(o.Stage)
	if err != nil {
		return answer{}, err
	}
	defer root.Close()
	file, err := os.Open(o.File)
	if err != nil {
		return answer{}, err
	}
	defer file.Close()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak begins anew
		return answer{}, err
	}
	before, err := memoryOf("VmRSS")
	if err != nil {
		return answer{}, err
	}
	var a answer
	tree, err := Unpack(context.Background(), root, file, UnpackOptions{Want: o.Want, MaxBytes: o.MaxBytes, Warn: func(string) { a.Warnings++ }})
	if err != nil {
		a.Err, a.Verify = err.Error(), errors.Is(err, release.ErrVerify)
	}
	a.Entries, a.Bytes, a.Digest = tree.Entries, tree.Bytes, tree.Digest
	after, err := memoryOf("VmHWM")
	a.Peak = after - before
	return a, err
}

// memoryOf reads a line of the process's status, in bytes.
func memoryOf(key string) (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			var n int64
			_, err := fmt.Sscanf(rest, "%d kB", &n)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no %s", key)
}

// startChild starts the child and returns how to give it an order.
func startChild(t *testing.T) func(order) answer {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	if raced {
		program = filepath.Join(t.TempDir(), "child")
		if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
			t.Fatalf("build without race detector: %v\n%s", err, out)
		}
	}
	cmd := exec.Command(program)
	// As the agent runs: the unit sets the limit, the agent the share.
	unit, err := os.ReadFile("../../packaging/towline-agent.service")
	must(t, err)
	_, limit, found := strings.Cut(string(unit), "\nEnvironment=")
	limit, _, _ = strings.Cut(limit, "\n")
	if !found || !strings.HasPrefix(limit, "GOMEMLIMIT=") {
		t.Fatalf("the unit sets no limit of memory but %q", limit)
	}
	cmd.Env = append(os.Environ(), childMark+"=1", limit, "GOGC=50")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	})
	orders, answers := json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	return func(o order) (a answer) {
		t.Helper()
		must(t, orders.Encode(o))
		if err := answers.Decode(&a); err != nil {
			t.Fatalf("the child died of %s: %v", o.File, err)
		}
		return a
	}
}
