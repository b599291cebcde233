package setup

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/durable"
	"github.com/towline/towline/internal/ping"
)

// file is one that is to be there.
type file struct {
	path     string // as people see it
	text     string
	mode     fs.FileMode
	uid, gid int // -1: whoever writes it
	owner    string
	secret   bool
}

// Change is what becomes of a file: create, replace, or keep what has the very text already. Nothing is lost by a
// replacement: what was there has the name Backup.
type Change struct {
	Path   string `json:"path"`
	Change string `json:"change"`
	Backup string `json:"backup,omitempty"`

	file
	kept string // Backup, as it lies on this disk
}

const (
	create  = "create"
	replace = "replace"
	keep    = "keep"
)

// files are all that are written, the configuration last. pin is the certificate's.
func (s *session) files(pin string) ([]file, error) {
	var all []file
	if s.ci && s.workflowPath() != "" {
		all = append(all, file{path: s.workflowPath(), text: s.workflow(pin), mode: 0o644, uid: -1, gid: -1})
	}
	if !s.server {
		return all, nil
	}
	text := s.agentYAML()
	if err := s.checkConfig(text); err != nil {
		return nil, err
	}
	uid, gid, owner := s.agent()
	if s.AccessKeyID != "" {
		all = append(all, file{idFile, s.AccessKeyID + "\n", 0o600, uid, gid, owner, true}, file{secretFile, s.Secret + "\n", 0o600, uid, gid, owner, true})
	}
	return append(all, file{ConfigFile, text, 0o640, 0, gid, "root:" + owner, false}), nil
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
	var paths []string
	if s.server {
		paths = append(paths, ConfigFile)
	}
	if path := s.workflowPath(); s.ci && path != "" {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if _, err := os.Lstat(s.at(path)); err == nil {
			return there(path)
		}
	}
	return nil
}

// at is where a path lies on this disk.
func (s *session) at(path string) string {
	if strings.HasPrefix(path, ConfigDir+"/") {
		return s.Root + path
	}
	return path
}

func there(path string) error {
	hint := "--force writes another and keeps this one under a name with .bak"
	if path == ConfigFile {
		hint = "towline app add NAME adds an app to it; " + hint
	} else if !strings.HasPrefix(path, ConfigDir) {
		hint = "--workflow FILE takes another name, --workflow - prints it; " + hint
	}
	return usagef(hint, "%s is there already", path)
}

// plan compares the files with what is there.
func (s *session) plan(files []file) ([]Change, error) {
	var changes []Change
	for _, f := range files {
		c := Change{Path: f.path, Change: create, file: f}
		c.file.path = s.at(f.path)
		have, err := os.ReadFile(c.file.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case bytes.Equal(have, []byte(f.text)):
			c.Change = keep
		case !s.Force:
			return nil, there(f.path)
		default:
			c.Change, c.kept = replace, backup(c.file.path)
			c.Backup = strings.TrimPrefix(c.kept, s.Root)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// backup is a name that nothing has yet.
func backup(path string) string {
	name := path + ".bak"
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = path + ".bak" + strconv.Itoa(i)
	}
}

// write makes all changes, or none: everything is on the disk under another name before the first file appears, and what
// has appeared is taken back when a later one fails.
func write(changes []Change) (err error) {
	var undo []func()
	var staged []string
	defer func() {
		for _, name := range staged {
			_ = os.Remove(name)
		}
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	for _, c := range changes {
		if c.Change == keep {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
			return err
		}
		name := stagedName(c.path)
		staged = append(staged, name)
		if err := durable.WriteFile(name, []byte(c.text), c.mode); err != nil {
			return err
		}
		if c.uid < 0 {
			continue
		}
		if err := os.Chown(name, c.uid, c.gid); err != nil {
			return err
		}
	}
	for _, c := range changes {
		switch c.Change {
		case create: // a link, not a rename: what has come there meanwhile is not overwritten
			if err := os.Link(stagedName(c.path), c.path); err != nil {
				return err
			}
			undo = append(undo, func() { _ = os.Remove(c.path) })
		case replace:
			if err := os.Link(c.path, c.kept); err != nil {
				return err
			}
			undo = append(undo, func() { _ = os.Rename(c.kept, c.path) })
			if err := os.Rename(stagedName(c.path), c.path); err != nil {
				return err
			}
		default:
			continue
		}
		if err := durable.SyncDir(filepath.Dir(c.path)); err != nil {
			return err
		}
	}
	return nil
}

func stagedName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".towline-init")
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
