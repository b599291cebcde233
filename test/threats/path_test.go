package threats

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// hostile are names that would lead out of where they are used, or into something else.
var hostile = []string{
	"..", "../evil", "web/../../evil", "/etc/passwd", "web//evil", "./web", "web/", ".hidden", "web\\evil", "web\x00evil", "web\nevil",
	"web evil", "%2e%2e%2fevil", "web?versionId=1", "web#x", "ｗｅｂ", "web\u202eevil", "$(id)", "`id`", "{hash}", strings.Repeat("a", 600),
}

// No name that people write, no field of a pointer and no answer of a server leads anybody to another object, file or host
// than the one that is meant.
func TestPathInjection(t *testing.T) {
	t.Run("inputs", injectInputs)
	t.Run("configuration", injectConfiguration)
	t.Run("signed pointer", injectSigned)
	t.Run("plain pointer", injectPlain)
	t.Run("links in the bucket", injectLinks)
	t.Run("redirects", injectRedirects)
}

// injectInputs: whoever publishes under a hostile name is told so before anything is written.
func injectInputs(t *testing.T) {
	s := newSite(t)
	ci := s.publisher(web, keygen(t))
	app := ci.app("v1")
	for _, name := range hostile {
		for _, k := range []track{{name, "production", "web"}, {"web", name, "web"}, {"web", "production", name}} {
			if k.prefix == name && (name == strings.Repeat("a", 600)) {
				k.prefix += "/evil"
			}
			ci.with(k).run("publish", "--promote", "--path", app, "--version", "v1", "--message", "x", "--date", date).want(t, deployment.ExitUsage)
			ci.with(k).run("status").want(t, deployment.ExitUsage)
		}
		ci.run("publish", "--promote", "--path", app, "--version", name, "--message", "x", "--date", date).want(t, deployment.ExitUsage)
		ci.run("promote", name).want(t, deployment.ExitUsage)
		if strings.Contains(name, "\n") {
			continue // in a list these are two names
		}
		ci.run("promote", "v1", "--expect-servers", name).want(t, deployment.ExitUsage)
		ci.run("promote", "v1", "--servers", name+"=https://127.0.0.1:1").want(t, deployment.ExitUsage)
		if t.Failed() {
			t.Fatalf("with %q", name)
		}
	}
	ci.with(track{"web", "releases", "web"}).run("status").want(t, deployment.ExitUsage, "taken by the folder of artifacts")
	for _, address := range []string{"file:///etc/passwd", "https://user:secret@host:1", "https://host:1?x=y", "gopher://host:1", "https://"} {
		ci.run("promote", "v1", "--servers", address).want(t, deployment.ExitUsage, "--servers")
	}
	if got := s.objects(); len(got) != 0 {
		t.Errorf("written: got %v, want nothing", got)
	}
}

// injectConfiguration: an agent does not start on names that lead elsewhere.
func injectConfiguration(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	check := func(what, name, head, apps string) {
		t.Helper()
		v := s.server("web-1", head, apps)
		for _, got := range []ran{v.once(), towline(t, nil, "config", "check", v.file)} {
			if got.code != deployment.ExitUsage {
				t.Errorf("%s %q: got %d, want 2:\n%s", what, name, got.code, got.out)
			}
		}
	}
	for _, name := range hostile {
		text, err := json.Marshal(name) // a JSON string is one of YAML
		s.must(err)
		check("app", name, trust(key), fmt.Sprintf("  web: {app: %s, dir: $srv/web}\n", text))
		check("key", name, trust(key), fmt.Sprintf("  %s: {dir: $srv/web}\n", text))
		check("environment", name, trust(key), fmt.Sprintf("  web: {environment: %s, dir: $srv/web}\n", text))
		if name != strings.Repeat("a", 600) {
			check("prefix", name, trust(key), fmt.Sprintf("  web: {prefix: %s, dir: $srv/web}\n", text))
		}
		check("label", name, trust(key)+fmt.Sprintf("labels: [%s]\n", text), oneApp)
	}
	for _, unit := range []string{"web", "../web.service", "web.service --now", "web.timer", "-.service\n"} {
		check("unit", unit, trust(key), fmt.Sprintf("  web: {dir: $srv/web, unit: %q}\n", unit))
	}
	for _, path := range []string{"../x", "/etc/passwd", "a/../../x", ".", "..", ""} {
		check("shared", path, trust(key), fmt.Sprintf("  web: {dir: $srv/web, shared: [%q]}\n", path))
	}
	for _, path := range []string{"srv/web", "/", "/srv/../etc", "/srv/./web"} {
		check("dir", path, trust(key), fmt.Sprintf("  web: {dir: %q}\n", path))
	}
	for _, path := range []string{"../version.json", "/version.json", "a/../version.json", "a//b", "a\x01b"} {
		check("pointer", path, "trust: none\n", fmt.Sprintf("  web: {dir: $srv/web, pointer: %q}\n", path))
	}
	for _, path := range []string{"/{hash}.tar.gz", "a/../{hash}.tar.gz", "{hash}", "app.tar.gz", "{hash}.sh"} {
		check("artifact", path, "trust: none\n", fmt.Sprintf("  web: {dir: $srv/web, artifact: %q}\n", path))
	}
}

