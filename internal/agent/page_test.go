package agent

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

func TestStatusPage(t *testing.T) {
	w := newWorld(t)
	site := newSick(t)
	w.publish("web", hash("1"), "<b>one</b>")
	r := w.start(w.settings(listening, oneApp+"    health: {http: \""+site.URL+"\", within: 1s}\n  bad: {dir: $srv/no/such/place}\n"))
	r.settled("web", hash("1"))
	site.ill.Store(true)
	w.must(second(r.ring(w.publish("web", hash("2"), "two"), "")))
	r.settled("web", hash("2"))

	var page string
	if code := r.call("/", nil, &page); code != http.StatusOK {
		t.Fatalf("got %d", code)
	}
	for _, want := range []string{"web-1", hash("1")[:12], "&lt;b&gt;one&lt;/b&gt;", "database is gone", "not ready", "2 apps need a look", r.Pin()} {
		if !strings.Contains(page, want) {
			t.Errorf("missing %q", want)
		}
	}
	for _, bad := range []string{"<script", "http://", "https://", "src=", "href=", "<b>one"} {
		if strings.Contains(strings.ReplaceAll(page, site.URL, ""), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	wellFormed(t, page)
}

// wellFormed checks that tags are balanced and attributes quoted.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict = true
	d.Entity = xml.HTMLEntity
	ids := map[string]bool{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, page)
		}
		if start, ok := token.(xml.StartElement); ok {
			for _, a := range start.Attr {
				if a.Name.Local == "id" {
					if ids[a.Value] {
						t.Errorf("id %s is there twice", a.Value)
					}
					ids[a.Value] = true
				}
			}
		}
	}
}

func TestPageEscapes(t *testing.T) {
	evil := `"><script>alert(1)</script>%s&`
	v := view{Server: evil, Headline: evil, Tone: "good", Pin: evil, Apps: []appView{{
		Key: "a", State: evil, Note: evil, Live: evil, LiveFull: evil, Message: evil, Unit: evil, Health: evil,
		Steps:   []stepView{{Name: evil, Message: evil}},
		History: []historyView{{Hash: evil, Full: evil, Outcome: evil, Reason: evil, Log: []string{evil}}, {Reason: evil}},
	}}}
	page := v.html()
	if strings.Contains(page, "<script") || strings.Contains(page, "%!") {
		t.Errorf("got:\n%s", page)
	}
	wellFormed(t, page)
}

func TestStates(t *testing.T) {
	bad := errors.New("no")
	live := deployment.ReceiptLive{Hash: "abc"}
	for _, test := range []struct {
		receipt deployment.Receipt
		ready   error
		want    string
	}{
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{Outcome: deployment.Deployed}}, nil, "live"},
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{}}, nil, "deploying"},
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{Outcome: deployment.RolledBack}}, nil, "rolled back"},
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{Outcome: deployment.Broken}}, bad, "broken"},
		{deployment.Receipt{Live: live}, bad, "not ready"},
		{deployment.Receipt{Live: live, Held: "lunch"}, nil, "held"},
		{deployment.Receipt{Live: live, Status: "refused: x"}, nil, "pointer refused"},
		{deployment.Receipt{Status: "nothing is published yet: x"}, bad, "waiting"},
	} {
		if got, _ := state(test.receipt, test.ready); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.receipt, got, test.want)
		}
	}
	for d, want := range map[time.Duration]string{0: "just now", 20 * time.Second: "20 s ago", 3 * time.Minute: "3 min ago", 30 * time.Hour: "30 h ago", 72 * time.Hour: "3 days ago"} {
		if got := ago(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// The templates of the standard library make the linker keep every method of every package: half the binary again.
func TestTheAgentStaysLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/towline/towline/cmd/towline-agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		if dep = strings.TrimSpace(dep); dep == "text/template" || dep == "html/template" {
			t.Errorf("the agent imports %s", dep)
		}
	}
}
