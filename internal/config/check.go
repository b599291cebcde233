package config

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/release"
)

const (
	minPoll   = time.Second
	minKeep   = 2
	maxSocket = 107
	// maxThreshold is how many keys there may be.
	maxThreshold = 16
	maxTimes     = 24 * time.Hour // for every duration
)

// check reports every value that is not right, and returns the settings that the form stands for.
func (r *reader) check(f *form) Settings {
	if r.broken {
		return Settings{}
	}
	s := Settings{
		Server: f.Server, Labels: f.Labels, Bucket: f.Bucket, Poll: time.Duration(*f.Poll), Listen: f.Listen,
		PingToken: f.PingToken, Metrics: f.Metrics, StatusPage: f.StatusPage, State: f.State, Socket: f.Socket,
	}
	if err := release.CheckServer(f.Server); err != nil {
		if r.places["server"] == nil {
			r.wrong("", "server: the host name cannot be used: %v; write server: NAME", err)
		} else {
			r.wrong("server", "%v", err)
		}
	}
	for i, label := range f.Labels {
		if err := release.CheckServer(label); err != nil {
			r.wrong(fmt.Sprintf("labels[%d]", i), "%v", strings.Replace(err.Error(), "server", "label", 1))
		}
	}
	if f.Bucket == "" {
		r.wrong("bucket", "it is missing; want a bucket's name, s3://…, or file:///…")
	} else {
		r.bucket("bucket", f.Bucket)
	}
	r.span("poll", f.Poll, minPoll)
	if f.Listen != "" {
		r.address("listen", f.Listen)
	}
	if f.Trust != nil {
		r.trust("trust", f.Trust.over(nil))
	}
	s.TLS = r.tls(f.TLS)
	s.Receipts = r.receipts(string(f.Receipts))
	r.absolute("state", f.State)
	r.absolute("socket", f.Socket)
	if len(f.Socket) > maxSocket {
		r.wrong("socket", "%d characters: at most %d fit into the address of a socket", len(f.Socket), maxSocket)
	}
	if c := f.Credentials; c != nil {
		s.Credentials = Credentials(*c)
		if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
			r.wrong("credentials", "access_key_id_file and secret_access_key_file belong together")
		}
		r.secret("credentials/access_key_id_file", c.AccessKeyID)
		r.secret("credentials/secret_access_key_file", c.SecretAccessKey)
	}
	for i, n := range f.Notify {
		s.Notify = append(s.Notify, r.notify(fmt.Sprintf("notify[%d]", i), n))
	}
	s.Apps = r.apps(f)
	r.secret("ping_token_file", f.PingToken)
	if f.PingToken != "" && !slices.ContainsFunc(s.Apps, func(a App) bool { return a.Trust.None() }) {
		r.wrong("ping_token_file", "every app is signed, so that pings need no token; leave it out")
	}
	return s
}

func (r *reader) apps(f *form) []App {
	if len(f.Apps) == 0 {
		r.wrong("apps", "there is none; the agent has nothing to do")
		return nil
	}
	var apps []App
	tracks := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(f.Apps)) {
		at := "apps/" + key
		if err := release.CheckApp(key); err != nil {
			r.wrong(at, "%v", err)
			continue
		}
		a := r.app(at, key, f.Apps[key])
		for _, other := range apps {
			if a.Dir == other.Dir || strings.HasPrefix(a.Dir, other.Dir+"/") || strings.HasPrefix(other.Dir, a.Dir+"/") {
				r.wrong(at+"/dir", "%s and %s of app %s must lie apart", a.Dir, other.Dir, other.Key)
			}
		}
		track := a.App + " in " + a.Environment
		if first := tracks[track]; first != "" {
			r.wrong(at, "it is %s, as %s is already", track, first)
		}
		tracks[track] = key
		apps = append(apps, a)
	}
	return apps
}

