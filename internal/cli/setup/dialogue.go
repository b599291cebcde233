package setup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errEnded says that the input ended where an answer was wanted.
var errEnded = &UsageError{Err: errors.New("the input ended before everything was answered; nothing was written"),
	Hint: "with --yes nothing is asked: answer by flags"}

// dialogue asks, line by line. It ends with its context, whatever the terminal does.
type dialogue struct {
	ctx   context.Context
	in    io.Reader
	out   io.Writer
	lines chan string // nil until the first question
}

func newDialogue(ctx context.Context, in io.Reader, out io.Writer) *dialogue {
	return &dialogue{ctx: ctx, in: in, out: out}
}

// line reads one line. A reader that hangs is left behind when the context ends: the program ends then too.
func (d *dialogue) line() (string, error) {
	if d.lines == nil {
		lines := make(chan string)
		d.lines = lines
		go func() {
			defer close(lines)
			scanner := bufio.NewScanner(d.in)
			for scanner.Scan() {
				select {
				case lines <- scanner.Text():
				case <-d.ctx.Done():
					return
				}
			}
		}()
	}
	if err := d.ctx.Err(); err != nil {
		return "", err
	}
	select {
	case <-d.ctx.Done():
		fmt.Fprintln(d.out)
		return "", d.ctx.Err()
	case text, ok := <-d.lines:
		if !ok {
			fmt.Fprintln(d.out)
			return "", errEnded
		}
		return strings.TrimSpace(text), nil
	}
}

// ask puts one question until check takes the answer. An empty one stands for preset.
func (d *dialogue) ask(why, label, preset string, secret bool, check func(string) (string, error)) (string, error) {
	fmt.Fprintf(d.out, "\n%s\n", why)
	prompt := label + ": "
	if preset != "" {
		prompt = label + " [" + preset + "]: "
	}
	for {
		fmt.Fprint(d.out, prompt)
		text, err := d.read(secret)
		if err != nil {
			return "", err
		}
		if text == "" {
			text = preset
		}
		text, err = check(text)
		if err == nil {
			return text, nil
		}
		fmt.Fprintf(d.out, "  not taken: %v\n", err)
	}
}

// read is line, without an echo for a secret.
func (d *dialogue) read(secret bool) (string, error) {
	if !secret {
		return d.line()
	}
	restore, err := hide(d.in)
	if err != nil {
		return "", err
	}
	defer restore()
	return d.line()
}

// confirm asks for yes or no; an empty answer is yes.
func (d *dialogue) confirm(question string) (bool, error) {
	for {
		fmt.Fprintf(d.out, "\n%s [Y/n] ", question)
		text, err := d.line()
		if err != nil {
			return false, err
		}
		switch strings.ToLower(text) {
		case "", "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
		fmt.Fprint(d.out, "  not taken: want y or n\n")
	}
}

// IsTerminal reports whether somebody types at v or reads it.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// hide keeps a terminal from showing what is typed, but for the end of the line, until restore is called.
func hide(in io.Reader) (restore func(), err error) {
	if !IsTerminal(in) {
		return func() {}, nil
	}
	fd := int(in.(*os.File).Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("hide what is typed: %w", err)
	}
	silent := *old
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ECHONL | unix.ICANON
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return nil, fmt.Errorf("hide what is typed: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}
