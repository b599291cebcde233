package publish

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/release"
)

// Command says what a run does.
type Command string

// The commands.
const (
	Deploy   Command = "deploy"
	Publish  Command = "publish"
	Promote  Command = "promote"
	Rollback Command = "rollback"
	Status   Command = "status"
)

// Options are the inputs, checked. Parse makes them.
type Options struct {
	Command                           Command
	App, Environment, Prefix          string
	Path                              string // as given
	Bucket, Region, Endpoint, RoleARN string
	PathStyle                         *bool  // nil: the bucket decides
	Version                           string // empty: the caller fills in the commit hash; never for rollback

	Include, Exclude         []string
	VersionFile, Compression string
	Message, Date            string // empty: the caller finds them; Date is RFC 3339
	ExpiresIn                time.Duration
	Reason                   string

	Keys  []release.PrivateKey // all of them sign; none with trust: none, or when nothing is to be signed
	Trust release.Trust        // whose pointers are built upon
	Vouch release.Trust        // whose releases are signed again: as many of the keys of Trust as there are Keys

	Servers       []Server
	PingToken     string
	Wait          bool
	WaitTimeout   time.Duration
	ExpectServers []string

	OnSuperseded, OnMissingCredentials      string
	GitHubToken, Deployment, EnvironmentURL string
	Summary, DryRun                         bool
	CABundle                                string // PEM, or the path of a PEM file
}

// Server is one agent to ping.
type Server struct {
	Name string // as the agent calls itself, for its receipt; empty when not given
	URL  string // https://host:port or http://host:port
	Pin  string // hex SHA-256 of the public key info of its certificate; empty when not given
}

// label is what the log calls the server.
func (s Server) label() string {
	_, host, _ := strings.Cut(s.URL, "://")
	return cmp.Or(s.Name, host)
}

// Parse reads and checks all inputs; get gives the text of one, empty when it is absent. All problems are reported at
// once, in one *UsageError.
func Parse(get func(name string) string) (Options, error) {
	r := &reader{get: get}
	o := Options{
		Command: Command(r.text("command")), App: r.named("app", release.CheckApp), Path: r.text("path"), Bucket: r.text("bucket"),
		Environment: r.named("environment", release.CheckEnvironment), Prefix: r.named("prefix", release.CheckPrefix),
		Version: r.named("version", checkWanted), Region: r.text("aws-region"), Endpoint: r.web("endpoint-url"), RoleARN: r.role(),
		Include: r.list("include"), Exclude: r.list("exclude"), VersionFile: r.text("version-file"), Compression: r.compression(),
		Message: r.text("message"), Date: r.date(), ExpiresIn: r.duration("expires-in"), Reason: release.CleanText(r.text("reason"), 500),
		Servers: r.servers(), PingToken: r.text("ping-token"), Wait: r.yes("wait"), WaitTimeout: r.duration("wait-timeout"),
		ExpectServers: r.names("expect-servers"), OnSuperseded: r.text("on-superseded"), OnMissingCredentials: r.text("on-missing-credentials"),
		GitHubToken: r.text("github-token"), Deployment: r.text("deployment"), EnvironmentURL: r.web("environment-url"),
		Summary: r.yes("summary"), DryRun: r.yes("dry-run"), CABundle: r.text("ca-bundle"),
	}
	if r.text("force-path-style") != "" {
		on := r.yes("force-path-style")
		o.PathStyle = &on
	}
	makes := o.Command == Deploy || o.Command == Publish
	for _, name := range []string{"app", "bucket", "path"} {
		if r.text(name) == "" && (name != "path" || makes) {
			// The bucket often comes from a variable of the repository, which runs of forks do not get.
			r.problems = append(r.problems, Problem{Input: name, Missing: name == "bucket", Text: "required: " + lowerFirst(input(name).Help)})
		}
	}
	o.Prefix = cmp.Or(o.Prefix, o.App)
	switch {
	case o.Version == "" && o.Command == Rollback:
		o.Version = "previous"
	case o.Version == "previous" && makes:
		r.bad("version", `"previous" names a release that is there already: it goes with command promote or rollback`)
	}
	r.keys(&o)
	if len(r.problems) > 0 {
		return Options{}, &UsageError{r.problems}
	}
	return o, nil
}

