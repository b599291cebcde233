// Package unitfile is what root writes for the app itself: the unit that runs it, where there is none yet, and the socket
// that stays open while the unit is restarted.
//
//	/etc/systemd/system/<unit>                            Service: once, and the administrator's from then on
//	/etc/systemd/system/<key>.socket                      Socket
//	/etc/systemd/system/<unit>.d/towline-socket.conf      Socket: the unit takes it, and starts it where it was not
//
// A unit that is there is never replaced, and deleted only as long as nobody has changed it: its first line has the digest
// of the rest.
package unitfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/towline/towline/internal/grant"
)

const unitDir = "/etc/systemd/system"

// Service is the unit of an app that had none.
type Service struct {
	Key, Unit   string
	User, Group string
	Dir         string   // of the app: it runs in <Dir>/current
	Argv        []string // the program absolute
}

// Words splits a command line as a shell would, quotes and backslashes included. What only a shell understands is an error.
func Words(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, begun, escaped := rune(0), false, false
	for _, r := range line {
		switch {
		case unicode.IsControl(r) && r != '\t':
			return nil, fmt.Errorf("command %q: it holds control characters", line)
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case strings.ContainsRune("|&;<>()$`*?~", r):
			return nil, fmt.Errorf("command %q: no shell reads it, and %c is one's; quote it, or name the shell: /bin/sh -c '…'", line, r)
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("command %q: a quote is not closed", line)
	}
	if begun {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("the command is empty")
	}
	if name, _, assigns := strings.Cut(words[0], "="); assigns && !strings.Contains(name, "/") {
		return nil, fmt.Errorf("command %q: %s is a setting, not a program; write Environment=%s into the unit afterwards", line, words[0], words[0])
	}
	return words, nil
}

// Program makes the first word of a command absolute: ./server and bin/server lie in the release, node is looked for where
// systemd does. root is put before every path that is looked at.
func Program(root, dir, word string) (string, error) {
	switch {
	case path.IsAbs(word):
		if !executable(root + word) {
			return "", fmt.Errorf("there is no program %s", word)
		}
		return word, nil
	case strings.Contains(word, "/"):
		if clean := path.Clean(word); clean != ".." && !strings.HasPrefix(clean, "../") {
			return path.Join(dir, "current", clean), nil
		}
		return "", fmt.Errorf("program %s: it lies outside of the release", word)
	}
	for _, at := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if executable(root + path.Join(at, word)) {
			return path.Join(at, word), nil
		}
	}
	return "", fmt.Errorf("there is no program %s in /usr/local/bin, /usr/bin and the like; write its whole path, or ./%s if it comes with the release", word, word)
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Path is where the unit's file lies.
func (s Service) Path() string { return unitDir + "/" + s.Unit }

// Text is the unit's file.
func (s Service) Text() string {
	words := make([]string, len(s.Argv))
	for i, word := range s.Argv {
		words[i] = argument(word)
	}
	return seal(s.Key, fmt.Sprintf(`
[Unit]
Description=%[1]s, deployed by Towline
After=network.target
# Twenty times within a minute it may fail to start; after that it stays down until it is started again, as a deployment does.
StartLimitIntervalSec=60
StartLimitBurst=20

[Service]
Type=exec
User=%[2]s
Group=%[3]s
# A link to the release that is live; it is followed once, when the service starts.
WorkingDirectory=%[4]s/current
ExecStart=%[5]s
# Settings of this server: Environment=PORT=3000, or a file that outlives releases: EnvironmentFile=/etc/%[1]s.env
Restart=on-failure
RestartSec=3
# What is being answered when it is told to end (SIGTERM) has this long.
TimeoutStopSec=15

# The release cannot be written; what the app keeps is in shared:. ReadWritePaths= is not needed for that.
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
`, s.Key, s.User, s.Group, setting(s.Dir), strings.Join(words, " ")))
}

// Plan makes the file. It is fs.ErrExist if there is another unit of that name.
func (s Service) Plan(root string) (grant.Plan, error) {
	return grant.Files(root, grant.File{
		Path: s.Path(), Text: s.Text(), Once: true, Detail: "runs " + strings.Join(s.Argv, " ") + " as " + s.User,
	})
}

// Forget plans to delete the unit's file if it is one that Plan made and nobody has changed. unchanged is false, and the
// plan empty, where it is there and another.
func Forget(root, key, unit string) (plan grant.Plan, unchanged bool, err error) {
	at := unitDir + "/" + unit
	data, err := os.ReadFile(root + at)
	if errors.Is(err, fs.ErrNotExist) {
		return plan, true, nil
	}
	if err != nil {
		return plan, false, err
	}
	_, rest, _ := strings.Cut(string(data), "\n")
	if seal(key, rest) != string(data) {
		return plan, false, nil
	}
	plan, err = grant.Files(root, grant.File{Path: at})
	return plan, true, err
}

// seal puts the first line above the rest of a file that is the administrator's from now on.
func seal(key, rest string) string {
	sum := sha256.Sum256([]byte(rest))
	return fmt.Sprintf("# %s %s, once: change it as you like. %s\n%s", grant.Mark, key, hex.EncodeToString(sum[:8]), rest)
}

// setting is a text in the place of a setting's whole value.
func setting(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// argument is a word of an Exec line, where systemd expands % and $ and reads quotes and C's escapes.
func argument(s string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-./:@+,=", r))
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return `"` + strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
