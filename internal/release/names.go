package release

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	nameRule    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	versionRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	unitRule    = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+\.service$`)
	prefixRule  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)
	sha256Rule  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckApp reports why s cannot name an app; nil if it can.
func CheckApp(s string) error { return checkName("app", s) }

// CheckServer reports why s cannot name a server; nil if it can.
func CheckServer(s string) error { return checkName("server", s) }

// CheckEnvironment reports why s cannot name an environment; nil if it can.
func CheckEnvironment(s string) error {
	if s == "releases" {
		return fmt.Errorf(`environment %q: the name is taken by the folder of artifacts`, s)
	}
	return checkName("environment", s)
}

// CheckVersion reports why s cannot name a release; nil if it can.
func CheckVersion(s string) error {
	if s == "previous" {
		return fmt.Errorf(`version %q: the word is kept for "the release before the current one"`, s)
	}
	if !versionRule.MatchString(s) {
		return fmt.Errorf("version %q: want a letter or digit, then at most 63 letters, digits, dots, dashes or underscores", s)
	}
	return nil
}

// CheckUnit reports why s cannot name a systemd service unit; nil if it can.
func CheckUnit(s string) error {
	if len(s) > 255 || !unitRule.MatchString(s) {
		return fmt.Errorf("unit %q: want the full name of a service unit, such as web.service", s)
	}
	return nil
}

// CheckPrefix reports why s cannot be a key prefix; nil if it can. A prefix is one or more names joined by slashes.
func CheckPrefix(s string) error {
	if len(s) > 512 || !prefixRule.MatchString(s) || strings.Contains(s, "..") {
		return fmt.Errorf("prefix %q: want names of letters, digits, dots, dashes and underscores joined by slashes, no slash at either end", s)
	}
	return nil
}

func checkName(what, s string) error {
	if !nameRule.MatchString(s) || strings.Contains(s, "..") {
		return fmt.Errorf(`%s %q: want a lower-case letter or digit, then at most 62 of a-z, 0-9, ".", "_", "-", without ".."`, what, s)
	}
	return nil
}

func checkSHA256(what, s string) error {
	if !sha256Rule.MatchString(s) {
		return fmt.Errorf("%s %q: want 64 lower-case hex digits", what, s)
	}
	return nil
}

// FirstLine cuts a commit message to what Release.Msg holds: its first line, without control characters or invalid
// UTF-8, at most MaxMessage runes.
func FirstLine(msg string) string {
	msg = strings.TrimSpace(msg)
	msg, _, _ = strings.Cut(msg, "\n")
	return CleanText(msg, MaxMessage)
}

// CleanText replaces control characters, also those that turn the direction of the text around them, and invalid UTF-8 by
// spaces or U+FFFD and cuts the text to n runes.
func CleanText(s string, n int) string {
	var b strings.Builder
	count := 0
	for _, r := range strings.TrimSpace(s) {
		if count == n {
			break
		}
		if unicode.IsControl(r) || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			r = ' '
		}
		b.WriteRune(r)
		count++
	}
	return strings.TrimSpace(b.String())
}

// CleanLine is CleanText for a line of a log: up to sixteen spaces at its start are kept.
func CleanLine(s string, n int) string {
	indent := len(s) - len(strings.TrimLeft(s, " "))
	return strings.Repeat(" ", min(indent, 16)) + CleanText(s, n)
}

var commitRule = regexp.MustCompile(`^[0-9a-f]{40}$`)

// IsCommit reports whether a version is a full commit hash.
func IsCommit(version string) bool { return commitRule.MatchString(version) }

func checkText(what, s string, max int) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > max || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s: want one line of at most %d characters", what, max)
	}
	return nil
}
