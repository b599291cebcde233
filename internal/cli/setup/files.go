package setup

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/towline/towline/internal/cli/setup/draft"
	"github.com/towline/towline/internal/cli/setup/place"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/ping"
)

// files are all that are written, the configuration last. pin is the certificate's.
func (s *session) files(pin string) ([]place.File, error) {
	var all []place.File
	if s.ci && s.workflowPath() != "" {
		all = append(all, place.File{Path: s.workflowPath(), Text: draft.Workflow(s.facts(pin)), Mode: 0o644, UID: -1, GID: -1})
	}
	if !s.server {
		return all, nil
	}
	text := draft.Agent(s.facts(pin))
	if err := s.checkConfig(text); err != nil {
		return nil, err
	}
	uid, gid, owner := s.agent()
	if s.AccessKeyID != "" {
		for _, half := range [][2]string{{draft.IDFile, s.AccessKeyID}, {draft.SecretFile, s.Secret}} {
			all = append(all, place.File{
				Path: half[0], Root: s.Root, Text: half[1] + "\n", Mode: 0o600, UID: uid, GID: gid, Owner: owner, Secret: true,
			})
		}
	}
	return append(all, place.File{
		Path: draft.ConfigFile, Root: s.Root, Text: text, Mode: 0o640, UID: s.root(uid), GID: gid, Owner: "root:" + owner,
	}), nil
}

// root is the number of the user root, but for tests, in which everything belongs to one user.
func (s *session) root(agent int) int {
	if s.Root != "" {
		return agent
	}
	return 0
}

// agent is whom the files belong to. Without the package's user the agent can only be root.
func (s *session) agent() (uid, gid int, name string) {
	if uid, gid, err := s.Account(agentUser); err == nil {
		return uid, gid, agentUser
	}
	return 0, 0, "root"
}

// workflowPath is where the workflow is written; empty: it is printed.
func (s *session) workflowPath() string {
	switch {
	case s.Workflow == "-":
		return ""
	case s.Workflow != "":
		if filepath.IsAbs(s.Workflow) {
			return s.Workflow
		}
		return filepath.Join(s.Dir, s.Workflow)
	case s.checkout.top != "":
		return filepath.Join(s.checkout.top, ".github/workflows/deploy.yml")
	}
	return ""
}

// inTheWay refuses before the first question what could only be refused after the last.
func (s *session) inTheWay() error {
	if s.Force || !s.Terminal || s.Yes {
		return nil // plan sees to it, and lets pass what is the same
	}
	if _, err := os.Lstat(s.Root + draft.ConfigFile); s.server && err == nil {
		return there(draft.ConfigFile)
	}
	if path := s.workflowPath(); s.ci && path != "" {
		if _, err := os.Lstat(path); err == nil {
			return there(path)
		}
	}
	return nil
}

func there(path string) error {
	hint := "--force writes another and keeps this one under a name with .bak"
	if path == draft.ConfigFile {
		hint = "towline app add NAME adds an app to it; " + hint
	} else if !strings.HasPrefix(path, draft.ConfigDir+"/") {
		hint = "--workflow FILE takes another name, --workflow - prints it; " + hint
	}
	return usagef(hint, "%w", &place.ThereError{Path: path})
}

// knownPin is the pin of the certificate where there is one already, empty where none is needed.
func (s *session) knownPin() (string, error) {
	if !s.server || s.Listen == "" {
		return "", nil
	}
	if _, err := os.Stat(s.Root + stateDir + "/tls/cert.pem"); errors.Is(err, fs.ErrNotExist) {
		return unknownPin, nil
	}
	return Pin(s.Root + stateDir + "/tls")
}

// makePin makes the agent's certificate, as the agent would at its first start.
func (s *session) makePin() (string, error) {
	state := s.Root + stateDir
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) { // the package makes it; without, it has to be the agent's all the same
		uid, gid, _ := s.agent()
		if err := os.MkdirAll(state, 0o700); err != nil {
			return "", err
		}
		if err := os.Chown(state, uid, gid); err != nil {
			return "", err
		}
	}
	return Pin(state + "/tls")
}

// Pin gives the pin of the agent's self-signed certificate in dir, which is made if it is not there yet.
func Pin(dir string) (string, error) {
	file, _, err := ping.Keep(dir)
	if err != nil {
		return "", fmt.Errorf("tls: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("tls: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("tls: %s: no certificate in it", file)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("tls: %s: %w", file, err)
	}
	return ping.Pin(certificate), nil
}

// checkConfig reads the text as the agent will, and sees that it says what was answered.
func (s *session) checkConfig(text string) error {
	if s.PublicKey == "" { // a dry run's
		text = strings.ReplaceAll(text, madeKey, s.key.Public().String())
	}
	settings, err := config.Parse(draft.ConfigFile, []byte(text), s.Host)
	if err != nil {
		return fmt.Errorf("the configuration would not be right: %w", err)
	}
	if len(settings.Apps) != 1 {
		return errors.New("the configuration would not have one app")
	}
	app := settings.Apps[0]
	for _, same := range [][2]string{
		{settings.Server, s.Server}, {settings.Bucket, s.Bucket}, {settings.Listen, s.Listen}, {app.Key, s.App},
		{app.Environment, s.Environment}, {app.Unit, s.Unit}, {app.Health.HTTP, s.HTTP},
	} {
		if same[0] != same[1] {
			return fmt.Errorf("the configuration would say %q for %q", same[0], same[1])
		}
	}
	return nil
}

// serverLine is this server's line for the action's input servers.
func (s *session) serverLine(pin string) string {
	_, port, _ := net.SplitHostPort(s.Listen)
	return s.Server + "=https://" + net.JoinHostPort(s.Address, port) + "#sha256=" + pin
}
