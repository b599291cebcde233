package page

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
)

func TestPage(t *testing.T) {
	now := time.Date(2026, 11, 23, 13, 0, 0, 0, time.UTC)
	record := deployment.Record{
		ID: "1", Seq: 7, Hash: "feedfacefeedface", Outcome: deployment.RolledBack, Reason: "it crashed", Finished: "2026-11-23T12:57:00Z",
		Events: []deployment.Event{{Outcome: deployment.RolledBack, Log: []string{"out of memory"}, TookMS: 2345}},
	}
	page := Server{Name: "web-1", Pin: "abc", Started: now.Add(-time.Hour), Apps: []App{{
		Detail: deployment.Detail{
			Key: "web", Unit: "web.service", Deployments: []deployment.Record{record},
			Releases: []deployment.Release{{Hash: "aaaaaaaaaaaaaaaa", Msg: "Count <views>", Live: true}},
			Receipt: deployment.Receipt{
				Live: deployment.ReceiptLive{Seq: 6, Hash: "aaaaaaaaaaaaaaaa", Since: "2026-11-22T12:00:00Z"}, Deployment: &record,
			},
		},
		Environment: "production", Health: config.Health{HTTP: "http://127.0.0.1:3000/", Stable: 5 * time.Second},
	}, {
		Detail:  deployment.Detail{Key: "slow"},
		Running: &deployment.Record{Hash: "bbbbbbbbbbbbbbbb", Events: []deployment.Event{{Step: deployment.Fetch, State: deployment.Done}, {Step: deployment.Unpack, State: deployment.Progress, Message: "40 %"}}},
	}}}.HTML(now)
	for _, want := range []string{
		"1 app needs a look", "rolled back", "aaaaaaaaaaaa</code> Count &lt;views&gt;", "25 h ago", "out of memory", "it crashed", "2.3 s · 3 min ago",
		"HTTP probe, steady for 5s", "sha256=abc", "up 1 h", `<b>unpack</b> <span class="quiet">40 %</span>`, "to bbbbbbbbbbbb",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("missing %q in:\n%s", want, page)
		}
	}
	if strings.Contains(page, "127.0.0.1") {
		t.Error("the page shows where the app listens")
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
