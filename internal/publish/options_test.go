package publish

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/release"
)

func parse(t *testing.T, pairs ...string) (Options, error) {
	t.Helper()
	s := newSite(t).with(pairs...)
	return Parse(func(name string) string { return s.inputs[name] })
}

func TestParse(t *testing.T) {
	pin := strings.Repeat("AB", 32)
	o, err := parse(t,
		"servers", "  # the two\n\nweb-1=https://one.example:8422#sha256="+pin+"   # rack 1\nhttps://two.example/agent/\n",
		"include", "dist\n# not these\nassets/#1.png", "expires-in", "1d12h", "wait-timeout", "90s", "wait", "No", "force-path-style", "1",
		"expect-servers", "b\na\nb")
	if err != nil {
		t.Fatal(err)
	}
	want := []Server{{"web-1", "https://one.example:8422", strings.ToLower(pin)}, {"", "https://two.example/agent", ""}}
	if !reflect.DeepEqual(o.Servers, want) {
		t.Errorf("servers: got %+v, want %+v", o.Servers, want)
	}
	if want := []string{"dist", "assets/#1.png"}; !slices.Equal(o.Include, want) {
		t.Errorf("include: got %q, want %q", o.Include, want)
	}
	if o.ExpiresIn != 36*time.Hour || o.WaitTimeout != 90*time.Second || o.Wait || o.PathStyle == nil || !*o.PathStyle {
		t.Errorf("got %v, %v, %v, %v", o.ExpiresIn, o.WaitTimeout, o.Wait, o.PathStyle)
	}
	if !slices.Equal(o.ExpectServers, []string{"a", "b"}) {
		t.Errorf("expect-servers: got %q", o.ExpectServers)
	}
	if o.Command != Deploy || o.Environment != "production" || o.Prefix != "web" || o.ExpiresIn == 90*24*time.Hour || !o.Summary || o.DryRun || o.GitHubToken != "" {
		t.Errorf("defaults: got %+v", o)
	}
	if o, err := parse(t, "command", "rollback", "path", ""); err != nil || o.Version != "previous" {
		t.Errorf("rollback: got version %q, %v, want previous", o.Version, err)
	}
}

// reveal is a private key made of a letter.
func reveal(letter string) string {
	key, err := release.GenerateKey(strings.NewReader(strings.Repeat(letter, 32)))
	if err != nil {
		panic(err)
	}
	return key.Reveal()
}

func TestSeveralKeysSignTogether(t *testing.T) {
	s := newSite(t).with("signing-key", reveal("j")+"\n"+reveal("k")+"\n")
	s.must(commit(1))
	o, err := Parse(func(name string) string { return s.inputs[name] })
	if err != nil {
		t.Fatal(err)
	}
	both, err := release.NewTrust([]release.PublicKey{o.Keys[0].Public(), o.Keys[1].Public()}, 2)
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := s.bucket.Get(t.Context(), release.PointerKey("web", "production"), maxObject)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Pointer(file, release.Want{App: "web", Environment: "production", Prefix: "web"}); err != nil {
		t.Errorf("got %v, want both signatures", err)
	}
}

func TestParseTellsWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"app", ""}, "input app: required: name of the app"},
		{[]string{"app", "Web"}, `input app: app "Web": want a lower-case letter`},
		{[]string{"path", ""}, "input path: required"},
		{[]string{"bucket", " "}, "input bucket: required"},
		{[]string{"command", "install"}, `input command: "install": want one of deploy, publish`},
		{[]string{"environment", "releases"}, "the name is taken"},
		{[]string{"prefix", "/web"}, "no slash at either end"},
		{[]string{"version", "a b"}, `input version: version "a b"`},
		{[]string{"version", "previous"}, "it goes with command promote or rollback"},
		{[]string{"wait", "maybe"}, `input wait: "maybe": want true or false`},
		{[]string{"wait-timeout", "600"}, `input wait-timeout: "600" has no unit: write 600s`},
		{[]string{"wait-timeout", "soon"}, "want a time such as 90s"},
		{[]string{"expires-in", "-1h"}, "want a time such as 90s"},
		{[]string{"expires-in", "xd"}, "want a time such as 90s"},
		{[]string{"date", "yesterday"}, "want RFC 3339"},
		{[]string{"compression", "xz"}, "want zstd[:level] or gzip[:level]"},
		{[]string{"endpoint-url", "fra1.example.com"}, "want an address such as"},
		{[]string{"signing-key", ""}, "towline keygen"},
		{[]string{"signing-key", "hunter2"}, "input signing-key: signing key: want"},
		{[]string{"signing-key", reveal("k") + "\nhunter2"}, "input signing-key: signing key: want"},
		{[]string{"signing-key", reveal("k") + "\n" + reveal("k")}, "input signing-key: the same key twice: ed25519:"},
		{[]string{"trusted-keys", "x"}, "input trusted-keys: public key"},
		{[]string{"trust", "none"}, "does not go with keys"},
		{[]string{"trust", "no"}, "want one of signed, none"},
		{[]string{"servers", "one.example:8422"}, "want [name=]https://host:8422"},
		{[]string{"servers", "Web=https://one.example"}, `server "Web"`},
		{[]string{"servers", "https://one.example#sha256=12"}, "64 hex digits"},
		{[]string{"servers", "http://one.example#sha256=" + strings.Repeat("ab", 32)}, "a pin needs https://"},
		{[]string{"servers", "https://u:p@one.example"}, "neither user nor query"},
		{[]string{"servers", "a=https://one.example\na=https://two.example"}, "named twice"},
		{[]string{"expect-servers", "a, b"}, "one name a line"},
		{[]string{"on-superseded", "ignore"}, "want one of skip, fail"},
	} {
		_, err := parse(t, tt.pairs...)
		var usage *UsageError
		if !errors.As(err, &usage) || len(usage.Problems) != 1 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want one problem with %q", tt.pairs, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestParseTellsEverythingAtOnce(t *testing.T) {
	_, err := parse(t, "app", "", "bucket", "", "wait", "x", "signing-key", "")
	var usage *UsageError
	if !errors.As(err, &usage) || len(usage.Problems) != 4 {
		t.Errorf("got %v, want four problems", err)
	}
	if usage.OnlyCredentials() {
		t.Error("OnlyCredentials: got true beside other problems")
	}
	if _, err := parse(t, "signing-key", ""); !errors.As(err, &usage) || !usage.OnlyCredentials() {
		t.Errorf("OnlyCredentials: got false for %v", err)
	}
}

func TestUnknownInputs(t *testing.T) {
	err := CheckUnknown([]string{"app", "sevice", "servrs", "signing_key", "agent-url"})
	want := "input \"sevice\": there is no such input\n" +
		"input \"servrs\": there is no such input; did you mean servers?\n" +
		"input \"signing_key\": there is no such input; did you mean signing-key?\n" +
		"input \"agent-url\": there is no such input"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var names []string
	for _, in := range Inputs() {
		names = append(names, in.Name)
	}
	if err := CheckUnknown(names); err != nil {
		t.Errorf("all known ones: got %v", err)
	}
}

func TestDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-c]{0,6}`)
		a, b, c := word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c")
		if got := distance(a, a); got != 0 {
			t.Errorf("distance to itself: got %d", got)
		}
		if distance(a, b) != distance(b, a) {
			t.Errorf("%q, %q: not symmetric", a, b)
		}
		if distance(a, c) > distance(a, b)+distance(b, c) {
			t.Errorf("%q, %q, %q: a detour is shorter", a, b, c)
		}
	})
}
