package draft

import (
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/towline/towline/internal/release"
)

// The kinds of project whose steps are known.
const (
	Node   = "node"
	Go     = "go"
	Python = "python"
	PHP    = "php"
	Static = "static"
	Other  = "other"
)

// Kinds are all of them.
var Kinds = []string{Node, Go, Python, PHP, Static, Other}

// Project is what the files of a checkout tell of the steps that its workflow needs.
type Project struct {
	Kind    string
	locked  bool   // node: package-lock.json; go: go.sum
	module  bool   // node: files ending in .js are ES modules
	tests   bool   // python: there are some
	main    string // go: the package to build; python: what to install from
	path    string // static: the directory to serve
	command string // static: what makes it
}

// Inspect looks for what the steps of an app of this kind depend on. top is nil where there is no checkout.
func Inspect(top fs.FS, kind, app string) Project {
	p := Project{Kind: kind}
	if top != nil {
		p.inspect(top, app)
	} else {
		p.locked = true // as it should be
	}
	p.fill()
	return p
}

// Detect tells a project's kind by the files at its top; empty where they say nothing.
func Detect(top fs.FS) string {
	for _, mark := range []struct{ file, kind string }{
		{"composer.json", PHP}, // before package.json, which many have for their styles alone
		{"go.mod", Go},
		{"package.json", Node},
		{"requirements.txt", Python},
		{"pyproject.toml", Python},
	} {
		if exists(top, mark.file) {
			return mark.kind
		}
	}
	for _, dir := range siteDirs {
		if exists(top, path.Join(dir, "index.html")) {
			return Static
		}
	}
	return ""
}

// siteDirs are where a site that is to be served as it is lies.
var siteDirs = []string{".", "public", "dist", "site", "_site"}

func (p *Project) inspect(top fs.FS, app string) {
	switch p.Kind {
	case Node:
		p.locked = exists(top, "package-lock.json")
		var manifest struct{ Type string }
		if data, err := fs.ReadFile(top, "package.json"); err == nil && json.Unmarshal(data, &manifest) == nil {
			p.module = manifest.Type == "module"
		}
	case Go:
		p.locked = exists(top, "go.sum")
		p.main = mainPackage(top, app)
	case Python:
		if !exists(top, "requirements.txt") && exists(top, "pyproject.toml") {
			p.main = "."
		}
		tests, _ := fs.Glob(top, "test*.py")
		p.tests = len(tests) > 0
	case Static:
		for _, dir := range siteDirs {
			if exists(top, path.Join(dir, "index.html")) {
				p.path = dir
				break
			}
		}
		if exists(top, "build.sh") {
			p.command = "sh build.sh"
		}
	}
}

// fill gives what the files did not tell the value that most projects have.
func (p *Project) fill() {
	switch p.Kind {
	case Go:
		if p.main == "" {
			p.main = "."
		}
	case Python:
		if p.main == "" {
			p.main = "--requirement requirements.txt"
		}
	case Static:
		if p.path == "" {
			p.path = "public"
		}
	}
}

// mainPackage is the directory of the program: the top, or the one below cmd that is called like the app, or the only one.
func mainPackage(top fs.FS, app string) string {
	files, _ := fs.Glob(top, "*.go")
	if slices.ContainsFunc(files, func(file string) bool {
		data, err := fs.ReadFile(top, file)
		return err == nil && slices.Contains(strings.Split(string(data), "\n"), "package main")
	}) {
		return "."
	}
	dirs, err := fs.ReadDir(top, "cmd")
	if err != nil {
		return ""
	}
	for _, dir := range dirs {
		if dir.IsDir() && (dir.Name() == app || len(dirs) == 1 && release.CheckApp(dir.Name()) == nil) {
			return "./cmd/" + dir.Name()
		}
	}
	return ""
}

func exists(top fs.FS, file string) bool {
	_, err := fs.Stat(top, file)
	return err == nil
}