func (r *reader) app(at, key string, f *appForm) App {
	a := App{
		Key: key, App: f.App, Prefix: f.Prefix, Environment: f.Environment, Dir: f.Dir, Unit: f.Unit, Restart: f.Restart,
		Keep: *f.Keep, Shared: f.Shared, Pointer: f.Pointer, Artifact: f.Artifact, Health: r.health(at+"/health", f.Health),
	}
	for _, rule := range []struct {
		key   string
		value string
		check func(string) error
	}{
		{"app", f.App, release.CheckApp}, {"prefix", f.Prefix, release.CheckPrefix}, {"environment", f.Environment, release.CheckEnvironment},
	} {
		if err := rule.check(rule.value); err != nil {
			r.wrong(at+"/"+rule.key, "%v", err)
		}
	}
	r.absolute(at+"/dir", f.Dir)
	if f.Unit != "" {
		if err := release.CheckUnit(f.Unit); err != nil {
			r.wrong(at+"/unit", "%v", err)
		}
		if f.Restart != nil {
			r.wrong(at+"/restart", "either a unit or a command restarts the app, not both; remove one")
		}
	}
	r.argv(at+"/restart", f.Restart)
	if *f.Keep < minKeep {
		r.wrong(at+"/keep", "%d: at least %d, the live release and the one before", *f.Keep, minKeep)
	}
	r.shared(at, f.Shared)
	if h := f.Hooks; h != nil {
		a.Hooks = Hooks{BeforeActivate: h.BeforeActivate, AfterHealthy: h.AfterHealthy}
		r.argv(at+"/hooks/before-activate", h.BeforeActivate)
		r.argv(at+"/hooks/after-healthy", h.AfterHealthy)
	}
	a.Trust, a.RevertsRefused = r.trust(at+"/trust", f.Trust)
	r.plain(at, f, a.Trust.None())
	if a.Pointer == "" {
		a.Pointer = release.PointerKey(a.Prefix, a.Environment)
	}
	return a
}

// shared checks the paths that outlive releases. Each is a link in the release, so that none can lie in another.
func (r *reader) shared(at string, paths []string) {
	for i, p := range paths {
		at, clean := fmt.Sprintf("%s/shared[%d]", at, i), strings.TrimSuffix(p, "/")
		if !filepath.IsLocal(clean) || path.Clean(clean) != clean || clean == "." || !utf8Printable(clean) {
			r.wrong(at, "%q: want a path inside the release, such as .env or uploads/", p)
		}
		for j, q := range paths {
			above := strings.TrimSuffix(q, "/")
			if i != j && (strings.HasPrefix(clean, above+"/") || clean == above && j < i) {
				r.wrong(at, "%s: it lies in %s, which is shared already; leave it out", p, q)
				break
			}
		}
	}
}

// plain checks the two keys of the shell recipe's pointer.
func (r *reader) plain(at string, f *appForm, none bool) {
	for _, k := range []struct{ name, value string }{{"pointer", f.Pointer}, {"artifact", f.Artifact}} {
		switch {
		case k.value == "":
		case !none && f.Trust != nil:
			r.wrong(at+"/"+k.name, "only apps with trust: none have it; a signed pointer has its fixed place")
		case strings.HasPrefix(k.value, "/") || path.Clean(k.value) != k.value || !utf8Printable(k.value) ||
			k.name == "pointer" && strings.HasPrefix(k.value, ".."):
			r.wrong(at+"/"+k.name, "%q: want an object's key, without a slash at either end", k.value)
		case k.name == "artifact" && !strings.Contains(k.value, "{hash}"):
			r.wrong(at+"/artifact", "%q: want {hash} in it, which stands for the hash in the pointer", k.value)
		case k.name == "artifact" && !strings.HasSuffix(k.value, ".tar.gz") && !strings.HasSuffix(k.value, ".tgz") && !strings.HasSuffix(k.value, ".tar.zst"):
			r.wrong(at+"/artifact", "%q: want an archive that ends in .tar.gz, .tgz or .tar.zst", k.value)
		}
	}
}

