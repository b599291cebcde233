package action

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/publish"
)

var update = flag.Bool("update", false, "write action.yml from the tables of inputs and outputs")

const root = "../../"

// metadata is action.yml as the tables would have it.
func metadata() string {
	var b strings.Builder
	b.WriteString("name: Deploy to your own server\n")
	b.WriteString("description: Pack what CI made, upload it to S3, and wait until your own server runs it and has proven it healthy\n")
	b.WriteString("author: Towline\nbranding:\n  icon: upload-cloud\n  color: green\n\ninputs:\n")
	for _, in := range publish.Inputs() {
		help := in.Help
		if in.Choices != nil && !strings.Contains(help, strings.Join(in.Choices[:2], "; ")) && in.Name != "command" {
			help += " One of " + strings.Join(in.Choices, ", ") + "."
		}
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", in.Name, quote(help))
		if in.Required {
			b.WriteString("    required: true\n")
		}
		if in.Default != "" {
			fmt.Fprintf(&b, "    default: %s\n", quote(in.Default))
		}
	}
	b.WriteString("\noutputs:\n")
	for _, out := range outputs {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", out.name, quote(out.help))
	}
	b.WriteString("\nruns:\n  using: docker\n  image: Dockerfile\n")
	return b.String()
}

// quote is a YAML single-quoted scalar.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func TestActionMetadataIsTheTables(t *testing.T) {
	if *update {
		if err := os.WriteFile(root+"action.yml", []byte(metadata()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(root + "action.yml")
	if err != nil {
		t.Fatal(err)
	}
	if want := metadata(); string(got) != want {
		t.Errorf("action.yml is not what the tables say (go test ./internal/action -update writes it): got\n%s\nwant\n%s", got, want)
	}
}

// The image must leave the runner's conventions alone: see the container action's rules on user, directory and signals.
func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile(root + "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	stages := regexp.MustCompile(`(?m)^FROM `).Split(text, -1)
	last := stages[len(stages)-1]
	if !strings.HasPrefix(last, "scratch\n") {
		t.Errorf("last stage: got %q, want FROM scratch", strings.SplitN(last, "\n", 2)[0])
	}
	for _, word := range []string{"USER", "WORKDIR", "CMD", "VOLUME", "EXPOSE"} {
		if regexp.MustCompile(`(?m)^` + word + `\b`).MatchString(last) {
			t.Errorf("last stage: got a line %s, want none", word)
		}
	}
	if !regexp.MustCompile(`(?m)^ENTRYPOINT \["/[a-z-]+"\]$`).MatchString(last) {
		t.Error("ENTRYPOINT: want the exec form with an absolute path, so that the program is PID 1 and gets the signals")
	}
	if !strings.Contains(last, "ca-certificates.crt") {
		t.Error("last stage: want the CA roots copied in")
	}
	for _, pattern := range []string{`^# *syntax=`, `--mount=`, `<<EOF`, `COPY --link`, `--chmod=`} {
		if regexp.MustCompile(`(?m)` + pattern).MatchString(text) {
			t.Errorf("got %s, want nothing that only BuildKit understands", pattern)
		}
	}
	for _, want := range []string{"FROM golang:1.26-bookworm AS build", "CGO_ENABLED=0", "-trimpath", "-ldflags '-s -w'"} {
		if !strings.Contains(text, want) {
			t.Errorf("Dockerfile does not say %q", want)
		}
	}
}

func TestDockerignoreLetsInTheSourcesAlone(t *testing.T) {
	data, err := os.ReadFile(root + ".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	want := []string{"*", "!cmd", "!internal", "!go.mod", "!go.sum"}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
}
