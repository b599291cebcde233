package setup

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/setup/prompt"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

var update = flag.Bool("update", false, "write the dialogues of testdata")

// screen shows what a terminal does: the questions, and after each what is typed, unless it is a secret.
type screen struct {
	bytes.Buffer
	typed []string
}

func (s *screen) Write(text []byte) (int, error) {
	_, _ = s.Buffer.Write(text)
	if bytes.HasSuffix(text, []byte(": ")) || bytes.HasSuffix(text, []byte("[Y/n] ")) {
		if len(s.typed) > 0 {
			if !bytes.HasPrefix(text, []byte("secret")) {
				s.WriteString(s.typed[0])
			}
			s.typed = s.typed[1:]
		}
		s.WriteString("\n")
	}
	return len(text), nil
}

// world is a server, or with euid 1000 a laptop, at which these lines are typed.
func world(t *testing.T, euid int, lines ...string) (World, *screen) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc/towline", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	out := &screen{typed: lines}
	in := strings.Join(lines, "\n")
	if len(lines) > 0 {
		in += "\n"
	}
	return World{
		In: strings.NewReader(in), Out: out, Terminal: true, Root: root, Euid: euid, Host: "Web-1", Dir: filepath.Join(root, "nodeapi"),
		Getenv:    func(string) string { return "" },
		Addresses: func() []string { return []string{"203.0.113.7"} },
		Account:   func(string) (uid, gid int, err error) { return os.Getuid(), os.Getgid(), nil },
		Check: func(context.Context, bucket.Options, string) Look {
			return Look{Level: "ok", Text: "it answers and may be read; nothing is published yet"}
		},
	}, out
}

// everything is all that a person at a server may have to answer, with some mistakes on the way.
var everything = []string{
	"Node API", "", // app
	"ruby", "node",
	"my-deploys", "https://my-deploys.fra1.digitaloceanspaces.com",
	"s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com",
	"", // environment
	"", // server
	"DO00EXAMPLE",
	"", "sEcret/of+the=key",
	"99999", "8422",
	"127.0.0.1", "",
	"", // unit
	"node server.js", "/usr/bin/node server.js",
	"3000", "http://127.0.0.1:3000/version",
	"https://github.com/acme/web.git",
	"towline-secret-ed25519:AAAA", "", // public key
	"maybe", "y",
}

var privateKey = regexp.MustCompile(`towline-secret-ed25519:[A-Za-z0-9+/]{43}=`)

var masks = []struct {
	what *regexp.Regexp
	with string
}{
	{privateKey, "towline-secret-ed25519:PRIVATE"},
	{regexp.MustCompile(`ed25519:[A-Za-z0-9+/]{43}=`), "ed25519:PUBLIC"},
	{regexp.MustCompile(`sha256=[0-9a-f]{64}`), "sha256=PIN"},
}

// golden compares a dialogue with the one in testdata, which is there to be read.
func golden(t *testing.T, name string, w World, got string) {
	t.Helper()
	got = strings.ReplaceAll(got, w.Root, "")
	for _, m := range masks {
		got = m.what.ReplaceAllString(got, m.with)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is another now; got\n%s\nrun with -update and look at it", file, got)
	}
}

// tree is every file below dir, with its text.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestServerDialogue(t *testing.T) {
	w, out := world(t, 0, everything...)
	result, err := Run(t.Context(), w, Flags{})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	golden(t, "server.txt", w, out.String())
	if n := strings.Count(out.String(), result.Private); n != 1 || !strings.HasPrefix(result.Private, "towline-secret-ed25519:") {
		t.Errorf("the private key is printed %d times, want once", n)
	}
	files := tree(t, w.Root)
	for path, text := range files {
		if privateKey.MatchString(text) {
			t.Errorf("%s has the private key in it", path)
		}
	}
	if got := files["etc/towline/access-key-id"] + files["etc/towline/secret-access-key"]; got != "DO00EXAMPLE\nsEcret/of+the=key\n" {
		t.Errorf("got key %q", got)
	}
	if strings.Contains(out.String(), "sEcret") {
		t.Error("the secret is shown")
	}
	for name, mode := range map[string]fs.FileMode{"access-key-id": 0o600, "secret-access-key": 0o600, "agent.yaml": 0o640} {
		if info, err := os.Stat(w.Root + "/etc/towline/" + name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: got %v, %v, want mode %o", name, info.Mode(), err, mode)
		}
	}
	s, err := config.Parse("agent.yaml", []byte(files["etc/towline/agent.yaml"]), "host")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Apps[0]; s.Server != "web-1" || s.Listen != ":8422" || got.Unit != "nodeapi.service" || got.Health.HTTP != "http://127.0.0.1:3000/version" {
		t.Errorf("got %s", s.Effective())
	}
}

