package agent

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

func TestStatusPage(t *testing.T) {
	w := newWorld(t)
	site := newSick(t)
	w.publish("web", hash("1"), "<b>one</b>")
	r := w.start(w.settings(listening+"\nnotify: [{webhook: \"https://hooks.example/tok3n\"}]", oneApp+"    health: {http: \""+site.URL+"\", within: 1s}\n  bad: {dir: $srv/no/such/place}\n"))
	r.settled("web", hash("1"))
	site.ill.Store(true)
	w.must(second(r.ring(w.publish("web", hash("2"), "two"), "")))
	r.settled("web", hash("2"))

	var page string
	if code := r.call("/", nil, &page); code != http.StatusOK {
		t.Fatalf("got %d", code)
	}
	for _, want := range []string{"web-1", hash("1")[:12], "&lt;b&gt;one&lt;/b&gt;", "database is gone", "Not ready", "2 apps need a look", r.Pin()} {
		if !strings.Contains(page, want) {
			t.Errorf("missing %q", want)
		}
	}
	for _, bad := range []string{"http://", "https://", "src=", "<b>one", "tok3n", w.key.Public().String(), "file:"} {
		if strings.Contains(strings.NewReplacer(site.URL, "", "http://www.w3.org/2000/svg", "").Replace(page), bad) {
			t.Errorf("the page has %q", bad)
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