// reader takes values out of the inputs and collects what is wrong with them.
type reader struct {
	get      func(string) string
	problems []Problem
}

func (r *reader) bad(name, format string, args ...any) {
	r.problems = append(r.problems, Problem{Input: name, Text: fmt.Sprintf(format, args...)})
}

// text is the value without white space around it, or the default. A value outside the choices is a problem.
func (r *reader) text(name string) string {
	in := input(name)
	v := strings.TrimSpace(r.get(name))
	switch {
	case v == "" && !strings.HasPrefix(in.Default, "${{"):
		return in.Default
	case in.Choices != nil && !slices.Contains(in.Choices, v):
		r.bad(name, "%q: want one of %s", v, strings.Join(in.Choices, ", "))
	}
	return v
}

func (r *reader) named(name string, check func(string) error) string {
	v := r.text(name)
	if v == "" {
		return ""
	}
	if err := check(v); err != nil {
		r.bad(name, "%v", err)
	}
	return v
}

func checkWanted(s string) error {
	if s == "previous" {
		return nil
	}
	return release.CheckVersion(s)
}

func (r *reader) yes(name string) bool {
	switch v := r.text(name); strings.ToLower(v) {
	case "true", "yes", "1":
		return true
	case "false", "no", "0":
	default:
		r.bad(name, "%q: want true or false", v)
	}
	return false
}

var bareNumber = regexp.MustCompile(`^[0-9.]+$`)

// duration reads what Go reads, and days: 90s, 10m, 1h30m, 90d.
func (r *reader) duration(name string) time.Duration {
	v := r.text(name)
	if bareNumber.MatchString(v) {
		r.bad(name, "%q has no unit: write %ss, %sm, %sh or %sd", v, v, v, v, v)
		return 0
	}
	days, rest, hasDays := strings.Cut(v, "d")
	if !hasDays {
		days, rest = "0", v
	}
	n, err := strconv.ParseUint(days, 10, 16)
	d := time.Duration(n) * 24 * time.Hour
	if rest != "" {
		more, restErr := time.ParseDuration(rest)
		d, err = d+more, errors.Join(err, restErr)
	}
	if err != nil || d <= 0 {
		r.bad(name, "%q: want a time such as 90s, 10m, 1h30m or 90d", v)
	}
	return d
}

func (r *reader) list(name string) []string { return Lines(r.text(name)) }

