package threats

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/action"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// canaries are secrets that must be found nowhere.
type canaries map[string]string

func (c canaries) look(t *testing.T, where, text string) {
	t.Helper()
	for name, secret := range c {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s shows %s:\n%s", where, name, text[max(0, at-400):min(len(text), at+len(secret)+100)])
		}
	}
}

// withoutMasks is a log of the action without the lines that tell the runner what to hide, and demands that these come first.
func withoutMasks(t *testing.T, log string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "::add-mask::") {
			b.WriteString(line)
		} else if b.Len() > 0 {
			t.Errorf("a secret is masked only after something was said:\n%s", log)
		}
	}
	return b.String()
}

// Every secret that goes in, on both sides, and everything that comes out, at the most talkative, in good times and in bad.
func TestSecretsDoNotLeak(t *testing.T) {
	s3 := parts.S3(t)
	s := newSite(t)
	s.bucket = s3.URL(s3.Bucket(t, "deploys"))
	t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	key := keygen(t)
	seed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key.Private, "towline-secret-ed25519:"))
	s.must(err)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(hook.Close)
	c := canaries{
		"the signing key":                   strings.TrimPrefix(key.Private, "towline-secret-ed25519:"),
		"the signing key in hex":            hex.EncodeToString(seed),
		"the signing key as it is":          string(seed),
		"the key of the bucket":             s3.SecretKey,
		"the token of the ping":             "canary-of-the-ping-token",
		"the address of the webhook":        "canary-of-the-webhook",
		"GitHub's token":                    "ghs_canary0of0github0token",
		"the token for the job's identity":  "canary-of-the-request-token",
		"the password in an address":        "canary-of-the-password",
		"a key in the wrong place":          "canary-of-the-misplaced-key",
		"half of a signing key":             strings.TrimPrefix(key.Private, "towline-secret-ed25519:")[:30],
		"the session of the key":            "canary-of-the-session",
		"another way to write the password": "canary%2Dof%2Dthe%2Dpassword",
	}

	// The server: one app with a signature, one without, which is pinged with a token.
	files := map[string]string{"id": s3.AccessKey, "secret": s3.SecretKey, "token": c["the token of the ping"]}
	for name, text := range files {
		s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(text+"\n"), 0o600))
	}
	v := s.server("web-1", fmt.Sprintf(`bucket: "%s"
credentials: {access_key_id_file: $dir/id, secret_access_key_file: $dir/secret}
ping_token_file: $dir/token
listen: 127.0.0.1:0
status_page: true
metrics: true
notify: [{webhook: "%s/%s"}, {webhook: "http://127.0.0.1:1/%[3]s"}]
%s`, s.bucket, hook.URL, c["the address of the webhook"], trust(key)), oneApp+
		"    health: {http: \"http://user:"+c["the password in an address"]+"@127.0.0.1:1/\", within: 1s}\n"+
		"  open: {dir: $srv/open, trust: none}\n")
	c.look(t, "config show", towline(t, nil, "config", "show", v.file).out)
	c.look(t, "config check", towline(t, nil, "config", "check", v.file).out)
	d := v.start()

	// The publisher, by the command and as the action; it fails at the health check, which is a lot of talk.
	env := map[string]string{"TOWLINE_SIGNING_KEY": key.Private, "TOWLINE_PING_TOKEN": c["the token of the ping"],
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN": c["the token for the job's identity"]}
	ci := &publisher{site: s, track: web, env: env}
	for name, got := range map[string]ran{
		"publish":              ci.publish("v1", "--verbose", "--servers", d.address()),
		"publish --json":       ci.publish("v2", "--verbose", "--json", "--servers", d.address()),
		"status --bucket":      ci.run("status"),
		"releases":             ci.run("releases", "--json"),
		"a server that is not": ci.publish("v3", "--verbose", "--servers", "https://127.0.0.1:1", "--wait-timeout", "3s"),
		"a password in the endpoint": ci.run("status", "--endpoint-url",
			"http://user:"+c["the password in an address"]+"@127.0.0.1:1"),
		"a key in the bucket's address": towline(t, env, "status", "--app", "web", "--bucket", "s3://id:"+c["a key in the wrong place"]+"@deploys"),
		"half a key":                    towline(t, map[string]string{"TOWLINE_SIGNING_KEY": key.Private[:60]}, "status", "--app", "web", "--bucket", s.bucket),
		"a private key as a public one": ci.run("status", "--trusted-keys", key.Private),
		"a key and trust none":          ci.run("status", "--trust", "none"),
		"a private key on the server":   s.server("web-2", trust(pair{Public: key.Private}), oneApp).once(),
	} {
		c.look(t, name, got.out)
	}
	open := &publisher{site: s, track: track{"open", "production", "open"}, env: map[string]string{"TOWLINE_PING_TOKEN": env["TOWLINE_PING_TOKEN"]}}
	c.look(t, "publish --trust none", open.publish("v1", "--verbose", "--trust", "none", "--servers", d.address()).out)
	d.until("open live", func(deployment.Receipt) bool { return v.live("open") == "v1" }) // the token did its work

	actions(t, s, c, key, d)

	// Everything that the server shows, keeps and has logged.
	for _, verb := range [][]string{{"status", "web"}, {"status", "web", "--json"}, {"status"}, {"logs", "web"}, {"releases", "--app", "web", "--json"}, {"deploy", "web"}} {
		c.look(t, strings.Join(verb, " "), d.ask(verb...).out)
	}
	for _, route := range []string{"/", "/metrics", "/healthz", "/readyz", "/v1/apps", "/v1/apps/web"} {
		c.look(t, "GET "+route, d.page(route))
	}
	d.stop()
	c.look(t, "the agent's log", d.log.String())
	s.must(filepath.WalkDir(v.srv(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		c.look(t, path, string(data))
		return err
	}))
	for _, secret := range []string{"id", "secret", "token"} { // a file that others may read is refused, not shown
		path := filepath.Join(s.dir, secret)
		s.must(os.Chmod(path, 0o644))
		got := v.once()
		got.want(t, deployment.ExitUsage)
		c.look(t, "a file open to all", got.out)
		s.must(os.Chmod(path, 0o600))
	}

	// Everything in the bucket.
	b, err := bucket.Open(t.Context(), bucket.Options{URL: s.bucket})
	s.must(err)
	keys, err := b.List(t.Context(), "")
	s.must(err)
	receipts := 0
	for _, object := range keys {
		data, _, err := b.Get(t.Context(), object, 1<<20)
		s.must(err)
		c.look(t, object, object+string(data))
		if strings.Contains(object, "/receipts/") {
			receipts++
		}
	}
	if receipts < 2 || len(keys) < 10 {
		t.Errorf("got only %q, want the objects of both apps", keys)
	}
}

