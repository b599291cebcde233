package cli

import (
	"fmt"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
)

// unknownGrant is the error of a name that the configuration does not have and that nothing was granted for.
func unknownGrant(settings config.Settings, name string) error {
	f := &fault{
		err:  fmt.Errorf("nothing was granted for an app %s, and %s has none of that name", name, settings.Path),
		code: deployment.ExitUnknown, what: "remove app " + name,
	}
	if near := nearest(settings, name); near != "" {
		f.hint = "did you mean " + near + "?"
	}
	return f
}

// nearest is the app of the configuration whose key looks like the name, "" when none does.
func nearest(settings config.Settings, name string) string {
	keys := make([]string, len(settings.Apps))
	for i, a := range settings.Apps {
		keys[i] = a.Key
	}
	return closest(name, keys)
}

// unknownApp is the error of a name that the configuration does not have.
func unknownApp(settings config.Settings, name string) error {
	f := &fault{err: fmt.Errorf("%s has no app %s", settings.Path, name), code: deployment.ExitUnknown, what: "add app " + name}
	if near := nearest(settings, name); near != "" {
		f.hint = "did you mean " + near + "?"
		return f
	}
	f.hint = byHand(name) + ", or have it written: towline app add " + name + " --unit " + name + ".service --http URL"
	return f
}

// byHand says what to write into the configuration for an app.
func byHand(name string) string {
	return fmt.Sprintf(`write it there, below apps:

  %s:
    unit: %s.service
    health:
      http: http://127.0.0.1:3000/

and run towline app add %s again`, name, name, name)
}
