// Package config is the agent's configuration file: read it strictly, fill in the defaults, check everything.
//
// Parties: a person writes the file; Load turns it into Settings; the agent runs by them and the command line shows
// them. It goes in three steps: the file form (form.go) is read from YAML, where an unknown key or a value of the wrong
// kind is a problem; defaults are filled in; then every value is checked. All problems are reported at once, each with
// its line. Settings exist only of a file without problems, and are not changed afterwards.
//
// Nothing but the file itself is read: the files and directories that it names belong to whoever uses them.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/towline/towline/internal/release"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Settings are what the agent runs by. Apps are sorted by their key. The files of PingToken, TLS and Credentials are
// absolute paths, or names without a slash: systemd credentials of the service.
type Settings struct {
	Path        string // the file that they came from
	Digest      string // hex SHA-256 of its text
	Server      string
	Labels      []string
	Bucket      string // bucket URL
	Poll        time.Duration
	Listen      string // host:port; empty: no port
	TLS         TLS
	PingToken   string // file with the token for pings of apps without trust; empty: no such pings
	Receipts    Receipts
	Metrics     bool // /metrics on Listen too
	StatusPage  bool // the status page on Listen too
	State       string
	Socket      string
	Credentials Credentials
	Apps        []App
	Notify      []Notify

	effective string
}

// TLSMode says where the certificate of Listen comes from.
type TLSMode string

// The modes of TLS.
const (
	TLSAuto  TLSMode = "auto"  // self-signed, kept in the state directory
	TLSOff   TLSMode = "off"   // plain HTTP
	TLSFiles TLSMode = "files" // Cert and Key
)

// TLS is how Listen is served.
type TLS struct {
	Mode      TLSMode
	Cert, Key string // PEM files
}

// Receipts says where receipts go: nowhere, to the bucket of Settings, or to another one.
type Receipts struct {
	Off    bool
	Bucket string // URL; empty: the bucket of Settings
}

// Credentials are files that hold the key for the bucket. Empty: the SDK's default chain.
type Credentials struct {
	AccessKeyID, SecretAccessKey string
}

// App is one app in one environment on this server.
type App struct {
	Key            string // its name in the file
	App            string
	Prefix         string
	Environment    string
	Dir            string   // absolute
	Unit           string   // systemd unit; empty when there is none
	Restart        []string // argv instead of a unit; nil when there is none
	Health         Health
	Keep           int
	Shared         []string
	Hooks          Hooks
	Trust          release.Trust
	RevertsRefused bool
	Pointer        string // object key
	Artifact       string // of a plain pointer: key relative to Pointer, with {hash}
}

// Health is the gate after activation. At most one of HTTP, TCP and Exec is set; without any there is no probe.
type Health struct {
	HTTP   string   // URL
	TCP    string   // host:port
	Exec   []string // argv
	Expect string   // text in the answer to HTTP; {{hash}} stands for the release's hash
	Within time.Duration
	Stable time.Duration
	Passes int
}

// Hooks are programs that run in the release directory; nil when there is none.
type Hooks struct {
	BeforeActivate, AfterHealthy []string
}

// Notify is one webhook and the changes that it is told of.
type Notify struct {
	Webhook Secret
	On      []string // of rolled-back, failed, broken, recovered
}

// Effective returns the configuration as YAML with all defaults written out and secrets hidden.
func (s Settings) Effective() string { return s.effective }

// Secret is a text that is not shown: it prints as *** with every verb, in logs and in YAML. Reveal returns the text.
type Secret struct{ text string }

// Reveal returns the text itself.
func (s Secret) Reveal() string { return s.text }

// Format implements fmt.Formatter.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Error is what is wrong with a file: every problem found, in the order of lines.
type Error struct {
	Problems []Problem
}

// Problem is one thing that is wrong.
type Problem struct {
	Path    string // of the file
	Line    int    // from 1; 0 when the problem has no place of its own
	Column  int    // from 1, in characters
	Source  string // the line itself, secrets hidden
	Message string
}

// Error names each problem with file and line, and shows the line with a caret under the place.
func (e *Error) Error() string {
	text := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		text[i] = p.String()
	}
	return strings.Join(text, "\n")
}

// String is the problem with its line, in three lines; in one when it has no place.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Message
	}
	number := fmt.Sprintf("%5d | ", p.Line)
	caret := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string([]rune(p.Source)[:min(p.Column-1, len([]rune(p.Source)))]))
	return fmt.Sprintf("%s:%d: %s\n%s%s\n%s| %s^", p.Path, p.Line, p.Message, number, p.Source, strings.Repeat(" ", len(number)-2), caret)
}

// Load reads and checks the file at path. A file that cannot be read gives its fs error, one with problems an *Error.
func Load(path string) (Settings, error) {
	data, host, err := read(path)
	if err != nil {
		return Settings{}, err
	}
	return Parse(path, data, host)
}

// read returns the text of the file and this machine's name.
func read(path string) (data []byte, host string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	if data, err = io.ReadAll(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, "", fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, "", fmt.Errorf("read configuration: %s is over %d bytes: %w", path, maxFile, fs.ErrInvalid)
	}
	if host, err = os.Hostname(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("host name: %w", err)
	}
	return data, host, nil
}

// Parse checks the text of the file at path. host is the name that the server has when the file gives it none.
func Parse(path string, data []byte, host string) (Settings, error) {
	s, _, err := parse(path, data, host)
	return s, err
}

// parse is Parse; the reader knows where everything stands.
func parse(path string, data []byte, host string) (Settings, *reader, error) {
	r := &reader{path: path, lines: strings.Split(string(data), "\n")}
	var f form
	r.parse(data, &f)
	f.fill(strings.ToLower(host))
	s := r.check(&f)
	if len(r.problems) > 0 {
		return Settings{}, r, &Error{Problems: r.sorted()}
	}
	effective, err := f.text()
	if err != nil {
		return Settings{}, r, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	s.Path, s.Digest, s.effective = path, hex.EncodeToString(sum[:]), effective
	return s, r, nil
}
