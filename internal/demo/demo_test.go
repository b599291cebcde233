package demo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/internal/cli"
)

// TestMain lets the test's own program be the sample app, as towline is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "demo-app" {
		if err := App(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// empty fails when the directory for temporary files is not empty, or the app that the story names still answers.
func empty(t *testing.T, dir, story string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: got %v, want nothing", left)
	}
	address := regexp.MustCompile(`curl (http://\S+)`).FindStringSubmatch(story)
	if address == nil {
		t.Fatalf("the story names no app:\n%s", story)
	}
	if response, err := http.Get(address[1]); err == nil {
		response.Body.Close()
		t.Errorf("GET %s: got an answer, want the app to be gone", address[1])
	}
}

func TestStory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var out, log bytes.Buffer
	err := Run(t.Context(), cli.DemoOptions{Stdout: &out, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), log.String())
	}
	rest := out.String()
	for _, want := range []string{
		"deployed: hello v1 on production, seq 1, 1 of 1 servers live and healthy",
		`{"hash":"v1"`,
		"deployed: hello v2 on production, seq 2, 1 of 1 servers live and healthy",
		`{"hash":"v2"`,
		"500: cannot read settings.json",
		"| settings.json: unexpected end of JSON input",
		"rolled-back: hello v3 on production, seq 3, 0 of 1 servers live and healthy",
		`{"hash":"v2"`,
		"deployed in ",
		`{"hash":"v1"`,
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("the story lacks %q after what came before:\n%s", want, out.String())
		}
		rest = after
	}
	empty(t, dir, out.String())
}

func TestKeepShowsTheStatusPageUntilTheEnd(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(ctx, cli.DemoOptions{Keep: true, Stdout: w, Log: slog.New(slog.DiscardHandler)})
		w.Close()
		ended <- err
	}()
	var story strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		story.WriteString(lines.Text() + "\n")
		address, found := strings.CutPrefix(lines.Text(), "  status page  ")
		if !found {
			continue
		}
		response, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !bytes.Contains(page, []byte("hello")) {
			t.Errorf("status page: got %s, %v; want it to show the app hello", page, err)
		}
		if response, err := http.Get(address + "v1/apps"); err != nil || response.StatusCode != http.StatusNotFound {
			t.Errorf("GET /v1/apps: got %v, %v; want 404: only the page is served", response, err)
		}
		cancel()
	}
	if err := <-ended; err != nil {
		t.Fatalf("got %v, want nil after Ctrl-C\n%s", err, story.String())
	}
	empty(t, dir, story.String())
}

func TestInterruptedStoryLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(ctx, cli.DemoOptions{Stdout: w, Log: slog.New(slog.DiscardHandler)})
		w.Close()
		ended <- err
	}()
	var story strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		story.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "2. ") { // the app runs
			cancel()
		}
	}
	if err := <-ended; err == nil {
		t.Error("got nil, want the interruption")
	}
	empty(t, dir, story.String())
}
