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

// ticks are the distances that marks on the axis may have, in milliseconds, as Mermaid writes them. Six or fewer marks leave
// room for their numbers on a phone.
var ticks = []struct {
	ms   int64
	text string
}{{100, "100millisecond"}, {200, "200millisecond"}, {500, "500millisecond"}, {1000, "1second"}, {2000, "2second"}, {5000, "5second"}, {10000, "10second"},
	{30000, "30second"}, {60000, "1minute"}, {120000, "2minute"}, {300000, "5minute"}, {600000, "10minute"}, {1800000, "30minute"}, {3600000, "60minute"}}

// timeline is a Mermaid chart of the run: a lane for the CI half, then one for each server. Times are milliseconds since
// the run began; the axis counts in whole seconds, or in milliseconds where all is over in a few seconds.
func timeline(r *publish.Result) string {
	if len(r.Phases) == 0 || r.Command == publish.Status || r.Outcome == deployment.Failed && !r.Moved {
		return ""
	}
	axis, tick := "%s s", ticks[len(ticks)-1]
	for _, t := range ticks {
		if r.Took.Milliseconds() <= 6*t.ms {
			tick = t
			break
		}
	}
	if tick.ms < 1000 {
		axis = "%Q ms"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "```mermaid\ngantt\n    dateFormat x\n    axisFormat %s\n    tickInterval %s\n    todayMarker off\n    section CI\n", axis, tick.text)
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
			if step.Step == deployment.Confirm && step.TookMS < worthIt {
				continue
			}
			state := "" // not active: beside a bar its words are dark on dark
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
