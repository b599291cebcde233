package config

import (
	"errors"
	"strings"
	"testing"
)

// Files of secrets are absolute paths or the names of credentials, and nothing between.
func TestSecretFiles(t *testing.T) {
	const head = "server: web-1\nbucket: file:///b\nlisten: \":8422\"\ntrust: none\napps: {web: {}}\n"
	for name, good := range map[string]bool{
		"/etc/towline/token": true, "token": true, "web.key": true, "a_b-1": true,
		"./token": false, "../token": false, "etc/token": false, ".token": false, "..": false, "a:b": false, "a b": false,
		"/etc/../token": false, "/etc/token/": false, "${CREDENTIALS_DIRECTORY}/token": false,
	} {
		for _, line := range []string{
			"ping_token_file: " + name,
			"tls: {cert: \"" + name + "\", key: /k}", "tls: {cert: /c, key: \"" + name + "\"}",
			"credentials: {access_key_id_file: \"" + name + "\", secret_access_key_file: /s}",
			"credentials: {access_key_id_file: /a, secret_access_key_file: \"" + name + "\"}",
		} {
			s, err := Parse("agent.yaml", []byte(head+line+"\n"), "host")
			problem := new(Error)
			if (err == nil) != good || err != nil && (!errors.As(err, &problem) || problem.Problems[0].Line != 6) {
				t.Errorf("%s: got %v", line, err)
			}
			if good && !strings.Contains(s.PingToken+s.TLS.Cert+s.TLS.Key+s.Credentials.AccessKeyID+s.Credentials.SecretAccessKey, name) {
				t.Errorf("%s: got %+v", line, s)
			}
		}
	}
}

func TestSecretsInTheFileAreNotShown(t *testing.T) {
	const rest = "server: web-1\nbucket: file:///b\n"
	for _, text := range []string{
		"trust: {keys: [\"towline-secret-ed25519:CANARY+/=\"]}\napps: {web: {}}\n",
		"trust: none\napps: {web: {}}\nsecret_access_key: CANARY\n",
		"trust: none\napps: {web: {}}\ncredentials: {access_key_id: x, secret_access_key: \"CANARY with spaces\"}\n",
		"trust: none\napps: {web: {}}\nping_token: CANARY\n",
		"trust: none\napps: {web: {}}\nnotify: [{webhook: \"gopher://CANARY\"}]\n",
		"trust: none\napps: {web: {}}\nreceipts: s3://id:CANARY@bucket\n",
		"trust: none\napps: {web: {health: {http: \"http://user:CANARY@127.0.0.1/\", passes: 0}}}\n",
		"trust: none\napps: {web: {health: {http: \"http://user:CANARY@127.0.0.1/\"}}}\n",
	} {
		s, err := Parse("agent.yaml", []byte(rest+text), "host")
		shown := s.Effective()
		if err != nil {
			shown = err.Error()
		}
		if shown == "" || strings.Contains(shown, "CANARY") {
			t.Errorf("%s: got %s", text, shown)
		}
	}
	for line, want := range map[string]string{
		"ping_token_file: /etc/towline/token": "ping_token_file: /etc/towline/token",
		"  dir: /srv/web # https://x.example": "  dir: /srv/web # https://x.example",
		"secret: a, keep: 3":                  "secret: ***, keep: 3",
	} {
		if got := conceal(line); got != want {
			t.Errorf("conceal %q: got %q, want %q", line, got, want)
		}
	}
}
