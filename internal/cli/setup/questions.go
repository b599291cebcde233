package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towline/towline/internal/cli/setup/draft"
	"github.com/towline/towline/internal/release"
)

// question is one thing to know, by its flag or by asking.
type question struct {
	flag     string // also what it is called when it is asked for, unless label says otherwise
	label    string
	why      string
	value    *string
	preset   string // what an empty answer stands for
	guess    bool   // the preset has to be seen by somebody
	required bool   // without it, and without anybody to ask, nothing can be done
	server   bool   // of the server's half only
	secret   bool   // not shown
	when     bool   // it has to be known at all
	check    func(string) (string, error)
}

// questions are all of them, in their order, as they stand after the answers so far.
func (s *session) questions() []question {
	a := &s.answers
	both := func(local, remote string) string {
		if s.server {
			return local
		}
		return remote
	}
	return []question{
		{flag: "app", value: &a.App, preset: s.suggestedApp(), guess: true, required: true, when: true, check: named(release.CheckApp),
			why: both("The app: a short name, lower case. Its directory here will be /srv/NAME, its folder in the bucket NAME/.",
				"The app: a short name, lower case, the same here and on the server. Its directory there will be /srv/NAME.")},
		{flag: "kind", value: &a.Kind, preset: draft.Other, when: s.ci && s.kind == "", check: checkKind,
			label: "made of",
			why:   "What it is made of, for the steps of the workflow: node, go, python, php, static (plain files), or other."},
		{flag: "bucket", value: &a.Bucket, preset: s.Getenv("TOWLINE_BUCKET"), required: true, when: true, check: s.checkBucket, why: bucketWhy},
		{flag: "environment", value: &a.Environment, preset: "production", when: true, check: named(release.CheckEnvironment),
			why: "The environment: the track that the server follows, such as production or staging."},
		{flag: "server", value: &a.Server, preset: s.suggestedServer(), required: true, when: true, check: named(release.CheckServer),
			label: both("this server", "the server"), why: "What the server is called in logs and receipts."},
		{flag: "access-key-id", value: &a.AccessKeyID, server: true, when: draft.Remote(a.Bucket), check: checkKeyPart,
			label: "access key id",
			why: "This server's own key for the bucket, which reads releases and writes one receipt. Empty: the machine has a role,\n" +
				"which the AWS SDK finds by itself."},
		{flag: "secret-access-key-file", value: &a.Secret, required: s.Getenv("AWS_SECRET_ACCESS_KEY") == "", server: true, secret: true, when: a.AccessKeyID != "", check: s.checkSecret,
			label: "secret access key", why: "The secret of that key. What you type is not shown."},
		{flag: "listen", value: &a.Listen, preset: none, server: true, when: true, check: checkListen,
			why: "A port for pings. none: no open port; a release is found within 30 seconds, behind every firewall.\n" +
				":8422: CI tells this server at once and shows live what it does; the firewall has to let the port in."},
		{flag: "address", value: &a.Address, preset: s.suggestedAddress(), server: true, when: a.Listen != "", check: checkAddress,
			why: "The name or address by which GitHub's runners reach this server."},
		{flag: "unit", value: &a.Unit, preset: s.suggestedUnit(), server: true, when: true, check: checkUnit,
			why: "The systemd unit that runs the app; it is restarted with each release. none: plain files, nothing to restart."},
		{flag: "exec", value: &a.Exec, server: true, when: a.Unit != "" && !s.unitExists(a.Unit), check: checkExec,
			label: "command",
			why: fmt.Sprintf("There is no %s yet. The command that starts the app, in the release's directory, such as\n"+
				"/usr/bin/node server.js: towline app add makes the unit of it. Empty: you write the unit yourself.", a.Unit)},
		{flag: "http", value: &a.HTTP, server: true, when: true, check: checkHTTP,
			label: "health URL",
			why: "An address that answers 200 once the app works, such as http://127.0.0.1:3000/. If it does not after a release, the\n" +
				"server goes back. Empty: " + s.soak() + "."},
		{flag: "repository", value: &a.Repository, when: s.ci && s.checkout.repository == "", check: checkRepository,
			why: "The repository on GitHub, OWNER/NAME, for links that fit. Empty: it is not known yet."},
		{flag: "public-key", value: &a.PublicKey, when: true, check: checkPublicKey,
			label: "public key",
			why:   "The public key that releases are signed for, when there is one (ed25519:…). Empty: a new pair is made now."},
	}
}

// soak says what proves a release healthy without a probe.
func (s *session) soak() string {
	if s.Unit == "" {
		return "it is enough that the files are in place"
	}
	return "the unit has to stay up for 5 seconds"
}

