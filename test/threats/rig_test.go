package threats

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/agent"
	"github.com/towline/towline/internal/cli"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

// asAgent makes the test's own program the agent: the one thing that a test in this process cannot do is to be killed.
const asAgent = "TOWLINE_THREATS_AGENT"

func TestMain(m *testing.M) {
	if file := os.Getenv(asAgent); file != "" {
		os.Exit(agent.Run(context.Background(), agent.Options{Args: []string{"--config", file, "--once"}, Stdout: os.Stdout, Stderr: os.Stderr}))
	}
	os.Exit(m.Run())
}

// ran is what a program that has ended left.
type ran struct {
	code int
	out  string // standard output and error, in their order
}

// want demands the exit code and the words.
func (r ran) want(t *testing.T, code int, says ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code: got %d, want %d:\n%s", r.code, code, r.out)
	}
	for _, say := range says {
		if !strings.Contains(r.out, say) {
			t.Errorf("want %q said, got:\n%s", say, r.out)
		}
	}
}

// towline runs the command.
func towline(t *testing.T, env map[string]string, args ...string) ran {
	t.Helper()
	var out parts.Buffer
	code := cli.Main(t.Context(), cli.Env{
		Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Getenv: func(name string) string { return env[name] },
	})
	return ran{code, out.String()}
}

// pair is what towline keygen prints.
type pair struct {
	Public  string `json:"public"`
	Private string `json:"private"`
}

func keygen(t *testing.T) pair {
	t.Helper()
	var p pair
	got := towline(t, nil, "keygen", "--json")
	if err := json.Unmarshal([]byte(got.out), &p); err != nil || got.code != 0 {
		t.Fatalf("keygen: %d, %v", got.code, err)
	}
	return p
}

// signer is the pair's private half, in the hands of somebody who does without the command.
func (p pair) signer(t *testing.T) release.PrivateKey {
	t.Helper()
	key, err := release.ParsePrivateKey(p.Private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// site is a bucket in a directory, with room for servers beside it. Whoever holds a site may write all of its objects.
type site struct {
	t      *testing.T
	dir    string
	bucket string // URL, as publishers see it
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, bucket: "file://" + filepath.Join(dir, "bucket")}
	for _, d := range []string{"bucket", "srv", "app"} {
		s.must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) path(key string) string { return filepath.Join(s.dir, "bucket", key) }

func (s *site) get(key string) []byte {
	s.t.Helper()
	data, err := os.ReadFile(s.path(key))
	s.must(err)
	return data
}

// put writes an object now, whatever was there.
func (s *site) put(key string, data []byte) {
	s.t.Helper()
	s.must(os.MkdirAll(filepath.Dir(s.path(key)), 0o755))
	s.must(os.WriteFile(s.path(key), data, 0o644))
}

// putAt writes an object with a Last-Modified of the attacker's choice.
func (s *site) putAt(key string, data []byte, modified time.Time) {
	s.t.Helper()
	s.put(key, data)
	s.must(os.Chtimes(s.path(key), modified, modified))
}

func (s *site) remove(key string) {
	s.t.Helper()
	s.must(os.Remove(s.path(key)))
}

func (s *site) modified(key string) time.Time {
	s.t.Helper()
	info, err := os.Stat(s.path(key))
	s.must(err)
	return info.ModTime()
}

// objects is the content of everything in the bucket but what servers write.
func (s *site) objects() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	s.must(filepath.WalkDir(s.path(""), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "/receipts/") || strings.Contains(path, "/.towline") {
			return err
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, s.path("")+"/")] = string(data)
		return err
	}))
	return out
}

// object is the key of the one object that begins and ends so.
func (s *site) object(begin, end string) string {
	s.t.Helper()
	found := ""
	for key := range s.objects() {
		if strings.HasPrefix(key, begin) && strings.HasSuffix(key, end) {
			if found != "" {
				s.t.Fatalf("%s and %s both begin with %s", found, key, begin)
			}
			found = key
		}
	}
	if found == "" {
		s.t.Fatalf("no object %s…%s", begin, end)
	}
	return found
}

// track is one environment of one app.
type track struct{ app, environment, prefix string }

var web = track{"web", "production", "web"}

func (k track) pointer() string            { return release.PointerKey(k.prefix, k.environment) }
func (k track) history(seq uint64) string  { return release.HistoryKey(k.prefix, k.environment, seq) }
func (k track) receipt(name string) string { return release.ReceiptKey(k.prefix, k.environment, name) }
func (k track) want() release.Want {
	return release.Want{App: k.app, Environment: k.environment, Prefix: k.prefix}
}

// publisher is somebody with the command, write access to the bucket, and perhaps a key.
type publisher struct {
	*site
	track
	env   map[string]string
	flags []string
}

// publisher makes one who signs with all of the keys.
func (s *site) publisher(k track, keys ...pair) *publisher {
	var secrets []string
	for _, p := range keys {
		secrets = append(secrets, p.Private)
	}
	return &publisher{site: s, track: k, env: map[string]string{"TOWLINE_SIGNING_KEY": strings.Join(secrets, "\n")}}
}

// with is the same somebody, at another environment.
func (p *publisher) with(k track) *publisher { return &publisher{p.site, k, p.env, p.flags} }

// run runs a verb on the bucket.
func (p *publisher) run(verb string, args ...string) ran {
	p.t.Helper()
	all := []string{verb, "--app", p.track.app, "--environment", p.environment, "--prefix", p.prefix, "--bucket", p.bucket}
	return towline(p.t, p.env, slices.Concat(all, p.flags, args)...)
}

// date is that of every release.
const date = "2026-11-23T13:06:43Z"

// app is a directory with a release of the app, whose one file holds the version.
func (p *publisher) app(version string) string {
	p.t.Helper()
	dir := filepath.Join(p.dir, "app", p.track.app+"-"+version)
	p.must(os.MkdirAll(dir, 0o755))
	p.must(os.WriteFile(filepath.Join(dir, "index.html"), []byte(version), 0o644))
	return dir
}

// upload puts a release into the bucket and leaves the pointer alone.
func (p *publisher) upload(version string) ran {
	p.t.Helper()
	return p.run("publish", "--path", p.app(version), "--version", version, "--message", "Make "+version, "--date", date)
}

// publish makes a release and moves the pointer to it.
func (p *publisher) publish(version string, args ...string) ran {
	p.t.Helper()
	return p.run("publish", append([]string{"--promote", "--path", p.app(version), "--version", version, "--message", "Make " + version,
		"--date", date}, args...)...)
}

// released publishes, which must work, and returns the pointer.
func (p *publisher) released(version string, args ...string) []byte {
	p.t.Helper()
	p.publish(version, args...).want(p.t, deployment.ExitOK)
	return p.get(p.track.pointer())
}

// opened reads the pointer without asking who signed it.
func opened(t *testing.T, k track, file []byte) release.Pointer {
	t.Helper()
	v, err := release.NoTrust().Pointer(file, k.want())
	if err != nil {
		t.Fatal(err)
	}
	return v.Pointer()
}

// sign makes a pointer's file.
func sign(t *testing.T, p release.Pointer, keys ...release.PrivateKey) []byte {
	t.Helper()
	file, err := release.SignPointer(p, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