func (r *reader) health(at string, f *healthForm) Health {
	h := Health{
		HTTP: f.HTTP, TCP: f.TCP, Exec: f.Exec, Expect: f.Expect,
		Within: time.Duration(*f.Within), Stable: time.Duration(*f.Stable), Passes: *f.Passes,
	}
	probes := 0
	for _, set := range []bool{f.HTTP != "", f.TCP != "", f.Exec != nil} {
		if set {
			probes++
		}
	}
	if probes > 1 {
		r.wrong(at, "one of http, tcp and exec; there are %d", probes)
	}
	if f.HTTP != "" {
		r.httpURL(at+"/http", f.HTTP)
	}
	if f.TCP != "" {
		r.address(at+"/tcp", f.TCP)
	}
	r.argv(at+"/exec", f.Exec)
	if f.Expect != "" && f.HTTP == "" {
		r.wrong(at+"/expect", "only http has an answer to look into")
	}
	r.span(at+"/within", f.Within, time.Second)
	r.span(at+"/stable", f.Stable, 0)
	if *f.Passes < 1 {
		r.wrong(at+"/passes", "%d: at least 1", *f.Passes)
	}
	return h
}

// trust turns the form into a release.Trust; refused says that restored pointers are not followed.
func (r *reader) trust(at string, f *trustForm) (t release.Trust, refused bool) {
	if f == nil {
		r.wrong(at, "it is missing: name the keys that towline keygen printed, or write trust: none")
		return t, false
	}
	if r.places[at] == nil {
		at = "trust" // it was written above
	}
	switch f.Reverts {
	case "", "follow", "refuse":
	default:
		r.wrong(at+"/reverts", "%q: want follow or refuse", f.Reverts)
	}
	if f.Threshold != nil && (*f.Threshold < 1 || *f.Threshold > maxThreshold) {
		r.wrong(at+"/threshold", "%d: want 1 to %d", *f.Threshold, maxThreshold)
		return t, false
	}
	switch f.Word {
	case "":
	case "none":
		return release.NoTrust(), f.Reverts == "refuse"
	default:
		r.wrong(at, "%q: want none, or keys below it", f.Word)
		return t, false
	}
	var keys []release.PublicKey
	for i, text := range f.Keys {
		key, err := release.ParsePublicKey(text)
		if err != nil {
			r.wrong(fmt.Sprintf("%s/keys[%d]", at, i), "%v", err)
			continue
		}
		if key.String() != text {
			r.wrong(fmt.Sprintf("%s/keys[%d]", at, i), "want %s, without white space", key)
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) < len(f.Keys) {
		return t, false // more would only confuse
	}
	t, err := release.NewTrust(keys, *f.Threshold)
	if err != nil {
		r.wrong(at, "%s", strings.TrimPrefix(err.Error(), "trust: "))
	}
	return t, f.Reverts == "refuse"
}

func (r *reader) tls(f *tlsForm) TLS {
	if f == nil {
		return TLS{Mode: TLSAuto}
	}
	switch f.Word {
	case "":
		if f.Cert == "" || f.Key == "" {
			r.wrong("tls", "want both cert and key, or auto, or off")
		}
		r.secret("tls/cert", f.Cert)
		r.secret("tls/key", f.Key)
		return TLS{Mode: TLSFiles, Cert: f.Cert, Key: f.Key}
	case string(TLSAuto), string(TLSOff):
		return TLS{Mode: TLSMode(f.Word)}
	case "false": // YAML 1.1 reads off as a boolean
		f.Word = string(TLSOff)
		return TLS{Mode: TLSOff}
	}
	r.wrong("tls", "%q: want auto, off, or {cert: FILE, key: FILE}", f.Word)
	return TLS{}
}

func (r *reader) receipts(text string) Receipts {
	switch text {
	case "true":
		return Receipts{}
	case "false":
		return Receipts{Off: true}
	}
	r.bucket("receipts", text)
	return Receipts{Bucket: text}
}

func (r *reader) notify(at string, f notifyForm) Notify {
	if f.Webhook.Reveal() == "" {
		r.wrong(at+"/webhook", "it is missing")
	} else if u, err := url.Parse(f.Webhook.Reveal()); err != nil || !web(f.Webhook.Reveal()) || u.Host == "" {
		r.wrong(at+"/webhook", "want https://…") // the value is a secret
	}
	for i, change := range f.On {
		if !slices.Contains(changes, change) {
			r.wrong(fmt.Sprintf("%s/on[%d]", at, i), "%q: want some of %s", change, strings.Join(changes, ", "))
		}
	}
	return Notify(f)
}
