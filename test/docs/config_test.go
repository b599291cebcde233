package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

var placeholder = regexp.MustCompile(`ed25519:[^"'\s\],]+(?: [A-Z ]+)?`)

// whole makes an agent's configuration of a block that may be a part of one: a key of its own for each that is to be filled in,
// and what every configuration must have.
func whole(t *testing.T, block string) string {
	t.Helper()
	keys := map[string]string{}
	block = placeholder.ReplaceAllStringFunc(block, func(s string) string {
		if keys[s] == "" {
			key, err := release.GenerateKey(nil)
			if err != nil {
				t.Fatal(err)
			}
			keys[s] = key.Public().String()
		}
		return keys[s]
	})
	for _, must := range []struct{ key, line string }{{"bucket", "bucket: s3://my-deploys"}, {"trust", "trust: none"}, {"server", "server: web-1"}} {
		if !regexp.MustCompile(`(?m)^` + must.key + `:`).MatchString(block) {
			block = must.line + "\n" + block
		}
	}
	return block
}

// configurations are the blocks of a document that are configurations of an agent, or parts of one with apps.
func configurations(d document) map[string]string {
	out := map[string]string{}
	for _, m := range fenced.FindAllStringSubmatchIndex(d.text, -1) {
		block := strings.ReplaceAll("\n"+d.text[m[6]:m[7]], "\n"+d.text[m[2]:m[3]], "\n")[1:] // it may stand in a list
		var keys map[string]any
		if language := d.text[m[4]:m[5]]; language != "yaml" || yaml.Unmarshal([]byte(block), &keys) != nil {
			continue
		}
		if _, ok := keys["apps"]; ok {
			out[fmt.Sprintf("%s:%d", d.path, 1+strings.Count(d.text[:m[0]], "\n"))] = block
		}
	}
	return out
}

func TestConfigurationsLoad(t *testing.T) {
	seen := 0
	for _, d := range documents(t) {
		for name, block := range configurations(d) {
			seen++
			file := filepath.Join(t.TempDir(), "agent.yaml")
			if err := os.WriteFile(file, []byte(whole(t, block)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d configurations were found", seen)
	}
}

// A configuration with a mistake is found and does not load.
func TestWrongConfigurationIsFound(t *testing.T) {
	d := document{"docs/x.md", "text\n```yaml\ntrust:\n  keys: [\"ed25519:…\"]\napps:\n  web: {uint: web.service}\n```\n```yaml\non: push\n```\n"}
	blocks := configurations(d)
	if len(blocks) != 1 || blocks["docs/x.md:2"] == "" {
		t.Fatalf("got %q, want the block of line 2", blocks)
	}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte(whole(t, blocks["docs/x.md:2"])), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(file); err == nil || !strings.Contains(fmt.Sprint(err), `unknown key "uint"`) {
		t.Errorf("got %v, want the unknown key", err)
	}
}
