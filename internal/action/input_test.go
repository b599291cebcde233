package action

import (
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/publish"
)

// nonsense is a value for each input that cannot be right, and what the run says of it.
var nonsense = map[string]struct {
	value string
	with  []string // further inputs and variables
	want  string
}{
	"app":                    {value: "My App", want: `input app: app "My App": want a lower-case letter or digit`},
	"path":                   {value: "no/such/dir", want: "no/such/dir"},
	"bucket":                 {value: "ftp://deploys", want: "input bucket: bucket \"ftp://deploys\": unknown scheme"},
	"command":                {value: "destroy", want: `input command: "destroy": want one of deploy, publish, promote, rollback, status`},
	"version":                {value: "v 1", want: "input version: "},
	"environment":            {value: "releases", want: "input environment: "},
	"prefix":                 {value: "../other", want: "input prefix: "},
	"aws-region":             {value: "Paris Nord", with: []string{"bucket", "s3://deploys"}, want: `"Paris Nord" is not a region`},
	"endpoint-url":           {value: "fra1.digitaloceanspaces.com", want: `input endpoint-url: "fra1.digitaloceanspaces.com": want an address such as https://`},
	"force-path-style":       {value: "maybe", want: `input force-path-style: "maybe": want true or false`},
	"role-to-assume":         {value: "deploys", want: `input role-to-assume: "deploys": want arn:aws:iam::ACCOUNT:role/NAME`},
	"include":                {value: "dist/[", want: "dist/["},
	"exclude":                {value: "{a,b", want: "{a,b"},
	"version-file":           {value: "../version.js", want: "version.js"},
	"compression":            {value: "lzma", want: `input compression: "lzma": want zstd[:level] or gzip[:level]`},
	"signing-key":            {value: "-----BEGIN PRIVATE KEY-----", want: "input signing-key: "},
	"trusted-keys":           {value: "ed25519:abc", want: "input trusted-keys: "},
	"trust":                  {value: "maybe", want: `input trust: "maybe": want one of signed, none`},
	"date":                   {value: "yesterday", want: `input date: "yesterday": want RFC 3339`},
	"expires-in":             {value: "90", want: `input expires-in: "90" has no unit`},
	"servers":                {value: "web-1.example.com:8422", want: "input servers: "},
	"wait":                   {value: "a little", want: `input wait: "a little": want true or false`},
	"wait-timeout":           {value: "soon", want: `input wait-timeout: "soon": want a time such as 90s`},
	"expect-servers":         {value: "web-1, web-2", want: "one name a line"},
	"on-superseded":          {value: "ignore", want: `input on-superseded: "ignore": want one of skip, fail`},
	"on-missing-credentials": {value: "ignore", want: `input on-missing-credentials: "ignore": want one of auto, skip, fail`},
	"deployment":             {value: "always", want: `input deployment: "always": want one of auto, create, adopt, off`},
	"environment-url":        {value: "javascript:alert(1)", want: "input environment-url: "},
	"summary":                {value: "short", want: `input summary: "short": want true or false`},
	"dry-run":                {value: "please", want: `input dry-run: "please": want true or false`},
	"ca-bundle":              {value: "no-such-file.pem", want: "input ca-bundle: "},
}

// free are the inputs that may hold anything.
var free = []string{"message", "reason", "ping-token", "github-token"}

// Every input refuses what cannot be right: exit 2, an error that names it, and nothing written.
func TestEveryInputRefusesNonsense(t *testing.T) {
	for _, in := range publish.Inputs() {
		bad, ok := nonsense[in.Name]
		if ok == slices.Contains(free, in.Name) {
			t.Errorf("%s: want it either among the free inputs or with a value that is refused", in.Name)
		}
		if !ok {
			continue
		}
		t.Run(in.Name, func(t *testing.T) {
			j := newJob(t)
			e := j.with(append(bad.with, in.Name, bad.value)...).run()
			if e.code != 2 || !strings.Contains(e.log, "::error::") || !strings.Contains(e.log, bad.want) || e.outputs["outcome"] != "failed" {
				t.Errorf("got exit %d, outcome %q, want 2 and %q:\n%s", e.code, e.outputs["outcome"], bad.want, e.log)
			}
			if got := j.objects(); len(got) > 0 {
				t.Errorf("written: %q", got)
			}
		})
	}
}

// What is refused because it would be shown is not shown by the refusal.
func TestRefusedAddressIsNotShown(t *testing.T) {
	for name, address := range map[string]string{
		"with a password": "https://ada:hunter22@web.example", "of another kind, with a password": "ftp://ada:hunter22@web.example",
		"without a host": "https://", "endless": "https://web.example/" + strings.Repeat("x", 40<<10),
	} {
		j := newJob(t)
		e := j.with("environment-url", address, "RUNNER_DEBUG", "1").run()
		if e.code != 2 || e.outputs["url"] != "" || len(e.outputs["report"]) > publish.MaxReport || !strings.Contains(e.log, "input environment-url: ") {
			t.Errorf("%s: got exit %d, url %.80q, a report of %d bytes", name, e.code, e.outputs["url"], len(e.outputs["report"]))
		}
		for what, text := range map[string]string{"log": e.raw, "summary": e.summary, "report": e.outputs["report"]} {
			if strings.Contains(text, "hunter22") {
				t.Errorf("%s: the %s shows the password:\n%s", name, what, text)
			}
		}
	}
}
