package page

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
)

var update = flag.Bool("update", false, "write testdata/page.html again")

var now = time.Date(2026, 11, 23, 13, 0, 0, 0, time.UTC)

const (
	older = "4be1c0e55d0a8a0f0c4f7f3f3b6ad21c5d9e7a10"
	newer = "e02371ab6db3a60c3f9ead35e36187c91155b5a1"
)

// server is one with an app that was rolled back, and one that is being deployed.
func server() Server {
	origin := &deployment.Origin{Actor: "ada", Run: "https://github.com/acme/shop/actions/runs/42", Reason: "the sale begins"}
	record := deployment.Record{
		ID: "000002-x", Seq: 7, Hash: newer, Outcome: deployment.RolledBack, Reason: "it crashed", Finished: "2026-11-23T12:57:00Z", Origin: origin,
		Events: []deployment.Event{
			{Step: deployment.Fetch, State: deployment.Done, TookMS: 120, Bytes: 96_256},
			{Step: deployment.Check, State: deployment.StepFail, TookMS: 2000, Message: "it crashed", Time: "2026-11-23T12:56:50.000Z"},
			{Step: deployment.RollBack, State: deployment.Done, TookMS: 300, Time: "2026-11-23T12:57:00.000Z"},
			{Step: deployment.End, Outcome: deployment.RolledBack, Log: []string{"out of memory"}, TookMS: 2345},
		},
	}
	first := deployment.Record{ID: "000001-x", Seq: 6, Hash: older, Outcome: deployment.Deployed, Finished: "2026-11-22T12:00:00Z"}
	return Server{Name: "web-1", Pin: "abc", Started: now.Add(-time.Hour), Apps: []App{{
		Detail: deployment.Detail{
			Key: "web", Unit: "web.service", Deployments: []deployment.Record{record, first},
			Releases: []deployment.Release{{Hash: older, Msg: "Count <views>", Live: true}, {Hash: newer, Msg: "Count faster"}},
			Receipt: deployment.Receipt{
				Live: deployment.ReceiptLive{Seq: 6, Hash: older, Since: "2026-11-22T12:00:00Z"}, Deployment: &record, Seen: "2026-11-23T12:59:48Z",
				Status: "release e02371ab6db3 did not become healthy; it is not tried again until another pointer arrives or a person forces it",
			},
		},
		Environment: "production", Health: config.Health{HTTP: "http://127.0.0.1:3000/", Stable: 5 * time.Second},
	}, {
		Detail: deployment.Detail{Key: "slow", Receipt: deployment.Receipt{Deployment: &deployment.Record{Hash: newer}}},
		Running: &deployment.Record{Hash: newer, Started: "2026-11-23T12:59:00Z", Events: []deployment.Event{
			{Step: deployment.Fetch, State: deployment.Started, Time: "2026-11-23T12:59:00.000Z"},
			{Step: deployment.Fetch, State: deployment.Progress, Message: "40 %", Bytes: 4_000_000, Time: "2026-11-23T12:59:30.000Z"},
		}},
	}}}
}

func TestPage(t *testing.T) {
	text := strings.ReplaceAll(server().HTML(now), "\u00a0", " ")
	for _, want := range []string{
		"1 app needs a look", "rolled back", "4be1c0e55d0a</code> <bdi>Count &lt;views&gt;", "out of memory", "it crashed", "took 2.3 s", "by <bdi>ada", ">run 42</a>",
		"https://github.com/acme/shop/compare/" + older + "..." + newer, "the sale begins", "<b>Quarantined</b> <bdi>not tried again until",
		`<time datetime="2026-11-22T12:00:00Z">2026-11-22 12:00 UTC</time>`, "HTTP probe, steady for 5s", `<b class="good">passed</b> <time datetime="2026-11-23T12:57:00Z">`,
		"sha256=abc", "<b>fetch</b>", "40 %", `4.0 MB · <span data-ms="60000">1 min 0 s</span>`, "<b>confirm</b><span class=\"sr\"> to come</span>",
		`data-say="web on production: rolled back e02371ab6db3"`, `<meta http-equiv="refresh" content="2" />`, "<title>1 app needs a look · web-1</title>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "127.0.0.1") {
		t.Error("the page shows where the app listens")
	}
	wellFormed(t, server().HTML(now))
	golden(t, server().HTML(now))
}

// golden compares the page, but for its style, its script and the icons, with testdata/page.html.
func golden(t *testing.T, text string) {
	t.Helper()
	text = strings.Replace(strings.Replace(text, style, "", 1), script, "", 1)
	for tone := range shapes {
		text = strings.ReplaceAll(text, icon(tone), "data:"+tone)
	}
	text = regexp.MustCompile(` data-id="[0-9a-f]+"`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`towline-agent [^,]+,`).ReplaceAllString(text, "towline-agent,")
	text = strings.ReplaceAll(text, "><", ">\n<")
	path := filepath.Join("testdata", "page.html")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("got another page than %s has (go test ./internal/agent/page -update writes it):\n%s", path, text)
	}
}

