package packaging

import (
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

// example is agent.yaml.example with what is in capitals filled in.
func example(t *testing.T) string {
	t.Helper()
	private, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, root+"/packaging/agent.yaml.example")
	for placeholder, value := range map[string]string{
		"MYBUCKET": "my-deploys", "REGION": "eu-central-1", "PUBLICKEY": private.Public().String(), "MYAPP": "shop", "SECRET": "x",
	} {
		if !strings.Contains(text, placeholder) {
			t.Errorf("got no %s to fill in", placeholder)
		}
		text = strings.ReplaceAll(text, placeholder, value)
	}
	return text
}

// The example is a configuration as it stands, and with everything that is commented out in it.
func TestExample(t *testing.T) {
	text := example(t)
	s, err := config.Parse("agent.yaml", []byte(text), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Bucket+" "+s.Apps[0].Key+" "+s.Apps[0].Unit+" "+s.Apps[0].Health.HTTP,
		"s3://my-deploys?region=eu-central-1 shop shop.service http://127.0.0.1:3000/"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	option := regexp.MustCompile(`(?m)^( *)#( *(?:- )?[a-z_-]+:)`)                     // prose has a blank after the #, and no key
	text = strings.Replace(text, "#ping_token_file: /etc/towline/ping-token\n", "", 1) // for trust: none alone
	all := option.ReplaceAllString(text, "$1$2")
	if left := regexp.MustCompile(`(?m)^ *#[^ \n]+`).FindString(all); left != "" {
		t.Errorf("got %q, which is neither prose nor an option", left)
	}
	full, err := config.Parse("agent.yaml", []byte(all), "other")
	if err != nil {
		t.Fatal(err)
	}
	app := full.Apps[0]
	if full.Listen != ":8422" || len(full.Notify) != 1 || len(app.Shared) != 2 || app.Hooks.AfterHealthy == nil || app.Health.Expect == "" {
		t.Errorf("got %+v, want every option in it", full)
	}
	// What is shown as a default is the default.
	if full.Poll != s.Poll || full.State != s.State || full.Socket != s.Socket || app.Keep != s.Apps[0].Keep || app.Dir != s.Apps[0].Dir ||
		app.Health.Within != s.Apps[0].Health.Within || app.Health.Stable != s.Apps[0].Health.Stable || app.Pointer != s.Apps[0].Pointer {
		t.Errorf("got %+v\nwant the defaults of %+v", full, s)
	}
}

// Every key that the configuration knows is in it.
func TestExampleShowsEveryKey(t *testing.T) {
	text, form := example(t), read(t, root+"/internal/config/form.go")
	keys := regexp.MustCompile("yaml:\"([a-z_-]{2,})").FindAllStringSubmatch(form, -1)
	for _, key := range keys {
		if !regexp.MustCompile(`\b` + key[1] + `:`).MatchString(text) {
			t.Errorf("got no key %s:", key[1])
		}
	}
	if len(keys) < 40 {
		t.Errorf("got %d keys in form.go, want at least 40", len(keys))
	}
}
