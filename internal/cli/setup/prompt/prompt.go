// Package prompt asks a person, line by line.
//
// Parties: whoever types, at a terminal or in a test's reader; whoever wants to know. An answer is checked at once and asked
// for again. Every question ends with the context, also while the terminal hangs, and a secret is not shown.
package prompt

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

// ErrEnded says that the input ended where an answer was wanted.
var ErrEnded = errors.New("the input ended before everything was answered")

// Dialogue is one person's questions and answers.
type Dialogue struct {
	ctx   context.Context
	in    io.Reader
	out   io.Writer
	lines chan string // nil until the first question
}

// New begins a dialogue, which ends with ctx.
func New(ctx context.Context, in io.Reader, out io.Writer) *Dialogue {
	return &Dialogue{ctx: ctx, in: in, out: out}
}

// Line reads one line. A reader that hangs is left behind when the context ends: the program ends then too.
func (d *Dialogue) Line() (string, error) {
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
			return "", ErrEnded
		}
		return strings.TrimSpace(text), nil
	}
}

// Ask puts one question until check takes the answer. An empty one stands for preset.
func (d *Dialogue) Ask(why, label, preset string, secret bool, check func(string) (string, error)) (string, error) {
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

// read is Line, without an echo for a secret.
func (d *Dialogue) read(secret bool) (string, error) {
	if !secret {
		return d.Line()
	}
	restore, err := hide(d.in)
	if err != nil {
		return "", err
	}
	defer restore()
	return d.Line()
}

// Confirm asks for yes or no; an empty answer is yes.
func (d *Dialogue) Confirm(question string) (bool, error) {
	for {
		fmt.Fprintf(d.out, "\n%s [Y/n] ", question)
		text, err := d.Line()
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
