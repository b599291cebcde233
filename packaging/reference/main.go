// Reference makes what people read about the programs from the programs themselves: the manual pages and the shell
// completions of a package, and docs/commands.md.
//
//	go run ./packaging/reference commands        writes docs/commands.md, from the top of a checkout
//	go run ./packaging/reference files DIR       writes man/ and completions/ below DIR
//
// Parties: internal/cli hands over its tree of commands, internal/agent its help; packaging/release asks for the files.
// The pages are set here and not by cobra's own generator, which reads texts as Markdown: it takes <pin> for a tag and
// leaves it out. The same programs give the same bytes; the date of the pages is SOURCE_DATE_EPOCH, without which they have none.
//
// It is a program of its own so that nothing of it is linked into those that are shipped.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(".", os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// run works on the checkout at root.
func run(root string, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "commands":
		return write(filepath.Join(root, "docs/commands.md"), commands())
	case len(args) == 2 && args[0] == "files":
		dated, err := date(os.Getenv("SOURCE_DATE_EPOCH"))
		if err != nil {
			return err
		}
		made, err := pages(root, dated)
		if err != nil {
			return err
		}
		shells, err := completions()
		if err != nil {
			return err
		}
		for _, f := range append(made, shells...) {
			if err := write(filepath.Join(args[1], f.path), f.text); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("usage: reference commands | reference files DIR")
}

// file is something made: a path below the directory that was asked for, and the text.
type file struct{ path, text string }

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