// A server without anything that may be left out: no port, no unit, no key of its own.
func TestServerDialogueByEnter(t *testing.T) {
	w, out := world(t, 0, "site", "static", "file:///srv/bucket", "", "", "", "", "", "", "", "")
	if _, err := Run(t.Context(), w, Flags{}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	golden(t, "enter.txt", w, out.String())
}

func TestLaptopDialogue(t *testing.T) {
	w, out := world(t, 1000, "", "go", "s3://my-deploys?region=eu-central-1", "", "web-2", "acme/web", "")
	if _, err := Run(t.Context(), w, Flags{}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	golden(t, "laptop.txt", w, out.String())
	if files := tree(t, w.Root); len(files) != 0 {
		t.Errorf("got files %v, want none: there is no checkout", files)
	}
}

// Wherever the input ends, nothing is written, not even the certificate.
func TestEndOfInputWritesNothing(t *testing.T) {
	for n := range everything {
		w, out := world(t, 0, everything[:n]...)
		_, err := Run(t.Context(), w, Flags{})
		if wrong := (*UsageError)(nil); !errors.As(err, &wrong) || !errors.Is(err, prompt.ErrEnded) {
			t.Errorf("after %d lines: got %v, want that the input has ended", n, err)
		}
		if files := tree(t, w.Root); len(files) != 0 || privateKey.Match(out.Bytes()) {
			t.Errorf("after %d lines: got files %v and\n%s", n, files, out)
		}
	}
}

// interrupting ends the context when a question was put.
type interrupting struct {
	*screen
	at     string
	cancel func()
}

func (i interrupting) Write(text []byte) (int, error) {
	if strings.HasPrefix(string(text), i.at) {
		i.cancel()
	}
	return i.screen.Write(text)
}

func TestInterruptWritesNothing(t *testing.T) {
	for _, at := range []string{"app", "secret access key", "public key", "\nLooking at the bucket", "\nWrite these?"} {
		w, out := world(t, 0, everything...)
		ctx, cancel := context.WithCancel(t.Context())
		w.Out = interrupting{out, at, cancel}
		_, err := Run(ctx, w, Flags{})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at %q: got %v, want canceled", at, err)
		}
		if files := tree(t, w.Root); len(files) != 0 || privateKey.Match(out.Bytes()) {
			t.Errorf("at %q: got files %v and\n%s", at, files, out)
		}
	}
}

func TestDeclined(t *testing.T) {
	lines := append(append([]string{}, everything[:len(everything)-2]...), "n")
	w, out := world(t, 0, lines...)
	if _, err := Run(t.Context(), w, Flags{}); !errors.Is(err, ErrDeclined) {
		t.Errorf("got %v, want declined", err)
	}
	if files := tree(t, w.Root); len(files) != 0 {
		t.Errorf("got files %v, want none", files)
	}
	want := "towline init --app nodeapi --kind node --bucket 's3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com' " +
		"--environment production --server web-1 --access-key-id DO00EXAMPLE --listen :8422 --address 203.0.113.7 --unit nodeapi.service " +
		"--exec '/usr/bin/node server.js' --http http://127.0.0.1:3000/version --repository acme/web\n"
	if !strings.Contains(out.String(), want) || privateKey.Match(out.Bytes()) {
		t.Errorf("got\n%s\nwant %s", out, want)
	}
}

// What is in the way is said before the first question, and stays as it is.
func TestInTheWay(t *testing.T) {
	w, out := world(t, 0, everything...)
	path := w.Root + "/etc/towline/agent.yaml"
	if err := os.WriteFile(path, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), w, Flags{})
	if wrong := (*UsageError)(nil); !errors.As(err, &wrong) || wrong.Error() != "/etc/towline/agent.yaml is there already" || out.Len() > 0 {
		t.Errorf("got %v and %q, want a refusal and no question", err, out)
	}
	if _, err = Run(t.Context(), w, Flags{Force: true}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path + ".bak"); err != nil || string(text) != "mine\n" {
		t.Errorf("got %q, %v, want what was there", text, err)
	}
}

