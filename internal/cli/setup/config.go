package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/towline/towline/internal/config"
)

// What stands where a dry run does not know yet.
const (
	madeKey    = "ed25519:MADE WHEN IT IS WRITTEN"
	unknownPin = "MADE-WHEN-IT-IS-WRITTEN"
)

// agentYAML is the configuration, with what a person may want to change next in its comments.
func (s *session) agentYAML() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# What towline-agent does on this server. Written by `towline init`. After a change, `towline config check` says whether")
	line("# the file is right, and `systemctl reload towline-agent` makes the agent take it.")
	line("")
	line("server: %s    # its name in receipts and in the job's log", yamlText(s.Server))
	line("bucket: %s", yamlText(s.Bucket))
	if s.AccessKeyID != "" {
		line("credentials: {access_key_id_file: %s, secret_access_key_file: %s}", idFile, secretFile)
	} else if remote(s.Bucket) {
		line("# The bucket's key is found as the AWS SDK does. Or it lies in two files that belong to the agent's user, mode 0600:")
		line("#credentials: {access_key_id_file: %s, secret_access_key_file: %s}", idFile, secretFile)
	}
	line("")
	line("# Only releases that the private half of this key has signed run here. While keys are changed, two stand here.")
	line("trust:")
	line("  keys: [%s]", yamlText(s.result.Public))
	line("")
	if s.Listen != "" {
		line("# The port for pings. `towline init --config %s` prints this server's line for the workflow.", ConfigFile)
		line("listen: %s", yamlText(s.Listen))
	} else {
		line("# No port is open: a release is found within 30 seconds. With one, CI tells this server at once and shows live what it does:")
		line("# take the # away, let the port in, and put the line that `towline init --config %s` prints into the", ConfigFile)
		line("# workflow, as servers: in the place of expect-servers:.")
		line("#listen: \":8422\"")
	}
	line("")
	line("apps:")
	line("  %s:", yamlText(s.App))
	if s.Prefix != "" {
		line("    prefix: %s", yamlText(s.Prefix))
	}
	line("    environment: %s", yamlText(s.Environment))
	line("    dir: %s    # releases/, current -> the live one, shared/", yamlText("/srv/"+s.App))
	if s.Unit != "" {
		line("    unit: %s    # restarted with each release", yamlText(s.Unit))
	}
	if s.HTTP != "" {
		line("    health:")
		line("      http: %s    # answers 200, or the release before comes back", yamlText(s.HTTP))
		line("      #expect: \"{{hash}}\"    # and has the release's hash in the answer, which proves that it is not the old process")
	} else {
		line("    #health:")
		line("    #  http: http://127.0.0.1:3000/    # answers 200, or the release before comes back")
	}
	line("    #shared: [.env, data/]    # outlive every release: they lie in %s/shared", "/srv/"+s.App)
	line("    #hooks: {before-activate: [./bin/migrate]}    # runs as the app's user in the new release; if it fails, nothing is switched")
	return b.String()
}

// checkConfig reads the text as the agent will, and sees that it says what was answered.
func (s *session) checkConfig(text string) error {
	if s.PublicKey == "" { // a dry run's
		text = strings.ReplaceAll(text, madeKey, s.key.Public().String())
	}
	settings, err := config.Parse(ConfigFile, []byte(text), s.Host)
	if err != nil {
		return fmt.Errorf("the configuration would not be right: %w", err)
	}
	if len(settings.Apps) != 1 {
		return errors.New("the configuration would not have one app")
	}
	app := settings.Apps[0]
	for _, same := range [][2]string{
		{settings.Server, s.Server}, {settings.Bucket, s.Bucket}, {settings.Listen, s.Listen}, {app.Key, s.App},
		{app.Environment, s.Environment}, {app.Unit, s.Unit}, {app.Health.HTTP, s.HTTP},
	} {
		if same[0] != same[1] {
			return fmt.Errorf("the configuration would say %q for %q", same[0], same[1])
		}
	}
	return nil
}

// serverLine is this server's line for the action's input servers.
func (s *session) serverLine(pin string) string {
	_, port, _ := net.SplitHostPort(s.Listen)
	return s.Server + "=https://" + net.JoinHostPort(s.Address, port) + "#sha256=" + pin
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./=?&:@+~%#-]*$`)
	words     = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
)

// yamlText writes a text so that YAML reads that very text.
func yamlText(s string) string {
	if plainText.MatchString(s) && !strings.HasSuffix(s, ":") && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "''"
	}
	return strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(data))
}
