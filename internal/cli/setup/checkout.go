package setup

import (
	"io/fs"
	"os"
	"strings"

	"github.com/towline/towline/internal/cli/setup/draft"
)

// checkout is the git checkout that the current directory is in.
type checkout struct {
	top        string // empty: there is none
	repository string // OWNER/NAME on GitHub; empty: not known
	branch     string // that is deployed
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
	s.kind = draft.Detect(os.DirFS(s.checkout.top))
}

// inspect looks closer, once kind and app are known.
func (s *session) inspect() {
	var top fs.FS
	if s.checkout.top != "" {
		top = os.DirFS(s.checkout.top)
	}
	kind := s.Kind
	if kind == "" {
		kind = draft.Other
	}
	s.project = draft.Inspect(top, kind, s.App)
}

// facts are what the texts are made of.
func (s *session) facts(pin string) draft.Facts {
	f := draft.Facts{
		App: s.App, Environment: s.Environment, Prefix: s.Prefix, Bucket: s.Bucket, Server: s.Server, PublicKey: s.result.Public,
		Credentials: s.AccessKeyID != "", Listen: s.Listen, Unit: s.Unit, HTTP: s.HTTP, Branch: s.branch(), Project: s.project,
	}
	if s.Listen != "" {
		f.Servers = s.serverLine(pin)
	}
	return f
}

// branch is the one whose pushes are deployed.
func (s *session) branch() string {
	if s.Branch != "" {
		return s.Branch
	}
	return s.checkout.branch
}
