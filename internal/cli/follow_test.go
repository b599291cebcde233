package cli

import (
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// A stream may carry the end of one deployment and then all of the next: each counts its own events.
func TestFollowCountsPerDeployment(t *testing.T) {
	stream := `{"n":7,"deployment":"d1","step":"fetch","state":"done"}
{"n":1,"deployment":"d2","step":"fetch","state":"started"}
{"n":1,"deployment":"d2","step":"fetch","state":"started"}
{"n":2,"deployment":"d2","step":"end","state":"done","outcome":"deployed"}
`
	told := 0
	result, err := follow(strings.NewReader(stream), func(deployment.Event) { told++ })
	if err != nil || result.Outcome != deployment.Deployed || told != 3 {
		t.Errorf("got %+v, %v, %d events, want deployed after 3", result, err, told)
	}
}