// dsse signs any bytes as a pointer, as only somebody with the key and without the library does.
func dsse(t *testing.T, key pair, payload []byte) release.Envelope {
	t.Helper()
	seed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key.Private, "towline-secret-ed25519:"))
	if err != nil {
		t.Fatal(err)
	}
	message := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(release.PointerPayloadType), release.PointerPayloadType, len(payload), payload)
	signature := ed25519.Sign(ed25519.NewKeyFromSeed(seed), message)
	return release.Envelope{
		PayloadType: release.PointerPayloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []release.Signature{{KeyID: key.signer(t).Public().ID(), Sig: base64.StdEncoding.EncodeToString(signature)}},
	}
}

// injectSigned: even a well signed pointer leads only to the one key that its app, version and digest make.
func injectSigned(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	good := ci.released("v1")
	v := s.server("web-1", trust(key), oneApp)
	v.once().want(t, deployment.ExitOK, "deployed v1")
	s.put("web/secrets.tar.zst", []byte("x"))
	write := func(change func(*release.Pointer)) {
		p := opened(t, web, good)
		p.Seq, p.Prev = 2, strings.Repeat("0", 64)
		change(&p)
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		s.must(enc.Encode(p))
		s.put(web.pointer(), parsed{p.Release.Hash, p.Release.Msg, p.Release.Date, p.Seq, dsse(t, key, []byte(strings.TrimSuffix(b.String(), "\n")))}.file(t))
	}
	// The control: by this hand too a good pointer is good.
	write(func(*release.Pointer) {})
	v.once().want(t, deployment.ExitOK, "unchanged v1")
	refuse := func(say string, change func(*release.Pointer)) {
		t.Helper()
		write(change)
		v.refused(web, say)
	}
	for _, name := range append(hostile, "previous") {
		refuse("verification failed", func(p *release.Pointer) {
			p.Release.Hash = name
			p.Artifact.Key = release.ArtifactKey("web", name, p.Artifact.SHA256, p.Artifact.Format)
		})
		refuse("verification failed", func(p *release.Pointer) { p.App = name })
		refuse("verification failed", func(p *release.Pointer) { p.Environment = name })
		refuse("verification failed", func(p *release.Pointer) { p.Artifact.Key = name })
		refuse("verification failed", func(p *release.Pointer) {
			p.Artifact.Key = strings.Replace(p.Artifact.Key, "web/", name+"/", 1)
		})
	}
	for _, name := range []string{"web/secrets.tar.zst", "http://127.0.0.1/x.tar.zst", "web/production/version.json"} {
		refuse("want it named by version and digest", func(p *release.Pointer) { p.Artifact.Key = name })
	}
	refuse("verification failed", func(p *release.Pointer) { p.Artifact.SHA256 = strings.Repeat("../", 21) + "x" })
	refuse("verification failed", func(p *release.Pointer) { p.Artifact.Format = "tar+../../x" })
}

