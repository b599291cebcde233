package publish

import "github.com/towline/towline/internal/deployment"

// Tone is how a line is to be looked at. Where there are colours it is one; the words say the same without.
type Tone int

// The tones. Each is one of the sixteen colours that terminals and the page of a run on GitHub both show.
const (
	Plain   Tone = iota
	Good         // live and healthy
	Bad          // something failed
	Careful      // neither: held, superseded, skipped, nothing proven
	Faint        // beside the point: what the app wrote, what is still under way
	Name         // whose line it is
)

var colors = map[Tone]string{Good: "32", Bad: "31", Careful: "33", Faint: "90", Name: "36"}

// ToneOf is the tone of an outcome.
func ToneOf(o deployment.Outcome) Tone {
	switch o {
	case deployment.Deployed, deployment.Unchanged:
		return Good
	case deployment.Failed, deployment.RolledBack, deployment.Broken, deployment.TimedOut:
		return Bad
	}
	return Careful
}

// Paint puts text, which holds no control characters, into the colour of the tone.
func (t Tone) Paint(text string) string {
	if colors[t] == "" || text == "" {
		return text
	}
	return "\x1b[" + colors[t] + "m" + text + "\x1b[0m"
}
