package setup

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/towline/towline/internal/release"
)

// The kinds of project whose steps are known.
const (
	kindNode   = "node"
	kindGo     = "go"
	kindPython = "python"
	kindPHP    = "php"
	kindStatic = "static"
	kindOther  = "other"
)

var kinds = []string{kindNode, kindGo, kindPython, kindPHP, kindStatic, kindOther}

// checkout is the git checkout that the current directory is in.
type checkout struct {
	top        string // empty: there is none
	repository string // OWNER/NAME on GitHub; empty: not known
	branch     string // that is deployed
}

// project is what the files of a checkout tell of the steps that its workflow needs.
type project struct {
	kind    string
	locked  bool   // node: package-lock.json; go: go.sum
	module  bool   // node: files ending in .js are ES modules
	tests   bool   // python: there are some
	main    string // go: the package to build; python: what to install from
	path    string // static: the directory to serve
	command string // static: what makes it
}

// look finds the checkout and what it holds.
func (s *session) look() {
	s.checkout.branch = "main"
	if s.Git == nil || !s.ci {
		return
	}
	git := func(args ...string) string {
		out, err := s.Git(s.Dir, args...)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(out)
	}
	if s.checkout.top = git("rev-parse", "--show-toplevel"); s.checkout.top == "" {
		return
	}
	if name, err := checkRepository(git("config", "--get", "remote.origin.url")); err == nil {
		s.checkout.repository = name
	}
	if head := git("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"); head != "" {
		s.checkout.branch = strings.TrimPrefix(head, "origin/")
	} else if here := git("symbolic-ref", "--quiet", "--short", "HEAD"); here == "master" {
		s.checkout.branch = here
	}
	s.project.kind = detect(os.DirFS(s.checkout.top))
}

// inspect looks closer, once kind and app are known.
func (s *session) inspect() {
	s.project = project{kind: s.Kind}
	if s.Kind == "" {
		s.project.kind = kindOther
	}
	if s.checkout.top != "" {
		s.project.inspect(os.DirFS(s.checkout.top), s.App)
	} else {
		s.project.locked = true // as it should be
	}
	s.project.fill()
}

// detect tells a project's kind by the files at its top; empty where they say nothing.
func detect(top fs.FS) string {
	for _, mark := range []struct{ file, kind string }{
		{"composer.json", kindPHP}, // before package.json, which many have for their styles alone
		{"go.mod", kindGo},
		{"package.json", kindNode},
		{"requirements.txt", kindPython},
		{"pyproject.toml", kindPython},
	} {
		if exists(top, mark.file) {
			return mark.kind
		}
	}
	for _, dir := range siteDirs {
		if exists(top, path.Join(dir, "index.html")) {
			return kindStatic
		}
	}
	return ""
}

// siteDirs are where a site that is to be served as it is lies.
var siteDirs = []string{".", "public", "dist", "site", "_site"}

func (p *project) inspect(top fs.FS, app string) {
	switch p.kind {
	case kindNode:
		p.locked = exists(top, "package-lock.json")
		var manifest struct{ Type string }
		if data, err := fs.ReadFile(top, "package.json"); err == nil && json.Unmarshal(data, &manifest) == nil {
			p.module = manifest.Type == "module"
		}
	case kindGo:
		p.locked = exists(top, "go.sum")
		p.main = mainPackage(top, app)
	case kindPython:
		if !exists(top, "requirements.txt") && exists(top, "pyproject.toml") {
			p.main = "."
		}
		tests, _ := fs.Glob(top, "test*.py")
		p.tests = len(tests) > 0
	case kindStatic:
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
func (p *project) fill() {
	switch p.kind {
	case kindGo:
		if p.main == "" {
			p.main = "."
		}
	case kindPython:
		if p.main == "" {
			p.main = "--requirement requirements.txt"
		}
	case kindStatic:
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
