package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// rights is a bucket in which CI and the agent of server web-1 may do what towline init prints, and nothing else. Another
// app and another server have objects in it.
type rights struct {
	t         *testing.T
	root      *parts.S3Server
	ci, agent *parts.S3Server
	endpoint  string
	key       release.PrivateKey
	printed   struct{ CI, Agent, Bucket json.RawMessage }
}

const shared = "deploys" // the bucket

// theirs are objects that neither key has to do with, or the agent only reads.
var theirs = []string{
	"api/releases/v1-0123456789ab.tar.zst", "api/production/version.json", "api/production/receipts/web-1.json",
	"web/staging/version.json", "web2/production/version.json", "web/production/receipts/web-2.json", "web/production/receipts/web-1.json.bak",
}

func newRights(t *testing.T) *rights {
	t.Helper()
	r := &rights{t: t, root: parts.S3(t)}
	r.root.Bucket(t, shared)
	r.ci, r.agent, r.endpoint = r.root.User(t, "ci"), r.root.User(t, "agent-of-web-1"), r.root.Endpoint
	for _, key := range theirs {
		if status, answer := r.root.Do(t, "PUT", "/"+shared+"/"+key, []byte("theirs")); status != http.StatusOK {
			t.Fatalf("put %s: got status %d: %s", key, status, answer)
		}
	}
	var err error
	if r.key, err = release.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	out := r.run("init", "--print-policy", "--app", "web", "--bucket", r.root.URL(shared), "--server", "web-1",
		"--principal-ci", "ci", "--principal-agent", "agent-of-web-1", "--json")
	if err := json.Unmarshal([]byte(out), &r.printed); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if status, answer := r.root.Do(t, "PUT", "/"+shared+"?policy=", r.printed.Bucket); status/100 != 2 {
		t.Fatalf("put bucket policy: got status %d: %s", status, answer)
	}
	return r
}

// run runs the command as CI would, and wants it to end well and without a warning.
func (r *rights) run(args ...string) string {
	r.t.Helper()
	r.t.Setenv("AWS_ACCESS_KEY_ID", r.ci.AccessKey)
	r.t.Setenv("AWS_SECRET_ACCESS_KEY", r.ci.SecretKey)
	var out, errs bytes.Buffer
	code := Main(r.t.Context(), Env{Args: args, Stdout: &out, Stderr: &errs, Getenv: func(name string) string {
		return map[string]string{"TOWLINE_SIGNING_KEY": r.key.Reveal(), "TOWLINE_BUCKET": r.url()}[name]
	}})
	if code != 0 || errs.Len() > 0 || strings.Contains(out.String(), "warning") {
		r.t.Fatalf("towline %s: got exit code %d, want 0 without a warning:\n%s%s", strings.Join(args, " "), code, out.String(), errs.String())
	}
	return out.String()
}

func (r *rights) url() string {
	at := *r.root
	at.Endpoint = r.endpoint
	return at.URL(shared)
}

// as opens the bucket with the user's key.
func (r *rights) as(user *parts.S3Server) bucket.Bucket {
	r.t.Helper()
	b, err := bucket.Open(r.t.Context(), bucket.Options{URL: r.url(), AccessKeyID: user.AccessKey, SecretAccessKey: user.SecretKey})
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// follow plays the agent of web-1 until the test ends: it reads the pointer with its own key, and says in its receipt that
// what it names is live.
func (r *rights) follow() {
	r.t.Helper()
	trust, err := release.NewTrust([]release.PublicKey{r.key.Public()}, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	b := r.as(r.agent)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	r.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		etag := ""
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			data, info, err := b.GetIfChanged(ctx, release.PointerKey("web", "production"), etag, release.MaxEnvelope)
			if err != nil {
				continue // none yet, or no other
			}
			v, err := trust.Pointer(data, release.Want{App: "web", Environment: "production", Prefix: "web"})
			if err == nil {
				_, err = b.Stat(ctx, v.Pointer().Artifact.Key)
			}
			c := deployment.Receipt{Type: deployment.ReceiptType, App: "web", Environment: "production", Server: "web-1", Seen: "now"}
			c.Pointer.Seq, c.Pointer.Hash = v.Pointer().Seq, v.Pointer().Release.Hash
			c.Live.Seq, c.Live.Hash = c.Pointer.Seq, c.Pointer.Hash
			text, _ := json.Marshal(c)
			if err == nil {
				err = b.Put(ctx, release.ReceiptKey("web", "production", "web-1"), text, "application/json")
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				r.t.Errorf("the agent's own work: %v", err)
			}
			etag = info.ETag
		}
	}()
}