// A flag's mistake is said before the first question too.
func TestFlagsAreCheckedFirst(t *testing.T) {
	for flag, value := range map[string]string{"app": "A", "http": "x", "listen": "x", "address": "https://web-1", "secret-access-key-file": "/nowhere",
		"kind": "ruby", "public-key": "x", "unit": "a b", "environment": "releases", "server": "..", "repository": "x"} {
		w, out := world(t, 0, everything...)
		_, err := Run(t.Context(), w, Flags{Given: map[string]string{flag: value}})
		if wrong := (*UsageError)(nil); !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), "--"+flag+": ") || out.Len() > 0 {
			t.Errorf("--%s %s: got %v and %q, want a refusal that names it and no question", flag, value, err, out)
		}
	}
	w, _ := world(t, 1000)
	if _, err := Run(t.Context(), w, Flags{Given: map[string]string{"unit": "web.service"}}); err == nil || !strings.Contains(err.Error(), "on the server only") {
		t.Errorf("got %v for a server's flag on a laptop", err)
	}
	if _, err := Run(t.Context(), w, Flags{Half: "both"}); err == nil || !strings.Contains(err.Error(), "only root") {
		t.Errorf("got %v for a server's half without root", err)
	}
}

// With what is required nothing is asked, though somebody could be.
func TestFlagsSuffice(t *testing.T) {
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w, out := world(t, 0)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("sEcret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := Run(t.Context(), w, Flags{Half: "agent", Given: map[string]string{"app": "web", "bucket": "s3://my-deploys?region=x1",
		"access-key-id": "AKIA", "secret-access-key-file": secret, "public-key": key.Public().String()}})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if result.Private != "" || result.Expect != "web-1" || len(result.Files) != 3 || result.Workflow != "" {
		t.Errorf("got %+v, want three files, no key and no workflow", result)
	}
	if strings.Contains(out.String(), "Write these?") || privateKey.Match(out.Bytes()) {
		t.Errorf("got a question, or a key:\n%s", out)
	}
}

// What a look at a real store says.
func TestLookAt(t *testing.T) {
	s3 := parts.S3(t)
	url := s3.URL(s3.Bucket(t, "my-deploys"))
	options := func(change func(*bucket.Options)) bucket.Options {
		o := bucket.Options{URL: url, AccessKeyID: s3.AccessKey, SecretAccessKey: s3.SecretKey}
		change(&o)
		return o
	}
	for _, c := range []struct {
		name, want string
		change     func(*bucket.Options)
	}{
		{"right", "ok: it answers and may be read; nothing is published yet", func(*bucket.Options) {}},
		{"wrong secret", "check the key's id and secret", func(o *bucket.Options) { o.SecretAccessKey = "wrong" }},
		{"no such bucket", "check the bucket's name and region", func(o *bucket.Options) { o.URL = strings.Replace(o.URL, "my-deploys", "other", 1) }},
		{"nobody there", "check the endpoint's address", func(o *bucket.Options) { o.URL = "s3://my-deploys?region=x1&endpoint=http://127.0.0.1:1" }},
		{"no key", "give the key with --access-key-id", func(o *bucket.Options) { o.AccessKeyID, o.SecretAccessKey = "", "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("AWS_CONFIG_FILE", "/dev/null")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
			o := options(c.change)
			got := LookAt(t.Context(), o, "web/production/version.json").String()
			if !strings.Contains(got, c.want) || strings.Contains(got, s3.SecretKey) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if strings.HasPrefix(got, "ok") != (c.name == "right") {
				t.Errorf("got %q", got)
			}
		})
	}
}