// interview finds every answer. The flags are checked before the first question: nobody answers ten of them for nothing.
func (s *session) interview(ctx context.Context) error {
	s.Kind, s.Repository = s.kind, s.checkout.repository
	if s.Prefix != "" {
		if err := release.CheckPrefix(s.Prefix); err != nil {
			return usagef("", "--prefix: %w", err)
		}
	}
	if s.Branch != "" && !branchName.MatchString(s.Branch) {
		return usagef("", "--branch %q: want the name of a branch", s.Branch)
	}
	for i := range s.questions() {
		q := s.questions()[i]
		value, given := s.Given[q.flag]
		if !given {
			continue
		}
		if q.server && !s.server {
			return usagef("run it on the server as root, or with --for agent --dry-run", "--%s: is asked on the server only", q.flag)
		}
		if err := s.take(q, value); err != nil {
			return err
		}
	}
	s.asking = s.Terminal && !s.Yes && s.unanswered()
	if s.asking {
		s.greet()
	}
	for i := range s.questions() {
		q := s.questions()[i] // anew: it may depend on the answer before
		if _, given := s.Given[q.flag]; given || !q.when || q.server && !s.server {
			continue
		}
		if err := s.settle(q); err != nil {
			return err
		}
	}
	if len(s.missing) > 0 {
		return usagef("on a terminal, `towline init` asks", "%s: required where nobody can be asked", strings.Join(s.missing, ", "))
	}
	if s.Exec != "" && s.Unit == "" {
		return usagef("", "--exec: with --unit none there is nothing to start")
	}
	s.inspect()
	return ctx.Err()
}

// unanswered reports whether something required has no flag.
func (s *session) unanswered() bool {
	return slices.ContainsFunc(s.questions(), func(q question) bool {
		_, given := s.Given[q.flag]
		// The key may be left out, but on a terminal nobody should forget it.
		return (q.open() || q.flag == "access-key-id") && q.when && !given && (s.server || !q.server)
	})
}

// open reports whether only somebody's answer will do.
func (q question) open() bool { return q.required && (q.preset == "" || q.guess) }

// take is an answer by flag.
func (s *session) take(q question, text string) error {
	value, err := q.check(strings.TrimSpace(text))
	if err != nil {
		return usagef("", "--%s: %w", q.flag, err)
	}
	*q.value = value
	return nil
}

// settle asks, or takes the preset where nobody can be asked.
func (s *session) settle(q question) (err error) {
	label := q.label
	if label == "" {
		label = q.flag
	}
	switch {
	case s.asking:
		*q.value, err = s.dialogue.Ask(q.why, label, q.preset, q.secret, q.check)
	case q.secret && s.Getenv("AWS_SECRET_ACCESS_KEY") != "":
		*q.value, err = checkKeyPart(s.Getenv("AWS_SECRET_ACCESS_KEY"))
	case q.open():
		s.missing = append(s.missing, "--"+q.flag)
	case q.preset != "":
		if *q.value, err = q.check(q.preset); err != nil {
			return usagef("say it with --"+q.flag, "%s: %w", q.flag, err)
		}
	}
	return err
}

// checkSecret takes the secret itself from whoever is asked, and the name of its file from a flag.
func (s *session) checkSecret(text string) (string, error) {
	file, given := s.Given["secret-access-key-file"]
	if !given {
		if text == "" {
			return "", errors.New("want the secret of the key; Ctrl-C ends this and writes nothing")
		}
		return checkKeyPart(text)
	}
	if file == "-" {
		line, err := s.dialogue.Line()
		if err != nil {
			return "", err
		}
		return someKey(line)
	}
	data, err := os.ReadFile(filepath.Clean(file))
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("there is no such file; it takes the name of a file, or - for standard input, not the secret itself")
	}
	if err != nil {
		return "", err
	}
	return someKey(strings.TrimSpace(string(data)))
}

func someKey(text string) (string, error) {
	if text == "" {
		return "", errors.New("there is nothing in it")
	}
	return checkKeyPart(text)
}

func (s *session) suggestedApp() string {
	name := strings.ToLower(filepath.Base(s.Dir))
	if s.checkout.top != "" {
		name = strings.ToLower(filepath.Base(s.checkout.top))
	}
	// Home directories and the like are no app's name.
	if release.CheckApp(name) != nil || slices.Contains([]string{"root", "home", "tmp", "etc", "srv", "opt", "towline", path.Base(s.Getenv("HOME"))}, name) {
		return ""
	}
	return name
}

func (s *session) suggestedServer() string {
	if !s.server {
		return "web-1"
	}
	name := strings.ToLower(s.Host)
	if release.CheckServer(name) != nil {
		return ""
	}
	return name
}

func (s *session) suggestedAddress() string {
	if s.Addresses != nil {
		if all := s.Addresses(); len(all) > 0 {
			return all[0]
		}
	}
	return s.Host
}

func (s *session) suggestedUnit() string {
	if s.Kind == draft.Static || s.App == "" {
		return none
	}
	return s.App + ".service"
}

// unitExists looks where systemd looks, without asking it: in an image, or a container, it does not run.
func (s *session) unitExists(unit string) bool {
	return slices.ContainsFunc([]string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"}, func(dir string) bool {
		_, err := os.Stat(s.Root + dir + "/systemd/system/" + unit)
		return err == nil
	})
}
