package docs

import (
	"strings"
	"testing"

	"github.com/towline/towline/test/look"
	"github.com/towline/towline/test/parts"
)

// GitHub draws what stands in a block of mermaid, or shows an error in its place.
func TestDiagramsDraw(t *testing.T) {
	r := look.NewRenderer(t, parts.StartBrowser(t))
	seen := 0
	for _, d := range documents(t) {
		if !strings.Contains(d.text, "```mermaid") {
			continue
		}
		s := r.Render(t, d.text)
		_, drawn := r.Show(t, d.path, s, parts.View{Width: 1012, Height: 700}, true)
		seen += len(s.Diagrams)
		if drawn.Drawn != len(s.Diagrams) || len(drawn.Complaints) > 0 {
			t.Errorf("%s: %d of %d diagrams drawn, %q", d.path, drawn.Drawn, len(s.Diagrams), drawn.Complaints)
		}
	}
	if seen == 0 {
		t.Error("no diagram was found")
	}
}
