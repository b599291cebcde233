package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// looks lets the agent's app change with the number of times that it was looked at, and ends after the last.
func looks(f *fakeAgent, cancel func(), last int, change func(n int, r *deployment.Receipt)) {
	f.overview = func(n int) {
		d := f.details["nodeapi"]
		d.Receipt.Seen = fmt.Sprint("look ", n)
		change(n, &d.Receipt)
		f.details["nodeapi"] = d
		if n == last {
			cancel()
		}
	}
}

func TestWatchPrintsChangesWherePiped(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	f.add(deployment.Detail{Key: "calm"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks(f, cancel, 9, func(n int, r *deployment.Receipt) {
		switch n {
		case 4:
			r.Held = "lunch"
		case 6:
			r.Held, r.Pointer, r.Deployment = "", deployment.ReceiptPointer{Seq: 184, Hash: hashOne}, nil
		}
	})
	code, out, _ := f.run(t, ctx, "status", "--watch")
	_, changes, _ := strings.Cut(out, "nodeapi: the pointer says #185 0c1f4b7d2a9e\n")
	if code != 0 || strings.Count(out, "STATE") != 1 {
		t.Errorf("got exit code %d, want 0 and one table:\n%s", code, out)
	}
	wantText(t, changes, `
2026-11-23 15:00:00  nodeapi in production on web-1: held, live #184 e02371ab6db3; on hold: lunch; rolled-back: probe: GET /version: 500; the pointer says #185 0c1f4b7d2a9e
2026-11-23 15:00:00  nodeapi in production on web-1: live, live #184 e02371ab6db3
`)
}

func TestWatchAsJSONPrintsWhatChanged(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks(f, cancel, 9, func(n int, r *deployment.Receipt) {
		if n == 5 {
			r.Held = "lunch"
		}
	})
	if code, out, _ := f.run(t, ctx, "status", "--watch", "--json"); code != 0 || strings.Count(out, `"apps"`) != 2 {
		t.Errorf("got exit code %d, want 0 and two objects:\n%s", code, out)
	}
}

// terminals makes a pair of them: what is written to the one is read from the other.
func terminals(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		parts.Skip(t, "no pseudo terminals: "+err.Error())
	}
	t.Cleanup(func() { ours.Close() })
	fd := int(ours.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestWatchRedrawsInPlaceOnATerminal(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks(f, cancel, 6, func(n int, r *deployment.Receipt) {
		f.problem = nil
		if n == 3 {
			r.Held = "lunch"
		}
	})
	ours, theirs := terminals(t)
	if !terminal(theirs) {
		t.Fatal("a terminal is not taken for one")
	}
	if null, err := os.Open(os.DevNull); err != nil || terminal(null) {
		t.Errorf("%s is taken for a terminal, or %v", os.DevNull, err)
	}
	read := make(chan string)
	go func() {
		data, err := io.ReadAll(ours)
		if err != nil && !errors.Is(err, unix.EIO) { // the other end is closed
			t.Error(err)
		}
		read <- string(data)
	}()
	var errs bytes.Buffer
	p := &program{
		env: Env{Args: []string{"status", "--watch", "--color", "never"}, Stdout: theirs, Stderr: &errs, Getenv: func(name string) string {
			return map[string]string{"TOWLINE_SOCKET": f.path}[name]
		}},
		now: func() time.Time { return testNow }, watchEvery: time.Microsecond,
	}
	code := p.run(ctx)
	theirs.Close()
	out := <-read
	screens := strings.Split(out, "\x1b[H")
	if code != 0 || errs.Len() > 0 || len(screens) != 6 {
		t.Fatalf("got exit code %d, %d screens, want 0 and 5 after the first clearing:\n%q%s", code, len(screens)-1, out, errs.String())
	}
	if strings.Count(out, "\x1b[2J") != 1 || screens[0] != "\x1b[2J" {
		t.Errorf("got %q, want the screen cleared once, at the beginning", out)
	}
	for i, screen := range screens[1:] {
		if held := strings.Contains(screen, "on hold: lunch\x1b[K\r\n"); held != (i >= 2) || !strings.HasSuffix(screen, "\x1b[J") || !strings.Contains(screen, "Ctrl-C ends") {
			t.Errorf("screen %d: got %q", i+1, screen)
		}
	}
}

// The agent may be restarted while somebody watches.
func TestWatchOutlivesTheAgent(t *testing.T) {
	f := newFakeAgent(t)
	f.add(nodeapi())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	look := func(context.Context) (view, error) {
		switch n++; n {
		case 2, 3:
			return view{}, errors.New("it is not running")
		case 5:
			cancel()
		}
		return view{object: deployment.Overview{}, text: func(w *bytes.Buffer, _ painter) { w.WriteString("table\n") }}, nil
	}
	var out bytes.Buffer
	p := &program{env: Env{Stdout: &out, Getenv: func(string) string { return "" }}, color: "never", now: func() time.Time { return testNow }, watchEvery: time.Microsecond}
	if err := p.show(ctx, look, false, true); err != nil || out.String() != "table\n2026-11-23 15:00:00  cannot look: it is not running\n" {
		t.Errorf("got %v, %q, want the trouble once", err, out.String())
	}
	n = 1
	if err := p.show(t.Context(), look, false, true); err == nil {
		t.Error("the first look fails: got no error")
	}
}