// actions runs the action as a runner does, and looks at all that it leaves.
func actions(t *testing.T, s *site, c canaries, key pair, d *daemon) {
	t.Helper()
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"Resource not accessible by integration"}`)
	}))
	t.Cleanup(github.Close)
	(&publisher{site: s, track: web}).app("v1")
	for name, change := range map[string]map[string]string{
		"good":              {},
		"debug":             {"RUNNER_DEBUG": "1", "ACTIONS_STEP_DEBUG": "true"},
		"outside a runner":  {"GITHUB_ACTIONS": ""},
		"dry run":           {"INPUT_DRY-RUN": "true"},
		"half a key":        {"INPUT_SIGNING-KEY": key.Private[:60]},
		"unknown input":     {"INPUT_SIGNING_KEY": key.Private},
		"wrong bucket":      {"INPUT_BUCKET": "s3://id:" + c["a key in the wrong place"] + "@deploys"},
		"no such bucket":    {"INPUT_BUCKET": strings.Replace(s.bucket, "deploys", "nothing-here", 1)},
		"endpoint down":     {"INPUT_BUCKET": "deploys", "INPUT_ENDPOINT-URL": "http://user:" + c["the password in an address"] + "@127.0.0.1:1"},
		"GitHub says no":    {"INPUT_DEPLOYMENT": "create"},
		"no role to be had": {"INPUT_ROLE-TO-ASSUME": "arn:aws:iam::123456789012:role/ci", "ACTIONS_ID_TOKEN_REQUEST_URL": github.URL},
	} {
		dir := t.TempDir()
		env := map[string]string{
			"GITHUB_ACTIONS": "true", "GITHUB_SHA": strings.Repeat("c", 40), "GITHUB_REPOSITORY": "acme/web", "GITHUB_SERVER_URL": "https://github.com",
			"GITHUB_API_URL": github.URL, "GITHUB_RUN_ID": "77", "GITHUB_ACTOR": "ada", "GITHUB_REF": "refs/heads/main", "GITHUB_WORKSPACE": s.dir,
			"RUNNER_TEMP": dir, "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
			"AWS_ACCESS_KEY_ID": os.Getenv("AWS_ACCESS_KEY_ID"), "AWS_SECRET_ACCESS_KEY": c["the key of the bucket"],
			"ACTIONS_ID_TOKEN_REQUEST_TOKEN": c["the token for the job's identity"], "AWS_SESSION_TOKEN": c["the session of the key"],
			"INPUT_APP": "web", "INPUT_PATH": "app/web-v1", "INPUT_BUCKET": s.bucket, "INPUT_SIGNING-KEY": key.Private, "INPUT_MESSAGE": "x",
			"INPUT_DATE": date, "INPUT_PING-TOKEN": c["the token of the ping"], "INPUT_GITHUB-TOKEN": c["GitHub's token"],
			"INPUT_SERVERS": d.address(), "INPUT_WAIT-TIMEOUT": "20s",
		}
		var environ []string
		for name, value := range change {
			env[name] = value
		}
		for name, value := range env {
			environ = append(environ, name+"="+value)
		}
		var out bytes.Buffer
		action.Run(t.Context(), action.Env{Environ: environ, Stdout: &out})
		c.look(t, "action, "+name, withoutMasks(t, out.String()))
		if out.Len() == 0 {
			t.Errorf("action, %s: nothing was said", name)
		}
		for _, file := range []string{"output", "summary"} {
			data, _ := os.ReadFile(filepath.Join(dir, file))
			c.look(t, "action, "+name+", "+file, string(data))
		}
	}
}

// page is the answer of the agent's socket, which shows more than the port does.
func (d *daemon) page(route string) string {
	d.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.SocketPath())
	}}}
	response, err := client.Get("http://agent" + route)
	d.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	d.must(err)
	return string(text)
}
