package summary

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
)

const (
	maxLanes = 12 // servers in the timeline
	maxBars  = 12 // steps of one server in it
)

// timeline is a Mermaid chart of the run: a lane for the CI half, then one for each server. Times are milliseconds since
// the run began; the axis counts in whole seconds, or in milliseconds where all is over in a few seconds.
func timeline(r *publish.Result) string {
	if len(r.Phases) == 0 || r.Command == publish.Status {
		return ""
	}
	axis := "%s s"
	if r.Took.Seconds() < 5 {
		axis = "%Q ms"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "```mermaid\ngantt\n    dateFormat x\n    axisFormat %s\n    todayMarker off\n    section CI\n", axis)
	for _, p := range r.Phases {
		bar(&b, p.Name, "", p.StartMS, p.TookMS)
	}
	lanes := 0
	for _, s := range r.Servers {
		if len(s.Steps) == 0 {
			continue
		}
		if lanes++; lanes > maxLanes {
			break
		}
		fmt.Fprintf(&b, "    section %s\n", plain(cmp.Or(s.Name, s.URL)))
		for _, step := range s.Steps[:min(len(s.Steps), maxBars)] {
			state := "active, "
			if step.State == deployment.StepFail || step.Step == deployment.RollBack {
				state = "crit, "
			}
			bar(&b, string(step.Step), state, step.StartMS, step.TookMS)
		}
	}
	b.WriteString("```\n")
	return b.String()
}

func bar(b *strings.Builder, name, state string, start, took int64) {
	fmt.Fprintf(b, "    %s %s :%s%d, %d\n", name, millis(took), state, start, start+max(1, took))
}

// plain is a server's name or address without what Mermaid takes for a sign.
func plain(s string) string {
	_, host, ok := strings.Cut(s, "://")
	if ok {
		s = host
	}
	s = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return ' '
	}, s)
	return s[:min(len(s), 63)]
}
