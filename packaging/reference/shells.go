package main

import (
	"bytes"

	"github.com/towline/towline/internal/cli"
)

// completions are what towline completion prints for the shells that a package serves.
func completions() ([]file, error) {
	var bash, zsh, fish bytes.Buffer
	root := cli.Tree()
	if err := root.GenBashCompletionV2(&bash, true); err != nil {
		return nil, err
	}
	if err := root.GenZshCompletion(&zsh); err != nil {
		return nil, err
	}
	if err := root.GenFishCompletion(&fish, true); err != nil {
		return nil, err
	}
	return []file{
		{"completions/towline.bash", bash.String()}, {"completions/_towline", zsh.String()}, {"completions/towline.fish", fish.String()},
	}, nil
}
