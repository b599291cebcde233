package setup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/setup/draft"
	"github.com/towline/towline/internal/release"
)

const bucketWhy = `The bucket through which releases travel. For example
  AWS S3               s3://my-deploys?region=eu-central-1
  DigitalOcean Spaces  s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com
  Cloudflare R2        s3://my-deploys?region=auto&endpoint=https://ACCOUNT.r2.cloudflarestorage.com`

var (
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$`)
	branchName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	hostName       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
	keyPart        = regexp.MustCompile(`^[!-~]{1,500}$`)

	spacesHost = regexp.MustCompile(`^([a-z0-9][a-z0-9-]+)\.([a-z0-9]+)\.(?:cdn\.)?digitaloceanspaces\.com$`)
	awsHost    = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]+)\.s3[.-]([a-z0-9-]+)\.amazonaws\.com$`)
	r2Host     = regexp.MustCompile(`^[0-9a-f]+(?:\.[a-z]+)?\.r2\.cloudflarestorage\.com$`)
)

// named is a check that changes nothing.
func named(check func(string) error) func(string) (string, error) {
	return func(s string) (string, error) { return s, check(s) }
}

func checkKind(s string) (string, error) {
	if !slices.Contains(draft.Kinds, s) {
		return "", fmt.Errorf("%q: want one of %s", s, strings.Join(draft.Kinds, ", "))
	}
	return s, nil
}

// checkBucket asks the bucket's own reader, and gives a URL that names all that the agent and CI need: what this shell's
// environment adds, such as a region, they do not know.
func (s *session) checkBucket(text string) (string, error) {
	b, err := bucket.Open(s.ctx, bucket.Options{URL: text})
	if err != nil {
		if meant := meantBucket(text); meant != "" {
			return "", fmt.Errorf("that is the store's own address; do you mean %s ?", meant)
		}
		if strings.Contains(err.Error(), "no region") && !strings.Contains(text, "?") {
			return "", fmt.Errorf("AWS wants to know the region too, and another store its address: s3://%s?region=eu-central-1", strings.TrimPrefix(text, "s3://"))
		}
		return "", err
	}
	if strings.HasPrefix(text, "file:") || strings.Contains(text, "region=") {
		return text, nil
	}
	return b.URL(), nil
}

// meantBucket is the URL of a bucket for what a store's own pages show as its address; empty where that is not known.
func meantBucket(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" {
		return ""
	}
	name, _, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if m := spacesHost.FindStringSubmatch(u.Host); m != nil {
		return fmt.Sprintf("s3://%s?region=%s&endpoint=https://%[2]s.digitaloceanspaces.com", m[1], m[2])
	}
	if m := awsHost.FindStringSubmatch(u.Host); m != nil {
		return fmt.Sprintf("s3://%s?region=%s", m[1], m[2])
	}
	if r2Host.MatchString(u.Host) && name != "" {
		return fmt.Sprintf("s3://%s?region=auto&endpoint=https://%s", name, u.Host)
	}
	return ""
}

// checkKeyPart takes an access key id or a secret, and nothing is no mistake. The error does not show it.
func checkKeyPart(s string) (string, error) {
	if s != "" && !keyPart.MatchString(s) {
		return "", errors.New("want printable characters without a space, as the store shows them")
	}
	return s, nil
}

// checkListen gives host:port, or nothing for no port.
func checkListen(s string) (string, error) {
	if s == "" || s == none {
		return "", nil
	}
	full := s
	if !strings.Contains(s, ":") {
		full = ":" + s
	}
	_, port, err := net.SplitHostPort(full)
	if n, e := strconv.Atoi(port); err != nil || e != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("%q: want none, or a port such as :8422", s)
	}
	return full, nil
}

func checkAddress(s string) (string, error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		if ip.IsUnspecified() || ip.IsLoopback() {
			return "", fmt.Errorf("%s: nobody else reaches that", ip)
		}
		return ip.String(), nil
	}
	if !hostName.MatchString(s) {
		return "", fmt.Errorf("%q: want a host name or an IP address, without https:// and without the port", s)
	}
	return s, nil
}

// checkUnit gives the full name of a unit, or nothing for none.
func checkUnit(s string) (string, error) {
	if s == "" || s == none {
		return "", nil
	}
	if !strings.Contains(s, ".") {
		s += ".service"
	}
	return s, release.CheckUnit(s)
}

func checkExec(s string) (string, error) {
	if s != "" && !path.IsAbs(s) {
		return "", fmt.Errorf("%q: systemd wants the program's whole path, such as /usr/bin/node server.js", s)
	}
	if release.CleanText(s, 1024) != s {
		return "", errors.New("want one line of at most 1024 characters")
	}
	return s, nil
}

func checkHTTP(s string) (string, error) {
	u, err := url.Parse(s)
	if s != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(s, " \"'")) {
		return "", fmt.Errorf("%q: want a URL such as http://127.0.0.1:3000/", s)
	}
	return s, nil
}

// checkRepository takes OWNER/NAME and the addresses that git and browsers have for it.
func checkRepository(s string) (string, error) {
	name := s
	for _, prefix := range []string{"https://github.com/", "git@github.com:", "ssh://git@github.com/", "github.com/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	name = strings.TrimSuffix(strings.TrimSuffix(name, "/"), ".git")
	if s != "" && !repositoryName.MatchString(name) {
		return "", fmt.Errorf("%q: want OWNER/NAME, as in github.com/OWNER/NAME", s)
	}
	return name, nil
}

func checkPublicKey(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	key, err := release.ParsePublicKey(s)
	if err != nil {
		return "", err
	}
	return key.String(), nil
}