// Lines gives the lines of an input that takes several: those that are neither empty nor comments. A comment begins at the
// start of a line or after a space.
func Lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if i := strings.IndexByte(line, '#'); i >= 0 && strings.TrimSpace(line[:i]) == "" {
			continue
		}
		if i := strings.Index(line, " #"); i >= 0 {
			line = line[:i]
		}
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func (r *reader) names(name string) []string {
	list := r.list(name)
	for _, v := range list {
		if err := release.CheckServer(v); err != nil {
			r.bad(name, "%v; one name a line", err)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

const maxURL = 2048 // bytes

func (r *reader) web(name string) string {
	v := r.text(name)
	if v == "" {
		return v
	}
	if err := CheckAddress(v); err != nil {
		r.bad(name, "%v", err)
	}
	return v
}

// CheckAddress refuses what is no address of the web, and what must not be shown; the error does not show it either.
func CheckAddress(s string) error {
	switch u, err := url.Parse(s); {
	case len(s) > maxURL:
		return fmt.Errorf("%d bytes, at most %d", len(s), maxURL)
	case strings.Contains(s, "@") && (err != nil || u.User != nil):
		return errors.New("an address with a name and a password in it would be shown to everybody")
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		return fmt.Errorf("%q: want an address such as https://example.com", s)
	}
	return nil
}

// role takes the ARN of any account and partition, those included that S3-compatible stores make up.
var role = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::[0-9]*:role/[A-Za-z0-9+=,.@_/-]+$`)

func (r *reader) role() string {
	v := r.text("role-to-assume")
	if v != "" && !role.MatchString(v) {
		r.bad("role-to-assume", "%q: want arn:aws:iam::ACCOUNT:role/NAME", v)
	}
	return v
}

func (r *reader) compression() string {
	v := r.text("compression")
	if name, level, _ := strings.Cut(v, ":"); name != "zstd" && name != "gzip" || strings.Contains(v, ":") && !bareNumber.MatchString(level) {
		r.bad("compression", "%q: want zstd[:level] or gzip[:level]", v)
	}
	return v
}

func (r *reader) date() string {
	v := r.text("date")
	if _, err := time.Parse(time.RFC3339, v); v != "" && err != nil {
		r.bad("date", "%q: want RFC 3339, such as 2026-11-23T13:06:43Z", v)
	}
	return v
}

// keys reads signing-key, trusted-keys and trust together: each makes sense only beside the others.
func (r *reader) keys(o *Options) {
	none := r.text("trust") == "none"
	secret := r.text("signing-key")
	var trusted []release.PublicKey
	for _, line := range r.list("trusted-keys") {
		k, err := release.ParsePublicKey(line)
		if err != nil {
			r.bad("trusted-keys", "%v", err)
		}
		trusted = append(trusted, k)
	}
	switch {
	case none && (secret != "" || len(trusted) > 0):
		r.bad("trust", `"none" does not go with keys: leave trust out to sign, or leave signing-key and trusted-keys out`)
		return
	case none:
		o.Trust, o.Vouch = release.NoTrust(), release.NoTrust()
		return
	case secret == "" && (o.Command != Status || len(trusted) == 0):
		r.problems = append(r.problems, Problem{Input: "signing-key", Missing: true,
			Text: "empty: store the private key of towline keygen as a secret and pass it, or write trust: none here and on the servers"})
		return
	}
	for _, line := range r.list("signing-key") {
		k, err := release.ParsePrivateKey(line)
		if err != nil {
			r.bad("signing-key", "%v", err)
			return
		}
		if slices.Contains(o.Keys, k) {
			r.bad("signing-key", "the same key twice: %s", k.Public())
			return
		}
		o.Keys = append(o.Keys, k)
		trusted = append(trusted, k.Public())
	}
	if len(o.Keys) > release.MaxSignatures {
		r.bad("signing-key", "%d keys, at most %d", len(o.Keys), release.MaxSignatures)
		return
	}
	var err error
	if o.Trust, err = release.NewTrust(trusted, 1); err == nil {
		o.Vouch, err = release.NewTrust(trusted, max(1, len(o.Keys)))
	}
	if err != nil {
		r.bad("trusted-keys", "%v", err)
	}
}

func (r *reader) servers() []Server {
	var out []Server
	seen := map[string]bool{}
	for _, line := range r.list("servers") {
		s, err := parseServer(line)
		if err != nil {
			r.bad("servers", "%q: %v", line, err)
			continue
		}
		if seen[s.URL] || (s.Name != "" && seen[s.Name]) {
			r.bad("servers", "%q: named twice", line)
		}
		seen[s.URL], seen[s.Name] = true, true
		out = append(out, s)
	}
	return out
}

// parseServer reads [name=]https://host:8422[#sha256=<hex>].
func parseServer(text string) (Server, error) {
	var s Server
	if before, after, ok := strings.Cut(text, "="); ok && !strings.Contains(before, "://") {
		if err := release.CheckServer(before); err != nil {
			return s, err
		}
		s.Name, text = before, after
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "":
		return s, errors.New("want [name=]https://host:8422[#sha256=<hex>]")
	case u.User != nil || u.RawQuery != "":
		return s, errors.New("an address has neither user nor query")
	}
	if u.Fragment != "" {
		pin, ok := strings.CutPrefix(u.Fragment, "sha256=")
		s.Pin = strings.ToLower(pin)
		if raw, err := hex.DecodeString(s.Pin); !ok || err != nil || len(raw) != 32 {
			return s, errors.New("the pin is #sha256= and 64 hex digits, as the agent prints it")
		}
		if u.Scheme != "https" {
			return s, errors.New("a pin needs https://")
		}
	}
	u.Fragment, u.RawFragment = "", ""
	s.URL = strings.TrimRight(u.String(), "/")
	return s, nil
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
