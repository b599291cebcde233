// Package secret reads the files that hold what nobody else may know.
//
// Parties: the configuration names such a file in one of two ways. An absolute path is a file of this machine, which
// must belong to the agent's user or to root and be closed to everybody else. A name without a slash is a credential
// that systemd hands to the service (LoadCredential=), in a directory that nobody else can see. A secret is never taken
// from the configuration itself or from the environment.
package secret

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSize bounds a secret, in bytes.
const maxSize = 64 << 10

// Store knows where secrets lie.
type Store struct {
	Credentials string // directory of systemd's credentials, $CREDENTIALS_DIRECTORY; empty when there are none
	Owner       int    // user id, beside root, that files may belong to: that of the agent
}

// ExposedError says that a file may be read or changed by somebody whom the secret is not for, and how that is mended.
type ExposedError struct{ Path, Problem, Fix string }

func (e *ExposedError) Error() string { return fmt.Sprintf("%s: %s; run %s", e.Path, e.Problem, e.Fix) }

// Path is the file that a name of the configuration stands for. It is an error to name a credential where there are none.
func (s Store) Path(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if s.Credentials == "" {
		return "", fmt.Errorf("%s: a name without a slash is a credential of the service, and none were passed; "+
			"write LoadCredential=%s:/path into the unit, or an absolute path here: %w", name, name, fs.ErrInvalid)
	}
	return filepath.Join(s.Credentials, name), nil
}

// Read returns what the file holds. Errors: *ExposedError, the fs error of the file.
func (s Store) Read(name string) ([]byte, error) {
	path, err := s.Path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !s.handed(path) {
		if err := s.closed(path, info); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("read %s: more than %d bytes are no secret: %w", path, maxSize, fs.ErrInvalid)
	}
	return data, nil
}

// Line is Read for a file that holds one line, without the white space around it.
func (s Store) Line(name string) (string, error) {
	data, err := s.Read(name)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s: want one line: %w", name, fs.ErrInvalid)
	}
	return text, nil
}

// handed reports whether the file is one of systemd's credentials, whose owner and mode are systemd's to choose.
func (s Store) handed(path string) bool {
	rel, err := filepath.Rel(s.Credentials, path)
	return s.Credentials != "" && err == nil && filepath.IsLocal(rel)
}

// closed is nil when nobody but the agent's user and root can get at the file.
func (s Store) closed(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return &ExposedError{path, fmt.Sprintf("others than its owner may use it (mode %04o)", mode), "chmod 600 " + path}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: whose it is cannot be told: %w", path, fs.ErrInvalid)
	}
	if uid := int(stat.Uid); uid != 0 && uid != s.Owner {
		return &ExposedError{path, "it belongs to " + userName(uid), "chown " + userName(s.Owner) + " " + path}
	}
	return nil
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}