// waiting are the flags of a verb that waits for the agent.
var waiting = []string{"--expect-servers", "web-1", "--wait-timeout", "1m"}

// publish makes a release of dir.
func (r *rights) publish(dir, version string, more ...string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(version), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.run(append([]string{"publish", "--app", "web", "--path", dir, "--version", version, "--message", "m", "--date", "2026-11-23T13:06:43Z"}, more...)...)
}

// start publishes a first release, small, and waits until it is live.
func (r *rights) start() {
	r.t.Helper()
	r.follow()
	r.publish(r.t.TempDir(), "v1", append(waiting, "--promote")...)
}

// work is all that CI does with a bucket, from the first release on.
func (r *rights) work() {
	r.t.Helper()
	r.follow()
	dir := r.t.TempDir()
	large := make([]byte, 20<<20) // more than goes in one request
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), large, 0o644); err != nil {
		r.t.Fatal(err)
	}
	one, two, three := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	r.publish(dir, one, append(waiting, "--promote")...)
	r.publish(dir, one, append(waiting, "--promote")...) // the same bytes again
	if err := os.Remove(filepath.Join(dir, "large")); err != nil {
		r.t.Fatal(err)
	}
	r.publish(dir, two, append(waiting, "--promote")...)
	r.publish(dir, three)
	live := func(want string, seq string) {
		r.t.Helper()
		for _, text := range []string{r.run("status", "--app", "web"), r.run("releases", "--app", "web", "--json")} {
			if !strings.Contains(text, want[:12]) {
				r.t.Errorf("got %s, want %s in it", text, want[:12])
			}
		}
		if out := r.run("status", "--app", "web", "--json"); !strings.Contains(out, `"hash": "`+want) || !strings.Contains(out, `"seq": `+seq) {
			r.t.Errorf("status: got %s, want %s with seq %s", out, want, seq)
		}
	}
	live(two, "3")
	r.run(append([]string{"promote", three[:8], "--app", "web"}, waiting...)...)
	live(three, "4")
	r.run(append([]string{"rollback", "--app", "web"}, waiting...)...)
	live(two, "5")
	r.run(append([]string{"rollback", one, "--app", "web", "--reason", "far back"}, waiting...)...)
	live(one, "6")
}

// denied wants the user's request refused for lack of rights, and nothing changed by it.
func (r *rights) denied(user *parts.S3Server, method, path string) {
	r.t.Helper()
	key, query, _ := strings.Cut(path, "?")
	if query != "" {
		query = "?" + query
	}
	object := "/" + shared + key
	there, before := r.root.Do(r.t, "GET", object, nil)
	status, answer := user.Do(r.t, method, object+query, []byte("forged"))
	if status != http.StatusForbidden || !bytes.Contains(answer, []byte("AccessDenied")) && method != "HEAD" {
		r.t.Errorf("%s: %s %s: got status %d, want 403 AccessDenied: %s", user.AccessKey, method, path, status, answer)
	}
	now, after := r.root.Do(r.t, "GET", object, nil)
	if key != "" && (now != there || there == http.StatusOK && !bytes.Equal(before, after)) {
		r.t.Errorf("%s: %s %s: the object is %d %q now", user.AccessKey, method, path, now, after)
	}
}

// ours are the objects that start has left, with their kinds.
func (r *rights) ours() (all, releases, history []string) {
	r.t.Helper()
	keys, err := r.as(r.root).List(r.t.Context(), "web/")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, key := range keys {
		switch key = "/" + key; {
		case strings.HasPrefix(key, "/web/releases/"):
			releases = append(releases, key)
		case strings.HasPrefix(key, "/web/production/history/"):
			history = append(history, key)
		}
	}
	all = append(append(all, releases...), history...)
	all = append(all, "/web/production/version.json", "/web/production/receipts/web-1.json")
	if len(releases) != 2 || len(history) != 1 {
		r.t.Fatalf("got %q, want two objects of one release and one of history", keys)
	}
	return all, releases, history
}

// owners are requests that only who owns the bucket may send.
var owners = []struct{ method, query string }{
	{"GET", "?policy="}, {"PUT", "?policy="}, {"DELETE", "?policy="}, {"PUT", "?acl="}, {"PUT", "?versioning="}, {"DELETE", ""},
	{"GET", "?list-type=2"}, {"GET", "?list-type=2&prefix="}, {"GET", "?list-type=2&prefix=api%2F"}, {"GET", "?list-type=2&prefix=web%2F"},
	{"GET", "?versions="}, {"GET", "?uploads="},
}