// injectPlain: the pointer of a shell script is not signed, and still leads to nothing but an artifact in the bucket.
func injectPlain(t *testing.T) {
	s := newSite(t)
	canary := filepath.Join(s.dir, "abcdefg.tar.gz")
	s.must(os.WriteFile(canary, []byte("not in the bucket"), 0o644))
	v := s.server("web-1", "trust: none\n", oneApp+"    pointer: site/version.json\n    artifact: \"../../{hash}.tar.gz\"\n")
	for _, name := range hostile {
		if name == strings.Repeat("a", 600) {
			name = strings.Repeat("a", 65)
		}
		text, err := json.Marshal(map[string]string{"hash": name, "msg": "x", "date": "y"})
		s.must(err)
		s.put("site/version.json", text)
		v.firstLook()().want(t, deployment.ExitRefused, "hash: version")
	}
	s.put("site/version.json", []byte(`{"hash":"abcdefg","msg":"x","date":"y"}`))
	got := v.once()
	if got.code == deployment.ExitOK || v.live("web") != "" || !strings.Contains(got.out, "../abcdefg.tar.gz") {
		t.Errorf("an artifact outside of the bucket: got %d, %q live:\n%s", got.code, v.live("web"), got.out)
	}
	if n := largest(filepath.Join(v.srv(), "web")); n > 0 {
		t.Errorf("read %d bytes from outside of the bucket", n)
	}
}

// injectLinks: a directory that serves as a bucket may hold links, to anywhere; they lead nowhere.
func injectLinks(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	good := ci.released("v1")
	v := s.server("web-1", trust(key), oneApp)
	v.once().want(t, deployment.ExitOK, "deployed v1")
	ci.released("v2")
	a := opened(t, web, s.get(web.pointer())).Artifact
	// Outside lies the very thing, so that only the way to it can be what is wrong.
	s.must(os.WriteFile(filepath.Join(s.dir, "artifact"), s.get(a.Key), 0o644))
	s.must(os.WriteFile(filepath.Join(s.dir, "pointer"), s.get(web.pointer()), 0o644))
	s.remove(a.Key)
	s.must(os.Symlink(filepath.Join(s.dir, "artifact"), s.path(a.Key)))
	before := v.footprint()
	if got := v.once(); got.code == deployment.ExitOK || v.live("web") != "v1" || live(v.footprint()) != live(before) {
		t.Errorf("an artifact behind a link: got %d, %q live:\n%s", got.code, v.live("web"), got.out)
	}
	s.remove(web.pointer())
	s.must(os.Symlink(filepath.Join(s.dir, "pointer"), s.path(web.pointer())))
	if got := v.once(); got.code == deployment.ExitOK || v.live("web") != "v1" {
		t.Errorf("a pointer behind a link: got %d, %q live:\n%s", got.code, v.live("web"), got.out)
	}
	s.remove(web.pointer())
	s.put(web.pointer(), good)
	if got := v.once(); got.code != deployment.ExitOK || v.live("web") != "v1" {
		t.Errorf("afterwards: got %d, %q live:\n%s", got.code, v.live("web"), got.out)
	}
}

// injectRedirects: an app cannot send the agent, which may reach what strangers may not, to another address.
func injectRedirects(t *testing.T) {
	var inner atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inner.Add(1) }))
	t.Cleanup(inside.Close)
	var away atomic.Bool
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Redirect(w, r, inside.URL+"/metadata", http.StatusFound)
		}
	}))
	t.Cleanup(app.Close)
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	v := s.server("web-1", trust(key), oneApp+"    health: {http: \""+app.URL+"\", within: 1s}\n")
	ci.released("v1")
	v.once().want(t, deployment.ExitOK, "deployed v1")
	away.Store(true)
	ci.released("v2")
	v.once().want(t, deployment.ExitUnwell, "which is not followed")
	if got := inner.Load(); got != 0 {
		t.Errorf("the probe went on to where the app sent it, %d times", got)
	}

	// Nor does a server that is pinged send the publisher, who carries a token, anywhere.
	away.Store(true)
	ci.run("promote", "v1", "--servers", app.URL, "--wait-timeout", "3s").want(t, deployment.ExitError)
	if got := inner.Load(); got != 0 {
		t.Errorf("the ping went on to where the server sent it, %d times", got)
	}
}
