package bench

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// nothing is a program that says one word, to tell an engine's own start from that of what it starts.
const nothing = "package main\n\nimport \"os\"\n\nfunc main() { _, _ = os.Stdout.WriteString(\"started\\n\") }\n"

// idle are inputs with which the action ends at once, green: it has no key, and may go without.
var idle = []string{"GITHUB_ACTIONS=true", "INPUT_APP=web", "INPUT_PATH=.", "INPUT_BUCKET=s3://deploys?region=x", "INPUT_ON-MISSING-CREDENTIALS=skip"}

// measureStart is what a workflow waits for before the action does anything, once its image is there.
func measureStart(b *testing.B, t *table) {
	e := parts.Docker(b)
	const image, smallest = "towline-bench/action", "towline-bench/nothing"
	e.CLI(b, "build", "--quiet", "--tag="+image, parts.Root(b))
	bin := actions(b)
	e.CLI(b, "build", "--quiet", "--tag="+smallest, filepath.Join(bin, "nothing"))

	var container, other, difference, first sample
	start := func(image string) float64 {
		args := []string{"run", "--rm", "--network=host"}
		for _, line := range idle {
			args = append(args, "--env="+line)
		}
		cmd := e.Command(append(args, image)...)
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil || len(out) == 0 {
			b.Fatalf("docker run %s: %v\n%s", image, err, out)
		}
		return time.Since(began).Seconds()
	}
	alternate(2*often(5),
		func() { container = append(container, start(image)) },
		func() { other = append(other, start(smallest)) },
		func() { first = append(first, firstByte(b, filepath.Join(bin, "towline-action"))) },
	)
	container, other, first = container.counted(), other.counted(), first.counted()
	for i := range container {
		difference = append(difference, container[i]-other[i])
	}
	t.add(
		row{what: "the action's container, from `docker run` to its end", have: container, format: seconds, peer: "a program that says one word, likewise", other: other},
		row{what: "the difference, which is the action's", have: difference, format: seconds, goal: 0.1},
		row{what: "the program alone, to its first output", have: first, format: seconds, goal: 0.1},
	)
	t.note("Containers were started by Debian's dockerd on the machine's network, with the image there already.")
}

// actions compiles the action and the program that does nothing, that one in a directory with a Dockerfile.
func actions(b *testing.B) (dir string) {
	b.Helper()
	dir = b.TempDir()
	small := filepath.Join(dir, "nothing")
	for name, text := range map[string]string{
		"main.go": nothing, "go.mod": "module nothing\n\ngo 1.26\n", "Dockerfile": "FROM scratch\nCOPY nothing /nothing\nENTRYPOINT [\"/nothing\"]\n",
	} {
		if err := os.MkdirAll(small, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(small, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, build := range []struct{ in, out, what string }{
		{parts.Root(b), filepath.Join(dir, "towline-action"), "./cmd/towline-action"},
		{small, filepath.Join(small, "nothing"), "."},
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", build.out, build.what)
		cmd.Dir, cmd.Env = build.in, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("go build %s: %v\n%s", build.what, err, out)
		}
	}
	return dir
}

// firstByte starts the action by itself and waits for the first that it says.
func firstByte(b *testing.B, program string) float64 {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program)
	cmd.Env = idle
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		b.Fatalf("the action said nothing: %v", err)
	}
	took := time.Since(began).Seconds()
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return took
}
