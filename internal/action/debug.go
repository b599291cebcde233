package action

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// debug tells, where debug logging is on, what this is and what it was given. Of secrets it says that they are there.
func (f *face) debug(o publish.Options) {
	f.log.Debug(fmt.Sprintf("towline-action %s (%s, %s/%s)", release.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH))
	for _, in := range publish.Inputs() {
		switch value := f.input(in.Name); {
		case value == "" || value == in.Default:
		case in.Secret:
			f.log.Debug(fmt.Sprintf("input %s: given", in.Name))
		default:
			f.log.Debug(fmt.Sprintf("input %s: %s", in.Name, strings.Join(strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")))
		}
	}
	for _, key := range o.Keys {
		f.log.Debug("signs with " + key.Public().String())
	}
	for _, name := range []string{"GITHUB_SHA", "GITHUB_REF", "GITHUB_EVENT_NAME", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_API_URL", "AWS_REGION", "AWS_ENDPOINT_URL"} {
		if value := f.env[name]; value != "" {
			f.log.Debug(name + ": " + value)
		}
	}
}