// wellFormed checks that tags are balanced, attributes quoted, identifiers used once, and headings in order; and that
// nothing needs more than the policy allows.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	text = strings.Replace(strings.Replace(text, style, "", 1), script, "", 1)
	if strings.Count(text, "<script>") != 1 || strings.Count(text, "<style>") != 1 {
		t.Errorf("got another script or style than the page's own:\n%s", text)
	}
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = true
	d.Entity = xml.HTMLEntity
	ids, level := map[string]bool{}, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if name := start.Name.Local; len(name) == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6' {
			if next := int(name[1] - '0'); next > level+1 {
				t.Errorf("<%s> follows <h%d>", name, level)
			} else {
				level = next
			}
		}
		for _, a := range start.Attr {
			switch name := a.Name.Local; {
			case name == "id" && ids[a.Value]:
				t.Errorf("id %s is there twice", a.Value)
			case name == "id":
				ids[a.Value] = true
			case name == "style", strings.HasPrefix(name, "on"), name == "src":
				t.Errorf("<%s> has %s, which the policy forbids", start.Name.Local, name)
			case name == "href" && !strings.HasPrefix(a.Value, "https://") && !strings.HasPrefix(a.Value, "#app-") && !strings.HasPrefix(a.Value, "data:image/svg+xml,"):
				t.Errorf("a link leads to %q", a.Value)
			}
		}
	}
}

func TestPageEscapes(t *testing.T) {
	evil := `"><script>alert(1)</script>%s&`
	o := origin{Who: evil, Why: evil, RunText: evil, CompareOf: evil}
	v := view{Server: evil, Headline: evil, Tone: "good", Pin: evil, Apps: []appView{{
		Key: "a", State: evil, Notes: []noteView{{"bad", evil, evil}}, Live: evil, LiveFull: evil, Message: evil, Unit: evil, Health: evil, Verdict: evil,
		Run: &runView{Hash: evil, Full: evil, Message: evil, Steps: []stepView{{Name: evil, Message: evil}}}, From: o, Environment: evil, Done: evil, Say: evil,
		History: []historyView{{ID: evil, Hash: evil, Full: evil, Outcome: evil, Reason: evil, Message: evil, From: o, Log: []string{evil}}, {ID: "2", Reason: evil}},
	}}}
	text := v.html()
	if strings.Contains(text, "<script>alert") || strings.Contains(text, "%!") {
		t.Errorf("got:\n%s", text)
	}
	wellFormed(t, text)
}

// The script is written into the document as it is.
func TestScriptStaysInItsElement(t *testing.T) {
	for _, bad := range []string{"</script", "<!--", "</style", "innerHTML = document", "eval(", "http:"} {
		if strings.Contains(strings.ToLower(strings.ReplaceAll(script, "http://www.w3.org/2000/svg", "")+style), bad) {
			t.Errorf("the script or the style has %q", bad)
		}
	}
	if !strings.Contains(Policy(), hashed(script)) || !strings.Contains(Policy(), hashed(style)) || strings.Contains(Policy(), "unsafe") {
		t.Errorf("got the policy %s", Policy())
	}
}

// What a page weighs is bounded, whatever others write.
func TestWeight(t *testing.T) {
	weigh := func(text string, lines int) int {
		a := server().Apps[0]
		a.Detail.Releases = []deployment.Release{{Hash: older, Msg: text}, {Hash: newer, Msg: text}}
		rec := a.Detail.Deployments[0]
		rec.Reason, rec.Origin = text, &deployment.Origin{Actor: text, Run: rec.Origin.Run, Reason: text}
		rec.Events = append([]deployment.Event{}, rec.Events...)
		for i := range rec.Events {
			rec.Events[i].Message = text
		}
		for range lines {
			rec.Events[3].Log = append([]string{text}, rec.Events[3].Log...)
		}
		a.Detail.Deployments = nil
		for range 20 {
			a.Detail.Deployments = append(a.Detail.Deployments, rec)
		}
		return len(Server{Name: "web-1", Started: now, Apps: []App{a}}.HTML(now))
	}
	if got := len(Server{Name: "web-1", Started: now, Apps: server().Apps[:1]}.HTML(now)); got > 25<<10 {
		t.Errorf("a page with two deployments: got %d bytes, want less than 25 KiB", got)
	}
	if got := weigh("A text as people write them", 40); got > 30<<10 {
		t.Errorf("ten deployments with their logs: got %d bytes, want at most 30 KiB", got)
	}
	if got := weigh(strings.Repeat("&\"", 5000), 5000); got > 128<<10 {
		t.Errorf("the worst texts: got %d bytes, want at most 128 KiB", got)
	}
}

// Parts are told apart by what they show, and only by that.
func TestParts(t *testing.T) {
	before, same := server().Parts(now), server().Parts(now)
	if len(before) != 3 || ID(before) != ID(same) || !strings.Contains(server().HTML(now), `data-id="`+ID(before)+`"`) {
		t.Errorf("got %d parts, %s and %s", len(before), ID(before), ID(same))
	}
	s := server()
	s.Apps[0].Detail.Receipt.Seen = "2026-11-23T12:59:59Z"
	after := s.Parts(now.Add(time.Hour))
	if after[0] != before[0] || after[1] == before[1] || ID(after) == ID(before) {
		t.Errorf("got the head changed %v, the app %v", after[0] != before[0], after[1] != before[1])
	}
	s = server()
	s.Apps = s.Apps[:1]
	if early, late := s.Parts(now), s.Parts(now.Add(time.Hour)); ID(early) != ID(late) {
		t.Error("without anything new, another page an hour later")
	}
	for _, p := range before {
		if !regexp.MustCompile(`^<(header|section) id="[a-z-]+"`).MatchString(p.HTML) {
			t.Errorf("a part begins with %.40s", p.HTML)
		}
	}
}
