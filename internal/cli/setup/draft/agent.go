// Package draft has the texts that the guided init writes: the agent's configuration, and the workflow for one kind of
// project. What can be told from the files of a checkout, Detect and Inspect tell.
package draft

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Where the server's half lies. The names are the ones that the documents, the unit and the package use.
const (
	ConfigDir  = "/etc/towline"
	ConfigFile = ConfigDir + "/agent.yaml"
	IDFile     = ConfigDir + "/access-key-id"
	SecretFile = ConfigDir + "/secret-access-key"
)

// Facts are what the texts say. They have been checked.
type Facts struct {
	App, Environment, Prefix string // Prefix is empty where it is the app's name
	Bucket                   string // URL
	Server                   string // its name
	Servers                  string // its line for the action's input of this name; empty: it is not pinged
	PublicKey                string
	Credentials              bool   // the bucket's key lies in IDFile and SecretFile
	Listen, Unit, HTTP       string // empty: none
	Branch                   string
	Project                  Project
}

// Remote reports whether a bucket is a store that wants a key.
func Remote(bucket string) bool { return bucket != "" && !strings.HasPrefix(bucket, "file:") }

// Agent is the configuration, with what a person may want to change next in its comments.
func Agent(f Facts) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# What towline-agent does on this server. Written by `towline init`. After a change, `towline config check` says whether")
	line("# the file is right, and `systemctl reload towline-agent` makes the agent take it.")
	line("")
	line("server: %s    # its name in receipts and in the job's log", YAML(f.Server))
	line("bucket: %s", YAML(f.Bucket))
	if f.Credentials {
		line("credentials: {access_key_id_file: %s, secret_access_key_file: %s}", IDFile, SecretFile)
	} else if Remote(f.Bucket) {
		line("# The bucket's key is found as the AWS SDK does. Or it lies in two files that belong to the agent's user, mode 0600:")
		line("#credentials: {access_key_id_file: %s, secret_access_key_file: %s}", IDFile, SecretFile)
	}
	line("")
	line("# Only releases that the private half of this key has signed run here. While keys are changed, two stand here.")
	line("trust:")
	line("  keys: [%s]", YAML(f.PublicKey))
	line("")
	if f.Listen != "" {
		line("# The port for pings. `towline init --config %s` prints this server's line for the workflow.", ConfigFile)
		line("listen: %s", YAML(f.Listen))
	} else {
		line("# No port is open: a release is found within 30 seconds. With one, CI tells this server at once and shows live what it does:")
		line("# take the # away, let the port in, and put the line that `towline init --config %s` prints into the", ConfigFile)
		line("# workflow, as servers: in the place of expect-servers:.")
		line("#listen: \":8422\"")
	}
	line("")
	line("apps:")
	line("  %s:", YAML(f.App))
	if f.Prefix != "" {
		line("    prefix: %s", YAML(f.Prefix))
	}
	line("    environment: %s", YAML(f.Environment))
	line("    dir: %s    # releases/, current -> the live one, shared/", YAML("/srv/"+f.App))
	if f.Unit != "" {
		line("    unit: %s    # restarted with each release", YAML(f.Unit))
	}
	if f.HTTP != "" {
		line("    health:")
		line("      http: %s    # answers 200, or the release before comes back", YAML(f.HTTP))
		line("      #expect: \"{{hash}}\"    # and has the release's hash in the answer, which proves that it is not the old process")
	} else {
		line("    #health:")
		line("    #  http: http://127.0.0.1:3000/    # answers 200, or the release before comes back")
	}
	line("    #shared: [.env, data/]    # outlive every release: they lie in %s/shared", "/srv/"+f.App)
	line("    #hooks: {before-activate: [./bin/migrate]}    # runs as the app's user in the new release; if it fails, nothing is switched")
	return b.String()
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./=?&:@+~%#-]*$`)
	words     = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
)

// YAML writes a text so that YAML reads that very text.
func YAML(s string) string {
	if plainText.MatchString(s) && !strings.HasSuffix(s, ":") && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "''"
	}
	return strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(data))
}