// CI's key does all of CI's work with exactly the policies that are printed: as this store answers, and as AWS would.
func TestPrintedPolicySufficesForCI(t *testing.T) {
	for name, like := range map[string]func(*rights){"bucket policy": func(*rights) {}, "identity policies of AWS": (*rights).likeAWS} {
		t.Run(name, func(t *testing.T) {
			r := newRights(t)
			like(r)
			r.work()
		})
	}
}

// Why a bucket policy does without the conditions of create-only: a store that does not know them takes none of it.
func TestConditionsOfAWSAreNotForAllStores(t *testing.T) {
	r := newRights(t)
	with := bytes.ReplaceAll(r.printed.CI, []byte(`"Effect": "Allow",`), []byte(`"Effect": "Allow", "Principal": {"AWS": "ci"},`))
	if status, answer := r.root.Do(t, "PUT", "/"+shared+"?policy=", with); status != http.StatusBadRequest || !bytes.Contains(answer, []byte("invalid condition key")) {
		t.Errorf("got status %d, want 400 for an invalid condition key: %s", status, answer)
	}
}

// A stolen CI key moves the pointer to what it uploaded: its signature is what stops that on the servers. In the bucket it
// destroys nothing, passes itself off as no server, and reaches no other app.
func TestStolenCIKeyStaysInItsApp(t *testing.T) {
	r := newRights(t)
	r.start()
	all, _, _ := r.ours()
	for _, key := range all {
		r.denied(r.ci, "DELETE", key)
	}
	r.denied(r.ci, "PUT", "/web/production/receipts/web-1.json")
	r.denied(r.ci, "PUT", "/web/production/receipts/new.json")
	for _, key := range theirs {
		r.denied(r.ci, "PUT", "/"+key)
		r.denied(r.ci, "DELETE", "/"+key)
		if !strings.HasPrefix(key, "web/production/receipts/") {
			r.denied(r.ci, "GET", "/"+key)
		}
	}
	for _, o := range owners {
		r.denied(r.ci, o.method, o.query)
	}
}

// The key of an agent reads what its server runs and writes its own receipt. With it, nothing else can be done.
func TestStolenAgentKey(t *testing.T) {
	r := newRights(t)
	r.start()
	all, _, _ := r.ours()
	for _, key := range all {
		if status, answer := r.agent.Do(t, "GET", "/"+shared+key, nil); status != http.StatusOK {
			t.Errorf("GET %s: got status %d, want 200: %.200s", key, status, answer)
		}
		r.denied(r.agent, "DELETE", key)
	}
	if status, answer := r.agent.Do(t, "PUT", "/"+shared+"/web/production/receipts/web-1.json", []byte("{}")); status != http.StatusOK {
		t.Errorf("its own receipt: got status %d, want 200: %s", status, answer)
	}
	for _, key := range theirs {
		r.denied(r.agent, "GET", "/"+key)
		r.denied(r.agent, "PUT", "/"+key)
		r.denied(r.agent, "DELETE", "/"+key)
	}
	r.denied(r.agent, "GET", "?list-type=2&prefix=web%2Freleases%2F")
	for _, o := range owners {
		r.denied(r.agent, o.method, o.query)
	}
}

// A server, or who took it over, cannot say what its fellows are to run: not by the pointer, not by its history, not by
// another artifact under a name that is known, and not by parts of an upload.
func TestServerCannotWriteThePointer(t *testing.T) {
	r := newRights(t)
	r.start()
	_, releases, history := r.ours()
	for _, key := range append(append(releases, history...), "/web/production/version.json", "/web/production/history/0000000002.json",
		"/web/releases/v9-0123456789ab.tar.zst", "/web/production/receipts/web-2.json", "/web/version.json", "/web/production/x") {
		r.denied(r.agent, "PUT", key)
		r.denied(r.agent, "POST", key+"?uploads=")
	}
	before := r.run("status", "--app", "web", "--json")
	b := r.as(r.agent)
	_, etag, err := b.Get(t.Context(), "web/production/version.json", release.MaxEnvelope)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Replace(t.Context(), "web/production/version.json", []byte("{}"), etag); !errors.Is(err, os.ErrPermission) {
		t.Errorf("replace the pointer: got error %v, want one of permission", err)
	}
	if after := r.run("status", "--app", "web", "--json"); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}
