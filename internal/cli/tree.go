package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Tree is the whole command, for what is made from it: the manual pages, the completions and docs/commands.md.
func Tree() *cobra.Command {
	p := &program{env: Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" },
	}}
	root := p.root()
	root.InitDefaultCompletionCmd()
	return root
}
