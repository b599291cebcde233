package config

import (
	"net"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	bucketName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)
	credentialName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$`)
)

// bucket checks a bucket's URL as far as it goes without asking anyone.
func (r *reader) bucket(at, text string) {
	if !strings.HasPrefix(text, "s3://") && !strings.HasPrefix(text, "file://") {
		if !bucketName.MatchString(text) {
			r.wrong(at, "%q: want a bucket's name, s3://…, or file:///…", text)
		}
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		r.wrong(at, "want a bucket's name, s3://…, or file:///…")
	case u.User != nil:
		r.wrong(at, "no key belongs into the URL; see credentials")
	case u.Scheme == "s3" && !bucketName.MatchString(u.Host):
		r.wrong(at, "%q: want s3:// and a bucket's name of 3 to 63 characters", text)
	case u.Scheme == "file" && (u.Host != "" || !path.IsAbs(u.Path)):
		r.wrong(at, "%q: want file:// and an absolute path, three slashes in all", text)
	}
}

func (r *reader) httpURL(at, text string) {
	u, err := url.Parse(text)
	if err != nil || !web(text) || u.Hostname() == "" {
		r.wrong(at, "%q: want a URL such as http://127.0.0.1:3000/", text)
	}
}

// web reports whether the address begins as one of the web does.
func web(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}

func (r *reader) address(at, text string) {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		r.wrong(at, `%q: want host:port`, text)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		r.wrong(at, "%q: want a port of 0 to 65535", text)
	}
}

func (r *reader) absolute(at, file string) {
	if !path.IsAbs(file) || path.Clean(file) != file || file == "/" {
		r.wrong(at, "%q: want an absolute path, without . or .. or a slash at its end", file)
	}
}

// secret checks the name of a file that may be a credential of the service too, which has no slash in its name.
func (r *reader) secret(at, file string) {
	switch {
	case file == "" || credentialName.MatchString(file):
	case path.IsAbs(file):
		r.absolute(at, file)
	default:
		r.wrong(at, "%q: want an absolute path, or the name of a systemd credential (LoadCredential=)", file)
	}
}

func (r *reader) argv(at string, argv []string) {
	if argv != nil && (len(argv) == 0 || argv[0] == "") {
		r.wrong(at, "it names no program")
	}
}

func (r *reader) span(at string, d *duration, least time.Duration) {
	if v := time.Duration(*d); v < least || v > maxTimes {
		r.wrong(at, "%v: want %v to %v", v, least, maxTimes)
	}
}

// utf8Printable reports whether s is something that an object's key may be.
func utf8Printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f || c == '\uFFFD' })
}
