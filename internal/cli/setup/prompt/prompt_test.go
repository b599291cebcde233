package prompt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/test/parts"
)

func taken(s string) (string, error) { return s, nil }

func TestAskUntilTaken(t *testing.T) {
	var out strings.Builder
	d := New(t.Context(), strings.NewReader("bad\n  good  \n\n"), &out)
	check := func(s string) (string, error) {
		if s == "bad" {
			return "", errors.New("that is bad")
		}
		return strings.ToUpper(s), nil
	}
	for _, want := range []string{"GOOD", "DEFAULT"} {
		got, err := d.Ask("Why it is asked.", "name", "default", false, check)
		if err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	want := "\nWhy it is asked.\nname [default]:   not taken: that is bad\nname [default]: \nWhy it is asked.\nname [default]: "
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := d.Ask("", "name", "", false, check); !errors.Is(err, ErrEnded) {
		t.Errorf("got %v at the end, want ErrEnded", err)
	}
}

func TestConfirm(t *testing.T) {
	for in, want := range map[string]bool{"\n": true, "Y\n": true, "no\n": false, "what\nyes\n": true} {
		var out strings.Builder
		got, err := New(t.Context(), strings.NewReader(in), &out).Confirm("Write?")
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", in, got, err, want)
		}
	}
}

// terminal is a pseudo terminal: what is typed into and shown by the one end is read and written by the other.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		parts.Skip(t, "pseudo terminals: "+err.Error())
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

// wait polls a condition.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// shown collects what a person sees.
func shown(person *os.File) *parts.Buffer {
	var seen parts.Buffer
	go func() {
		chunk := make([]byte, 4096)
		for {
			n, err := person.Read(chunk)
			_, _ = seen.Write(chunk[:n])
			if err != nil {
				return
			}
		}
	}()
	return &seen
}

func TestSecretIsNotShown(t *testing.T) {
	person, program := terminal(t)
	if !IsTerminal(program) || IsTerminal(&strings.Builder{}) {
		t.Fatal("a pseudo terminal is one, a builder is none")
	}
	seen := shown(person)
	d := New(t.Context(), program, program)
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer)
	ask := func(label string, secret bool) {
		go func() {
			text, err := d.Ask("", label, "", secret, taken)
			got <- answer{text, err}
		}()
		wait(t, "the question "+label, func() bool { return strings.Contains(seen.String(), label+": ") })
	}
	ask("id", false)
	fmt.Fprint(person, "visible\n")
	if a := <-got; a.err != nil || a.text != "visible" {
		t.Errorf("got %+v, want visible", a)
	}
	ask("secret", true)
	if echoes(t, program) {
		t.Error("the terminal shows what is typed while a secret is asked for")
	}
	fmt.Fprint(person, "sEcret\n")
	if a := <-got; a.err != nil || a.text != "sEcret" {
		t.Errorf("got %+v, want the secret", a)
	}
	ask("after", false)
	if !echoes(t, program) {
		t.Error("the terminal does not show what is typed after the secret")
	}
	fmt.Fprint(person, "shown\n")
	<-got
	wait(t, "what is typed after the secret", func() bool { return strings.Contains(seen.String(), "shown") })
	if text := seen.String(); strings.Contains(text, "sEcret") || !strings.Contains(text, "visible") {
		t.Errorf("got %q, want all but the secret", text)
	}
}

func TestCancelGivesTheTerminalBack(t *testing.T) {
	person, program := terminal(t)
	seen := shown(person)
	ctx, cancel := context.WithCancel(t.Context())
	d := New(ctx, program, program)
	got := make(chan error)
	go func() {
		_, err := d.Ask("", "secret", "", true, taken)
		got <- err
	}()
	wait(t, "the question", func() bool { return strings.Contains(seen.String(), "secret: ") })
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if !echoes(t, program) {
		t.Error("the terminal is left without an echo")
	}
	if _, err := d.Line(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for another question, want canceled", err)
	}
}
